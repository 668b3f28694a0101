"""What an interpolation reads: enough to know which ones another value of a key can change."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

Path = tuple[str, ...]

# Their result hangs on their arguments, and on an environment that stays the same while points are composed.
_CONSTANT = ("oc.env", "mmhydra.folder", "secret")
_INNERMOST = re.compile(r"\$\{([^${}]*)\}")
_KEY = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+)*")
_RESOLVER = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*:")
_OF_HYDRA = re.compile(r"(?<!mm)hydra")  # not mmhydra.folder
_DONE = "\x00"  # stands for an interpolation that was read; no YAML file and no argument can hold it


class Interpolation(NamedTuple):
    """A leaf that holds one. `reads` are the keys that it names, None where only resolving it can tell."""

    path: Path
    reads: tuple[Path, ...] | None


def reads(text: str) -> tuple[Path, ...] | None:
    """The keys that a text names by `${key}`; None if that is not all that it may read."""
    keys: list[Path] = []
    while True:
        found = _INNERMOST.search(text)
        if found is None:
            return None if "${" in text else tuple(keys)
        name, colon, _ = found[1].partition(":")
        if colon:
            if name.strip() not in _CONSTANT:
                return None
        elif _KEY.fullmatch(found[1].strip()):
            keys.append(tuple(found[1].strip().split(".")))
        else:  # relative to its own place, or a key that another interpolation makes
            return None
        text = f"{text[: found.start()]}{_DONE}{text[found.end() :]}"


def is_ordinary(text: str) -> bool:
    """Whether it reads nothing but keys, variables and folders: no `hydra`, and no resolver of somebody's own."""
    if "${" not in text:
        return True
    names = _RESOLVER.findall(text)
    return not _OF_HYDRA.search(text) and all(name in _CONSTANT or name.startswith("oc.") for name in names)


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each value of a plain tree that is no section and no list, with the names and numbers that lead to it."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, (*path, str(key)))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from leaves(value, (*path, str(index)))
    else:
        yield path, tree


def overlap(one: Path, other: Path) -> bool:
    """Whether one key is the other, or stands inside of it."""
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def affected(changed: Iterable[Path], interpolations: Iterable[Interpolation]) -> list[Interpolation]:
    """The interpolations that may have another result once some keys have other values; those at the keys left out."""
    changed = list(changed)
    rest = [item for item in interpolations if not any(item.path[: len(key)] == key for key in changed)]
    found: list[Interpolation] = []
    sources = changed
    while sources:
        now = [
            item
            for item in rest
            if item.reads is None or any(overlap(read, source) for read in item.reads for source in sources)
        ]
        rest = [item for item in rest if item not in now]
        found += now
        sources = [item.path for item in now]
    return found
