"""How fast the stream gives batches, beside webdataset, megatron-energon and plain reads of the same bytes.

    python benchmarks/stream.py FOLDER [--rounds 5] [--energon PYTHON]

FOLDER gets 1.6 GB of shards the first time, which takes four minutes. Each arm is a process of its own; the page cache
is warm. A round runs all arms, and each next round begins with another one. PYTHON is one that has megatron-energon
beside this project's packages (benchmarks/stream_energon.py); without it that arm is left out.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from harness import ROOT, Median, median_of, progress, project_environment, run_timed, write_block
from stream_data import DATASET, NUM_SHARDS, SEQ_LEN, SOURCES, build, build_many

from mmhydra.data.packing.pack import first_fit, pack
from mmhydra.data.shards.reader import TokenShards

PLOT = ROOT / "docs" / "images" / "stream-workers.svg"
WORKERS = (0, 1, 2, 4)
MEMORY_MB = 64  # for chunks, with 10,000 shards
WEBDATASET_GOAL, RAW_GOAL = 5.0, 0.5

Result = dict[str, float]


def main() -> None:
    """Builds the shards, runs the rounds and writes the block and the plot."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--energon", type=Path, help="a Python with megatron-energon")
    arguments = parser.parse_args()
    folder = arguments.folder
    build(folder)
    build_many(folder)
    for source in SOURCES:
        packing(folder, source)
    same_labels(folder)
    arms = {
        "raw, 1 MB": ["raw", "--number", "1000000"],
        "raw, 16 MB": ["raw", "--number", "16000000"],
        "webdataset": ["webdataset"],
        **{f"ours, {workers}": ["ours", "--number", str(workers)] for workers in WORKERS},
    }
    found: dict[str, list[Result]] = {}
    for number in range(arguments.rounds):
        names = list(arms)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found.setdefault(name, []).append(run(folder, arms[name]))
            progress(f"round {number + 1}, {name}: {rates(found[name], 'wall_s')[-1]:.1f} million tokens/s")
        if arguments.energon:
            command = [str(arguments.energon), str(ROOT / "benchmarks" / "stream_energon.py"), str(folder)]
            found.setdefault("megatron-energon", []).append(process(command))
    many = run(folder, ["memory", "--number", str(MEMORY_MB)])
    PLOT.write_text(plot(found))
    shown = ["FOLDER", "--rounds", str(arguments.rounds), *(["--energon", "PYTHON"] if arguments.energon else [])]
    write_block("stream", "stream.py", shown, report(found, many))


def run(folder: Path, arguments: Sequence[str]) -> Result:
    """One arm in its own process."""
    return process([sys.executable, str(ROOT / "benchmarks" / "stream_arms.py"), str(folder), *arguments])


def process(command: Sequence[str]) -> Result:
    """What a process prints as its last line."""
    found: Result = json.loads(run_timed(command, project_environment(), ROOT).stdout.splitlines()[-1])
    return found


def packing(folder: Path, source: str) -> None:
    """Tells what packing costs, which is done once for a dataset."""
    shards = TokenShards(folder / DATASET, build(folder), source, "train")
    began = time.process_time()
    made = pack(shards, SEQ_LEN)
    took = time.process_time() - began
    progress(
        f"{source}: {shards.num_documents:,} documents packed at {took / shards.num_documents * 1e6:.2f} us each, "
        f"{len(made.pieces) / made.num_sequences:.1f} pieces a sequence, {made.padding_share:.2%} padding"
    )
    needs = np.minimum(np.random.default_rng(0).lognormal(6.5, 1.2, 1_000_000).astype(int) + 1, SEQ_LEN)
    began = time.process_time()
    first_fit(needs, SEQ_LEN)
    progress(f"first fit: {(time.process_time() - began) / len(needs) * 1e6:.2f} us a piece")


def same_labels(folder: Path) -> None:
    """Fails unless both arms give the same labels in an epoch, but for the last batch, which they drop."""
    own, other = run(folder, ["ours", "--check"]), run(folder, ["webdataset", "--check"])
    for what in ("num_labels", "label_sum"):
        if abs(own[what] - other[what]) > 1e-3 * other[what]:
            raise SystemExit(f"the arms do different work: {what} is {own[what]:,} and with webdataset {other[what]:,}")


def rates(results: Sequence[Result], clock: str) -> list[float]:
    """Million tokens (pairs of an input and a label) a second."""
    return [result["pairs"] / result[clock] / 1e6 for result in results]


def ratio(found: dict[str, list[Result]], name: str, other: str, clock: str) -> Median:
    """How many times the rate of another arm, round by round."""
    pairs = zip(rates(found[name], clock), rates(found[other], clock), strict=True)
    return median_of([own / its for own, its in pairs])


def report(found: dict[str, list[Result]], many: Result) -> str:
    """The block for docs/performance.md."""
    raw = max(("raw, 1 MB", "raw, 16 MB"), key=lambda name: statistics.median(rates(found[name], "cpu_s")))
    num_rounds = len(found[raw])
    best = max((f"ours, {workers}" for workers in WORKERS), key=lambda name: _wall(found, name))
    to_webdataset, to_raw = ratio(found, "ours, 0", "webdataset", "cpu_s"), ratio(found, "ours, 0", raw, "cpu_s")
    clocked = ratio(found, best, raw, "wall_s")
    lines = [
        f"On one thread the stream gives {to_webdataset.text(1)} times the tokens that webdataset "
        f"{version('webdataset')} gives in the same CPU time, with the same packing. Goal: 5; "
        f"{_verdict(to_webdataset, WEBDATASET_GOAL)}. It goes at {to_raw.text(2)} of the speed of plain reads of the "
        f"same bytes in CPU time, and by the clock at {clocked.text(2)} ({_arm(best)}). "
        f"Goal: 0.5; {_verdict(to_raw, RAW_GOAL)} on one thread. Medians of {num_rounds} rounds, in brackets their 95% "
        "bootstrap intervals.",
        "",
        "| arm | million tokens/s, CPU | million tokens/s, clock | times webdataset, CPU | times webdataset, clock |",
        "|---|---|---|---|---|",
    ]
    for name in found:
        cells = [f"{statistics.median(rates(found[name], clock)):.1f}" for clock in ("cpu_s", "wall_s")]
        cells += [ratio(found, name, "webdataset", clock).text(2) for clock in ("cpu_s", "wall_s")]
        lines.append(f"| {_arm(name)} | {' | '.join(cells)} |")
    read = found["ours, 0"][-1]
    rest = read["pairs"] / found[raw][-1]["pairs"] * found[raw][-1]["bytes"]
    lines += [
        "",
        f"Batches of 8 sequences of {SEQ_LEN} from {found[raw][-1]['bytes'] / 1e9:.2f} GB of shards in the page cache: "
        "texts of about 1,400 tokens and speech without loss, ids of four bytes, chunks of 16 MB, each hashed when it "
        f"is read. Memory for chunks is 600 MB, the clock starts when it is full; ours then read "
        f"{read['read_bytes'] / rest:.2f} times the bytes of what it gave, and the process never had more than "
        f"{max(result['peak_rss'] for result in found['ours, 0']) / 1e6:.0f} MB (with 4 threads "
        f"{max(result['peak_rss'] for result in found['ours, 4']) / 1e6:.0f} MB). webdataset: shards shuffled, a "
        "shuffle buffer of 1,000 documents, `.decode()`, the mixture by RandomMix, and next fit into the same three "
        "arrays. Before the rounds both arms are held to give the same labels.",
        "",
        f"{NUM_SHARDS:,} shards of about 30 kB, {MEMORY_MB} MB of memory for chunks: opened in "
        f"{many['open_s']:.2f} s and {many['opened_rss'] / 1e6:.0f} MB with the first batch; after all were read the "
        f"process had {many['read_rss'] / 1e6:.0f} MB more than before it opened them, of which chunks and what lies "
        f"beside shards held {many['held_bytes'] / 1e6:.0f} MB.",
    ]
    return "\n".join(lines)


def _arm(name: str) -> str:
    if name.startswith("ours"):
        workers = int(name.removeprefix("ours, "))
        return "ours, read by the taker" if not workers else f"ours, {workers} thread{'s' * (workers > 1)} ahead"
    return name.replace("raw", "plain reads")


def _wall(found: dict[str, list[Result]], name: str) -> float:
    return statistics.median(rates(found[name], "wall_s"))


def _verdict(measured: Median, goal: float) -> str:
    if measured.low >= goal:
        return "met"
    return "missed" if measured.high < goal else "not decided: the interval straddles it"


def plot(found: dict[str, list[Result]]) -> str:
    """Throughput over threads as SVG: the median of each, all rounds as dots, webdataset as a line."""
    width, height, left, top, bottom = 640, 300, 64, 24, 48
    own = {workers: rates(found[f"ours, {workers}"], "wall_s") for workers in WORKERS}
    line = _wall(found, "webdataset")
    most = max(map(max, own.values())) * 1.1
    step = 10 ** np.floor(np.log10(most)) / (1 if most / 10 ** np.floor(np.log10(most)) > 4 else 2)

    def y(value: float) -> float:
        return round(top + (height - top - bottom) * (1 - value / most), 1)

    def x(place: int) -> float:
        return left + 70 + place * 140

    drawn = [f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for tick in np.arange(0, most, step):
        drawn.append(f'<line x1="{left}" x2="{width - 12}" y1="{y(tick)}" y2="{y(tick)}" stroke="#ddd"/>')
        drawn.append(f'<text x="{left - 8}" y="{y(tick) + 4}" text-anchor="end">{tick:g}</text>')
    path = " ".join(f"{x(place)},{y(statistics.median(own[workers]))}" for place, workers in enumerate(WORKERS))
    drawn.append(f'<polyline points="{path}" fill="none" stroke="#1f6feb" stroke-width="2"/>')
    for place, workers in enumerate(WORKERS):
        for value in own[workers]:
            drawn.append(f'<circle cx="{x(place)}" cy="{y(value)}" r="3" fill="#1f6feb" fill-opacity="0.5"/>')
        label = f"{workers} thread{'s' * (workers != 1)}"
        drawn.append(f'<text x="{x(place)}" y="{height - bottom + 20}" text-anchor="middle">{label}</text>')
    drawn.append(
        f'<line x1="{left}" x2="{width - 12}" y1="{y(line)}" y2="{y(line)}" stroke="#b3261e" stroke-dasharray="6 4"/>'
    )
    drawn.append(f'<text x="{width - 14}" y="{y(line) - 6}" text-anchor="end" fill="#b3261e">webdataset</text>')
    drawn.append(f'<text x="{left - 52}" y="14">million tokens a second, by the clock</text>')
    drawn.append(f'<text x="{width - 12}" y="{height - 8}" text-anchor="end">threads that read ahead</text>')
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12" fill="#333" role="img">\n<title>Throughput over threads</title>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    main()
