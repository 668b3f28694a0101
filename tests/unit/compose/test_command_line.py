"""What is told from overrides alone: doubles, and the order in which flags and overrides stand."""

import pytest

from mmhydra.compose.arguments import read_arguments
from mmhydra.compose.command_line import parse
from mmhydra.config.problems import ConfigError

EQUAL = [
    ("tag=a", "tag=a"),
    ("tag=a", "tag='a'"),
    ('tag="a"', "tag='a'"),
    ("optim.lr=1e-3", "optim.lr=0.001"),
    ("seed.data=5", "seed.data=5.0"),
    ("training.deterministic=true", "training.deterministic=True"),
    ("model=debug", "model=debug"),
    ("track=[aim,jsonl]", "track=[ aim , jsonl ]"),
    ("+track.aim={repo: x}", "+track.aim={repo:x}"),
    ("++tag=a", "++tag=a"),
    ("~track.aim", "~track.aim"),
    ("tag=a,b", "tag=a,b"),
    ("seed.data=range(1,3)", "seed.data=range(1,3)"),
    ("track=glob(*)", "track=glob(*)"),
    ("tokens.special=[a,{b: [1]}]", "tokens.special=[a,{b: [1]}]"),
    ("tag=null", "tag=null"),
]
DIFFERENT = [
    ("tag=a", "tag=b"),
    ("tag=a", "+tag=a"),
    ("tag=a", "++tag=a"),
    ("+tag=a", "++tag=a"),
    ("tag=a", "~tag"),
    ("~tag=a", "~tag"),
    ("training.deterministic=true", "training.deterministic=1"),
    ("training.deterministic=false", "training.deterministic=0"),
    ("tokens.special=[1]", "tokens.special=[true]"),
    ("tokens.special={a: {b: 0}}", "tokens.special={a: {b: false}}"),
    ("seed.data=1,0", "seed.data=true,false"),
    ("seed.data=5", "seed.data='5'"),
    ("model=debug", "model=1b"),
    ("model=debug", "+model=debug"),
    ("track=aim", "track=[aim]"),
    ("track=[aim,jsonl]", "track=[jsonl,aim]"),
    ("tag=a,b", "tag=b,a"),
    ("tag=a,b", "tag=a"),
    ("seed.data=range(1,3)", "seed.data=1,2"),
    ("tag=null", "tag=''"),
]


@pytest.mark.parametrize(("first", "second"), EQUAL)
def test_two_equal_overrides_are_one_and_a_warning(first, second):
    parsed = parse([first, "optim.eps=1", second, first])
    assert parsed.texts == [first, "optim.eps=1"]
    assert parsed.warnings == [f"{second} is given twice", f"{first} is given twice"]


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_two_different_overrides_are_refused_with_both(first, second):
    for pair in ([first, second], [second, first]):
        with pytest.raises(ConfigError) as refusal:
            parse(pair)
        (problem,) = refusal.value.problems
        assert problem.rule == "given_twice"
        assert f"{pair[0]} and {pair[1]}" in str(problem)


def test_all_faults_of_a_command_line_come_at_once():
    with pytest.raises(ConfigError) as refusal:
        parse(["tag=a", "nonsense", "tag=b", "=5", "tag=c", "a=[", ""])
    assert [problem.rule for problem in refusal.value.problems] == [
        "override",
        "given_twice",
        "override",
        "given_twice",
        "override",
        "override",
    ]


@pytest.mark.parametrize("flags", [[], ["-m"], ["--cfg", "job"]])
def test_a_command_warns_of_equal_doubles_and_goes_on(command, flags):
    code, _, err = command(*flags, "tag=a", "dry_run=config", "seed.data=7", "tag=a")
    assert code == 0
    assert err.count("warning: tag=a is given twice\n") == 1


@pytest.mark.parametrize("flags", [[], ["-m"], ["--cfg", "job"], ["--help"]])
def test_a_command_refuses_different_doubles(command, flags):
    for pair in (["tag=a", "tag=b"], ["model=debug", "model=1b"], ["seed.data=1", "+seed.data=1"], ["tag=a", "~tag"]):
        code, out, err = command(*flags, "dry_run=config", *pair)
        assert (code, out) == (2, b"")
        assert "given twice and differently" in err


def test_a_sweep_with_equal_doubles_runs_each_point_once(command):
    code, out, err = command("-m", "dry_run=config", "tag=a,b", "tag=a,b")
    assert code == 0
    assert err.count("warning: ") == 1
    assert out.count(b"\ntag: ") == 2


def test_a_plain_line_is_taken_as_it_is():
    arguments = read_arguments(["tag=a", "seed.data=1"])
    assert (arguments.overrides, arguments.config_dirs, arguments.flags) == (["tag=a", "seed.data=1"], (), [])


def test_flags_are_put_into_an_order_that_hydra_takes():
    arguments = read_arguments(["tag=a", "-p", "model", "seed.data=1", "--cfg", "job", "--config-dir", "x", "name=b"])
    assert arguments.overrides == ["tag=a", "seed.data=1", "name=b"]
    assert [str(folder) for folder in arguments.config_dirs] == ["x"]
    assert arguments.flags == ["--cfg", "job", "--package", "model", "--config-dir", "x"]
