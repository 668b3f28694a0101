"""A tiny recipe of text, whose builds need no codec and start fast; its records, and builds as processes."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmhydra.data.shards.manifest import load_manifest
from mmhydra.data.shards.reader import TokenShards

# Every folder of groups holds this recipe; what a test needs otherwise it overrides.
RECIPE = """\
# @package _global_
defaults:
  - override /tokens: demo
  - _self_
dataset:
  name: tiny
  generate: null
  records_dir: null
  limits: {max_text_bytes: 100000, min_pixels: 1, max_pixels: 1000000, min_seconds: 0.0, max_seconds: 60.0,
    max_frames: 1000, max_decoded_mb: 100.0, min_sample_rate_hz: 8000, sample_rate_tolerance_hz: 0,
    duration_tolerance_s: 0.1, roots: []}
  sources:
    - {name: web, description: pages, modality: text, records: [web*.jsonl],
       templates: [{name: text, form: "{text}", loss: all, share: 1.0}]}
    - {name: notes, description: notes, modality: text, records: [notes.jsonl],
       templates: [{name: text, form: "{text}", loss: all, share: 0.5},
                   {name: note, form: "A note: {text}", loss: [text], share: 0.5}]}
  filters:
    - {kind: license, allow: [CC0-1.0]}
    - {kind: exact_duplicates}
    - {kind: near_duplicates, num_perm: 32, threshold: 0.8, shingle_words: 3, min_words: 8}
  codecs: {image: null, audio: null, video: null}
  heldout_fraction: 0.2
  shard_mb: 0.2
  chunk_mb: 0.05
  seq_lens: [64]
  seed: 1
"""
WORDS = ("river", "garden", "baker", "harbour", "teacher", "window", "forest", "bridge", "letter", "village")


def text_record(name: str, text: str, **changes: Any) -> dict[str, Any]:
    """A record of text in the ETL schema; `metadata` is added to."""
    metadata = {"license": "CC0-1.0", "language": "en", **changes.pop("metadata", {})}
    record = {"unique_id": name, "source": "made", "modalities": ["text"], "text": text, "metadata": metadata}
    return {**record, **changes}


def sentence(number: int) -> str:
    """A text that is like no other's."""
    words = [f"{WORDS[number // 10**power % 10]}{number * 7 + power}" for power in range(12)]
    return f"Tale {number}: {' '.join(words)}"


def write_jsonl(path: Path, records: Sequence[Any]) -> None:
    """One JSON value a line; bytes as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def write_records(folder: Path, number: int = 1200) -> Path:
    """`number` records of web, some of them bad or there twice, and a few notes."""
    web = [text_record(f"web-{n}", sentence(n), metadata={"split_group": f"site {n % 97}"}) for n in range(number)]
    web[7] = text_record("web-7", "no licence", metadata={"license": "GPL-3.0-only"})
    web[11] = b"{this is no JSON}"
    web[13] = text_record("web-12", sentence(4013))  # an id that was there
    web[17] = text_record("web-17", sentence(16))  # a text that was there
    write_jsonl(folder / "web-0.jsonl", web[: number // 2])
    write_jsonl(folder / "web-1.jsonl", web[number // 2 :])
    write_jsonl(folder / "notes.jsonl", [text_record(f"note-{n}", sentence(90_000 + n)) for n in range(40)])
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def infos(folder: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """What is kept beside each document, by split and source."""
    manifest = load_manifest(folder)
    found = {}
    for source, split in sorted({(shard.source, shard.split) for shard in manifest.shards}):
        shards = TokenShards(folder, manifest, source, split)
        found[split, source] = [shards.info(number) for number in range(shards.num_documents)]
    return found


class Command:
    """A build in a process group of its own, whose output goes into a file."""

    def __init__(
        self, groups: Path, records: Path, data: Path, *overrides: str, fsize_bytes: int | None = None
    ) -> None:
        self.data = data
        data.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(".log", "build", data.parent)
        self.log = Path(name)
        given = [f"dataset.records_dir={records}", f"paths.data={data}", *overrides]
        command = [sys.executable, "-m", "mmhydra.data", "build", "--config-dir", str(groups), "dataset=tiny", *given]
        if fsize_bytes is not None:
            command = ["prlimit", f"--fsize={fsize_bytes}", *command]
        self._file = os.fdopen(descriptor, "wb")
        self.process = subprocess.Popen(command, stdout=self._file, stderr=self._file, start_new_session=True)

    def wait(self) -> tuple[int, str]:
        """The exit code and all that was said."""
        code = self.process.wait(timeout=60)
        self._file.close()
        return code, self.log.read_text()

    def run_to(self, pattern: str, number: int = 1) -> bool:
        """Waits until so many files of the building folder match; False if the build ends before."""
        building = self.data / ".tiny.building"
        while self.process.poll() is None:
            with suppress(OSError):  # a folder that goes away meanwhile
                if len(list(building.glob(pattern))) >= number:
                    return True
            time.sleep(0.002)
        return False

    def workers(self) -> list[int]:
        """Ids of the processes of its pool."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                is_pool = b"spawn_main" in (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if int(fields[1]) == self.process.pid and is_pool and fields[0] != "Z":
                found.append(int(folder.name))
        return sorted(found)

    def stop(self) -> None:
        """Ends all of it, if there is something left."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._file.close()
