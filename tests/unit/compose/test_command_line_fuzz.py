"""Any list of overrides ends with 0 or 2 and a readable text; nothing that the schema lacks gets through.

MMHYDRA_EXAMPLES=10000 makes it a long search.
"""

import logging
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmhydra import paths, train
from mmhydra.config.frozen import from_yaml
from mmhydra.config.typed import COMMAND_KEYS, is_known, known_keys

EXAMPLES = int(os.environ.get("MMHYDRA_EXAMPLES", "120"))
GROUPS = sorted(path.name for path in paths.config_dir().iterdir() if path.is_dir())
CHOICES = sorted(f"{path.parent.name}={path.stem}" for path in paths.config_dir().glob("*/*.yaml"))
# resume= and extend= read a place that the value names; tests of their own try those.
KEYS = sorted({*known_keys(), "dry_run", "confirm"})
LISTS = [
    "data.sources.0.weight",
    "data.sources.1.name",
    "data.sources.7.name",
    "tokens.ranges.0.size",
    "tokens.special.0",
]

VALUES = st.one_of(
    st.integers(-3, 300).map(str),
    st.sampled_from(
        ["1e-3", "0.5", "-1.0", "nan", "inf", "1e400", "null", "true", "false", "auto", "???", "''", '"x"']
    ),
    st.sampled_from(
        ["[]", "{}", "[1,2]", "{a: 1}", "{a: {b: [1, {c: 2}]}}", "[[[[[[1]]]]]]", "1,2", "a,b", "x y", "'a b'"]
    ),
    st.sampled_from(
        ["${name}", "${nope}", "${model.dim}", "${oc.env:HOME}", "${oc.env:NOPE}", "${hydra:runtime.cwd}", "${"]
    ),
    st.sampled_from(
        ["${eval:1}", "${.a}", "${..steps}", "glob(*)", "range(1,3)", "choice(1,2)", "int(3)", "sort(1,2)", "\\"]
    ),
    st.sampled_from(
        ["float32", "bfloat16", "rowwise", "wsd", "cosine", "GPipe", "1F1B", "Interleaved1F1B", "full", "cuda"]
    ),
    st.text(max_size=6),
)


def slips(word: str) -> st.SearchStrategy[str]:
    """A word with a letter doubled, left out or changed."""
    places = st.integers(0, max(0, len(word) - 1))
    return st.builds(
        lambda place, kind: (
            word[:place] + {"out": "", "twice": word[place] * 2, "other": "x"}[kind] + word[place + 1 :]
        ),
        places,
        st.sampled_from(["out", "twice", "other"]),
    )


NAMES = st.one_of(
    st.sampled_from(KEYS),
    st.sampled_from(KEYS).flatmap(slips),
    st.sampled_from(LISTS),
    st.sampled_from(GROUPS),
    st.sampled_from(
        ["hydra.run.dir", "hydra.mode", "hydra/launcher", "hydra.searchpath", "hydra", "hydra.job", "defaults"]
    ),
    st.sampled_from(
        ["model@other", "model@", "@x", "a.b.c", "optim.lr.x", "training.steps.0", ".", "a..b", "model/debug"]
    ),
    st.text(max_size=4),
)
OVERRIDES = st.one_of(
    st.sampled_from(CHOICES),
    st.sampled_from(CHOICES).flatmap(slips),
    st.builds(
        lambda sign, name, value: f"{sign}{name}={value}", st.sampled_from(["", "", "", "+", "++", "~"]), NAMES, VALUES
    ),
    NAMES.map(lambda name: f"~{name}"),
    st.text(max_size=8).filter(lambda text: not text.startswith("-")),
)


@pytest.fixture
def command(monkeypatch, tmp_path, capfdbinary):
    """Runs a dry run in an empty folder; returns exit code, standard output and standard error."""
    monkeypatch.delenv("MMHYDRA_CLUSTER", raising=False)
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.chdir(tmp_path)

    def run(arguments: list[str]) -> tuple[int, bytes, str]:
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        capfdbinary.readouterr()
        code = train.main()
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        assert os.listdir(tmp_path) == []
        return int(code), out, err.decode()

    handlers = logging.root.handlers[:]
    yield run
    logging.root.handlers[:] = handlers


@pytest.mark.slow
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(OVERRIDES, min_size=1, max_size=4))
def test_any_overrides_end_with_a_readable_text(command, overrides):
    line = [text for text in overrides if "dry_run" not in text]
    code, out, err = command([*line, "dry_run=config"])
    assert code in (0, 2)
    assert "Traceback" not in err
    assert err.strip()
    if code == 2:
        assert out == b""
        assert err.startswith(("error: ", "warning: ", "note: "))
        assert len(err) < 20_000
    else:
        from_yaml(out)  # nothing that the schema lacks


@pytest.mark.slow
@settings(
    max_examples=max(20, EXAMPLES // 4), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(KEYS).flatmap(slips), st.sampled_from(["", "+", "++"]), VALUES)
def test_no_unknown_key_is_accepted(command, key, sign, value):
    first = key.partition(".")[0]
    if is_known(key) or first in COMMAND_KEYS or key in GROUPS:
        return
    code, _, err = command([f"{sign}{key}={value}", "dry_run=config"])
    assert code == 2, f"{sign}{key}={value} was accepted"
    assert "Traceback" not in err


TYPOS = Path(__file__).with_name("typos.txt")


def typos() -> list[tuple[str, str]]:
    return [tuple(line.split(" -> ")) for line in TYPOS.read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("sign", ["", "+"])
def test_typos_of_people_get_the_right_suggestion(command, sign):
    """All are refused; at least nine in ten are understood."""
    understood = []
    for typo, meant in typos():
        code, _, err = command([f"{sign}{typo}", "dry_run=config"])
        assert code == 2, typo
        understood.append(meant in err)
    assert len(understood) >= 50
    assert sum(understood) >= 0.9 * len(understood)
