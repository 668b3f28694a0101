import errno
import os
from multiprocessing import get_context
from pathlib import Path

import pytest

from mmhydra.run.claim import claim


@pytest.fixture(params=[None, errno.EPERM, errno.EOPNOTSUPP], ids=["links", "EPERM", "EOPNOTSUPP"], autouse=True)
def file_system(request, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has hard links, and others that have none."""
    if request.param is not None:

        def link(*_: object) -> None:
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr("os.link", link)


def test_the_first_has_it_whoever_asks(tmp_path: Path) -> None:
    file = tmp_path / "claimed"
    assert claim(file, "40") == "40"
    assert claim(file, "41") == "40"
    assert claim(file, "40") == "40"
    assert [path.name for path in tmp_path.iterdir()] == ["claimed"], "nothing else is left behind"


def test_of_many_at_once_one_has_it(tmp_path: Path) -> None:
    for round_ in range(5):
        file = tmp_path / f"claimed{round_}"
        with get_context("fork").Pool(8) as pool:
            found = pool.starmap(claim, [(file, str(number)) for number in range(64)], chunksize=1)
        assert len(set(found)) == 1
        assert file.read_text() == f"{found[0]}\n"


def test_a_writer_that_was_killed_before_it_had_written_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("mmhydra.run.claim._PATIENCE_S", 0.2)
    file = tmp_path / "claimed"
    file.write_text("")
    with pytest.raises(OSError, match=r"claimed has no content, its writer was killed; remove it"):
        claim(file, "40")


def test_where_nothing_can_be_written_nothing_is_left(tmp_path: Path, monkeypatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        claim(tmp_path / "claimed", "40")
    assert list(tmp_path.iterdir()) == []
