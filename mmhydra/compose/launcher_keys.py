"""`hydra.launcher.NAME=VALUE` beside -m: each setting of hydra-submitit-launcher as the key of the cluster it means."""

from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from mmhydra.config.problems import ConfigError, Problem

PREFIX = "hydra.launcher."
_PARAMETERS = "cluster.slurm.additional_parameters"
# The plugin's dataclass has the same names (launchers/hydra_plugins/mmhydra_launcher).
CLUSTER_KEYS = {
    "partition": "cluster.partition",
    "timeout_min": "cluster.time_limit_min",
    "nodes": "cluster.nodes",
    "gpus_per_node": "cluster.gpus_per_node",
    "cpus_per_task": "cluster.slurm.cpus_per_task",
    "mem_gb": "cluster.slurm.mem_gb",
    "account": "cluster.slurm.account",
    "qos": "cluster.slurm.qos",
    "constraint": "cluster.slurm.constraint",
    "comment": "cluster.slurm.comment",
    "dependency": "cluster.slurm.dependency",
    "exclude": "cluster.slurm.exclude",
    "nodelist": "cluster.slurm.nodelist",
    "signal_delay_s": "cluster.slurm.signal_delay_s",
    "array_parallelism": "cluster.slurm.array_parallelism",
    "setup": "cluster.slurm.setup",
    "srun_args": "cluster.slurm.srun_args",
    "gres": f"{_PARAMETERS}.gres",
    "additional_parameters": _PARAMETERS,
}
_LISTS = ("exclude", "nodelist", "setup", "srun_args")
_NO_MEANING = {
    "tasks_per_node": "a task is a rank and has one GPU; type hydra.launcher.gpus_per_node=N",
    "gpus_per_task": "a task is a rank and has one GPU; type hydra.launcher.gpus_per_node=N",
    "cpus_per_gpu": "a task is a rank and has one GPU; type hydra.launcher.cpus_per_task=N",
    "mem_per_gpu": "memory is asked for by the node; type hydra.launcher.mem_gb=N",
    "mem_per_cpu": "memory is asked for by the node; type hydra.launcher.mem_gb=N",
    "name": "a job is named after its run; type name=NAME to name the run",
    "max_num_timeout": "a job is requeued while it gets on; type cluster.slurm.max_attempts_without_progress=N",
    "submitit_folder": "it is in the directory of each run; type paths.outputs=FOLDER",
    "stderr_to_stdout": "the log of a rank holds both; leave it out",
}


def cure(key: str) -> str:
    """What to type instead of a setting of the launcher, without -m."""
    name = key.removeprefix(PREFIX).partition(".")[0]
    return f"type {_meant(key)}=VALUE" if name in CLUSTER_KEYS else _unknown(name)


def with_cluster_keys(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides of a sweep, its launcher's settings as keys of the cluster, and a note on each of those.

    Raises ConfigError with all settings that do not exist or mean nothing here.
    """
    parser = OverridesParser.create()
    texts: list[str] = []
    notes: list[str] = []
    problems: list[Problem] = []
    for text in overrides:
        override = None
        if PREFIX in text:
            with suppress(HydraException, RecursionError, ValueError, TypeError):  # told with all that are no overrides
                override = parser.parse_override(text)
        if override is None or not override.key_or_group.startswith(PREFIX):
            texts.append(text)
            continue
        problem = _problem(override)
        if problem:
            problems.append(Problem((override.key_or_group,), problem, rule="launcher"))
            continue
        texts += _of_cluster(override)
        notes.append(f"{override.key_or_group} is read as {_meant(override.key_or_group).lstrip('+')} of each point")
    if problems:
        raise ConfigError(problems)
    return texts, notes


def _problem(override: Override) -> str | None:
    key = override.key_or_group
    name, _, inside = key.removeprefix(PREFIX).partition(".")
    if name not in CLUSTER_KEYS:
        return _unknown(name)
    if inside and name != "additional_parameters":
        return f"no such setting; type {PREFIX}{name}=VALUE"
    if override.is_delete() or override.package is not None:
        return f"{override.input_line} sets nothing; type {PREFIX}{name}=VALUE, or leave it out"
    if override.is_sweep_override():
        values = (override.input_line or "").partition("=")[2]
        one = f"{key}=[{values}]" if name in _LISTS else f"{key}=\"'{values}'\""
        return f"a setting is one for all points; type {_meant(key)}={values} for points that differ, or {one} for one"
    if name == "additional_parameters" and not inside and not isinstance(override.value(), dict | None):
        return f"these are options of sbatch; type '{key}={{reservation: NAME}}'"
    return None


def _unknown(name: str) -> str:
    if name in _NO_MEANING:
        return _NO_MEANING[name]
    near = get_close_matches(name, [*CLUSTER_KEYS, *_NO_MEANING], 1)
    known = f"did you mean {PREFIX}{near[0]}? " if near else ""
    return f"no such setting; {known}legal: {', '.join(CLUSTER_KEYS)}"


def _meant(key: str) -> str:
    """The key of the cluster for a setting, as it is typed: an option of sbatch need not be there before."""
    name, dot, inside = key.removeprefix(PREFIX).partition(".")
    meant = f"{CLUSTER_KEYS[name]}{dot}{inside}"
    return f"++{meant}" if meant.startswith(f"{_PARAMETERS}.") else meant


def _of_cluster(override: Override) -> list[str]:
    key, value = override.key_or_group, override.value()
    if value is None:  # what the cluster says
        return []
    if key == f"{PREFIX}additional_parameters":
        options = override._value
        assert isinstance(options, dict)
        # Not as one dict: Hydra would refuse options that the cluster does not have.
        texts = {f"{key}.{option}": Override._get_value_element_as_str(chosen) for option, chosen in options.items()}
        return [f"{_meant(name)}={text}" for name, text in texts.items()]
    text = (override.input_line or "").partition("=")[2]
    is_one_of_many = key.removeprefix(PREFIX) in _LISTS and not isinstance(value, list)
    return [f"{_meant(key)}={f'[{text}]' if is_one_of_many else text}"]
