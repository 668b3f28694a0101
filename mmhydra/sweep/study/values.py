"""Values of a study: what stands in YAML, and the override that says the same on a command line.

What stands there without quotes means what it would mean on the command line, so `1e-4` is a number and `on` is text;
in quotes it is text. The grammar is Hydra's; a list or a section of YAML becomes a list or a section there.
"""

import re
from dataclasses import dataclass
from typing import Any

import yaml

_WHOLE = r"(?:0|[1-9](?:_?\d)*)"
_POINT = rf"(?:{_WHOLE}\.|{_WHOLE}?\.\d(?:_?\d)*)"
_INT = re.compile(rf"[+-]?{_WHOLE}")
_FLOAT = re.compile(rf"[+-]?(?:{_POINT}|(?:{_WHOLE}|{_POINT})[eE][+-]?\d(?:_?\d)*|inf|nan)", re.IGNORECASE)
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
# Text that Hydra reads as it stands. Only what Python and Hydra both call letters and digits.
_BARE = re.compile(r"(?:[A-Za-z0-9_/+.%*@?|:-]|\$\{[^{}'\"\\\s]+\})+")
_KEY_IN_VALUE = re.compile(r"[A-Za-z0-9_/+.%*@?|-]+")
_FUNCTION = re.compile(r"\w+\s*\(.*\)", re.DOTALL)
_SWEEP = re.compile(r"(?:range|choice|glob|interval|shuffle|sort|tag)\s*\(")
_BEFORE_QUOTE = re.compile(r"(\\*)('|\Z)")
_PAIRS = {"[": "]", "{": "}", "(": ")"}
# Of YAML itself. What a plain word is tagged as makes no difference here, and others would make objects.
_KINDS = ("null", "bool", "int", "float", "str", "seq", "map", "timestamp", "merge", "value")
_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in _KINDS}


class ValueFault(ValueError):
    """A value that no override can say, or that says something else than it seems to. `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Value:
    """`text` is the right side of an override, `value` the same typed, `label` how people know it."""

    text: str
    value: Any
    label: str


def read_node(node: yaml.Node) -> Value:
    """The value of a YAML node. Raises ValueFault."""
    require_plain(node)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        items = [read_node(item) for item in node.value]
        return Value(
            f"[{','.join(item.text for item in items)}]",
            [item.value for item in items],
            f"[{','.join(item.label for item in items)}]",
        )
    assert isinstance(node, yaml.MappingNode)
    pairs = [(_key(key), read_node(value)) for key, value in node.value]
    return Value(
        f"{{{','.join(f'{key}:{value.text}' for key, value in pairs)}}}",
        {key: value.value for key, value in pairs},
        f"{{{','.join(f'{key}:{value.label}' for key, value in pairs)}}}",
    )


def read_text(text: str) -> Any:
    """The typed value of the right side of an override, for filters; text of a form that is not known here as it is."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        escapes = rf"(\\+)({text[0]}|\Z)"
        return re.sub(escapes, lambda found: found[1][: len(found[1]) // 2] + found[2], text[1:-1])
    if text[:1] in ("[", "{"):
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            return text if node is None else read_node(node).value
        except (yaml.YAMLError, ValueFault, RecursionError):
            return text
    return typed(text)


def typed(text: str) -> Any:
    """What Hydra makes of a word without quotes."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def quoted(text: str) -> str:
    """Text as the right side of an override, with quotes where Hydra would read something else without."""
    if _BARE.fullmatch(text) and isinstance(typed(text), str):
        return text
    # Backslashes before a quote, the closing one too, are doubled; elsewhere they are letters.
    return f"'{re.sub(_BEFORE_QUOTE, _escaped, text)}'"


def _escaped(found: re.Match[str]) -> str:
    return str(found.group(1)) * 2 + ("\\'" if found.group(2) else "")


def names_several(text: str) -> bool:
    """Whether the right side of an override would be several values with -m."""
    if _SWEEP.match(text.lstrip()):
        return True
    closing: list[str] = []
    quote = ""
    escaped = False
    for letter in text:
        if escaped or letter == "\\":
            escaped = not escaped
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _PAIRS:
            closing.append(_PAIRS[letter])
        elif closing and letter == closing[-1]:
            closing.pop()
        elif letter == "," and not closing:
            return True
    return False


def require_plain(node: yaml.Node) -> None:
    """Raises ValueFault for tags of YAML and for text that no file could hold."""
    line = node.start_mark.line + 1
    if node.tag not in _TAGS:
        raise ValueFault(f"{node.tag}: tags of YAML are not read; leave it out", line)
    if isinstance(node, yaml.ScalarNode):
        try:
            node.value.encode()
        except UnicodeEncodeError:
            raise ValueFault("text that is no UTF-8", line) from None
        if "\0" in node.value:
            raise ValueFault("a NUL character is in it, which no command line can hold", line)


def _is_quoted(node: yaml.ScalarNode) -> bool:
    """Whether a scalar stands in quotes, or in a block of text."""
    return node.style is not None


def plain(node: yaml.ScalarNode) -> Any:
    """The typed value of a scalar."""
    if _is_quoted(node):
        return node.value
    return None if node.value in ("", "~") else typed(node.value)


def _scalar(node: yaml.ScalarNode) -> Value:
    text, value = node.value, plain(node)
    if not isinstance(value, str):
        written = text if isinstance(value, int | float) and not isinstance(value, bool) else _word(value)
        return Value(written, value, written)
    if not _is_quoted(node) and _FUNCTION.fullmatch(text):
        told = f'{text} is a function of Hydra; write its values, as in [1, 2, 3], or for text "{text}" in quotes'
        raise ValueFault(told, node.start_mark.line + 1)
    return Value(quoted(text), text, text)


def _word(value: bool | None) -> str:
    return next(word for word, meant in _WORDS.items() if meant is value)


def _key(node: yaml.Node) -> str:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.ScalarNode) or not _KEY_IN_VALUE.fullmatch(node.value):
        shown = node.value if isinstance(node, yaml.ScalarNode) else "this"
        raise ValueFault(f"{shown!r}: keys inside of a value are words of letters, digits, _ and -", line)
    return str(node.value)
