"""What only a GPU shows: float8 beside bf16, memory beside a count of it, and attention beside the path on CPU.

    python benchmarks/gpu.py

Each run is a process of its own: mmhydra's trainer as `python -m mmhydra.train` builds it, compiled, on one GPU, with
random tokens packed into documents in place of a dataset. Runs of bf16 and float8 take turns (A B B A). What does not
fit into `--seconds` any more is left out, the most important runs come first, and a run that fails is told and skipped.
With `--json FILE` a second call goes on where the first one ended.

`--rehearse` goes through all of it on CPU with tiny models, in eager mode and emulated float8, and writes no result.
"""

import argparse
import dataclasses
import inspect
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from harness import ROOT, progress, project_environment, write_block

LIKE = "h100_64"  # whose peaks an MFU is counted with; an H200 computes as fast as an H100
TOKENS_PER_STEP = 32768
MICROBATCH = 2  # sequences, as in conf/model
DOCUMENT = 1000  # tokens, the mean length
GIB = 1024**3
PRODUCTS = [  # rows, inner size, columns: forward of 1b, two gradients of weights, a larger microbatch, 10b, a square
    (8192, 2048, 6144),
    (8192, 2048, 2048),
    (8192, 2048, 5632),
    (8192, 5632, 2048),
    (2048, 8192, 5632),
    (2048, 8192, 6144),
    (16384, 2048, 5632),
    (8192, 4096, 11008),
    (8192, 8192, 8192),
]


@dataclass(frozen=True)
class Case:
    """One run of the trainer."""

    model: str
    seq_len: int
    precision: str
    deterministic: bool = True  # the default of conf/
    recompute: str = "none"

    @property
    def name(self) -> str:
        """For tables and for people who wait."""
        notes = [f"recompute={self.recompute}"] * (self.recompute != "none")
        notes += ["deterministic=false"] * (not self.deterministic)
        return " ".join([self.model, str(self.seq_len), self.precision, *notes])

    def overrides(self, steps: int, rehearse: bool) -> list[str]:
        """The command line of the run."""
        if rehearse:
            size, tokens = ["model.num_layers=2", "data=demo", "cluster=local"], 4 * self.seq_len
            emulated = {"float8_rowwise": "float8_emulated"}
            size.append(f"precision={emulated.get(self.precision, self.precision)}")
        else:
            size, tokens = ["data=mix_v0.2", f"precision={self.precision}"], TOKENS_PER_STEP
            size += ["cluster=local", "cluster.device=cuda", "cluster.compile=true"]
        return [
            f"model={self.model}",
            *size,
            "checkpoint=none",
            "training.tokens=null",
            f"training.steps={steps}",
            f"training.seq_len={self.seq_len}",
            f"training.global_batch_size={tokens // self.seq_len}",
            f"training.microbatch_size={MICROBATCH}",
            "training.validation_interval=null",
            f"training.deterministic={str(self.deterministic).lower()}",
            f"parallel.recompute={self.recompute}",
            "optim.warmup_steps=2",
        ]


def cases(rehearse: bool) -> list[Case]:
    """All runs, in their order."""
    if rehearse:
        bf16, float8 = (Case("debug", 128, precision) for precision in ("bf16", "float8_rowwise"))
        return [bf16, float8, float8, bf16, dataclasses.replace(bf16, deterministic=False)]
    pairs = {
        key: [Case(*key, precision) for precision in ("bf16", "float8_rowwise")]
        for key in (("1b", 4096), ("1b", 8192), ("100m", 4096), ("100m", 8192))
    }
    base = pairs["1b", 4096][0]
    return [
        *pairs["1b", 4096],
        *pairs["100m", 4096],
        *reversed(pairs["1b", 4096]),
        *pairs["1b", 8192],
        *reversed(pairs["100m", 4096]),
        dataclasses.replace(base, recompute="selective"),
        *pairs["100m", 8192],
        dataclasses.replace(base, deterministic=False),
        Case("1b", 4096, "float8_rowwise_gw_hp"),
        *reversed(pairs["1b", 8192]),
        *reversed(pairs["100m", 8192]),
    ]


def main() -> None:
    """Runs everything, or one worker."""
    arguments = _arguments()
    if arguments.worker:
        order = json.loads(arguments.worker)
        stand_ins = stand_in()
        work = {"train": train, "attention": attention, "products": products}[order.pop("kind")]
        Path(arguments.json).write_text(json.dumps({"stand_ins": stand_ins, **work(**order)}))
        return
    text = report(measure(arguments))
    if arguments.rehearse:
        print(text)
    else:
        write_block("gpu", "gpu.py", sys.argv[1:], text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=900.0, help="all runs end by then")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds of one run")
    parser.add_argument("--least", type=float, default=30.0, help="seconds that must be left for a run to begin")
    parser.add_argument("--steps", type=int, default=14, help="steps of each run")
    parser.add_argument("--warmup", type=int, default=5, help="steps at the start that do not count")
    parser.add_argument("--first", type=int, default=None, help="this many runs of the trainer, not all")
    parser.add_argument("--json", default=None, help="a file for every figure; what it holds is not run again")
    parser.add_argument("--rehearse", action="store_true", help="on CPU with tiny models; writes no result")
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All runs that fit into the time. Raises SystemExit if the first run of the trainer fails."""
    began, rehearse = time.monotonic(), arguments.rehearse
    file = Path(arguments.json) if arguments.json else None
    results = json.loads(file.read_text()) if file and file.exists() else {"runs": [], "failed": []}
    results["left_out"] = []

    def run(name: str, order: dict[str, Any]) -> dict[str, Any] | None:
        left_s = arguments.seconds - (time.monotonic() - began)
        if left_s < arguments.least:
            results["left_out"].append(name)
            return None
        start = time.monotonic()
        found, words = _worker(order, min(left_s, arguments.limit))
        taken_s = time.monotonic() - start
        progress(f"{name}: {taken_s:.0f} s" + ("" if found else f", failed\n{words}"))
        if found is None:
            results["failed"].append({"name": name, "words": words})
        return found and {**found, "wall_s": taken_s}

    def run_part(name: str) -> None:
        if not results.get(name):
            found = run(name, {"kind": name, "rehearse": rehearse})
            results.update({name: found} if found else {})

    done = [run["case"] for run in results["runs"]]
    for number, case in enumerate(cases(rehearse)[: arguments.first]):
        if asdict(case) in done:
            done.remove(asdict(case))
        else:
            overrides = case.overrides(arguments.steps, rehearse)
            found = run(case.name, {"kind": "train", "overrides": overrides, "warmup": arguments.warmup})
            if found:
                results["runs"].append({"case": asdict(case), **found})
                progress(f"    {found['step_s'] * 1e3:.1f} ms a step, peak {found['peak_bytes'] / GIB:.2f} GiB")
            elif not results["runs"]:
                raise SystemExit("the first run fails, so nothing is measured")
        if number == 3:
            run_part("products")
            run_part("attention")
        if file:  # what is there counts, whatever comes after
            file.write_text(json.dumps(results, indent=1))
    return results


def _worker(order: dict[str, Any], timeout_s: float) -> tuple[dict[str, Any] | None, str]:
    """A worker's result, or None and its last words."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, __file__, "--worker", json.dumps(order), "--json", file.name]
        try:
            done = subprocess.run(
                command, env=project_environment(), cwd=ROOT, capture_output=True, check=False, timeout=timeout_s
            )
        except subprocess.TimeoutExpired as error:
            return None, f"the time was up\n{(error.stderr or b'')[-1500:].decode(errors='replace')}"
        if done.returncode != 0:
            return None, (done.stdout[-500:] + done.stderr[-3000:]).decode(errors="replace")
        return json.loads(Path(file.name).read_text()), ""


# ---------------------------------------------------------------------------------------------- one process


def stand_in() -> list[str]:
    """Gives an older torch the names that torchtitan and mmhydra import from a newer one, and says which.

    On one rank they are annotations and a time limit, and nothing that is measured depends on them.
    """
    import torch.distributed as dist
    import torch.distributed.fsdp as fsdp
    import torch.distributed.pipelining as pipelining
    import torch.nn.attention.flex_attention as flex

    wanted: list[tuple[Any, str, Any]] = [
        (fsdp, "DataParallelMeshDims", type("DataParallelMeshDims", (), {"__init__": _refuse})),
        (pipelining, "PipelineStageInfo", type("PipelineStageInfo", (), {"__init__": _refuse})),
        (dist, "set_timeout", lambda timeout, group=None: None),
    ]
    missing = [(module, name, value) for module, name, value in wanted if not hasattr(module, name)]
    create = flex.create_block_mask
    if "separate_full_blocks" not in inspect.signature(create).parameters:

        def create_block_mask(*args: Any, separate_full_blocks: bool, **kwargs: Any) -> Any:
            assert separate_full_blocks  # what an older torch always does
            return create(*args, **kwargs)

        missing.append((flex, "create_block_mask", create_block_mask))
    for module, name, value in missing:
        setattr(module, name, value)
    return [f"{module.__name__}.{name}" for module, name, _ in missing]


def _refuse(self: Any, *args: Any, **kwargs: Any) -> None:
    raise NotImplementedError("this torch is too old for more than one rank")


def train(overrides: list[str], warmup: int) -> dict[str, Any]:
    """One run of mmhydra's trainer. Times in seconds, memory in bytes."""
    import mmhydra.titan  # noqa: F401 - first: it puts torchtitan on the CPU where there is no accelerator

    # isort: split
    import torch
    from torchtitan.tools.logging import init_logger

    from mmhydra.compose import known_clusters
    from mmhydra.testing import assert_legal
    from mmhydra.titan.model import linear_types

    init_logger()
    config = assert_legal(*overrides)
    peaks = known_clusters()[LIKE].peak_flops
    config = config.model_copy(update={"cluster": config.cluster.model_copy(update={"peak_flops": peaks})})
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = str(_free_port())
    with tempfile.TemporaryDirectory() as folder:
        trainer, metrics_file = _trainer(config, Path(folder))
        peak_bytes, between_bytes = [], []
        log = trainer.metrics_processor.log

        def note(*args: Any, **kwargs: Any) -> None:
            if torch.cuda.is_available():
                peak_bytes.append(torch.cuda.max_memory_allocated())
                between_bytes.append(torch.cuda.memory_allocated())
            log(*args, **kwargs)

        trainer.metrics_processor.log = note
        linears = linear_types(trainer.model_parts)
        num_parameters = sum(parameter.numel() for parameter in trainer.model_parts[0].parameters())
        flops_per_token = trainer.metrics_processor.num_flops_per_token
        try:
            trainer.train()
        finally:
            trainer.close()
        records = [json.loads(line) for line in metrics_file.read_text().splitlines()]
    torch.distributed.destroy_process_group()
    steps = [record for record in records if record["kind"] == "train"]
    counted = steps[warmup:]
    step_s = statistics.median(record["step_time_s"] for record in counted)
    tokens = config.training.tokens_per_step
    return {
        "card": card(),
        "torch": torch.__version__,
        "overrides": overrides,
        "linears": linears,
        "num_parameters": num_parameters,
        "vocab_size": config.tokens.vocab_size,
        "tokens_per_step": tokens,
        "step_s": step_s,
        "steps_s": [record["step_time_s"] for record in steps],
        "data_s": statistics.median(record["data_time_s"] for record in counted),
        "mfu": statistics.median(record["mfu"] for record in counted),
        "flop_rate": flops_per_token * tokens / step_s,
        "loss_first": steps[0]["loss"],
        "loss_last": steps[-1]["loss"],
        "grad_norm_last": steps[-1]["grad_norm"],
        "peak_bytes": max(peak_bytes[warmup:], default=0),
        "between_bytes": max(between_bytes[warmup:], default=0),
        "reserved_bytes": round((steps[-1]["gpu_mem_used_gb"] or 0) * GIB),
        "count_bytes": count_memory(config, num_parameters),
    }


def _trainer(config: Any, folder: Path) -> tuple[Any, Path]:
    """The trainer of a frozen attempt, with random documents for data; and its metrics.jsonl."""
    import mmhydra
    from mmhydra.config.frozen import config_sha256, to_yaml
    from mmhydra.run.directory import RunDirectory
    from mmhydra.run.identity import identify
    from mmhydra.titan.build import trainer_config
    from mmhydra.titan.control import Control, Signals
    from mmhydra.titan.metrics import RunFacts

    run = RunDirectory(folder)
    run.create(identify(config, {}, None))
    attempt, text = run.new_attempt(), to_yaml(config)
    provenance = {"mmhydra": mmhydra.__version__, "run_id": "gpu", "config_sha256": config_sha256(text)}
    attempt.freeze(text, (), provenance, {})

    def open_control(longest_save_s: Any) -> Control:
        return Control(attempt, Signals([]), lease=None, end_time=None, longest_save_s=longest_save_s)

    def say(kind: str, message: str, /, **values: Any) -> None:
        progress(f"{kind}: {message}")

    wanted = trainer_config(config, attempt, say, open_control)
    peak = getattr(config.cluster.peak_flops, config.precision.compute_format)
    facts = RunFacts("gpu", config.training.tokens_per_step, peak, lambda step: "none")
    wanted = dataclasses.replace(
        wanted,
        dataloader=_documents_class().Config(vocab_size=config.tokens.vocab_size),
        metrics=dataclasses.replace(wanted.metrics, facts=lambda: facts),
    )
    return wanted.build(), attempt.metrics


def _documents_class() -> Any:
    """Made when torchtitan can be imported."""
    from torchtitan.components.dataloader import BaseDataLoader

    class Documents(BaseDataLoader):
        """The same few batches of random tokens again and again."""

        @dataclass(kw_only=True, slots=True)
        class Config(BaseDataLoader.Config):
            """Ids are drawn below `vocab_size`."""

            vocab_size: int

        def __init__(self, config: Config, *, seq_len: int, local_batch_size: int, **_: Any) -> None:
            shape = (local_batch_size, seq_len)
            self._batches = [documents(*shape, config.vocab_size, seed) for seed in range(8)]

        def __iter__(self) -> Iterator[Any]:
            """Yields ({"input", "positions"}, labels), int64 (B, L) each."""
            while True:
                for ids, positions, labels in self._batches:
                    yield {"input": ids, "positions": positions}, labels

        def state_dict(self) -> dict[str, Any]:
            """Nothing."""
            return {}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            """Takes nothing."""

    return Documents


def documents(batch: int, seq_len: int, vocab_size: int, seed: int) -> tuple[Any, Any, Any]:
    """Ids, positions and labels, int64 (B, L): documents of random length, the last one of a sequence is cut."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocab_size, (batch, seq_len + 1), generator=generator)
    begins = torch.rand(batch, seq_len, generator=generator) < 1 / min(DOCUMENT, seq_len / 4)
    begins[:, 0] = True
    place = torch.arange(seq_len).expand(batch, seq_len)
    positions = place - torch.where(begins, place, 0).cummax(1).values
    return tokens[:, :-1].contiguous(), positions.contiguous(), tokens[:, 1:].contiguous()


def count_memory(config: Any, num_parameters: int) -> dict[str, int]:
    """Bytes in the loss of a microbatch that is not a step's first, counted on paper, with nothing recomputed.

    Parameters, gradients and AdamW's two moments are float32. A block keeps its input, queries, keys, values, the
    output of attention, the sum after it and both halves of the gated layer, in bfloat16. The logits and their gradient
    are bfloat16, as a compiled loss needs no more. `also` is what a first look at measured peaks suggested: the
    head's weight in bfloat16, and what a block multiplies with weights, kept although it follows from the rest.
    """
    model, tokens = config.model, config.microbatch_size * config.training.seq_len
    kv_dim = model.num_kv_heads * model.head_dim
    kept = 4 * model.dim + 2 * kv_dim + 2 * model.ffn_dim
    products_of = 2 * model.dim + model.ffn_dim  # two normed inputs, and the product of the halves
    return {
        "parameters": 4 * num_parameters,
        "gradients": 4 * num_parameters,
        "optimizer": 8 * num_parameters,
        "activations": model.num_layers * tokens * kept * 2,
        "logits": 2 * 2 * tokens * config.tokens.vocab_size,
        "also": model.num_layers * tokens * products_of * 2 + 2 * model.dim * config.tokens.vocab_size,
    }


def card() -> str:
    """What the device calls itself."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# ------------------------------------------------------------------------------------------------ attention


def attention(rehearse: bool) -> dict[str, Any]:
    """Outputs, gradients and speed of attention as it is built for a GPU, beside what is built without one."""
    import mmhydra.titan  # noqa: F401 - first, as above

    # isort: split
    import torch

    found: dict[str, Any] = {"card": card(), "torch": torch.__version__}
    _without_autotuning()
    shapes = [(2, 256)] if rehearse else [(2, 4096), (2, 8192)]
    found["speed"] = [time_attention(*shape, repeats=3 if rehearse else 20) for shape in shapes]
    # torchtitan writes the mask of one sequence in another way than that of several.
    seq_len = 256 if rehearse else 1024
    found["numbers"] = [compare_attention(2, seq_len, ("float32", "bfloat16"))]
    found["numbers"].append(compare_attention(1, seq_len, ("bfloat16",)))
    found["model"] = compare_models(rehearse)
    return found


def _without_autotuning() -> None:
    """What torchtitan does to flex attention for training.deterministic=true: tuning takes minutes a shape."""
    import torch
    from torch.nn.attention.flex_attention import flex_attention
    from torchtitan.models.common.attention import FlexAttention

    FlexAttention.inductor_configs |= {"max_autotune": False, "coordinate_descent_tuning": False}
    FlexAttention._compiled_flex_attn = torch.compile(flex_attention, options=FlexAttention.inductor_configs)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _paths() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Attention by the mask of positions (B, L): as built for a GPU, and as built without one. q, k, v (B, L, N, H)."""
    import torch

    from mmhydra.titan.attention import DocumentAttention, document_mask

    dense = DocumentAttention(DocumentAttention.Config())
    if not torch.cuda.is_available():  # a rehearsal
        return (lambda positions: document_mask(positions)), dense
    from torchtitan.models.common.attention import FlexAttention

    model = build_model(debug_config(64), on_cpu=False)
    return model.get_attention_masks, FlexAttention(FlexAttention.Config())


def debug_config(seq_len: int) -> Any:
    """The debug model with sequences of this length, in float32."""
    from mmhydra.testing import assert_legal

    return assert_legal("model=debug", "precision=fp32", f"training.seq_len={seq_len}", "optim.warmup_steps=2")


def build_model(config: Any, *, on_cpu: bool) -> Any:
    """The model as mmhydra builds it with or without an accelerator, on meta."""
    import torch

    from mmhydra.titan import cpu
    from mmhydra.titan.model import model_spec

    with mock.patch.object(cpu, "is_active", return_value=on_cpu):
        spec = model_spec(
            config.model,
            config.precision,
            vocab_size=config.tokens.vocab_size,
            max_seq_len=config.training.seq_len,
            compile=False,
        )
        with torch.device("meta"):
            return spec.model.build()


def compare_attention(batch: int, seq_len: int, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Relative errors of the output and of the gradients of a loss, against float64 on CPU."""
    import torch

    from mmhydra.titan.attention import DocumentAttention, document_mask

    torch._dynamo.reset()  # else another shape makes sizes dynamic, which a run of one shape never has
    heads, head_dim = 4, 128
    generator = torch.Generator().manual_seed(batch)
    shape = (batch, seq_len, heads, head_dim)
    q, k, v, weight = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4))
    _, positions, _ = documents(batch, seq_len, 2, seed=batch)
    dense = DocumentAttention(DocumentAttention.Config())
    make_mask, fast = _paths()

    def run(path: Callable[..., Any], mask: Any, device: str, kind: Any) -> list[Any]:
        leaves = [part.to(kind).to(device).detach().clone().requires_grad_() for part in (q, k, v)]
        out = path(*leaves, attention_masks=mask)
        (out.double() * weight.to(device)).sum().backward()
        return [part.detach().double().cpu() for part in (out, *(leaf.grad for leaf in leaves))]

    true = run(dense, document_mask(positions), "cpu", torch.float64)
    device = _device()
    sides = {
        "CPU": (dense, document_mask(positions), "cpu"),
        "GPU": (fast, make_mask(positions.to(device)), device),
    }
    names = ("output", "dq", "dk", "dv")
    errors: dict[str, Any] = {}
    for kind in kinds:
        for side, arm in sides.items():
            try:
                found = run(*arm, getattr(torch, kind))
            except Exception as error:  # told with the others
                errors[f"{side}, {kind}"] = {"failed": f"{type(error).__name__}: {str(error)[:600]}"}
                continue
            pairs = zip(names, found, true, strict=True)
            errors[f"{side}, {kind}"] = {
                name: float((mine - right).norm() / right.norm()) for name, mine, right in pairs
            }
    return {"shape": shape, "documents": int((positions == 0).sum()), "errors": errors}


def compare_models(rehearse: bool) -> dict[str, Any]:
    """One batch through the debug model on both paths with the same weights, in float32."""
    import torch
    import torch.nn.functional as F

    torch._dynamo.reset()
    seq_len = 128 if rehearse else 1024
    config = debug_config(seq_len)
    ids, positions, labels = documents(2, seq_len, config.tokens.vocab_size, seed=7)
    on_cpu = build_model(config, on_cpu=True).to_empty(device="cpu")
    torch.manual_seed(1)
    with torch.no_grad():
        on_cpu.init_weights(buffer_device=None)
    device = _device()
    other = build_model(config, on_cpu=device == "cpu").to_empty(device=device)
    with torch.no_grad():
        other.init_weights(buffer_device=None)
    other.load_state_dict(on_cpu.state_dict())

    def run(model: Any, place: str) -> tuple[Any, float, dict[str, Any]]:
        where = positions.to(place)
        logits = model(ids.to(place), positions=where, attention_masks=model.get_attention_masks(positions=where))
        loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.to(place).flatten())
        loss.backward()
        gradients = {name: part.grad.double().cpu() for name, part in model.named_parameters()}
        return logits.detach().double().cpu(), loss.item(), gradients

    logits, loss, gradients = run(on_cpu, "cpu")
    logits_2, loss_2, gradients_2 = run(other, device)
    differences = {name: float((gradients_2[name] - one).norm() / one.norm()) for name, one in gradients.items()}
    total = torch.stack([one.norm() for one in gradients.values()]).norm()
    apart = torch.stack([(gradients_2[name] - one).norm() for name, one in gradients.items()]).norm()
    # Other tokens in the first document of each row: nothing that a later document computes may move.
    changed = ids.clone()
    first = (positions == 0).cumsum(1) == 1
    changed[first] = (changed[first] + 1) % config.tokens.vocab_size
    with torch.no_grad():
        where = positions.to(device)
        masks = other.get_attention_masks(positions=where)
        moved = other(changed.to(device), positions=where, attention_masks=masks).double().cpu() - logits_2
    return {
        "seq_len": seq_len,
        "loss_on_cpu": loss,
        "loss_on_gpu": loss_2,
        "logits": float((logits_2 - logits).norm() / logits.norm()),
        "gradients": float(apart / total),
        "worst_gradient": max(differences.items(), key=lambda item: item[1]),
        "moved_in_changed_document": float(moved[first].abs().max()),
        "moved_in_other_documents": float(moved[~first].abs().max()),
    }


def time_attention(batch: int, seq_len: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of forward and backward in bfloat16 with the heads of the 1b line; arms take turns."""
    import torch
    import torch.nn.functional as F

    from mmhydra.titan.attention import DocumentAttention, document_mask

    torch._dynamo.reset()
    heads, head_dim = (2, 32) if not torch.cuda.is_available() else (16, 128)
    device = _device()
    shape = (batch, seq_len, heads, head_dim)
    q, k, v, slope = (torch.randn(shape, dtype=torch.bfloat16, device=device) for _ in range(4))
    for leaf in (q, k, v):
        leaf.requires_grad_()
    positions = documents(batch, seq_len, 2, seed=3)[1].to(device)
    make_mask, fast = _paths()
    dense = DocumentAttention(DocumentAttention.Config())
    block_mask, dense_mask = make_mask(positions), document_mask(positions)

    def causal(q: Any, k: Any, v: Any, **_: Any) -> Any:
        parts = (part.transpose(1, 2) for part in (q, k, v))
        return F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2)

    def both(path: Callable[..., Any], mask: Any) -> Callable[[], None]:
        def call() -> None:
            path(q, k, v, attention_masks=mask).backward(slope)
            q.grad = k.grad = v.grad = None

        return call

    def forward(path: Callable[..., Any], mask: Any) -> Callable[[], None]:
        def call() -> None:
            with torch.no_grad():
                path(q, k, v, attention_masks=mask)

        return call

    arms = {
        "gpu path": both(fast, block_mask),
        "dense mask": both(dense, dense_mask),
        "causal, no documents": both(causal, None),
        "gpu path, forward": forward(fast, block_mask),
        "dense mask, forward": forward(dense, dense_mask),
        "causal, no documents, forward": forward(causal, None),
        "block mask made": lambda: make_mask(positions),
        "dense mask made": lambda: document_mask(positions),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    peaks = {}
    for name, call in arms.items():
        for _ in range(3):
            call()
        peaks[name] = _peak_of(call)
    for turn in range(repeats):
        for name in arms if turn % 2 == 0 else reversed(arms):
            times[name].append(_time_of(arms[name]))
    return {
        "shape": shape,
        "documents": int((positions == 0).sum()),
        "ms": {name: statistics.median(values) for name, values in times.items()},
        "spread_ms": {name: (min(values), max(values)) for name, values in times.items()},
        "peak_bytes": peaks,
    }


def _time_of(call: Callable[[], Any]) -> float:
    """Milliseconds of one call."""
    import torch

    if not torch.cuda.is_available():
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    began.record()
    call()
    ended.record()
    ended.synchronize()
    return float(began.elapsed_time(ended))


def _peak_of(call: Callable[[], Any]) -> int:
    """Bytes that a call needs beyond what was there."""
    import torch

    if not torch.cuda.is_available():
        call()
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)


# ------------------------------------------------------------------------------------------------- products


def products(rehearse: bool) -> dict[str, Any]:
    """Milliseconds of the matrix products of the 1b and 10b lines in bfloat16 and in float8 with a scale a row."""
    import torch

    rows = [(64, 64, 64)] if rehearse else PRODUCTS
    found = []
    for m, k, n in rows:
        x, w = (torch.randn(size, k, device=_device(), dtype=torch.bfloat16) for size in (m, n))
        x8, w8 = x.to(torch.float8_e4m3fn), w.to(torch.float8_e4m3fn)
        scales = {"scale_a": torch.ones(m, 1, device=_device()), "scale_b": torch.ones(1, n, device=_device())}
        row: dict[str, Any] = {"shape": (m, k, n), "bf16": _median_ms(lambda x=x, w=w: x @ w.t())}
        for name, fast in (("float8, fast sums", True), ("float8", False)):

            def multiply(x8: Any = x8, w8: Any = w8, scales: Any = scales, fast: bool = fast) -> Any:
                if not torch.cuda.is_available():  # a rehearsal
                    return x8.float() @ w8.float().t()
                kind = torch.bfloat16
                return torch._scaled_mm(x8, w8.t(), **scales, out_dtype=kind, use_fast_accum=fast)

            row[name] = _median_ms(multiply)
        found.append(row)
    return {"card": card(), "torch": torch.__version__, "rows": found}


def _median_ms(call: Callable[[], Any]) -> float:
    for _ in range(3):
        call()
    return statistics.median(_time_of(call) for _ in range(15))


# --------------------------------------------------------------------------------------------------- report


def report(results: dict[str, Any]) -> str:
    """Tables for docs/performance.md, of what there is."""
    parts = [f"{_cards(results)}."]
    if results["runs"]:
        parts += [_STEPS, _steps_table(results["runs"]), _MEMORY, _memory_table(results["runs"])]
    if results.get("products"):
        parts += [_PRODUCTS, _products_table(results["products"]["rows"])]
    if results.get("attention"):
        parts += [_NUMBERS, _numbers_table(results["attention"])]
        parts += [_SPEED, _speed_table(results["attention"]["speed"])]
    missing = [*results["left_out"], *(fault["name"] for fault in results["failed"])]
    if missing:
        parts.append(f"Not measured, for lack of time or because they failed: {', '.join(dict.fromkeys(missing))}.")
    return "\n\n".join(parts)


_STEPS = """A step has 32,768 tokens in microbatches of 2 sequences, runs are model, tokens a sequence and precision,
and each figure is the median of one run's steps after the warm-up. MFU is that of metrics.jsonl: of the peak of the
run's own format, with torchtitan's count of operations, which has attention over whole sequences."""
_MEMORY = """Peak of allocated memory, in GiB, against counts on paper (`count_memory` says of what):"""
_PRODUCTS = """Single matrix products, float8 with a scale a row and bfloat16, both with results in bfloat16:"""
_NUMBERS = """Attention over packed documents as it is built for a GPU and as it is built without one, relative errors
against float64 on CPU:"""
_SPEED = """Forward and backward of attention in bfloat16, 2 sequences, 16 heads of 128: how many times as long as flex
attention with our mask other ways take, and how much memory the dense mask's needs beside flex attention's:"""


def _cards(results: dict[str, Any]) -> str:
    found = [*results["runs"], *(results[name] for name in ("products", "attention") if results.get(name))]
    return "; ".join(dict.fromkeys(f"One {run['card']}, torch {run['torch']}" for run in found))


def _steps_table(runs: list[dict[str, Any]]) -> str:
    lines = [
        "| run | step, ms | ratio to bf16 | TFLOP/s | MFU |",
        "|---|---|---|---|---|",
    ]
    by_case: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_case.setdefault(Case(**run["case"]).name, []).append(run)
    for name, same in by_case.items():
        case = Case(**same[0]["case"])
        base = by_case.get(Case(case.model, case.seq_len, "bf16").name, [])
        ratios = [run["step_s"] / other["step_s"] for run, other in zip(same, base, strict=False)]
        cells = [
            name,
            ", ".join(f"{run['step_s'] * 1e3:.1f}" for run in same),
            "" if same is base else ", ".join(f"{ratio:.2f}" for ratio in ratios),
            ", ".join(f"{run['flop_rate'] / 1e12:.0f}" for run in same),
            ", ".join(f"{run['mfu']:.3f}" for run in same),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _memory_table(runs: list[dict[str, Any]]) -> str:
    lines = [
        "| run | peak | simple count | error | fuller count | error | between steps | 16 bytes a parameter | error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in {Case(**run["case"]).name: run for run in runs}.values():
        count = run["count_bytes"]
        also = sum(count.values())
        kept = count["parameters"] + count["gradients"] + count["optimizer"]
        cells = [Case(**run["case"]).name, f"{run['peak_bytes'] / GIB:.2f}"]
        cells += _counted(also - count["also"], run["peak_bytes"]) + _counted(also, run["peak_bytes"])
        cells += [f"{run['between_bytes'] / GIB:.2f}", *_counted(kept, run["between_bytes"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _counted(count: int, measured: int) -> list[str]:
    return [f"{count / GIB:.2f}", f"{100 * (count / measured - 1):+.1f}%" if measured else ""]


def _products_table(rows: list[dict[str, Any]]) -> str:
    lines = ["| rows, inner, columns | float8 is faster, times | with fast sums |", "|---|---|---|"]
    for row in rows:
        shape = " x ".join(map(str, row["shape"]))
        speeds = [f"{row['bf16'] / row[name]:.2f}" for name in ("float8", "float8, fast sums")]
        lines.append(f"| {shape} | {' | '.join(speeds)} |")
    return "\n".join(lines)


def _numbers_table(attention: dict[str, Any]) -> str:
    lines = ["| sequences | side, format | output | dq | dk | dv |", "|---|---|---|---|---|---|"]
    for compared in attention["numbers"]:
        for name, errors in compared["errors"].items():
            cells = [f"{value:.1e}" for value in errors.values()] if "failed" not in errors else ["failed"] * 4
            lines.append(f"| {compared['shape'][0]} | {name} | {' | '.join(cells)} |")
    model = attention["model"]
    name, worst = model["worst_gradient"]
    return "\n".join(lines) + (
        f"\n\nThe debug model in float32 on {model['seq_len']} tokens a sequence, the same weights on both sides: loss "
        f"{model['loss_on_cpu']:.6f} on CPU and {model['loss_on_gpu']:.6f} on the GPU, logits apart by "
        f"{model['logits']:.1e}, all gradients by {model['gradients']:.1e}, the worst of a parameter by {worst:.1e} "
        f"({name}). Other tokens in the first document move the logits of the others by "
        f"{model['moved_in_other_documents']:g}, its own by {model['moved_in_changed_document']:.1f}."
    )


def _speed_table(speed: list[dict[str, Any]]) -> str:
    lines = [
        "| tokens a sequence | documents | dense mask | causal, no documents | the same, forward alone | memory |",
        "|---|---|---|---|---|---|",
    ]
    for timed in speed:
        ms, peak = timed["ms"], timed["peak_bytes"]
        dense, causal = (f"{ms[name] / ms['gpu path']:.2f}" for name in ("dense mask", "causal, no documents"))
        alone = [ms[f"{name}, forward"] / ms["gpu path, forward"] for name in ("dense mask", "causal, no documents")]
        memory = f"{peak['dense mask'] / peak['gpu path']:.2f}" if peak["gpu path"] else ""
        cells = [str(timed["shape"][1]), str(timed["documents"]), dense, causal]
        lines.append(f"| {' | '.join(cells)} | {alone[0]:.2f} and {alone[1]:.2f} | {memory} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
