"""Templates: how a record becomes one sequence of tokens, and which of them carry loss."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field

from mmhydra.config.base import Name, PositiveFloat, Section
from mmhydra.config.forms import FIELDS, Piece, Slot, Special, Stray, parse
from mmhydra.config.tokens import END_OF_DOCUMENT, Tokens


class Template(Section):
    """One way to lay out a record. Of several, each record gets one by its share, drawn from the seed."""

    name: Name
    form: Annotated[str, Field(min_length=1)]  # specials, {fields} and words; the end of the document is added
    loss: Literal["all"] | list[str]  # modalities whose tokens are labels; all: words of the form too
    share: PositiveFloat  # only the proportion counts


def modalities(template: Template) -> tuple[str, ...]:
    """The modalities that a form holds, each once, in order of appearance; unknown fields are left out."""
    found = [name for slot in _slots(parse(template.form, ())) for name in FIELDS[slot.name].modalities]
    return tuple(dict.fromkeys(found))


def takes(template: Template) -> tuple[str, ...]:
    """The parts of a record that a form uses: text or interleaved, captions, image, audio, video, camera_front, ..."""
    return tuple(part for slot in _slots(parse(template.form, ())) for part in FIELDS[slot.name].takes)


def template_problems(template: Template, tokens: Tokens) -> list[str]:
    """Everything that is wrong with a template, with legal values; empty for one that is right."""
    pieces = parse(template.form, tokens.special)
    return [f"template {template.name}: {text}" for rule in _RULES for text in rule(template, pieces, tokens)]


def _slots(pieces: Sequence[Piece]) -> list[Slot]:
    """The fields of a form that there are."""
    return [piece for piece in pieces if isinstance(piece, Slot) and piece.name in FIELDS]


def _near(name: str, legal: Sequence[str], shown: Callable[[str], str] = str) -> str:
    near = get_close_matches(name, legal, 1)
    guess = f"did you mean {shown(near[0])}? " if near else ""
    return f"{guess}legal: {', '.join(map(shown, legal))}"


def _braced(name: str) -> str:
    return f"{{{name}}}"


def _spelling(template: Template, pieces: Sequence[Piece], tokens: Tokens) -> Iterator[str]:
    for piece in pieces:
        if isinstance(piece, Stray) and piece.text in "{}":
            yield f"a {piece.text} without its other half; braces stand around the name of a field, as in {{text}}"
        elif isinstance(piece, Stray):
            yield f"{piece.text} is no special token of tokens={tokens.name}; {_near(piece.text, tokens.special)}"
        elif isinstance(piece, Slot) and piece.name not in FIELDS:
            yield f"{{{piece.name}}} is no field; {_near(piece.name, list(FIELDS), _braced)}"
        elif piece == Special(END_OF_DOCUMENT):
            yield f"{END_OF_DOCUMENT} is added to the end of every document; leave it out"
    if not any(isinstance(piece, Slot) for piece in pieces):
        yield f"the form holds no field; legal: {', '.join(map(_braced, FIELDS))}"


def _parts(template: Template, pieces: Sequence[Piece], tokens: Tokens) -> Iterator[str]:
    slots = _slots(pieces)
    used = Counter(part for slot in slots for part in _uses(slot))
    for part in (part for part, count in used.items() if count > 1):
        both = " and ".join(_braced(slot.name) for slot in slots if part in _uses(slot))
        yield f"{both} take the same part of a record, its {part}; leave one of them out"
    for slot in dict.fromkeys(slots):
        field = FIELDS[slot.name]
        missing = [token for token in field.needs if token not in tokens.special]
        if missing:
            yield f"{{{slot.name}}} needs {', '.join(missing)}, which tokens.special lacks; add what is missing"
        without = [name for name in field.modalities if not tokens.room(name)]
        if without:
            there = ", ".join(dict.fromkeys(entry.modality for entry in tokens.ranges))
            yield (
                f"{{{slot.name}}} is {' and '.join(without)}, and tokens={tokens.name} has ranges for {there}; "
                "add a range, or type tokens=qwen_full"
            )


def _uses(slot: Slot) -> tuple[str, ...]:
    """What a field takes; a record has one text, with placeholders in it or without."""
    return tuple("text" if part == "interleaved" else part for part in FIELDS[slot.name].takes)


def _neighbours(template: Template, pieces: Sequence[Piece], tokens: Tokens) -> Iterator[str]:
    around: list[Piece | None] = [None, *pieces, None]
    for before, piece, after in zip(around, pieces, around[2:], strict=False):
        if not isinstance(piece, Slot) or piece.name not in FIELDS:
            continue
        field, braced, example = FIELDS[piece.name], _braced(piece.name), _example(piece.name)
        if field.opened and not (isinstance(before, Special) and not before.ends):
            yield f"{braced} has to follow a special token that begins it, with nothing between: {example}"
        elif field.closed and not (isinstance(after, Special) and after.ends):
            yield f"{braced} has to be followed by the special token that ends it, with nothing between: {example}"
        elif field.opened and isinstance(before, Special) and _other_modality(before.token, field.modality):
            yield f"{before.token} begins another modality than {braced}, which is {field.modality}: {example}"


def _example(name: str) -> str:
    if name.startswith("camera_"):
        return f"<|{name}|>{{{name}}}"
    return f"<|{FIELDS[name].modality}_start|>{{{name}}}<|{FIELDS[name].modality}_end|>"


def _other_modality(token: str, modality: str) -> bool:
    return token in {f"<|{name}_start|>" for name in ("image", "audio", "video")} - {f"<|{modality}_start|>"}


def _pairs(template: Template, pieces: Sequence[Piece], tokens: Tokens) -> Iterator[str]:
    opened: list[Special] = []
    for special in (piece for piece in pieces if isinstance(piece, Special)):
        starts = [entry.token for entry in opened]
        if special.begins:
            opened.append(special)
        elif special.ends and special.start in starts:
            at = starts.index(special.start)
            if inner := starts[at + 1 :]:
                yield f"{special.token} comes before {inner[-1]} is closed; close what was begun last first"
            opened = opened[:at]
        elif special.ends:
            yield f"{special.token} closes nothing; write {special.start} before what it ends"
    for special in opened:
        yield f"{special.token} is never closed; write {special.end} behind what it begins"


def _loss(template: Template, pieces: Sequence[Piece], tokens: Tokens) -> Iterator[str]:
    if template.loss == "all":
        return
    legal = list(modalities(template))
    shown = f"legal: all, or a list of {', '.join(legal)}"
    for name in dict.fromkeys(template.loss):
        if name not in legal:
            yield f"loss names {name}, which the form does not hold; {shown}"
        elif template.loss.count(name) > 1:
            yield f"loss names {name} twice; leave one of them out"
    if not template.loss:
        yield f"loss is empty, so that nothing is learnt; {shown}"


_RULES: tuple[Callable[[Template, Sequence[Piece], Tokens], Iterator[str]], ...] = (
    _spelling,
    _parts,
    _neighbours,
    _pairs,
    _loss,
)
