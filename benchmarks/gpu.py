"""What only a GPU shows: float8 beside bf16, memory beside a count of it, and attention beside the path on CPU.

    python benchmarks/gpu.py

Each run is a process of its own: mmhydra's trainer as `python -m mmhydra.train` builds it, compiled, on one GPU, with
random tokens packed into documents in place of a dataset. Runs of bf16 and float8 take turns (A B B A). What does not
fit into `--seconds` any more is left out, the most important runs come first, and a run that fails is told and skipped.
With `--json FILE` a second call goes on where the first one ended.

`--rehearse` goes through all of it on CPU with tiny models, in eager mode and emulated float8, and writes no result.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpu_attention import attention
from gpu_device import stand_in
from gpu_memory import GIB
from gpu_products import products
from gpu_training import Case, cases, train
from harness import ROOT, progress, project_environment, write_block


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
    results = json.loads(file.read_text()) if file and file.exists() else {"runs": []}
    results |= {"left_out": [], "failed": []}  # of this call: what failed before is tried again

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

    def run_parts() -> None:
        run_part("products")
        run_part("attention")

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
        if number == 3:  # short, and not to be left out because the time ends
            run_parts()
        if file:  # what is there counts, whatever comes after
            file.write_text(json.dumps(results, indent=1))
    run_parts()  # if there were fewer cases, or one of them has failed
    if file:
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
