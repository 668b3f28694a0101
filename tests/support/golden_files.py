"""Golden files: text as it was when somebody last looked at it."""

from collections.abc import Callable
from pathlib import Path

import pytest

Golden = Callable[[str, str], None]  # (file name, text): compares, or writes with --update-golden


def golden_in(folder: Path, config: pytest.Config) -> Golden:
    """The golden files of a folder."""

    def compare(name: str, text: str) -> None:
        file = folder / name
        if config.getoption("--update-golden"):
            file.write_text(text)
        assert file.is_file(), f"{name} is new; type: make golden"
        assert text.splitlines() == file.read_text().splitlines(), "if this is meant, type: make golden"

    return compare
