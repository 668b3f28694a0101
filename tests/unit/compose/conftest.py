"""Command lines with nothing behind them: what would start is only recorded, and nothing may be written."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mmhydra import train
from mmhydra.compose import Request

STARTED = 99  # the exit code of a command line that would start something


@dataclass
class Command:
    """Runs command lines in an empty folder, and keeps the requests that the last one would start."""

    place: Path
    set_arguments: Callable[[list[str]], None]
    streams: pytest.CaptureFixture[bytes]
    started: list[Request] = field(default_factory=list)

    @staticmethod
    def submits(submit: Callable[[list[Request]], list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
        """Puts a function in the place of what starts runs: of single ones, and of the points of a sweep."""
        monkeypatch.setattr("mmhydra.launch.submit.submit", submit)
        monkeypatch.setattr(
            "mmhydra.launch.sweeps.submitting.submit_sweep",
            lambda asked, study, points: submit([point.request for point in points]),
        )

    def __call__(self, *arguments: str) -> tuple[int, bytes, str]:
        """Exit code, standard output and standard error. No command may leave anything behind."""
        self.set_arguments(["train", *arguments])
        self.started.clear()
        self.streams.readouterr()
        try:
            code = int(train.main())
        except SystemExit as end:  # --version
            code = end.code
        sys.stdout.flush()
        out, err = self.streams.readouterr()
        assert os.listdir(self.place) == ["here"]
        assert os.listdir(self.place / "here") == []
        assert (code == STARTED) == bool(self.started)
        return code, out, err.decode()


@pytest.fixture
def command(monkeypatch, tmp_path, capfdbinary) -> Iterator[Command]:
    """Command lines with folders below `tmp_path`, which has to stay empty; see `Command`."""
    monkeypatch.delenv("MMHYDRA_CLUSTER", raising=False)
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    run = Command(tmp_path, lambda arguments: monkeypatch.setattr(sys, "argv", arguments), capfdbinary)

    def submit(requests: list[Request]) -> list[int]:
        run.started.extend(requests)
        return [STARTED] * len(requests)

    run.submits(submit, monkeypatch)
    handlers = logging.root.handlers[:]
    yield run
    logging.root.handlers[:] = handlers  # Hydra's hold on to this test's standard error


Files = Mapping[str, str | bytes]


@pytest.fixture
def lab(tmp_path_factory) -> Callable[[Files], Path]:
    """Writes a folder of the user's own groups, and returns it."""

    def write(files: Files) -> Path:
        folder: Path = tmp_path_factory.mktemp("lab")
        for name, content in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    return write
