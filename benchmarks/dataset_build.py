"""What building a dataset of text costs: records a second and peak memory, for one process and two.

    python benchmarks/dataset_build.py FOLDER [--records 10000 100000] [--processes 1 2]

FOLDER gets records of about 300 characters and the datasets that are made of them, 0.5 GB for 100,000 records.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

WORDS = 8000  # of a language that the language model takes for English: its letters and endings
CHARACTERS = 300  # of a text
RECIPE = """\
# @package _global_
defaults:
  - override /tokens: demo
  - _self_
dataset:
  name: bench
  generate: null
  records_dir: null
  limits: {{max_text_bytes: 100000, min_pixels: 1, max_pixels: 1000000, min_seconds: 0.0, max_seconds: 60.0,
    max_frames: 1000, max_decoded_mb: 100.0, min_sample_rate_hz: 8000, sample_rate_tolerance_hz: 0,
    duration_tolerance_s: 0.1, roots: []}}
  sources:
    - name: web
      description: made-up sentences
      modality: text
      records: ["records-{records}.jsonl"]
      templates: [{{name: text, form: "{{text}}", loss: all, share: 1.0}}]
  filters:
    - {{kind: license, allow: [CC0-1.0]}}
{language}
    - {{kind: quality, min_characters: 8, max_characters: 100000, max_symbol_share: 0.5, min_scores: {{}},
      max_scores: {{}}}}
    - {{kind: toxicity, words_file: null, max_share: 0.02}}
    - {{kind: pii, find: [email, phone, card, iban], phone_regions: [US], action: redact}}
    - {{kind: exact_duplicates}}
    - {{kind: near_duplicates, num_perm: 128, threshold: 0.8, shingle_words: 5, min_words: 20}}
  codecs: {{image: null, audio: null, video: null}}
  heldout_fraction: 0.01
  shard_mb: 100.0
  chunk_mb: 4.0
  seq_lens: [2048]
  seed: 1
"""
LANGUAGE = "    - {kind: language, allow: [en], no_model: [], min_confidence: 0.5, min_characters: 40}"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--without-language", action="store_true", help="leaves out the language filter")
    options = parser.parse_args()
    folder = options.folder.absolute()
    columns = ["records", "processes", "wall, s", "records a second", "CPU, ms a record", "largest process, MB"]
    columns += ["all processes, MB", "shards, MB"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    walls: dict[tuple[int, int], float] = {}
    for records in options.records:
        write_records(folder / f"records-{records}.jsonl", records)
        write_recipe(folder, records, "" if options.without_language else LANGUAGE)
        for processes in options.processes:
            cpu_before_s = cpu_s()
            wall_s, largest_mb, all_mb = build(folder, processes)
            cpu_ms = (cpu_s() - cpu_before_s) / records * 1e3
            walls[records, processes] = wall_s
            shards_mb = sum(path.stat().st_size for path in (folder / "data/bench/shards").glob("*.tar")) / 1e6
            row = [f"{records:,}", f"{processes}", f"{wall_s:.1f}", f"{records / wall_s:,.0f}", f"{cpu_ms:.2f}"]
            row += [f"{largest_mb:,.0f}", f"{all_mb:,.0f}", f"{shards_mb:,.1f}"]
            print(f"| {' | '.join(row)} |", flush=True)
    for records in options.records:
        one, *others = options.processes
        for other in others:
            ratio = walls[records, one] / walls[records, other]
            print(f"{records:,} records: {other} processes are {ratio:.2f} times as fast as {one}")


def cpu_s() -> float:
    """CPU time of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_records(path: Path, number: int) -> None:
    """The same bytes each time."""
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = random.Random(7)
    syllables = [a + b + c for a in "bcdfghlmnprst" for b in "aeiou" for c in ("", "n", "r", "st", "ng", "l")]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(WORDS)]
    words += ["the", "of", "and", "to", "in", "that", "it", "was", "for", "on", "with", "his", "they", "from"] * 120
    with path.open("w", encoding="utf-8") as file:
        for place in range(number):
            text = ""
            while len(text) < CHARACTERS:
                text += " ".join(draw.choices(words, k=draw.randint(6, 14))).capitalize() + ". "
            record = {
                "unique_id": f"bench-{place}",
                "source": "bench",
                "modalities": ["text"],
                "text": text.strip(),
                "metadata": {"license": "CC0-1.0", "language": "en", "title": f"text {place}"},
            }
            file.write(json.dumps(record) + "\n")


def write_recipe(folder: Path, records: int, language: str) -> None:
    """A folder of groups with one recipe."""
    (folder / "groups/dataset").mkdir(parents=True, exist_ok=True)
    (folder / "groups/dataset/bench.yaml").write_text(RECIPE.format(records=records, language=language))


def build(folder: Path, processes: int) -> tuple[float, float, float]:
    """Wall time in s, and the peak RSS in MB of the largest process and of all together."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    command = [sys.executable, "-m", "mmhydra.data", "build", "--config-dir", str(folder / "groups"), "dataset=bench"]
    command += [f"dataset.records_dir={folder}", f"paths.data={folder / 'data'}", f"build.processes={processes}"]
    began = time.perf_counter()
    with (folder / "build.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
        peaks: dict[int, int] = {}
        together = [0]
        watcher = threading.Thread(target=watch, args=(process, peaks, together))
        watcher.start()
        code = process.wait()
        watcher.join()
    if code:
        sys.exit((folder / "build.log").read_text())
    return time.perf_counter() - began, max(peaks.values()) / 1e6, together[0] / 1e6


def watch(process: subprocess.Popen[bytes], peaks: dict[int, int], together: list[int]) -> None:
    """Looks at memory ten times a second."""
    own = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        for one in with_children(own):
            try:
                rss = one.memory_info().rss
            except psutil.Error:
                continue
            total += rss
            peaks[one.pid] = max(rss, peaks.get(one.pid, 0))
        together[0] = max(together[0], total)
        time.sleep(0.1)


def with_children(process: psutil.Process) -> list[psutil.Process]:
    """A process and those that it started; none once it has ended."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


if __name__ == "__main__":
    main()
