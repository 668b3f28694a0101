"""SLURM's short form of node lists, `gpu[01-03,7]`. Not `scontrol show hostnames`: it needs a configured cluster."""

import itertools
import re
from collections.abc import Iterable

_PART = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")  # up to a comma outside of brackets
_PIECE = re.compile(r"\[([^\]]*)\]|([^\[\]]+)")
_NUMBERED = re.compile(r"(.*?)(\d+)")
_NONE = ("", "(null)", "N/A", "n/a", "None assigned", "None")


def expand(nodes: str) -> list[str]:
    """Names in a node list: `gpu[01-02,7]` is gpu01, gpu02 and gpu7. Empty for what SLURM prints for no node."""
    if nodes.strip() in _NONE:
        return []
    names: list[str] = []
    for part in _PART.findall(nodes.strip()):
        pieces = [_range(inside) if inside else [text] for inside, text in _PIECE.findall(part)]
        names += ["".join(choice) for choice in itertools.product(*pieces)]
    return names


def _range(text: str) -> list[str]:
    numbers: list[str] = []
    for item in text.split(","):
        first, dash, last = item.partition("-")
        if dash and first.isdigit() and last.isdigit():
            numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        else:
            numbers.append(item)
    return numbers


def compress(nodes: Iterable[str]) -> str:
    """The short form of names: neighbours with the same prefix and width become a range."""
    groups: dict[tuple[str, int], list[int]] = {}
    others: list[str] = []
    for name in dict.fromkeys(nodes):
        found = _NUMBERED.fullmatch(name)
        if found is None:
            others.append(name)
        else:
            width = len(found[2]) if found[2].startswith("0") else 0
            groups.setdefault((found[1], width), []).append(int(found[2]))
    # gpu09 and gpu10 belong together: what starts without a zero joins the group of its width
    for prefix in [prefix for prefix, width in groups if width == 0]:
        for number in list(groups[prefix, 0]):
            if (prefix, len(str(number))) in groups:
                groups[prefix, 0].remove(number)
                groups[prefix, len(str(number))].append(number)
    short = [_short(prefix, width, sorted(numbers)) for (prefix, width), numbers in groups.items() if numbers]
    return ",".join([*short, *others])


def ranges(numbers: Iterable[int], width: int = 0) -> str:
    """Ascending numbers as SLURM writes them, `0,3,7-9`; `width` digits each."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(
        str(run[0]).zfill(width) + (f"-{str(run[-1]).zfill(width)}" if len(run) > 1 else "") for run in runs
    )


def _short(prefix: str, width: int, numbers: list[int]) -> str:
    text = ranges(numbers, width)
    return f"{prefix}{text}" if len(numbers) == 1 else f"{prefix}[{text}]"
