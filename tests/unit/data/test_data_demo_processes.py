"""Builds that are killed, run at the same time, or out of space. Progress lines, not clocks, order the events."""

import subprocess
import sys
from pathlib import Path

import pytest

from mmhydra.data.manifest import load_manifest
from mmhydra.data.verify import verify_shards

BUILDER = Path(__file__).with_name("demo_builder.py")


class Builder:
    """A build in a process of its own that waits after each progress line (unless `steps` is 0)."""

    def __init__(self, folder, *, corpus_mb=0.6, steps=1, fsize_bytes=""):
        self.process = subprocess.Popen(
            [sys.executable, str(BUILDER), str(folder), str(corpus_mb), str(steps), str(fsize_bytes)],
            env={"PYTHONPATH": ":".join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self):
        return self.process.stdout.readline().strip()

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def run_to(self, start):
        """Let it run until it prints a line that starts so, and leave it waiting there."""
        while not (line := self.line()).startswith(start):
            assert line.split(" ")[0] not in ("", "error", "digest"), f"never came to {start!r}: {line!r}"
            self.go_on()

    def finish(self):
        """Close its input, so it waits no more; its last words."""
        out, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return out.strip().splitlines()


@pytest.fixture
def start():
    builders = []

    def start(*args, **kwargs):
        builders.append(Builder(*args, **kwargs))
        return builders[-1]

    yield start
    for builder in builders:
        builder.process.kill()
        builder.process.wait()
        for stream in (builder.process.stdin, builder.process.stdout):
            stream.close()


@pytest.mark.parametrize("stage", ["training", "writing shards"])
def test_a_killed_build_leaves_nothing_in_place_and_the_next_one_succeeds(start, demo, tmp_path, stage):
    folder = tmp_path / "v1"
    killed = start(folder)
    killed.run_to(stage)
    killed.process.kill()
    killed.process.wait()
    assert not folder.exists()
    leftover = tmp_path / ".v1.building"
    assert leftover.is_dir()
    (leftover / "half a shard.tar").write_bytes(b"x")

    assert start(folder, steps=0).finish()[-1] == f"digest {demo.manifest.digest}"
    assert verify_shards(folder, load_manifest(folder)) == []
    assert not leftover.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "shards", "tokenizer.json"]


def test_of_two_builds_at_once_the_second_waits_and_uses_the_first(start, demo, tmp_path):
    folder = tmp_path / "v1"
    first = start(folder)
    first.run_to("training")
    second = start(folder)
    second.run_to("another process builds")
    assert first.finish()[-1] == f"digest {demo.manifest.digest}"
    made = (folder / "manifest.json").stat().st_ino
    assert second.finish() == [f"digest {demo.manifest.digest}"]  # no line of a build of its own
    assert (folder / "manifest.json").stat().st_ino == made


def test_a_waiting_build_takes_over_from_a_killed_one(start, demo, tmp_path):
    folder = tmp_path / "v1"
    first = start(folder)
    first.run_to("training")
    second = start(folder)
    second.run_to("another process builds")
    first.process.kill()
    lines = second.finish()
    assert lines[-1] == f"digest {demo.manifest.digest}"
    assert any(line.startswith("training") for line in lines)


# The tokenizer's file has about 20 kB, shards up to 250 kB: one limit fails at the first, one at the others.
@pytest.mark.parametrize("fsize_bytes", [4096, 100_000])
def test_no_space_is_a_clear_error_and_leaves_nothing(start, tmp_path, fsize_bytes):
    folder = tmp_path / "v1"
    lines = start(folder, steps=0, fsize_bytes=fsize_bytes).finish()
    assert f"error cannot build the dataset in {folder}: [Errno 27] File too large" in lines[-1]
    assert "Free some space or give another data folder" in lines[-1]
    assert ("writing shards" in lines) == (fsize_bytes > 50_000)
    assert [path.name for path in tmp_path.iterdir()] == ["v1.lock"]
