"""Rules of further options of sbatch: which there are, and which have a key of their own or can't be had."""

from collections.abc import Iterator
from difflib import get_close_matches

from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.rules.slurm import section_of
from mmhydra.config.schema import RunConfig

# Long options of sbatch, of SLURM 22.05 to 25.05. A site's own sbatch may know fewer of them, and says so itself.
SBATCH_OPTIONS = (
    *("account", "acctg-freq", "array", "batch", "bb", "bbf", "begin", "chdir", "cluster-constraint", "clusters"),
    *("comment", "consolidate-segments", "constraint", "container", "container-id", "contiguous", "core-spec"),
    *("cores-per-socket", "cpu-freq", "cpus-per-gpu", "cpus-per-task", "deadline", "delay-boot", "dependency"),
    *("distribution", "error", "exclude", "exclusive", "export", "export-file", "extra", "extra-node-info"),
    *("get-user-env", "gid", "gpu-bind", "gpu-freq", "gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task"),
    *("gres", "gres-flags", "help", "hint", "hold", "ignore-pbs", "input", "job-name", "kill-on-invalid-dep"),
    *("licenses", "mail-type", "mail-user", "mcs-label", "mem", "mem-bind", "mem-per-cpu", "mem-per-gpu", "mincpus"),
    *("network", "nice", "no-kill", "no-requeue", "nodefile", "nodelist", "nodes", "ntasks", "ntasks-per-core"),
    *("ntasks-per-gpu", "ntasks-per-node", "ntasks-per-socket", "oom-kill-step", "open-mode", "output", "overcommit"),
    *("oversubscribe", "parsable", "partition", "power", "prefer", "priority", "profile", "propagate", "qos", "quiet"),
    *("reboot", "requeue", "reservation", "resv-ports", "segment", "signal", "sockets-per-node", "spread-job"),
    *("spread-segments", "stepmgr", "switches", "test-only", "thread-spec", "threads-per-core", "time", "time-min"),
    *("tmp", "tres-bind", "tres-per-task", "uid", "usage", "use-min-nodes", "verbose", "version", "wait"),
    *("wait-all-nodes", "wckey", "wrap"),
)
_FLAGS = frozenset(  # take no value
    (
        *("consolidate-segments", "contiguous", "hold", "ignore-pbs", "overcommit", "reboot", "spread-job", "stepmgr"),
        *("use-min-nodes", "verbose"),
    )
)
_MAYBE_FLAGS = frozenset(  # may stand without one
    ("get-user-env", "nice", "no-kill", "oom-kill-step", "oversubscribe", "propagate", "resv-ports", "spread-segments")
)
_OF_ITS_OWN = {  # what says it instead
    "account": "cluster.slurm.account",
    "comment": "cluster.slurm.comment",
    "constraint": "cluster.slurm.constraint",
    "cpus-per-task": "cluster.slurm.cpus_per_task",
    "dependency": "cluster.slurm.dependency",
    "exclude": "cluster.slurm.exclude",
    "exclusive": "cluster.slurm.exclusive",
    "gpus": "cluster.nodes and cluster.gpus_per_node",
    "gpus-per-node": "cluster.gpus_per_node",
    "gpus-per-socket": "cluster.gpus_per_node",
    "gpus-per-task": "cluster.gpus_per_node",
    "job-name": "name",
    "no-requeue": "cluster.slurm.requeue",
    "nodelist": "cluster.slurm.nodelist",
    "nodefile": "cluster.slurm.nodelist",
    "nodes": "cluster.nodes",
    "ntasks": "cluster.nodes and cluster.gpus_per_node",
    "ntasks-per-gpu": "cluster.gpus_per_node",
    "ntasks-per-node": "cluster.gpus_per_node",
    "partition": "cluster.partition",
    "qos": "cluster.slurm.qos",
    "requeue": "cluster.slurm.requeue",
    "signal": "cluster.slurm.signal_delay_s",
    "time": "cluster.time_limit_min",
}
_REFUSED = {  # why it can't be had
    "array": "runs of a sweep share arrays by themselves; use cluster.slurm.array_parallelism",
    "chdir": "jobs start in the run directory",
    "clusters": "only the jobs of one controller are asked after; use cluster.slurm.slurm_conf",
    **dict.fromkeys(("gpu-bind", "gpus-per-task"), "each rank sees all GPUs of its node, and takes that of its number"),
    "error": "logs are in the run directory",
    "help": "sbatch would print its help and submit nothing",
    "open-mode": "logs are appended to, over requeues too",
    "output": "logs are in the run directory",
    "parsable": "the job's id is read from what sbatch says otherwise",
    "quiet": "the job's id is read from what sbatch says",
    "test-only": "nothing would be submitted; use dry_run=sbatch",
    "usage": "sbatch would print its help and submit nothing",
    "version": "sbatch would print its version and submit nothing",
    "wait": "the submitter leaves at once; python -m mmhydra.status RUN --watch waits",
    "wrap": "the batch script is made from the config; use cluster.slurm.setup",
}
LEGAL_OPTIONS = tuple(name for name in SBATCH_OPTIONS if name not in _OF_ITS_OWN and name not in _REFUSED)
_MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")


def slurm_options(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Further options of sbatch: known ones, none that has a key of its own, and values that they take."""
    slurm = section_of(config)
    if slurm is None:
        return
    seen: dict[str, str] = {}
    for given, value in slurm.additional_parameters.items():
        key, name = f"cluster.slurm.additional_parameters.{given}", given.replace("_", "-")
        if name in seen:
            yield Problem((key,), f"it is the same option as {seen[name]}; leave one of them out")
            continue
        seen[name] = given
        if name in _OF_ITS_OWN:
            own = _OF_ITS_OWN[name]
            yield Problem((key,), f"--{name} has a key of its own, {own}; type {own.split()[0]}=VALUE instead")
        elif name in _REFUSED:
            yield Problem((key,), f"--{name} can't be set: {_REFUSED[name]}; leave it out")
        elif name not in SBATCH_OPTIONS:
            near = get_close_matches(name.lstrip("-"), SBATCH_OPTIONS, 3)
            meant = list(dict.fromkeys(_OF_ITS_OWN.get(option, option) for option in near))
            hint = f"did you mean {' or '.join(meant)}? " if near else ""
            yield Problem(
                (key,), f"sbatch has no option --{name.lstrip('-')}; {hint}(legal: {', '.join(LEGAL_OPTIONS)})"
            )
        else:
            yield from _option_value(key, name, value)


def _option_value(key: str, name: str, value: str | int | float | bool) -> Iterator[Problem]:
    if value is False:
        return  # left out
    if value is True and name not in _FLAGS and name not in _MAYBE_FLAGS:
        yield Problem((key,), f"--{name} needs a value, got true; type {key}=VALUE")
    elif value is not True and name in _FLAGS:
        yield Problem((key,), f"--{name} takes no value, got {value!r}; type {key}=true, or false to leave it out")
    elif isinstance(value, str) and (not value.strip() or not value.isprintable()):
        what = "is empty" if not value.strip() else "has a line break or another control character in it"
        yield Problem((key,), f"the value {value!r} of --{name} {what}; legal is one line: type {key}=VALUE")


def slurm_memory(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Memory is asked for once."""
    slurm = section_of(config)
    if slurm is None or slurm.mem_gb is None:
        return
    for given in slurm.additional_parameters:
        if given.replace("_", "-") in _MEMORY:
            key = f"cluster.slurm.additional_parameters.{given}"
            yield Problem(
                ("cluster.slurm.mem_gb", key),
                f"memory is asked for twice, by mem_gb={slurm.mem_gb:g} and by --{given.replace('_', '-')}; type "
                f"~{key} to ask for mem_gb, or cluster.slurm.mem_gb=null",
            )
