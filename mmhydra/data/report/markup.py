"""HTML whose text is always escaped, and how numbers are written.

What a report shows (names, captions, licenses) comes from records, and records come from anywhere.
"""

import html
import re
from collections.abc import Iterable

NOTHING = "—"  # where there is no number or name
_VOID = ("br", "img", "input", "meta")
# Half surrogate pairs cannot be written; control characters and those that turn the direction of writing mislead.
_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Html(str):
    """Text that is markup already. Made by `element` and `join` alone."""

    __slots__ = ()


def shown(text: str) -> str:
    """Text with a visible sign (U+FFFD) where a character cannot or should not be shown."""
    return _UNSHOWABLE.sub("\ufffd", text)


def escape(text: str) -> Html:
    """Text as it is read, not as markup; markup stays as it is."""
    return text if isinstance(text, Html) else Html(html.escape(shown(text)))


def join(parts: Iterable[str | None], separator: str = "") -> Html:
    """Parts one after another, those that are no markup escaped."""
    return Html(separator.join(escape(part) for part in parts if part is not None))


def element(tag: str, *children: str | None, **attributes: str | float | bool | None) -> Html:
    """An HTML or SVG element. An underscore at the end of an attribute's name is dropped, others become hyphens."""
    text = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Html(f"<{tag}{text}>")
    return Html(f"<{tag}{text}>{join(children)}</{tag}>")


def table(
    headings: Iterable[str], rows: Iterable[Iterable[str]], *, numbers_from: int = 1, caption: str | None = None
) -> Html:
    """A table whose columns from `numbers_from` on are numbers, aligned to the right."""

    def cells(tag: str, row: Iterable[str]) -> Html:
        return join(element(tag, cell, class_="n" if i >= numbers_from else None) for i, cell in enumerate(row))

    body = join(element("tr", cells("td", row)) for row in rows)
    return element(
        "div",
        element(
            "table",
            element("caption", caption) if caption else None,
            element("thead", element("tr", cells("th", headings))),
            element("tbody", body),
        ),
        class_="scroll",
        tabindex="0",
    )


def count(value: int) -> str:
    """1234567 as 1,234,567."""
    return f"{value:,}"


def short(value: float) -> str:
    """1234567 as 1.23M, for axes and headings."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            scaled = value / size
            return f"{scaled:.3g}{letter}"
    return f"{value:g}"


def percent(part: float, whole: float) -> str:
    """A share of a whole; a dash where there is no whole."""
    if not whole:
        return NOTHING
    share = 100 * part / whole
    if 0 < share < 0.05:
        return "< 0.1%"
    if 99.95 <= share < 100:
        return "> 99.9%"
    return f"{share:.1f}%"


def size(num_bytes: int) -> str:
    """Bytes in the largest unit that leaves a number of 1 or more."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if num_bytes >= 1000**power:
            return f"{num_bytes / 1000**power:.1f} {unit}"
    return f"{num_bytes} bytes"


def _attribute(name: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.removesuffix("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
    return f' {name}="{html.escape(shown(text))}"'
