"""From a line or a row to a Record, or to the reason why it is none."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from mmhydra.data.records.batches import RawRecord
from mmhydra.data.records.reasons import RECORD_REASONS, BadRecord
from mmhydra.data.records.record import Record

_LONGEST_DETAIL = 300  # characters: a reject file quotes no whole record
# Types of errors that `record.py` raises; pydantic has a too_short of its own.
_OURS = {*RECORD_REASONS, "corrupt_captions"}
_NESTED = ("data_paths", "metadata", "quality_scores", "processing_log", "data_card_info")


def parse(raw: RawRecord) -> Record:
    """The record of a line or row. Raises BadRecord."""
    if raw.fault == "line_too_long":
        raise BadRecord("line_too_long", "a line beyond the limit")
    value = _from_row(raw.value) if isinstance(raw.value, dict) else _from_line(raw.value, raw.fault == "unended")
    for fault, detail in _faults(value):
        raise BadRecord(fault, detail)
    if not isinstance(value, dict):
        raise BadRecord("not_an_object", f"a JSON {type(value).__name__}, not an object")
    try:
        return Record.model_validate(value)
    except ValidationError as error:
        raise _bad(error) from error
    except RecursionError as error:
        raise BadRecord("not_json", "nested too deep") from error


def _bad(error: ValidationError) -> BadRecord:
    """What is wrong with the schema comes first: a record of unknown shape has no modalities to compare."""
    faults = error.errors(include_url=False, include_input=False)
    fault = next((f for f in faults if f["type"] not in _OURS), faults[0])
    reason = fault["type"] if fault["type"] in _OURS else "schema"
    where = ".".join(str(part) for part in fault["loc"])
    return BadRecord(reason, f"{where}: {fault['msg']}"[:_LONGEST_DETAIL] if where else fault["msg"])


def _from_line(line: bytes, unended: bool) -> Any:
    if b"\0" in line:
        raise BadRecord("nul_character", f"NUL at byte {line.index(0)}")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        # A cut inside a character is a cut, whatever else it is.
        reason = "truncated_line" if unended and error.reason == "unexpected end of data" else "bad_encoding"
        raise BadRecord(reason, f"byte {error.start}: {error.reason}") from error
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite)
    except RecursionError as error:
        raise BadRecord("not_json", "nested too deep") from error
    except ValueError as error:  # JSONDecodeError, and integers of thousands of digits
        raise BadRecord("truncated_line" if unended else "not_json", str(error)[:_LONGEST_DETAIL]) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadRecord("duplicate_key", f"{twice!r} is there twice"[:_LONGEST_DETAIL])
    return made


def _constant(name: str) -> float:
    raise BadRecord("not_finite", f"{name} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise BadRecord("not_finite", f"{digits[:40]} is beyond a float's range")
    return value


def _from_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A Parquet row as JSON would say it: no nulls, since columns of structs hold every field; nested JSON as text."""
    made = {}
    for key, value in row.items():
        if key in _NESTED and isinstance(value, str):
            value = _from_line(value.encode("utf-8", "surrogatepass"), unended=False)
        made[key] = value
    cleaned: dict[str, Any] = _without_nulls(made)
    return cleaned


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inside) for key, inside in value.items() if inside is not None}
    if isinstance(value, list):
        return [_without_nulls(inside) for inside in value]
    return value


def _faults(value: Any) -> Iterator[tuple[str, str]]:
    """What no string or number may be, at any depth: escapes and Parquet can say what the bytes of a line cannot."""
    stack = [value]
    while stack:
        inside = stack.pop()
        if isinstance(inside, str):
            if "\0" in inside:
                yield "nul_character", "a NUL in a string"
            elif not inside.isascii() and any("\ud800" <= character <= "\udfff" for character in inside):
                yield "bad_encoding", "half a surrogate pair in a string"
        elif isinstance(inside, float) and not math.isfinite(inside):
            yield "not_finite", f"{inside} in a number"
        elif isinstance(inside, dict):
            stack.extend(inside)
            stack.extend(inside.values())
        elif isinstance(inside, list):
            stack.extend(inside)
