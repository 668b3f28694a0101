"""Texts that share an n-gram with an evaluation set, after the GPT-3 paper (arXiv 2005.14165, appendix C)."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from mmhydra.config.filters import DecontaminationFilter
from mmhydra.data.filters.verdict import PASSED, Verdict
from mmhydra.data.filters.words import by_script, shingles, words_of
from mmhydra.data.records.media import LoadedRecord
from mmhydra.errors import UserError


class Guarded(NamedTuple):
    """Of one evaluation set: items that texts are held against, and those that are too short for it."""

    items: int
    too_short: int


class DecontaminationJudge:
    """Keeps 64-bit hashes of the evaluation sets' n-grams: about 100 bytes each.

    Words of scripts with spaces and characters of those without are looked at apart, each with its own n. An item
    shorter than n, but not than the minimum, is one n-gram as a whole; a shorter one guards nothing: see `guarded`.
    """

    def __init__(self, config: DecontaminationFilter, folder: Path) -> None:
        self._config = config
        self._names = [str(name) for name in config.files]
        self.guarded: dict[str, Guarded] = {}  # by file
        self._sets: dict[tuple[bool, int], dict[int, int]] = {}  # (unspaced, n) -> hash -> index of the file
        for index, name in enumerate(self._names):
            added = [bool(self._add(item, index)) for item in _items(folder / name, name) if item.strip()]
            self.guarded[name] = Guarded(sum(added), len(added) - sum(added))
            if not any(added):
                raise UserError(
                    f"filter decontamination: {name} has no item of {config.min_words} words or "
                    f"{config.min_characters} characters; lower min_words, or leave the file out"
                )

    def _add(self, item: str, index: int) -> int:
        added = 0
        for unspaced, run in by_script(words_of(item)):
            config = self._config
            full, least = (
                (config.num_characters, config.min_characters) if unspaced else (config.num_words, config.min_words)
            )
            length = min(full, len(run))
            if length >= min(least, full):
                grams = self._sets.setdefault((unspaced, length), {})
                for gram in shingles(run, length):
                    grams.setdefault(xxhash.xxh3_64_intdigest(gram), index)
                    added += 1
        return added

    def judge(self, loaded: LoadedRecord) -> Verdict:
        """Refuses at the first n-gram that is also in an evaluation set, and says in which."""
        for unspaced, run in by_script(words_of(loaded.full_text)):
            for (kind, length), grams in self._sets.items():
                if kind != unspaced:
                    continue
                for gram in shingles(run, length):
                    index = grams.get(xxhash.xxh3_64_intdigest(gram))
                    if index is not None:
                        unit = "characters" if unspaced else "words"
                        return Verdict("contaminated", f"{length} {unit} in a row are also in {self._names[index]}")
        return PASSED


def _items(path: Path, name: str) -> Iterator[str]:
    """Every string of a .jsonl (or .jsonl.gz), every line of any other file."""
    is_json = path.name.removesuffix(".gz").endswith(".jsonl")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if is_json and text.strip():
                    yield from _strings(json.loads(text))
                elif not is_json:
                    yield text
    except (OSError, EOFError, ValueError, RecursionError) as error:  # UnicodeDecodeError and JSON's are ValueErrors
        raise UserError(
            f"filter decontamination: cannot read {name} ({error}); give JSONL or text of one item a line"
        ) from error


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inside in value.values():
            yield from _strings(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _strings(inside)
