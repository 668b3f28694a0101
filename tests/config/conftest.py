"""Golden files beside these tests."""

from pathlib import Path

import pytest
from golden_files import Golden

FOLDER = Path(__file__).parent / "golden"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares text with a golden file, or writes it."""

    def compare(name: str, text: str) -> None:
        file = FOLDER / name
        if request.config.getoption("--update-golden"):
            file.write_text(text)
        assert file.is_file(), f"{name} is new; type: make golden"
        assert text.splitlines() == file.read_text().splitlines(), "if this is meant, type: make golden"

    return compare
