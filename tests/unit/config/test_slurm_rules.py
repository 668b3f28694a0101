"""Rules of SLURM clusters, each broken alone; and what is said for a wrong name in these sections."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from mmhydra.compose import compose, known_clusters
from mmhydra.config.facts import Facts
from mmhydra.config.problems import ConfigError
from mmhydra.config.rules import SLURM_RULES, check
from mmhydra.config.rules.slurm_sbatch import LEGAL_OPTIONS, SBATCH_OPTIONS
from mmhydra.config.slurm import Slurm
from mmhydra.config.typed import known_keys, nearest, no_such_key


class Case(NamedTuple):
    """`wrong` are changes of cluster=slurm_dev, without `cluster.slurm.`; `keys` those of each problem, likewise."""

    wrong: dict[str, Any]
    rule: str
    keys: list[tuple[str, ...]]
    texts: Sequence[str] = ()


def environment(name: str, why: str) -> Case:
    return Case({"environment": {name: "1"}}, "slurm_environment", [(f"environment.{name}",)], [why, "leave it out"])


def option(name: str, value: object, *texts: str) -> Case:
    wrong = {"additional_parameters": {name: value}}
    return Case(wrong, "slurm_options", [(f"additional_parameters.{name}",)], list(texts))


def setup(line: str, *texts: str, lines: bool = False) -> Case:
    return Case({"setup": [line]}, "slurm_setup", [("setup",) if lines else ("setup.0",)], list(texts))


def srun(argument: str, *texts: str) -> Case:
    return Case({"srun_args": [argument]}, "slurm_srun", [("srun_args.0",)], list(texts))


def mount(text: str) -> Case:
    wrong = {"container_image": "a.sqsh", "python": "/usr/bin/python3", "container_mounts": [text]}
    return Case(wrong, "slurm_container", [("container_mounts.0",)], ["is no mount", "/host:/container:FLAGS"])


CASES = {
    "no section": Case(
        {"cluster.slurm": None},
        "slurm_section",
        [("cluster.kind", "cluster.slurm")],
        ["defaults: [h100_256]", "conf/cluster/slurm_dev.yaml", "slurm_dev, h100_64, h100_256"],
    ),
    "a section of local": Case(
        {"cluster.kind": "local"},
        "slurm_section",
        [("cluster.kind", "cluster.slurm")],
        ["cluster.slurm=null", "h100_64"],
    ),
    "no time limit": Case(
        {"cluster.time_limit_min": None},
        "slurm_time",
        [("cluster.time_limit_min", "cluster.kind")],
        ["5 minutes", "type cluster.time_limit_min=2880"],
    ),
    "the signal as long as the job": Case(
        {"signal_delay_s": 1800},
        "slurm_time",
        [("signal_delay_s", "cluster.time_limit_min")],
        ["1800 s before the end of 30 min", "signal_delay_s=450", "1 to 1799"],
    ),
    "excluded and needed": Case(
        {"exclude": ["gpu[01-03]"], "nodelist": ["gpu02"]},
        "slurm_nodes",
        [("exclude", "nodelist")],
        ["gpu02 must not", "exclude=[gpu01,gpu03]"],
    ),
    "more nodes than the job has": Case(
        {"nodelist": ["gpu[01-02,9]"]},
        "slurm_nodes",
        [("nodelist", "cluster.nodes")],
        ["3 nodes", "a job of 2", "gpu01, gpu02, gpu9", "cluster.nodes=3"],
    ),
    "a range that ends nowhere": Case({"exclude": ["gpu[01-"]}, "slurm_nodes", [("exclude",)], ["gpu[01-04,09]"]),
    "a range backwards": Case({"exclude": ["gpu[4-1]"]}, "slurm_nodes", [("exclude",)], ["is no list of nodes"]),
    **{
        f"dependency {text!r}": Case(
            {"dependency": text}, "slurm_dependency", [("dependency",)], ["legal: afterok:1234"]
        )
        for text in (
            "",
            "1234",
            "afterok",
            "afterok:",
            "afterok:x",
            "afterok:12+5",
            "before:12",
            "afterok:1,afterany:2?singleton",
            "afterok:1,",
            "singleton:5",
            "afterok:1 2",
            "AFTEROK:1",
            "afterok:1\n",
        )
    },
    "comment of two lines": Case({"comment": "a\nb"}, "slurm_texts", [("comment",)], ["one line"]),
    "long comment": Case({"comment": "x" * 257}, "slurm_texts", [("comment",)], ["257", "256"]),
    "blank in the account": Case(
        {"account": "my lab"}, "slurm_texts", [("account",)], ["type cluster.slurm.account=mylab"]
    ),
    "empty qos": Case({"qos": ""}, "slurm_texts", [("qos",)], ["is empty", "type cluster.slurm.qos=null"]),
    "blank in the constraint": Case({"constraint": "h100 ib"}, "slurm_texts", [("constraint",)], ["'\"h100&ib\"'"]),
    "line break in the partition": Case({"cluster.partition": "a\n"}, "slurm_texts", [("cluster.partition",)]),
    "RANK": environment("RANK", "each rank gets its own"),
    "MASTER_PORT": environment("MASTER_PORT", "each rank gets its own"),
    "PYTHONPATH": environment("PYTHONPATH", "code that was frozen"),
    "SLURM_CONF": environment("SLURM_CONF", "cluster.slurm.slurm_conf"),
    "SLURM_CPU_BIND": environment("SLURM_CPU_BIND", "srun reads it"),
    "SUBMITIT_EXECUTOR": environment("SUBMITIT_EXECUTOR", "submitit sets it"),
    "MMHYDRA_ATTEMPT": environment("MMHYDRA_ATTEMPT", "batch script sets it"),
    "UID": environment("UID", "bash lets nobody"),
    "a value of two lines": Case(
        {"environment": {"A": "1\n2"}}, "slurm_environment", [("environment.A",)], ["line break"]
    ),
    "SBATCH in setup": setup("#SBATCH --qos=high", "before the first command", "additional_parameters.OPTION"),
    "exit in setup": setup("exit 0", "before the ranks start"),
    "exec in setup": setup("  exec bash", "before the ranks start"),
    "set -e in setup": setup("set -euo pipefail", "as soon as a rank fails"),
    "errexit in setup": setup("set -o errexit", "as soon as a rank fails"),
    "open quote": setup("echo it's", "unexpected EOF", lines=True),
    "open block": setup("if true; then echo x", "syntax error", lines=True),
    "here-document without an end": setup("cat <<X\nhello", "here-document", lines=True),
    "backslash at the end": setup("echo x \\", "swallow", lines=True),
    "a value of its own word": Case(
        {"srun_args": ["--cpu-bind", "none"]}, "slurm_srun", [("srun_args.1",)], ['["--cpu-bind=none"]']
    ),
    **{
        f"srun {argument}": srun(argument, "can't be set here")
        for argument in (
            "--output=x",
            "-ox",
            "--error=x",
            "--kill-on-bad-exit=0",
            "-K0",
            "--ntasks=3",
            "--ntasks-per-node=1",
            "--nodes=1",
            "-N1",
            "-n",
            "--cpus-per-task=2",
            "-c2",
            "--container-image=x",
            "--container-mounts=x",
            "--nodelist=x",
            "-wx",
            "--overlap",
            "--unbuffered",
            "-u",
        )
    },
    "srun --": srun("--", "is no option"),
    "srun nothing": srun("", "is no option"),
    "no such option": option("reservatoin", "x", "did you mean reservation?", "legal: acctg-freq, "),
    "near an option with a key": option("partitoin", "x", "did you mean cluster.partition"),
    "with dashes in front": option("--nice", 5, "no option --nice", "did you mean nice"),
    "partition": option("partition", "x", "type cluster.partition=VALUE"),
    "ntasks_per_node": option("ntasks_per_node", 3, "type cluster.gpus_per_node=VALUE"),
    "requeue": option("requeue", True, "cluster.slurm.requeue"),
    "array": option("array", "0-3", "use cluster.slurm.array_parallelism"),
    "wrap": option("wrap", "x", "cluster.slurm.setup"),
    "output": option("output", "x", "run directory"),
    "a flag with a value": option("contiguous", "yes", "takes no value", "contiguous=true"),
    "an option without": option("reservation", True, "needs a value"),
    "an empty value": option("reservation", "", "is empty"),
    "two lines": option("reservation", "x\ny", "line break"),
    "twice": Case(
        {"additional_parameters": {"mail_type": "END", "mail-type": "FAIL"}},
        "slurm_options",
        [("additional_parameters.mail-type",)],
        ["same option as mail_type"],
    ),
    "memory twice": Case(
        {"mem_gb": 100.0, "additional_parameters": {"mem": 0}},
        "slurm_memory",
        [("mem_gb", "additional_parameters.mem")],
        ["mem_gb=100", "~cluster.slurm.additional_parameters.mem", "mem_gb=null"],
    ),
    "memory of a CPU": Case(
        {"mem_gb": 100.0, "additional_parameters": {"mem_per_cpu": 5}},
        "slurm_memory",
        [("mem_gb", "additional_parameters.mem_per_cpu")],
    ),
    "mounts without a container": Case(
        {"container_mounts": ["/a:/b"]},
        "slurm_container",
        [("container_mounts", "container_image")],
        ["container_mounts=[]"],
    ),
    "mount of one side": mount("/scratch"),
    "relative mount": mount("scratch:/scratch"),
    "two mounts in one": mount("/a:/a,/b:/b"),
    "mount with empty flags": mount("/a:/b:"),
    "no image": Case(
        {"container_image": "", "python": "/p"}, "slurm_container", [("container_image",)], ["names no image"]
    ),
    "outputs with a colon": Case(
        {"container_image": "a.sqsh", "python": "/p", "paths.outputs": "/a:b"},
        "slurm_container",
        [("paths.outputs", "container_image")],
        ["colon"],
    ),
    "relative python": Case(
        {"python": ".venv/bin/python"}, "slurm_paths", [("python",)], ["type cluster.slurm.python=/"]
    ),
    "relative file of nodes": Case({"exclude_file": "bad"}, "slurm_paths", [("exclude_file",)], ["no absolute path"]),
    "slurm.conf of a home": Case({"slurm_conf": "~/slurm.conf"}, "slurm_paths", [("slurm_conf",)], ["slurm_conf=/"]),
}
NOTES = {
    "signal": ({"cluster.time_limit_min": 2, "signal_delay_s": 60}, "slurm_time"),
    "python of the container": ({"container_image": "a.sqsh"}, "slurm_container"),
    "one CPU for a GPU": ({"cluster.device": "cuda", "cpus_per_task": None}, "slurm_cpus"),
}
RIGHT: dict[str, dict[str, Any]] = {
    "signal": {"cluster.time_limit_min": 3, "signal_delay_s": 119},
    "nodes": {"exclude": ["gpu[01-03,7]", "gpu9"], "nodelist": ["gpu04", "127.0.0.2"]},
    "a million nodes": {"exclude": ["gpu[0-99999999]"]},
    "setup": {"setup": ["module load cuda/12.9 # it's", "if true", "then echo 'a b'", "fi", "x=$'it\\'s' || exit 1"]},
    "texts": {
        "account": "lab_a",
        "qos": "high",
        "constraint": "[rack1|rack2]&ib*2",
        "comment": "ablation 3, with commas: ü",
    },
    "no partition": {"cluster.partition": None},
    "srun": {"srun_args": ["--cpu-bind=none", "--mpi=none", "-l", "--container-workdir=/a b"]},
    "options": {
        "additional_parameters": {
            **{"reservation": "maint", "nice": -5, "hold": True, "mail_type": "END", "gres": "nvme:1", "reboot": False},
            **{"oversubscribe": True, "switches": "1@10:00", "mem": 0},
        }
    },
    "container": {
        "container_image": "nvcr.io#nvidia/pytorch:25.01-py3",
        "container_mounts": ["/a b:/c", "/d:/e:ro+x-create=dir"],
        "python": "/usr/bin/python3",
    },
    "environment": {"environment": {"NCCL_DEBUG": "INFO", "RANKS": "$x 'y' \"z\" ü", "EMPTY": ""}},
    **{
        f"dependency {text}": {"dependency": text}
        for text in ("afterok:1", "after:12+5", "after:12:13+5", "afterany:1:2,singleton", "afterok:1?afternotok:2_3")
    },
}


@pytest.fixture(scope="module")
def dev():
    """The config of cluster=slurm_dev, with fixed folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SLURM_CONF", raising=False)
        patch.setenv("MMHYDRA_DATA", "/data")
        patch.setenv("MMHYDRA_OUTPUTS", "/outputs")
        return compose(["cluster=slurm_dev", "parallel=tp2pp2"]).config


@pytest.fixture(scope="module")
def facts():
    return Facts(known_clusters())


@pytest.fixture
def checked(dev, change, facts):
    """The problems of slurm_dev with these changes, those of the rules about SLURM."""
    names = {rule.__name__ for rule in SLURM_RULES}

    def run(changes):
        leaves = {
            key if key.startswith(("cluster.", "paths.")) else f"cluster.slurm.{key}": value
            for key, value in changes.items()
        }
        return [problem for problem in check(change(dev, leaves), facts) if problem.rule in names]

    return run


@pytest.mark.parametrize("cluster", ["local", "slurm_dev", "h100_64", "h100_256"])
def test_a_shipped_cluster_has_no_problem(change, dev, facts, cluster):
    config = dev.model_copy(update={"cluster": known_clusters()[cluster]})
    if cluster == "slurm_dev":
        config = dev
    assert [problem for rule in SLURM_RULES for problem in rule(config, facts)] == []


@pytest.mark.parametrize("name", CASES)
def test_a_rule_alone(checked, name):
    case = CASES[name]
    problems = checked(case.wrong)
    assert {problem.rule for problem in problems} == {case.rule}
    full = [
        tuple(key if key.startswith(("cluster.", "paths.")) else f"cluster.slurm.{key}" for key in keys)
        for keys in case.keys
    ]
    assert [problem.keys for problem in problems] == full
    assert not any(problem.is_note for problem in problems)
    text = "\n".join(map(str, problems))
    assert [fragment for fragment in case.texts if fragment not in text] == [], text


@pytest.mark.parametrize("name", CASES)
def test_a_message_says_what_is_legal_or_what_to_type(checked, name):
    words = ("type ", "legal", "leave", "use ")
    assert all(any(word in problem.message for word in words) for problem in checked(CASES[name].wrong))


@pytest.mark.parametrize("name", NOTES)
def test_what_is_only_noted(checked, name):
    changes, rule = NOTES[name]
    assert [(problem.rule, problem.is_note) for problem in checked(changes)] == [(rule, True)]


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right(checked, name):
    assert checked(RIGHT[name]) == []


def test_every_rule_has_a_case():
    assert {case.rule for case in CASES.values()} | {rule for _, rule in NOTES.values()} == {
        rule.__name__ for rule in SLURM_RULES
    }


def test_all_problems_come_at_once(checked):
    rules = [problem.rule for problem in checked({"qos": "", "srun_args": ["x"], "setup": ["exit"], "dependency": "x"})]
    assert rules == ["slurm_dependency", "slurm_texts", "slurm_setup", "slurm_srun"]


def test_setup_is_read_and_not_run(checked, tmp_path, monkeypatch):
    (tmp_path / "env").write_text(f"touch {tmp_path}/run\n")
    monkeypatch.setenv("BASH_ENV", str(tmp_path / "env"))
    assert checked({"setup": [f"touch {tmp_path}/run", f"x=$(touch {tmp_path}/run)"]}) == []
    assert not (tmp_path / "run").exists()


def test_a_host_without_bash_does_not_look_at_quotes(checked, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert checked({"setup": ["echo it's"]}) == []


def test_options_stand_once_and_in_order():
    assert sorted(set(SBATCH_OPTIONS)) == list(SBATCH_OPTIONS)
    assert {"partition", "wrap", "time"}.isdisjoint(LEGAL_OPTIONS)


@pytest.mark.parametrize(
    ("key", "meant"),
    {
        "cluster.slurm.qoss": "cluster.slurm.qos",
        "cluster.qos": "cluster.slurm.qos",
        "cluster.time": "cluster.time_limit_min",
        "cluster.timeout_min": "cluster.time_limit_min",
        "cluster.slurm.timeout_min": "cluster.time_limit_min",
        "cluster.tasks_per_node": "cluster.gpus_per_node",
        "cluster.ntasks_per_node": "cluster.gpus_per_node",
        "cluster.gpus": "cluster.gpus_per_node",
        "cluster.slurm.mem": "cluster.slurm.mem_gb",
        "cluster.slurm.nodes": "cluster.nodes",
        "cluster.slurm.partition": "cluster.partition",
        "cluster.signal": "cluster.slurm.signal_delay_s",
        "cluster.gres": "+cluster.slurm.additional_parameters.gres",
        "cluster.slurm.mail_type": "+cluster.slurm.additional_parameters.mail_type",
    }.items(),
)
def test_a_wrong_name_lists_the_legal_ones(key, meant):
    text = no_such_key(key)
    assert text.startswith(f"no such key; did you mean {meant}")
    legal = Slurm.model_fields if key.startswith("cluster.slurm.") else ["partition", "time_limit_min", "slurm"]
    assert [name for name in legal if name not in text] == []


def test_what_is_unlike_the_rest_is_not_suggested():
    assert nearest("modle", ["code", "model", *known_keys()])[0] == "model"
    assert no_such_key("modle") == "no such key; did you mean model?"


def test_a_cluster_without_slurm_says_which_have_it():
    with pytest.raises(
        ConfigError, match=r"no SLURM, so it has no qos; .* type cluster=NAME \(legal: h100_256, h100_64"
    ):
        compose(["cluster.slurm.qos=high"])
    with pytest.raises(ConfigError, match="no SLURM, so it has no A"):
        compose(["cluster.slurm.environment.A=b"])
    with pytest.raises(ConfigError, match=r"has no A yet; to add it, type \+cluster\.slurm\.environment\.A=VALUE"):
        compose(["cluster=slurm_dev", "cluster.slurm.environment.A=b"])


@pytest.fixture
def lab(tmp_path):
    """A config folder with one cluster of this text."""

    def write(text):
        (tmp_path / "cluster").mkdir()
        (tmp_path / "cluster" / "mine.yaml").write_text(text)
        return tmp_path

    return write


def test_a_cluster_of_ones_own_inherits(lab):
    folder = lab("defaults: [h100_64]\nname: mine\nslurm: {qos: x}\n")
    cluster = compose(["cluster=mine"], config_dirs=[folder]).config.cluster
    theirs = known_clusters()["h100_64"]
    assert cluster.slurm == theirs.slurm.model_copy(update={"qos": "x"})
    assert cluster == theirs.model_copy(update={"name": "mine", "slurm": cluster.slurm})


def test_a_cluster_of_ones_own_is_told_all_that_it_lacks_at_once(lab):
    folder = lab("name: mine\nkind: slurm\ndevice: cuda\nnodes: 8\nqos: high\nslurm: {qos: x, mem: 3}\n")
    with pytest.raises(ConfigError) as error:
        compose(["cluster=mine"], config_dirs=[folder])
    first, second, *others = error.value.problems
    assert first.message.startswith("no value for gpus_per_node, max_processes, partition, time_limit_min")
    assert second.message.startswith("no value for account, constraint, exclude")
    assert "[h100_64]" in second.message
    assert [problem.keys for problem in others] == [("cluster.slurm.mem",), ("cluster.qos",)]
    assert "did you mean cluster.slurm.mem_gb?" in others[0].message


def test_a_cluster_of_an_earlier_version_lacks_a_section(lab):
    text = "".join(
        f"{key}: {value}\n"
        for key, value in known_clusters()["local"].model_dump(mode="json").items()
        if key != "slurm"
    )
    folder = lab(text.replace("None", "null").replace("False", "false"))
    with pytest.raises(ConfigError, match=r"cluster\.slurm: no value; .*slurm: null.*conf/cluster/slurm_dev\.yaml"):
        compose(["cluster=mine"], config_dirs=[folder])
