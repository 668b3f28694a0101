"""Rules of the nodes that a SLURM job has to have, or must not have."""

import re
from collections.abc import Iterator

from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.rules.slurm import section_of
from mmhydra.config.schema import RunConfig

_MAX_NAMED = 10_000  # nodes that a list may name before its overlap with another is left to SLURM


def slurm_nodes(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Lists of nodes can be read, do not contradict each other, and fit into the job."""
    slurm, nodes = section_of(config), config.cluster.nodes
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
