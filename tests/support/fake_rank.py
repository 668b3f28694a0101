"""The child of fake_world: builds torchtitan's Trainer for one rank after another of worlds that do not exist.

Reads one JSON request a line from stdin and answers each with one line on the stdout that it was started with.
"""

import dataclasses
import gc
import json
import os
import sys
import tempfile
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import mmhydra.titan  # noqa: F401  (puts torchtitan on the CPU, so it comes before it)

# isort: split
import numpy as np
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.pipelining._utils import _StageMeta, extract_tensor_metas
from torch.distributed.tensor import _random as dtensor_random
from torch.distributed.tensor import debug as dtensor_debug
from torchao.float8 import Float8LinearConfig
from torchao.float8.float8_linear import Float8Linear, matmul_with_hp_or_float8_args
from torchtitan.components.checkpointer.base import ModelWrapper
from torchtitan.config.configs import CommConfig
from torchtitan.trainer import Trainer

from mmhydra.config.frozen import from_yaml
from mmhydra.config.schema import RunConfig
from mmhydra.data.stream.batches import Batch, Read
from mmhydra.run.directory import Attempt
from mmhydra.titan.build import trainer_config
from mmhydra.titan.control import Order
from mmhydra.titan.metrics import RunFacts

_NEVER = 1 << 62  # steps


class RandomSplit:
    """As much of an OpenSplit as a dataloader uses: ids below `vocab_size`, one document a sequence."""

    def __init__(self, seq_len: int, vocab_size: int) -> None:
        self._seq_len, self._vocab_size = seq_len, vocab_size

    def read(self, indices: Any, skips: Any) -> Read:
        """Rows of ids, each the label of the one before it."""
        shape = (len(indices), self._seq_len + 1)
        ids = np.random.default_rng(0).integers(0, self._vocab_size, shape, dtype=np.int32)
        positions = np.broadcast_to(np.arange(self._seq_len, dtype=np.int32), ids[:, 1:].shape).copy()
        return Read(Batch(np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:]), positions), [])


class Alone:
    """In place of Control: it opens no gloo group, which would wait for ranks that are not there."""

    group = None

    def agree(self) -> Order:
        """Nobody asks for anything."""
        return Order.GO_ON


class NoNodes:
    """In place of NodeWatch."""

    def boundary(self, step: int) -> None:
        """Measures nothing."""

    def close(self) -> None:
        """Wrote nothing."""


def build_rank(config: RunConfig, rank: int, folder: Path, *, step: bool) -> None:
    """Builds the trainer of one rank and, if asked, trains and validates one step and collects a checkpoint.

    Raises what torchtitan raises.
    """
    os.environ.update(RANK=str(rank), LOCAL_RANK="0", WORLD_SIZE=str(config.world_size), NGPU=str(config.world_size))
    wanted = trainer_config(config, Attempt(folder), lambda kind, text: None, lambda longest_save_s: Alone())
    trainer = _on_fake_backend(config, wanted).build()
    try:
        if step:
            _one_step(config, trainer)
    finally:
        trainer.close()


def _on_fake_backend(config: RunConfig, wanted: Trainer.Config) -> Trainer.Config:
    """The same trainer without neighbours, data and files."""
    data = partial(RandomSplit, config.training.seq_len, config.tokens.vocab_size)
    facts = RunFacts("fake", config.training.tokens_per_step, None, lambda step: "none")
    spec = wanted.model_spec
    return dataclasses.replace(
        wanted,
        comm=CommConfig(mode="fake_backend"),
        open_nodes=lambda control: NoNodes(),
        model_spec=dataclasses.replace(spec, pipelining_fn=partial(_static_stages, config, spec.pipelining_fn)),
        dataloader=dataclasses.replace(wanted.dataloader, open_split=data, num_workers=0),
        checkpoint=dataclasses.replace(wanted.checkpoint, enable=False),
        # A logged step has to have a finite loss, which nobody computes here.
        metrics=dataclasses.replace(wanted.metrics, facts=lambda: facts, log_freq=_NEVER, last_step=_NEVER),
        validator=dataclasses.replace(
            wanted.validator, steps=1, dataloader=dataclasses.replace(wanted.validator.dataloader, open_split=data)
        ),
    )


def _static_stages(config: RunConfig, split: Callable[..., Any], model: Any, *, parallel_dims: Any, **rest: Any) -> Any:
    """Tells pipeline stages the shapes at their edges: on a fake backend no neighbour can say them."""
    schedule, *others = split(model, parallel_dims=parallel_dims, **rest)
    tp, vocab_size = config.parallel.tp, config.tokens.vocab_size
    chunk = -(-vocab_size // tp)
    begin = (parallel_dims.get_mesh("tp").get_local_rank() if tp > 1 else 0) * chunk
    local_vocab_size = min(vocab_size, begin + chunk) - min(vocab_size, begin)

    batch, seq_len = config.microbatch_size, config.training.seq_len
    local_len = seq_len // tp if config.parallel.sequence_parallel else seq_len
    dtype = getattr(torch, config.precision.param_dtype)
    ids_BL = torch.empty(batch, seq_len, dtype=torch.int64, device="meta")
    hidden_BLD = torch.empty(batch, local_len, config.model.dim, dtype=dtype, device="meta", requires_grad=True)
    logits_BLV = torch.empty(batch, seq_len, local_vocab_size, dtype=dtype, device="meta", requires_grad=True)
    for stage in getattr(schedule, "_stages", None) or [schedule._stage]:
        stage._user_meta = _StageMeta(
            inputs=extract_tensor_metas((ids_BL if stage.is_first else hidden_BLD,)),
            outputs=extract_tensor_metas((logits_BLV if stage.is_last else hidden_BLD,)),
        )
    return schedule, *others


def _one_step(config: RunConfig, trainer: Trainer) -> None:
    trainer.step = 2  # torchtitan logs the first one
    trainer.train_step(trainer.batch_generator(trainer.dataloader))
    if config.training.validation_interval is not None:
        trainer.validator.validate(trainer.model_parts, trainer.step)
    ModelWrapper(trainer.model_parts).state_dict()
    trainer.optimizers.state_dict()


@contextmanager
def _clean() -> Iterator[None]:
    """Leaves nothing of one rank to the next."""
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        dtensor_random._rng_tracker = None
        dtensor_debug._clear_sharding_prop_cache()  # its specs hold the meshes of this rank
        torch.use_deterministic_algorithms(False)
        gc.enable()  # torchtitan turns it off
        gc.collect()


def try_float8_linear(tokens: int, size_in: int, size_out: int, recipe: str) -> None:
    """Runs a float8 layer forward and backward on shapes of a GPU that is not there.

    Raises what torch's shape checks of the CUDA kernels raise. Autograd wants a real device, hence the bare backward.
    """
    config = Float8LinearConfig.from_recipe_name(recipe)
    with FakeTensorMode(), torch.no_grad():
        linear = Float8Linear(size_in, size_out, bias=False, config=config, device="cuda", dtype=torch.bfloat16)
        x = torch.empty(tokens, size_in, device="cuda", dtype=torch.bfloat16)
        context = types.SimpleNamespace(
            saved_tensors=(x, linear.weight.t()), linear_mm_config=linear.linear_mm_config, config=config
        )
        matmul_with_hp_or_float8_args.backward(context, linear(x))


def _answer(request: dict[str, Any]) -> str | None:
    with tempfile.TemporaryDirectory() as folder, _clean():
        try:
            if "linear" in request:
                try_float8_linear(*request["linear"])
            else:
                config = from_yaml(request["config"].encode())
                build_rank(config, request["rank"], Path(folder), step=request["step"])
        except Exception as error:
            traceback.print_exc()
            return f"{type(error).__name__}: {error}"
        return None


def main() -> None:
    """Answers until stdin ends."""
    gc.freeze()  # what was imported stays: collections between ranks need not walk it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints
    for line in sys.stdin:
        answers.write(json.dumps({"refusal": _answer(json.loads(line))}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
