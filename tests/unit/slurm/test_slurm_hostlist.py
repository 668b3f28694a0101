import pytest

from mmhydra.hostlist import compress, expand, ranges


@pytest.mark.parametrize(
    ("short", "names"),
    [
        ("gpu[01-03,7]", ["gpu01", "gpu02", "gpu03", "gpu7"]),  # `scontrol show hostnames` says the same
        ("127.0.0.[12-13]", ["127.0.0.12", "127.0.0.13"]),
        ("gpu01", ["gpu01"]),
        ("a,b[2-3],c-x", ["a", "b2", "b3", "c-x"]),
        ("r[1-2]n[08-09]", ["r1n08", "r1n09", "r2n08", "r2n09"]),
        ("gpu[098-101]", ["gpu098", "gpu099", "gpu100", "gpu101"]),
        ("rack[1-2]-ib", ["rack1-ib", "rack2-ib"]),
        ("", []),
        ("(null)", []),
        ("None assigned", []),
    ],
)
def test_names_of_a_list(short: str, names: list[str]) -> None:
    assert expand(short) == names


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["gpu01", "gpu02", "gpu03", "gpu09", "gpu10"], "gpu[01-03,09-10]"),
        (["127.0.0.2", "127.0.0.3", "127.0.0.5"], "127.0.0.[2-3,5]"),
        (["node9", "node10", "node11"], "node[9-11]"),
        (["login", "gpu7"], "gpu7,login"),
        (["gpu2", "gpu1", "gpu2"], "gpu[1-2]"),
        ([], ""),
    ],
)
def test_short_form_of_names(names: list[str], short: str) -> None:
    assert compress(names) == short
    assert sorted(expand(short)) == sorted(set(names))


def test_numbers_as_slurm_writes_them() -> None:
    assert ranges([0, 3, 7, 8, 9]) == "0,3,7-9"
    assert ranges([1, 2, 10], width=3) == "001-002,010"
    assert ranges(range(1001)) == "0-1000"
    assert ranges([]) == ""
