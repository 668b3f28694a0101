"""Rules of the batch script: its environment and setup, how it calls srun, and the container of its ranks."""

import re
import shutil
import subprocess
from collections.abc import Iterator

from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.rules.slurm import section_of
from mmhydra.config.schema import RunConfig

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

_MOUNT = re.compile(r"/[^:,\n]*:/[^:,\n]*(:[^:,/\n]+)?")
_LEAVES = re.compile(r"\s*(exit|exec|return|logout)(\s|;|$)")
_STOPS_AT_ERRORS = re.compile(r"\s*set\s+(.*\s)?(-[a-zA-Z]*e[a-zA-Z]*|-o\s+errexit)\b")
_SBATCH_LINE = re.compile(r"\s*#SBATCH\b")
_CHECK_S = 5.0


def slurm_environment(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """No variable that the batch script or a rank sets itself; no value of several lines."""
    slurm = section_of(config)
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
    slurm = section_of(config)
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
    slurm = section_of(config)
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


def slurm_container(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Mounts as pyxis reads them, and an interpreter that is in the image."""
    slurm = section_of(config)
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
