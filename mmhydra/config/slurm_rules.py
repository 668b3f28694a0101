"""Rules of SLURM clusters: what sbatch, srun or the batch script would refuse, ignore, or take for something else."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path

from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.schema import RunConfig
from mmhydra.config.slurm import Slurm

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

_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_RESERVED = {  # variable: why
    **dict.fromkeys(_RANKS, "each rank gets its own from SLURM"),
    **dict.fromkeys(("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONHOME"), "the job imports the code that was frozen"),
    "PYTHONSTARTUP": "the batch script takes it away",
    "SLURM_CONF": "it has a key of its own, cluster.slurm.slurm_conf",
    **dict.fromkeys(("BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"), "bash lets nobody set it"),
}
_RESERVED_PREFIXES = {
    "SLURM_": "SLURM sets it, and srun reads it as an option",
    "SUBMITIT_": "submitit sets it",
    "MMHYDRA_": "the batch script sets it",
}

_SRUN_SET = {  # argument of srun: what to do instead
    **dict.fromkeys(("--output", "--error", "-o", "-e"), "logs are in the run directory"),
    **dict.fromkeys(("--nodes", "-N"), "use cluster.nodes"),
    **dict.fromkeys(("--nodelist", "-w"), "use cluster.slurm.nodelist"),
    **dict.fromkeys(("--cpus-per-task", "-c"), "use cluster.slurm.cpus_per_task"),
    **dict.fromkeys(("--kill-on-bad-exit", "-K"), "a dead rank always ends the others"),
    **dict.fromkeys(("--unbuffered", "-u"), "it is always there"),
    "--export": "what the batch script exports has to reach the ranks; use cluster.slurm.environment",
    **dict.fromkeys(
        ("--gpu-bind", "--gpus-per-task"), "each rank sees all GPUs of its node, and takes that of its number"
    ),
    "--container-image": "use cluster.slurm.container_image",
    "--container-mounts": "use cluster.slurm.container_mounts",
    "--overlap": "the batch script says it where it is needed",
    "-n": "use cluster.nodes and cluster.gpus_per_node",
}

_DEPENDENCY = re.compile(
    r"singleton|after:\d+(_(\d+|\*))?(\+\d+)?(:\d+(_(\d+|\*))?(\+\d+)?)*"
    r"|(afterany|afterburstbuffer|aftercorr|afternotok|afterok):\d+(_(\d+|\*))?(:\d+(_(\d+|\*))?)*"
)
_MOUNT = re.compile(r"/[^:,\n]*:/[^:,\n]*(:[^:,/\n]+)?")
_LEAVES = re.compile(r"\s*(exit|exec|return|logout)(\s|;|$)")
_STOPS_AT_ERRORS = re.compile(r"\s*set\s+(.*\s)?(-[a-zA-Z]*e[a-zA-Z]*|-o\s+errexit)\b")
_SBATCH_LINE = re.compile(r"\s*#SBATCH\b")
_MAX_COMMENT = 256
_MAX_NAMED = 10_000  # nodes that a list may name before its overlap with another is left to SLURM
_EARLY_S = 60  # SLURM looks at time limits once a minute, so it may send a signal so much too early
_CHECK_S = 5.0


def _slurm(config: RunConfig) -> Slurm | None:
    """The section of a cluster that is asked; one that does not fit its kind has a problem of its own."""
    return config.cluster.slurm if config.cluster.kind == "slurm" else None


def slurm_section(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """A SLURM cluster says how its jobs are asked for; `local` has none."""
    cluster = config.cluster
    keys = ("cluster.kind", "cluster.slurm")
    if cluster.kind == "slurm" and cluster.slurm is None:
        like = _names(facts) or ["h100_64", "slurm_dev"]
        yield Problem(
            keys,
            f"a SLURM cluster needs the section cluster.slurm; write defaults: [{like[-1]}] into the file of "
            f"cluster={cluster.name}, or copy the section of conf/cluster/slurm_dev.yaml, or type cluster=NAME "
            f"(SLURM clusters: {', '.join(like)})",
        )
    if cluster.kind == "local" and cluster.slurm is not None:
        yield Problem(
            keys,
            "a cluster of kind local submits nothing; type cluster.slurm=null, or cluster=NAME of a SLURM cluster"
            f"{_listed(facts)}",
        )


def _names(facts: Facts) -> list[str]:
    return [name for name, cluster in facts.clusters.items() if cluster.kind == "slurm" and cluster.slurm is not None]


def _listed(facts: Facts) -> str:
    names = _names(facts)
    return f" ({', '.join(names)})" if names else ""


def slurm_time(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """A job has a time limit, and the signal before its end leaves time to train.

    A signal as early as the job itself is an error: every attempt would only save. One within a minute of the start
    is a note: SLURM may send it up to a minute early, or may not, and a short job can be meant.
    """
    cluster, slurm = config.cluster, _slurm(config)
    if cluster.kind != "slurm":
        return
    limit_min = cluster.time_limit_min
    if limit_min is None:
        yield Problem(
            ("cluster.time_limit_min", "cluster.kind"),
            "a SLURM job needs a time limit, else submitit asks for 5 minutes; type cluster.time_limit_min=2880 "
            "(minutes, here two days)",
        )
    if slurm is None or limit_min is None:
        return
    keys = ("cluster.slurm.signal_delay_s", "cluster.time_limit_min")
    left_s = limit_min * 60 - slurm.signal_delay_s
    cure = f"type cluster.slurm.signal_delay_s={max(1, min(600, limit_min * 60 // 4))}, or a longer limit"
    told = f"the signal to save comes {slurm.signal_delay_s} s before the end of {limit_min} min"
    if left_s <= 0:
        yield Problem(keys, f"{told}, which is before any step; {cure} (legal: 1 to {limit_min * 60 - 1})")
    elif left_s <= _EARLY_S:
        yield Problem(
            keys, f"{told}, SLURM may send it {_EARLY_S} s early, at the start of the job; {cure}", is_note=True
        )


def slurm_nodes(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Lists of nodes can be read, do not contradict each other, and fit into the job."""
    slurm, nodes = _slurm(config), config.cluster.nodes
    if slurm is None:
        return
    lists = {"exclude": slurm.exclude, "nodelist": slurm.nodelist}
    named: dict[str, set[str]] = {}
    for key, texts in lists.items():
        found: set[str] = set()
        for text in texts:
            names = _expanded(text)
            if names is None:
                yield Problem(
                    (f"cluster.slurm.{key}",),
                    f"{text!r} is no list of nodes; legal are names and ranges, such as gpu07 or gpu[01-04,09]; type "
                    f"'cluster.slurm.{key}=[\"gpu[01-04]\"]'",
                )
            else:
                found |= names
        named[key] = found
    both = sorted(named["exclude"] & named["nodelist"])
    if both:
        yield Problem(
            ("cluster.slurm.exclude", "cluster.slurm.nodelist"),
            f"{_few(both)} must not be among the nodes of the job and has to be; take it out of one of the lists: type "
            f"'cluster.slurm.exclude=[{','.join(sorted(named['exclude'] - set(both))[:20])}]'",
        )
    if nodes is not None and len(named["nodelist"]) > nodes:
        yield Problem(
            ("cluster.slurm.nodelist", "cluster.nodes"),
            f"{len(named['nodelist'])} nodes have to be among those of a job of {nodes}: "
            f"{_few(sorted(named['nodelist']))}; name at most {nodes}, or type cluster.nodes={len(named['nodelist'])}",
        )


def _few(names: list[str]) -> str:
    return f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"


def _expanded(text: str) -> set[str] | None:
    """Names in a node list; None for one that can't be read, empty for one that is too long to compare."""
    names: set[str] = set()
    if not re.fullmatch(r"(?:[^,\[\]]|\[[^\[\]]+\])+(?:,(?:[^,\[\]]|\[[^\[\]]+\])+)*", text):
        return None
    for part in re.findall(r"(?:[^,\[\]]|\[[^\[\]]+\])+", text):
        found = [""]
        for inside, plain in re.findall(r"\[([^\[\]]+)\]|([^\[\]]+)", part):
            pieces = _numbers(inside) if inside else [plain]
            if pieces is None:
                return None
            if len(pieces) * len(found) > _MAX_NAMED:
                return set()
            found = [f"{name}{piece}" for name in found for piece in pieces]
        names |= set(found)
    return names


def _numbers(text: str) -> list[str] | None:
    """`01-03,07` as texts; None for what is no such range, at most a few too many for a long one."""
    numbers: list[str] = []
    for item in text.split(","):
        match = re.fullmatch(r"(\d{1,12})(?:-(\d{1,12}))?", item)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        numbers += [str(number).zfill(len(match[1])) for number in range(first, min(last, first + _MAX_NAMED) + 1)]
    return numbers


def slurm_dependency(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """A dependency that sbatch knows. Some of them would be taken and never come true."""
    slurm = _slurm(config)
    if slurm is None or slurm.dependency is None:
        return
    text = slurm.dependency
    separators = {sign for sign in ",?" if sign in text}
    if len(separators) < 2 and all(_DEPENDENCY.fullmatch(part) for part in re.split("[,?]", text)):
        return
    what = "mixes , (all of them) and ? (any of them)" if len(separators) > 1 else "is none that sbatch knows"
    yield Problem(
        ("cluster.slurm.dependency",),
        f"{text!r} {what}; legal: afterok:1234, afternotok:1234, afterany:1234:1235, aftercorr:1234, after:1234+5 "
        "(minutes), afterburstbuffer:1234, singleton, and several with , or with ?; type "
        "cluster.slurm.dependency=afterok:JOB_ID",
    )


def slurm_texts(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Names hold no blanks, the comment is one line."""
    cluster, slurm = config.cluster, _slurm(config)
    if slurm is None:
        return
    names = {
        "cluster.partition": cluster.partition,
        "cluster.slurm.account": slurm.account,
        "cluster.slurm.qos": slurm.qos,
        "cluster.slurm.constraint": slurm.constraint,
    }
    for key, text in names.items():
        if text is not None and (not text or re.search(r"\s", text) or not text.isprintable()):
            what = "is empty" if not text else "has a blank or a line break in it, which no such name has"
            cure = re.sub(r"\s+", "&" if key.endswith("constraint") else "", text.strip()) or "null"
            yield Problem(
                (key,), f"{text!r} {what}; type {key}={_typed(cure)} (legal: one word, or null for the site's default)"
            )
    comment = slurm.comment
    if comment is None:
        return
    if not comment.isprintable():
        yield Problem(
            ("cluster.slurm.comment",),
            f"{comment!r} has a line break or another control character in it; legal is one line of text: type "
            "'cluster.slurm.comment=\"ONE LINE\"'",
        )
    if len(comment) > _MAX_COMMENT:
        yield Problem(
            ("cluster.slurm.comment",),
            f"a comment of {len(comment)} characters; legal are {_MAX_COMMENT}, run id and hashes come after it; type "
            "a shorter cluster.slurm.comment",
        )


def _typed(text: str) -> str:
    """As it is typed on a command line."""
    return text if re.fullmatch(r"[\w./:+-]*", text) else f"'\"{text}\"'"


def slurm_environment(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """No variable that the batch script or a rank sets itself; no value of several lines."""
    slurm = _slurm(config)
    if slurm is None:
        return
    for name, value in slurm.environment.items():
        key = f"cluster.slurm.environment.{name}"
        prefix = next((prefix for prefix in _RESERVED_PREFIXES if name.startswith(prefix)), "")
        why = _RESERVED.get(name) or _RESERVED_PREFIXES.get(prefix)
        if why is not None:
            yield Problem((key,), f"{name} can't be set here: {why}; leave it out (type ~{key} if a file sets it)")
        elif "\n" in value or "\r" in value:
            yield Problem((key,), f"{value!r} has a line break in it; legal is one line: type {key}=VALUE")


def slurm_setup(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Lines of shell that bash can read, and that let the script go on."""
    slurm = _slurm(config)
    if slurm is None or not slurm.setup:
        return
    key = "cluster.slurm.setup"
    for number, item in enumerate(slurm.setup):
        for line in item.splitlines():
            if _SBATCH_LINE.match(line):
                yield Problem(
                    (f"{key}.{number}",),
                    f"sbatch reads {line.strip()!r} only before the first command, so it would be ignored; legal is "
                    "shell: type +cluster.slurm.additional_parameters.OPTION=VALUE",
                )
            elif leaves := _LEAVES.match(line):
                yield Problem(
                    (f"{key}.{number}",),
                    f"{line.strip()!r} would end the batch script before the ranks start ({leaves[1]}); leave it out, "
                    "or write COMMAND || exit 1 for a setup that may fail",
                )
            elif _STOPS_AT_ERRORS.match(line):
                yield Problem(
                    (f"{key}.{number}",),
                    f"{line.strip()!r} would end the batch script as soon as a rank fails, before anything decides "
                    "whether the job runs again; leave it out, or write COMMAND || exit 1 for each line that may fail",
                )
    if fault := _shell_fault("\n".join(slurm.setup)):
        yield Problem((key,), f"bash can't read these lines: {fault}; use lines that bash -n accepts")


def _shell_fault(text: str) -> str | None:
    """What `bash -n` says, which runs nothing; only bash itself knows quotes, here-documents and blocks."""
    if (len(text) - len(text.rstrip("\\"))) % 2:
        return "the last line ends with a backslash, which would swallow the next line of the script"
    bash = shutil.which("bash")
    if bash is None:
        return None
    try:
        # Without the shell's environment: BASH_ENV names a file that bash would run.
        command = [bash, "--noprofile", "--norc", "-n"]
        done = subprocess.run(
            command,
            input=text + "\n",
            capture_output=True,
            text=True,
            env={"LC_ALL": "C"},
            timeout=_CHECK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = done.stderr.strip().splitlines()
    return re.sub(r"^\S*bash: ", "", said[0]) if said else None


def slurm_srun(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Arguments of srun stand each in one word, and none is one that is always there."""
    slurm = _slurm(config)
    if slurm is None:
        return
    for number, argument in enumerate(slurm.srun_args):
        key = f"cluster.slurm.srun_args.{number}"
        if not re.match(r"-[A-Za-z]|--[a-z]", argument) or not argument.isprintable():
            before = slurm.srun_args[number - 1] if number else ""
            joined = f"{before}={argument}" if before.startswith("--") and "=" not in before else "--cpu-bind=none"
            yield Problem(
                (key,),
                f"{argument!r} is no option, and srun would take it for the program to start; legal are options with "
                f"their value in the same word: type 'cluster.slurm.srun_args=[\"{joined}\"]'",
            )
            continue
        name = argument.partition("=")[0] if argument.startswith("--") else argument[:2]
        cure = _SRUN_SET.get(name)
        if cure is None and name.startswith("--ntasks"):
            cure = "use cluster.nodes and cluster.gpus_per_node"
        if cure is not None:
            yield Problem((key,), f"{name} can't be set here: {cure}; leave it out of cluster.slurm.srun_args")


def slurm_options(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Further options of sbatch: known ones, none that has a key of its own, and values that they take."""
    slurm = _slurm(config)
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
    slurm = _slurm(config)
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


def slurm_container(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Mounts as pyxis reads them, and an interpreter that is in the image."""
    slurm = _slurm(config)
    if slurm is None:
        return
    key = "cluster.slurm.container_mounts"
    if slurm.container_mounts and slurm.container_image is None:
        yield Problem(
            (key, "cluster.slurm.container_image"),
            f"there is no container to mount {slurm.container_mounts[0]!r} into; type "
            f"cluster.slurm.container_image=IMAGE, or {key}=[]",
        )
    for number, mount in enumerate(slurm.container_mounts):
        if not _MOUNT.fullmatch(mount):
            yield Problem(
                (f"{key}.{number}",),
                f"{mount!r} is no mount; legal: /host:/container or /host:/container:FLAGS (ro, or several with +), "
                f"both absolute, without commas; type '{key}=[\"/scratch:/scratch:ro\"]'",
            )
    image = slurm.container_image
    if image is None:
        return
    if not image or re.search(r"\s", image) or image.startswith("-"):
        yield Problem(
            ("cluster.slurm.container_image",),
            f"{image!r} names no image; legal: /path/to/image.sqsh, or nvcr.io#nvidia/pytorch:25.01-py3; type "
            "cluster.slurm.container_image=null for none",
        )
    for name, folder in {"paths.outputs": config.paths.outputs, "paths.data": config.paths.data}.items():
        if re.search("[:,]", folder):
            yield Problem(
                (name, "cluster.slurm.container_image"),
                f"{folder!r} has a colon or a comma in it, which splits a mount in two; type {name}=FOLDER without",
            )
    if slurm.python is None:
        yield Problem(
            ("cluster.slurm.python", "cluster.slurm.container_image"),
            "the interpreter that submits starts the ranks in the container, and few images have it in that place; "
            "type cluster.slurm.python=/usr/bin/python3, or mount its environment",
            is_note=True,
        )


def slurm_paths(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Jobs start in other folders, so every path is absolute."""
    slurm = _slurm(config)
    if slurm is None:
        return
    paths = {"python": slurm.python, "exclude_file": slurm.exclude_file, "slurm_conf": slurm.slurm_conf}
    for name, path in paths.items():
        if path is None:
            continue
        key = f"cluster.slurm.{name}"
        if not path.isprintable():
            yield Problem((key,), f"{path!r} has a line break or another control character in it; use another path")
        elif not Path(path).is_absolute():
            found = shutil.which(path) if name == "python" and path and "/" not in path else None
            cure = found or os.path.abspath(os.path.expanduser(path)) if path else "null"
            yield Problem((key,), f"{path!r} is no absolute path, and jobs start in other folders; type {key}={cure}")


def slurm_cpus(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """A rank that feeds a GPU has CPUs: SLURM gives one unless it is told."""
    slurm = _slurm(config)
    if slurm is not None and slurm.cpus_per_task is None and config.cluster.device == "cuda":
        yield Problem(
            ("cluster.slurm.cpus_per_task",),
            "SLURM gives each rank one CPU unless it is told, which starves a GPU; type cluster.slurm.cpus_per_task=12 "
            "(the CPUs of a node over its GPUs)",
            is_note=True,
        )


SLURM_RULES: tuple[Callable[[RunConfig, Facts], Iterator[Problem]], ...] = (
    slurm_section,
    slurm_time,
    slurm_nodes,
    slurm_dependency,
    slurm_texts,
    slurm_environment,
    slurm_setup,
    slurm_srun,
    slurm_options,
    slurm_memory,
    slurm_container,
    slurm_paths,
    slurm_cpus,
)
