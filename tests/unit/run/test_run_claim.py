from multiprocessing import get_context
from pathlib import Path

from mmhydra.run.claim import claim


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
