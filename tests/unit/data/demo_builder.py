"""Builds the demo in a process of its own, one step at a time: run by test_data_demo_processes.py.

    python demo_builder.py FOLDER CORPUS_MB STEPS [FSIZE_BYTES]

Prints each progress line. With STEPS=1 it then waits for a line on standard input before it goes on, so a
test knows where the build stands. FSIZE_BYTES is the largest file the process may write. Prints "digest ..." or
"error ..." at the end.
"""

import resource
import sys
from pathlib import Path

from mmhydra.data.demo import build_demo
from mmhydra.errors import UserError


def main(folder: str, corpus_mb: str, steps: str, fsize_bytes: str = "") -> None:
    """Build and report."""

    def progress(line: str) -> None:
        print(line, flush=True)
        if steps == "1":
            sys.stdin.readline()

    if fsize_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(fsize_bytes), int(fsize_bytes)))
    try:
        manifest = build_demo(
            Path(folder),
            vocab_size=512,
            corpus_mb=float(corpus_mb),
            heldout_fraction=0.2,
            shard_mb=0.25,
            on_progress=progress,
        )
        print(f"digest {manifest.digest}", flush=True)
    except UserError as error:
        print(f"error {error}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
