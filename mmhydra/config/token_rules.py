"""What is wrong with a layout of ids: the rules of the `tokens` group, and what `Vocabulary.of` refuses."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mmhydra.config.tokens import END_OF_DOCUMENT, Span, Tokens

QWEN_SIZE = 151_643  # merges of qwen.tiktoken; its own special tokens come behind them


class Fault(NamedTuple):
    """The keys that are at odds, and what is wrong with legal values."""

    keys: tuple[str, ...]
    text: str


def token_faults(tokens: Tokens) -> list[Fault]:
    """Everything that is wrong with a layout; empty for one that is right."""
    return [fault for rule in _RULES for fault in rule(tokens)]


def _names(tokens: Tokens) -> Iterator[Fault]:
    for what, key, names in (
        ("range", "tokens.ranges", [entry.name for entry in tokens.ranges]),
        ("special token", "tokens.special", tokens.special),
    ):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            yield Fault((key,), f"{what} {', '.join(twice)} is declared twice; leave one of them out")
    if "" in tokens.special:
        yield Fault(("tokens.special",), "a special token has no name; leave it out, or write one such as <|image|>")


def _overlaps(tokens: Tokens) -> Iterator[Fault]:
    spans = tokens.declared
    for index, span in enumerate(spans):
        for earlier, other in enumerate(spans[:index]):
            low, high = max(span.start, other.start), min(span.stop, other.stop)
            if low < high:
                keys = [f"tokens.ranges.{at}.{_set_by(tokens, at)}" for at in (earlier, index)]
                yield Fault(
                    tuple(dict.fromkeys(keys)),
                    f"range {span.name} has ids {_ids(span)} and range {other.name} has {_ids(other)}: "
                    f"{high - low:,} ids, {low:,} to {high - 1:,}, are in both; {_apart(tokens, index)}",
                )


def _set_by(tokens: Tokens, index: int) -> str:
    return "size" if tokens.ranges[index].start is None else "start"


def _apart(tokens: Tokens, index: int) -> str:
    if tokens.ranges[index].start is None:
        free = max(span.stop for span in tokens.declared[:index])
        return f"type tokens.ranges.{index}.start={free}"
    return f"type tokens.ranges.{index}.start=null, which lets it follow the range before it"


def _ids(span: Span) -> str:
    return f"{span.start:,} to {span.stop - 1:,}"


def _codebooks(tokens: Tokens) -> Iterator[Fault]:
    for index, span in enumerate(tokens.declared):
        if span.size % span.codebooks:
            each = -(-span.size // span.codebooks)
            whole = span.codebooks * each
            yield Fault(
                (f"tokens.ranges.{index}.size", f"tokens.codebooks.{span.modality}"),
                f"range {span.name} has {span.size:,} ids, which are no {span.codebooks} codebooks of one size: "
                f"{span.codebooks} x {each:,} is {whole:,}; type tokens.ranges.{index}.size={whole}",
            )


def _special(tokens: Tokens) -> Iterator[Fault]:
    declared = [entry.size for entry in tokens.ranges if entry.modality == "special"]
    text = next((entry for entry in tokens.ranges if entry.modality == "text"), None)
    need = len(tokens.special)
    if declared and need > sum(declared):
        yield Fault(
            ("tokens.special", "tokens.ranges"),
            f"{need} special tokens need ids, the special range has {sum(declared)}; raise its size",
        )
    elif not declared and (text is None or need >= text.size):
        has = "and there is no text range either" if text is None else f"and range {text.name} has {text.size} ids"
        yield Fault(
            ("tokens.special", "tokens.ranges"),
            f"{need} special tokens need ids, there is no special range, {has}; "
            f"add {{name: special, modality: special, size: {max(need, 1)}, start: null}}",
        )
    if END_OF_DOCUMENT not in tokens.special:
        yield Fault(("tokens.special",), f"{END_OF_DOCUMENT} is not declared, and every document ends with it; add it")


def _text(tokens: Tokens) -> Iterator[Fault]:
    if tokens.text is None:
        return
    kind, folder, room = tokens.text.kind, tokens.text.folder, tokens.room("text")
    if kind == "qwen" and room < QWEN_SIZE:
        yield Fault(("tokens.text.kind", "tokens.ranges"), too_small(tokens, "the qwen tokenizer", QWEN_SIZE))
    if kind == "hf":
        if folder is None:
            cure = "type tokens.text.folder=FOLDER, one that holds tokenizer.json"
            yield Fault(("tokens.text.folder",), f"an hf tokenizer is read from a folder, and none is given; {cure}")
        elif not Path(folder).is_absolute():
            cure = f"type tokens.text.folder={Path(folder).absolute()}"
            yield Fault(("tokens.text.folder",), f"{folder!r} is no absolute path, and jobs start elsewhere; {cure}")
    elif folder is not None:
        yield Fault(
            ("tokens.text.folder", "tokens.text.kind"),
            f"a {kind} tokenizer reads no folder; type tokens.text.folder=null, or tokens.text.kind=hf",
        )


def too_small(tokens: Tokens, what: str, num_ids: int) -> str:
    """Says that a text tokenizer of so many ids does not fit, and which size would do."""
    room = tokens.room("text")
    index = next((at for at, entry in enumerate(tokens.ranges) if entry.modality == "text"), None)
    if index is None:
        return f"{what} has {num_ids:,} ids, and tokens={tokens.name} has no text range; add one"
    wider = tokens.ranges[index].size + num_ids - room
    return (
        f"{what} has {num_ids:,} ids, text has a range of {room:,}: the last {num_ids - room:,} would have no place; "
        f"type tokens.ranges.{index}.size={wider}"
    )


_RULES: tuple[Callable[[Tokens], Iterator[Fault]], ...] = (_names, _overlaps, _codebooks, _special, _text)
