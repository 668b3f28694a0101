"""Studies as files: what is read, what is refused and how it is told, and how a study is found."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mmhydra import paths
from mmhydra.compose import compose
from mmhydra.config.problems import ConfigError
from mmhydra.config.secrets import ALLOW, SecretError
from mmhydra.errors import UserError
from mmhydra.sweep.study.blocks import FIRST_SEED
from mmhydra.sweep.study.files import find_study, known_studies, read_study

HEAD = "question: Which?\nstop_rule: When it is known.\n"
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a study below its head, so that line 3 is the first line of the text."""

    def write(text: str, head: str = HEAD) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(head + text)
        return path

    return write


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_study(path)
    return [str(problem).removeprefix(f"{paths.short(path)}:") for problem in caught.value.problems]


def test_what_a_file_says(write: Write) -> None:
    path = write(
        "stop: {metric_below: 2, gpu_hours: 1e2}\nmetric: loss\noverrides: [model=100m]\n"
        "axes: {optim.lr: [1e-4, 2e-4]}\nonly: model == '100m'\nseeds: 2\n"
        "resources: [{when: seed > 1, overrides: [cluster=h100_64]}]\n"
    )
    study = read_study(path)
    assert (study.name, study.path, study.text) == ("mine", path, path.read_text())
    assert (study.question, study.stop_rule, study.metric, study.direction) == (
        "Which?",
        "When it is known.",
        "loss",
        "minimize",
    )
    assert (study.stop.metric_below, study.stop.gpu_hours) == (2.0, 100.0)
    assert [value.text for value in study.axes["optim.lr"]] == ["1e-4", "2e-4"]
    assert study.seeds == (FIRST_SEED, FIRST_SEED + 1)
    assert study.resources[0].overrides == ("cluster=h100_64",)
    assert list(study.all_stages) == [None]


def test_a_study_may_be_one_run(write: Write) -> None:
    assert read_study(write("overrides: [model=100m]")).axes == {}


def test_all_problems_come_at_once_each_with_its_line(write: Write) -> None:
    path = write(
        "overrides: [model=100m, optm.lr=3]\n"
        "axes:\n  optim.lr: [1e-4]\n  optim.wd: [1]\n"
        "zip:\n  - {model: [a, b], parallel: [x]}\n"
        "only: opt.lr < 1\n"
    )
    found = problems(path)
    assert [int(told.partition(":")[0]) for told in found] == sorted(int(told.partition(":")[0]) for told in found)
    assert [told for told in found if told.startswith("3: overrides.1: optm.lr: no such key; did you mean optim.lr")]
    assert [told for told in found if told.startswith("6: axes.optim.wd: no such key; did you mean optim.weight_decay")]
    assert "8: zip.0: the lists of a block go together, so all have one length; model has 2, parallel has 1" in found
    assert "3: overrides: model is an axis too, so this would never count; leave it out of one of them" in found
    assert [told for told in found if told.startswith("9: only: 'opt.lr < 1': no value for opt.lr; did you mean")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("axis: {}", r"3: axis: no such key; did you mean axes\? \(legal: question, stop_rule"),
        ("stop: {gpu_hour: 3}", r"3: stop.gpu_hour: no such key; did you mean gpu_hours"),
        ("stages: {a: {axess: {}}}", r"3: stages.a.axess: no such key; did you mean axes\? \(legal: after, start"),
        ("search: {spice: {}}", "3: search.spice: no such key; did you mean space"),
        ("axes: {optim.lr: 1e-4}", "axes.optim.lr: a list is needed"),
        ("axes: [optim.lr]", "axes: a section of KEY: VALUE is needed"),
        ("axes:", "axes: a section of KEY: VALUE is needed; it is nothing"),
        ("axes: {optim.lr: []}", "axes.optim.lr: there is no value in this list"),
        ("axes: {optim.lr: ['range(1,2)', range(1)]}", "range.1. is a function of Hydra"),
        ("axes: {optim.lr: [1], +optim.lr: [2]}", "optim.lr stands in two of axes, zip, points and seeds"),
        ("axes: {dry_run: [config]}", "it belongs to the command"),
        ("axes: {hydra.searchpath: [x]}", "it belongs to the command"),
        ("axes: {sweep: [x]}", "it belongs to the command"),
        ("axes: {~model: [x]}", "write what is deleted under overrides"),
        ("axes: {a b: [x]}", "this is no key of an override"),
        ("axes: {seed.model: [1]}\nseeds: 2", "seed.model stands in two of"),
        ("axes: {seed.model: [1]}\nseeds: 0", "a number of seeds"),
        ("seeds: [1, 1]", "a list of different seeds"),
        ("points: []", "there is no point in this list"),
        ("points: {model: 1b}", "points: a list is needed"),
        ("zip: [{}]", "there is no list in this block"),
        ("overrides: [model: 1b]", "an override is written with =, as on a command line: model=1b"),
        ("overrides: [model]", "'model' is no override: there is no '='"),
        ("overrides: ['optim.lr=1,2']", "names several values; make optim.lr an axis"),
        ("overrides: [optim.lr=1,2]", "One that holds a comma or a bracket stands in quotes"),
        ("overrides: [optim.lr=1, optim.lr=2]", "optim.lr is given twice, optim.lr=1 and optim.lr=2"),
        ("overrides: [confirm=true]", "it belongs to the command"),
        ("overrides: model=1b", "overrides: a list is needed"),
        ("only: 3", "only: an expression is needed"),
        ("only: model == 1b", "text needs quotes"),
        ("only: model == '1b'", "no value for model; Names there are: none"),
        ("exclude: [optim.lr > 1]", "no value for optim.lr"),
        ("resources: [{overrides: [cluster=local]}, {overrides: []}]", "let it be the last"),
        ("resources: [{when: seed == 1, overrides: []}]", "no value for seed"),
        ("axes: {cluster: [a]}\nresources: [{overrides: [cluster=b]}]", "cluster is an axis too"),
        ("axes: {seed.data: [1]}\nstages: {a: {}}", "a study with stages has none of axes, zip"),
        ("stages: {}", "stages"),
        ("stages: {a b: {}}", "'a b' is no name"),
        ("stages: {a: {after: b}, b: {}}", "no stage b stands before this one; .legal: none, since this is the first"),
        ("stages: {stable: {}, b: {after: stabel}}", r"did you mean stable\?"),
        ("stages: {a: {start: init}}", "stages.a.start: it is about the stage before; write after: STAGE"),
        ("stages: {a: {best: 2}}", "it is about the stage before"),
        ("stages: {a: {}, b: {after: a, best: 0}}", "stages.b.best: Input should be greater than or equal to 1"),
        ("stages: {a: {}, b: {after: a, start: ext}}", "'none', 'init' or 'extend'"),
        (
            "stages: {a: {}, b: {after: a, start: init, overrides: [checkpoint.init_from=x]}}",
            "start: init sets checkpoint.init_from; leave it out",
        ),
        ("stages: {a: {only: optim.lr < 1}, b: {axes: {optim.lr: [1]}}}", "stages.a.only: 'optim.lr < 1': no value"),
        ("direction: maximise", "'minimize' or 'maximize'"),
        ("direction: maximize\nstop: {metric_below: 2}", "write metric_above"),
        ("search: {space: {optim.lr: {low: 1, high: 2}}, num_trials: 2}\nseeds: 2", "a search makes its points itself"),
        (
            "overrides: [optim.lr=1]\nsearch: {space: {optim.lr: {low: 1, high: 2}}, num_trials: 2}",
            "search.space.optim.lr: it stands under overrides too",
        ),
        ("search: {space: {optm.lr: {low: 1, high: 2}}, num_trials: 2}", "search.space.optm.lr: no such key"),
        ("metric: ''", "metric"),
        ("metric: loss\nmetric: val_loss", "4: metric: it stands in line 3 already"),
        ("metric: &a loss\ndirection: *b", "this is no YAML"),
        ("axes: &a {x: *a}", "refers to itself"),
        ("metric: !mine x", "tags of YAML are not read"),
        ("<<: {metric: x}", "merges of YAML are not read"),
        ("? [a]\n: 1", "a list or a section is no key"),
        ("axes: {optim.lr: [1}", "this is no YAML"),
        (
            f"axes: {{seed.data: [{','.join(map(str, range(400)))}], seed.model: [{','.join(map(str, range(400)))}]}}",
            "that makes 160,000 points, at most 100,000 are legal",
        ),
    ],
)
def test_refused(write: Write, text: str, told: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError, match=told) as caught:
        read_study(path)
    assert all(str(problem).startswith(f"{paths.short(path)}:") for problem in caught.value.problems)


def test_a_question_and_a_stop_rule_are_needed(write: Write) -> None:
    question, stop_rule = problems(write("metric: loss", head=""))
    assert question == "1: question: it is missing; write in a sentence or two what these runs are to answer"
    assert stop_rule.startswith("1: stop_rule: it is missing; write when people stop")
    assert "question: it is empty; write in a sentence" in problems(write("", head="question: ' '\nstop_rule: x"))[0]
    assert "stop_rule: it is empty; write when people stop" in problems(write("", head="question: x\nstop_rule:\n"))[0]


@pytest.mark.parametrize("content", [b"", b"- a\n", b"text", b"\xff\xfe"])
def test_what_is_no_study(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"a study is a section|can't be read|no YAML"):
        read_study(path)


def test_the_first_seed_is_the_default() -> None:
    seed = compose([]).config.seed
    assert (seed.model, seed.data) == (FIRST_SEED, FIRST_SEED)


def test_a_secret_in_any_line_is_told_by_its_line_and_not_repeated(write: Write, monkeypatch) -> None:
    monkeypatch.setenv("LAB_API_KEY", held := "a-word-of-mine")
    token = "hf_" + "abcdefghij" * 3 + "klmn"  # made up, and put together: a text that looks like one is refused here
    head = f"question: Which, with {token}?\nstop_rule: When it is known. # {held}\n"
    axes = f"axes: {{name: [a, {token}]}}\noverrides: ['track.wandb.key=${{secret:LAB_API_KEY}}']\nseeds: {token}\n"
    with pytest.raises(SecretError) as caught:
        read_study(write(f"{axes}# {token} {ALLOW}\n", head))
    told = str(caught.value)
    assert token not in told
    assert held not in told
    lines = [line.split("mine.yaml")[1] for line in told.splitlines()[1:]]
    assert [line.split(": ")[0] for line in lines] == [":1", ":2", ":3", ":5"]
    assert lines[1].startswith(":2: the value of $LAB_API_KEY; ")
    assert lines[2].startswith(":3: Hugging Face token; ")


class TestFinding:
    @pytest.fixture
    def lab(self, tmp_path: Path) -> Path:
        (tmp_path / "sweeps").mkdir()
        (tmp_path / "sweeps" / "mine.yaml").write_text(f"{HEAD}seeds: 2\n")
        (tmp_path / "sweeps" / "broken.yaml").write_text("question: [")
        return tmp_path

    def test_a_name_in_a_folder_of_ones_own_then_in_the_project(self, lab: Path) -> None:
        assert find_study("mine", [lab]) == lab / "sweeps" / "mine.yaml"
        assert find_study("demo", [lab]) == paths.sweeps_dir() / "demo.yaml"
        (lab / "sweeps" / "demo.yaml").write_text(HEAD)
        assert find_study("demo", [lab]) == lab / "sweeps" / "demo.yaml"

    def test_a_path(self, lab: Path) -> None:
        path = lab / "sweeps" / "mine.yaml"
        assert find_study(str(path)) == path
        with pytest.raises(UserError, match="there is no such file"):
            find_study(str(lab / "nope.yaml"))

    def test_known_ones(self, lab: Path) -> None:
        assert {"demo", "lr_ladder", "stable_decay", "tune"} <= {*known_studies()}
        assert known_studies([lab]) == sorted({*known_studies(), "mine", "broken"})

    def test_an_unknown_name_lists_the_known_ones_with_their_questions(self, lab: Path) -> None:
        with pytest.raises(UserError) as caught:
            find_study("lr_lader", [lab])
        lines = str(caught.value).splitlines()
        assert lines[0] == "sweep=lr_lader: no such study; did you mean sweep=lr_ladder? There are:"
        assert [line.split()[0] for line in lines[1:-1]] == known_studies([lab])
        assert any(line.split() == ["mine", "Which?"] for line in lines)
        assert any(line.split()[0] == "broken" and "can't be read" in line for line in lines)

    @pytest.mark.parametrize("name", ["../sweeps/mine", "", "mine/", "/etc/passwd", "a\0b"])
    def test_names_that_lead_elsewhere(self, lab: Path, name: str) -> None:
        with pytest.raises(UserError, match="no such study"):
            find_study(name, [lab])


def test_aliases_that_multiply_are_refused_at_once(write: Write) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (told,) = problems(write("\n".join(["a0: &a0 [1, 2]", *levels, "axes: {optim.lr: *a8}"]) + "\n"))
    assert told.endswith("aliases make more than 1,000,000 values of it; write what is meant")
    (told,) = problems(write("axes: &all {optim.lr: [*all]}\n"))
    assert "it refers to itself" in told


def test_an_alias_is_read(write: Write) -> None:
    study = read_study(write("axes: {optim.lr: &rates [1e-3, 2e-3], optim.min_lr: *rates}\n"))
    assert len(study.text.splitlines()) == 3
