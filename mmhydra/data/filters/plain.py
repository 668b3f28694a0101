"""A text as its reader sees it: ASCII for what looks like it, without what nobody sees."""

import unicodedata
from functools import cache
from typing import NamedTuple

import regex  # type: ignore[import-untyped]

from mmhydra.data.filters.words import INVISIBLE

_INVISIBLE = regex.compile(f"[{INVISIBLE}]")
_SPACES = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_DASHES = "\u2010-\u2015\u2212"
# Full-width signs that are parts of addresses and numbers. A full-width comma or colon parts sentences: it stays.
_SIGNS = "\uff08\uff09\uff0b\uff0d\uff0e\uff20\uff3f"
_LETTERS = "\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\U0001d400-\U0001d7ff"  # full-width and mathematical
_DIGITS = "\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\u09e6-\u09ef"  # Arabic, Persian, Devanagari, Bengali


class Plain(NamedTuple):
    """`places[i]` is where text[i] stands in the original; None: in the same place."""

    text: str
    places: list[int] | None

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Where text[start:stop] stands in the original."""
        return (start, stop) if self.places is None else (self.places[start], self.places[stop - 1] + 1)


def plain(text: str) -> Plain:
    """The text to look for addresses and numbers in."""
    if text.isascii():
        return Plain(text, None)
    same_length = text.translate(_table())
    if not _INVISIBLE.search(same_length):
        return Plain(same_length, None)
    places = [place for place, character in enumerate(same_length) if not _INVISIBLE.match(character)]
    return Plain("".join(same_length[place] for place in places), places)


@cache
def _table() -> dict[int, str]:
    table = {code: " " for code in _codes(_SPACES)} | {code: "-" for code in _codes(_DASHES)}
    for code in _codes(_DIGITS):
        table[code] = str(unicodedata.decimal(chr(code)))
    for code in _codes(_SIGNS + _LETTERS):
        seen = unicodedata.normalize("NFKC", chr(code))
        if len(seen) == 1 and seen.isascii():
            table[code] = seen
    return table


def _codes(ranges: str) -> list[int]:
    """The code points of `a-z0-9`."""
    found: list[int] = []
    for part in regex.findall("(.)(?:-(.))?", ranges):
        first, last = part[0], part[1] or part[0]
        found += range(ord(first), ord(last) + 1)
    return found
