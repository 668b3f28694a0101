"""A rank of a real trainer over gloo that is given its batches. Started by torch elastic: CONFIG.yaml SCENARIO FOLDER.

Each rank writes what it saw to FOLDER/rank-N.json.
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mmhydra.titan  # noqa: F401  (puts torchtitan on the CPU, so it comes before it)

# isort: split
import torch
import torch.distributed as dist
from fake_rank import Alone, NoNodes
from torchtitan.components.dataloader import BaseDataLoader
from torchtitan.components.loss import IGNORE_INDEX

from mmhydra.config.frozen import from_yaml
from mmhydra.config.schema import RunConfig
from mmhydra.run.directory import Attempt
from mmhydra.titan.build import trainer_config
from mmhydra.titan.metrics import RunFacts
from mmhydra.titan.trainer import ControlledTrainer
from mmhydra.track.jsonl import JsonlWriter

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # ids, positions, labels of all ranks, (B, L) each
_given: list[Batch] = []  # the next batches, for training and validation alike


class GivenLoader(BaseDataLoader):
    """Yields this rank's rows of what is in `_given`, a microbatch at a time."""

    @dataclass(kw_only=True, slots=True)
    class Config(BaseDataLoader.Config):
        infinite: bool = True

    def __init__(self, config: Config, *, dp_world_size: int, dp_rank: int, local_batch_size: int, **_: Any) -> None:
        self._dp_world_size, self._dp_rank, self._size = dp_world_size, dp_rank, local_batch_size

    def __iter__(self) -> Any:
        while True:
            rows = [tensor_BL.chunk(self._dp_world_size)[self._dp_rank] for tensor_BL in _given.pop(0)]
            for ids_BL, positions_BL, labels_BL in zip(
                *(tensor_BL.split(self._size) for tensor_BL in rows), strict=True
            ):
                yield {"input": ids_BL, "positions": positions_BL}, labels_BL.clone()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """It keeps nothing."""


def trainer_of(config: RunConfig, folder: Path) -> ControlledTrainer:
    wanted = trainer_config(config, Attempt(folder), lambda kind, text: None, lambda longest_save_s: Alone())
    facts = RunFacts("given", config.training.tokens_per_step, None, lambda step: "none")
    metrics = dataclasses.replace(
        wanted.metrics, facts=lambda: facts, open_writer=partial(JsonlWriter, folder / "metrics.jsonl"), log_freq=1
    )
    return dataclasses.replace(
        wanted,
        open_nodes=lambda control: NoNodes(),
        dataloader=GivenLoader.Config(),
        checkpoint=dataclasses.replace(wanted.checkpoint, enable=False),
        metrics=metrics,
        validator=dataclasses.replace(wanted.validator, steps=1, dataloader=GivenLoader.Config()),
    ).build()


def positions_of(lengths: tuple[int, ...]) -> torch.Tensor:
    return torch.cat([torch.arange(length) for length in lengths])


def isolation(config: RunConfig, trainer: ControlledTrainer) -> dict[str, Any]:
    """Logits of two packed documents, before and after the first is another one. TP ranks have a share of each.

    After one step of training, before which pipeline stages rehearse with uninitialised memory.
    """
    batch, length = config.training.global_batch_size, config.training.seq_len
    edge = length * 3 // 8
    ids_BL = torch.randint(config.tokens.vocab_size, (batch, length))
    changed_BL = ids_BL.clone()
    changed_BL[:, :edge] = (ids_BL[:, :edge] + 1) % config.tokens.vocab_size
    swapped_BL = ids_BL.roll(-edge, 1)
    two, one, turned = (positions_of(lengths) for lengths in ((edge, length - edge), (length,), (length - edge, edge)))

    _given.append((ids_BL, two.expand_as(ids_BL), ids_BL))
    trainer.step = 1
    trainer.train_step(trainer.batch_generator(trainer.dataloader))

    seen: list[torch.Tensor] = []
    compute = trainer.loss_fn.fn

    def recording(pred: torch.Tensor, *rest: Any, **more: Any) -> Any:
        seen.append(pred.detach().clone())
        return compute(pred, *rest, **more)

    trainer.loss_fn.fn = recording

    def logits(ids_BL: torch.Tensor, positions_L: torch.Tensor) -> torch.Tensor | None:
        seen.clear()
        _given.append((ids_BL, positions_L.expand_as(ids_BL), ids_BL))
        trainer.validator.validate(trainer.model_parts, step=1)
        return torch.cat(seen) if seen else None

    runs = [logits(*each) for each in ((ids_BL, two), (changed_BL, two), (ids_BL, one), (changed_BL, one))]
    alone = logits(swapped_BL, turned)
    if alone is None:
        return {}  # not the last stage
    before, after, long_before, long_after = (run for run in runs if run is not None)
    return {
        "shape": list(before.shape),
        "other_changed": not torch.equal(before[:, edge:], after[:, edge:]),
        "itself_changed": bool((before[:, :edge] != after[:, :edge]).any(-1).all()),
        "seen_without_mask": bool((long_before[:, edge:] != long_after[:, edge:]).any(-1).all()),
        "place_changes": float((before[:, edge:] - alone[:, : length - edge]).abs().max()),
    }


def padding(config: RunConfig, trainer: ControlledTrainer) -> dict[str, Any]:
    """Steps whose labels are missing in a microbatch, on a rank, everywhere, nowhere."""
    batch, length = config.training.global_batch_size, config.training.seq_len
    loader = trainer.batch_generator(trainer.dataloader)
    num_valid = []
    for ignored in (slice(0, 1), slice(batch // 2, batch), slice(0, batch), slice(0, 0)):
        ids_BL = torch.randint(config.tokens.used_size, (batch, length))
        labels_BL, positions_BL = ids_BL.roll(-1, 1), torch.arange(length).repeat(batch, 1)
        # Padding as the packing leaves it: documents of one token, without labels.
        labels_BL[ignored], positions_BL[ignored] = IGNORE_INDEX, 0
        num_valid.append(int((labels_BL != IGNORE_INDEX).sum()))
        _given.append((ids_BL, positions_BL, labels_BL))
        trainer.step += 1
        trainer.train_step(loader)
    whole = all(
        bool(weight.to_local().isfinite().all()) for part in trainer.model_parts for weight in part.parameters()
    )
    return {"num_valid": num_valid, "weights_are_numbers": whole}


def main(config_file: str, scenario: str, folder: str) -> None:
    config = from_yaml(Path(config_file).read_bytes())
    trainer = trainer_of(config, Path(folder))
    torch.manual_seed(5)  # all ranks draw the same batches
    told = {"isolation": isolation, "padding": padding}[scenario](config, trainer)
    (Path(folder) / f"rank-{dist.get_rank()}.json").write_text(json.dumps(told))
    trainer.close()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
