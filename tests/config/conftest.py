"""Golden files beside these tests."""

from pathlib import Path

import pytest
from golden_files import Golden, golden_in

FOLDER = Path(__file__).parent / "golden"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares text with a golden file, or writes it."""
    return golden_in(FOLDER, request.config)
