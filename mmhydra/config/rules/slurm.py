"""Rules of what a SLURM job asks for: time, names, dependencies, CPUs."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.schema import RunConfig
from mmhydra.config.slurm import Slurm

_DEPENDENCY = re.compile(
    r"singleton|after:\d+(_(\d+|\*))?(\+\d+)?(:\d+(_(\d+|\*))?(\+\d+)?)*"
    r"|(afterany|afterburstbuffer|aftercorr|afternotok|afterok):\d+(_(\d+|\*))?(:\d+(_(\d+|\*))?)*"
)
_MAX_COMMENT = 256
_EARLY_S = 60  # SLURM looks at time limits once a minute, so it may send a signal so much too early


def section_of(config: RunConfig) -> Slurm | None:
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
    cluster, slurm = config.cluster, section_of(config)
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


def slurm_dependency(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """A dependency that sbatch knows. Some of them would be taken and never come true."""
    slurm = section_of(config)
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
    cluster, slurm = config.cluster, section_of(config)
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


def slurm_paths(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Jobs start in other folders, so every path is absolute."""
    slurm = section_of(config)
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
    slurm = section_of(config)
    if slurm is not None and slurm.cpus_per_task is None and config.cluster.device == "cuda":
        yield Problem(
            ("cluster.slurm.cpus_per_task",),
            "SLURM gives each rank one CPU unless it is told, which starves a GPU; type cluster.slurm.cpus_per_task=12 "
            "(the CPUs of a node over its GPUs)",
            is_note=True,
        )
