"""Overrides as they are typed: which key each is of, and what is left of them when later ones replace earlier ones."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mmhydra.config.typed import COMMAND_KEYS, is_known, no_such_key
from mmhydra.sweep.study.values import names_several, read_text

_KEY = re.compile(r"(?P<sign>\+\+|\+|~|)(?P<key>[A-Za-z_$][\w$.@/:-]*)")
_OF_THE_COMMAND = (*COMMAND_KEYS, "sweep")


class Override(NamedTuple):
    """`sign` is `+`, `++`, `~` or empty; `text` is the right side, None for a deletion without one."""

    sign: str
    key: str
    text: str | None

    def __str__(self) -> str:
        return f"{self.sign}{self.key}" if self.text is None else f"{self.sign}{self.key}={self.text}"

    @property
    def value(self) -> Any:
        """The typed value, as filters see it."""
        return None if self.text is None else read_text(self.text)


def split(text: str) -> Override:
    """An override in its parts. What is none at all comes back as a key."""
    left, equals, right = text.partition("=")
    key = left.strip().lstrip("+~")
    return Override(left.strip().removesuffix(key) if key else "", key, right.strip() if equals else None)


def label_in_words(label: Mapping[str, str]) -> str:
    """`optim.lr=0.001 model=1b`: what tells a point from the others, as one would type it."""
    return " ".join(f"{key}={text}" for key, text in label.items())


def fault_of_key(key: str) -> str | None:
    """Why no axis may have a key, as it is typed; None for one that may. Groups of the user's are not known here."""
    found = _KEY.fullmatch(key)
    if found is None:
        return "this is no key of an override; write a group or a dotted key, such as model or optim.lr"
    root = found["key"].partition(".")[0].partition("/")[0]
    if found["key"] in _OF_THE_COMMAND or root == "hydra":
        return "it belongs to the command and not to a run; type it on the command line"
    if found["sign"] == "~":
        return "an axis sets values; write what is deleted under overrides"
    is_dotted = "." in found["key"] and not {"/", "@"} & {*found["key"]}
    return no_such_key(found["key"]) if is_dotted and not is_known(found["key"]) else None


def fault_of_override(text: str) -> str | None:
    """Why a study may not have an override; None for one that it may."""
    override = split(text)
    if override.text is None and override.sign != "~":
        return f"{text!r} is no override: there is no '='; write KEY=VALUE"
    key = override.key if override.sign == "~" else f"{override.sign}{override.key}"
    if fault := fault_of_key(key):
        return f"{override.key}: {fault}"
    if override.text is not None and names_several(override.text):
        return f"{text} names several values; make {override.key} an axis: {override.key}: [A, B]"
    return None


class Layers:
    """Overrides of which a later one replaces an earlier one of the same key."""

    def __init__(self, overrides: Iterable[Override] = ()) -> None:
        self._by_key: dict[str, Override] = {}
        self._values: dict[str, Any] = {}
        self.add_all(overrides)

    def __iter__(self) -> Iterator[Override]:
        return iter(self._by_key.values())

    @property
    def values(self) -> Mapping[str, Any]:
        """The typed values by their keys, as filters see them."""
        return self._values

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is left, the earliest first."""
        return tuple(map(str, self))

    def copy(self) -> "Layers":
        """One that can be changed alone."""
        other = Layers()
        other._by_key = dict(self._by_key)
        other._values = dict(self._values)
        return other

    def drop(self, keys: Iterable[str]) -> None:
        """Takes the overrides of keys away."""
        for key in keys:
            self._by_key.pop(key, None)
            self._values.pop(key, None)

    def add_all(self, overrides: Iterable[Override | tuple[Override, Any]]) -> None:
        """Puts overrides behind all others, with their typed values where those are known already."""
        for one in overrides:
            self._add(one, one.value) if isinstance(one, Override) else self._add(*one)

    def _add(self, override: Override, value: Any) -> None:
        before = self._by_key.pop(override.key, None)
        self._values.pop(override.key, None)
        if before is not None:
            if override.sign == "~" and before.sign == "+":
                return  # what was added goes with its override: there is nothing else to delete
            if before.sign in ("+", "++") and not override.sign:
                override = override._replace(sign="++")  # the key may be there only because it was added
        self._by_key[override.key] = override
        if override.sign != "~":
            self._values[override.key] = value
