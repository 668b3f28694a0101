"""`data=incremental_v0.3` is one file: what it composes to is the stream of the source's two stages (chapter 23.5)."""

from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from fitting_dataset import write_fitting

from mmhydra import paths
from mmhydra.compose import compose
from mmhydra.config.facts import Facts
from mmhydra.config.rules import check
from mmhydra.config.stages import lr_factor, stages
from mmhydra.data.datasets import TRAIN
from mmhydra.data.stream.batches import open_run_split

STEPS, BATCH = 2000, 64
LINE = [
    f"training.steps={STEPS}",
    f"training.global_batch_size={BATCH}",
    "training.seq_len=512",
    "data.max_epochs=null",
]


@pytest.fixture
def line(tmp_path, monkeypatch):
    monkeypatch.delenv("MMHYDRA_CLUSTER", raising=False)
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "data"))
    return LINE


def opened(config):
    write_fitting(config)
    return open_run_split(config, TRAIN, Path(config.paths.data))


def given(split, first, end):
    """The share of tokens of new data in the steps first to end - 1."""
    before, after = (split.stream.counts((step - 1) * BATCH) for step in (first, end))
    tokens = {}
    for name, sequences in split.sequences.items():
        tokens[name] = (after[name] - before[name]) * sequences.pack.num_filled / sequences.pack.num_sequences
    return tokens["new"] / sum(tokens.values())


def test_the_file_alone_is_the_two_stages(line):
    config = compose(["data=incremental_v0.3", *line]).config
    assert [problem for problem in check(config, Facts()) if not problem.is_note] == []
    warm, blend = stages(config)
    assert (warm.first_step, warm.end_step, blend.end_step) == (1, 101, STEPS + 1)
    split = opened(config)
    assert given(split, 1, 101) == 1.0  # new data only
    assert split.stream.counts(100 * BATCH)["old"] == 0
    assert given(split, 101, 101 + 128) == pytest.approx(0.2 + 0.3 * 64 / 1900, abs=0.001)
    assert given(split, 101, STEPS + 1) == pytest.approx(0.35, abs=0.001)
    assert given(split, STEPS + 1, 2 * STEPS + 1) == pytest.approx(0.5, abs=0.001)  # a longer run goes on so
    factors = {step: lr_factor((warm, blend), step) for step in (1, 100, 101, STEPS)}
    assert factors == {1: 0.1, 100: 0.1, 101: 0.2, STEPS: 1.0}


def test_a_run_that_goes_on_from_a_parent_has_its_steps_as_the_first_stage(line, tmp_path):
    """The three rows of the source: main, warm, blend."""
    tree = yaml.safe_load((paths.config_dir() / "data" / "incremental_v0.3.yaml").read_text())
    main = {"name": "main", "steps": 1000, "lr_multiplier": [1.0, 1.0], "shares": {"old": [1.0, 1.0]}}
    tree["data"]["schedule"].insert(0, main)
    tree["data"]["name"] = "joined"
    folder = tmp_path / "conf"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "joined.yaml").write_text(f"# @package _global_\n{yaml.safe_dump(tree, sort_keys=False)}")
    parent = str(tmp_path / "outputs" / "debug" / "0123456789ab" / "checkpoints" / "step-00001000")
    config = compose(["data=joined", f"checkpoint.extend_from={parent}", *line], [folder]).config
    assert [problem for problem in check(config, Facts()) if not problem.is_note] == []
    main, warm, blend = stages(config)
    assert [(span.first_step, span.end_step) for span in (main, warm, blend)] == [(1, 1001), (1001, 1051), (1051, 2001)]
    assert (main.start, warm.start) == ({"old": 1, "new": 0}, {"old": 0, "new": 1})
    assert (blend.start, blend.end) == (
        {"old": Fraction(4, 5), "new": Fraction(1, 5)},
        {"old": Fraction(1, 2), "new": Fraction(1, 2)},
    )
    split = opened(config)
    assert [given(split, *edges) for edges in ((1, 1001), (1001, 1051))] == [0.0, 1.0]
    assert given(split, 1051, 2001) == pytest.approx(0.35, abs=0.001)
    factors = [lr_factor((main, warm, blend), step) for step in (1000, 1001, 1050, 1051, 2000)]
    assert factors == [1.0, 0.1, 0.1, 0.2, 1.0]


@pytest.mark.parametrize(
    ("sources", "steps", "shares"),
    [
        ("[{name: old, dataset: dataset-v0.1, modality: text, weight: 1.0}]", 100, "{old: [1.0, 1.0]}"),
        (None, 128, "{old: [0.5, 0.5], new: [0.5, 0.5]}"),
    ],
)
def test_the_parents_part_of_the_stream_is_the_parents(line, sources, steps, shares):
    """Its child has read just what it has read: with one source at any step, with several at the edge of a block."""
    theirs = [] if sources is None else [f"data.sources={sources}"]
    parent = compose(["data=incremental_v0.3", *line, *theirs, "data.schedule=[]"]).config
    schedule = (
        f"[{{name: main, steps: {steps}, shares: {shares}, lr_multiplier: [1.0, 1.0]}}, "
        "{name: rest, fraction: 1.0, shares: {new: [1.0, 1.0]}, lr_multiplier: [1.0, 1.0]}]"
    )
    child = compose(["data=incremental_v0.3", *line, f"data.schedule={schedule}"]).config
    before, after = opened(parent).stream, opened(child).stream
    edge = steps * BATCH
    for n in (0, 1, 4095, 4096, 6000, edge - 1):
        assert after.locate(n) == before.locate(n)
    assert after.counts(edge)["old"] == before.counts(edge)["old"]
    assert after.locate(edge).source == "new"
