"""Texts with words of a list."""

import re
from importlib import resources
from pathlib import Path

from mmhydra.config.filters import ToxicityFilter
from mmhydra.data.filters.verdict import PASSED, Verdict
from mmhydra.data.filters.words import words_of
from mmhydra.data.records.media import LoadedRecord
from mmhydra.errors import UserError

_SHIPPED = "toxic_words.txt"


class ToxicityJudge:
    """Whole words and phrases only: `class` holds no listed word. In scripts without spaces any place counts."""

    def __init__(self, config: ToxicityFilter, folder: Path) -> None:
        phrases = {" ".join(words_of(line)) for line in _lines(config.words_file, folder)} - {""}
        if not phrases:
            raise UserError(f"filter toxicity: words_file {config.words_file} has no word in it")
        longest_first = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
        # Words are joined by single spaces, so a space or an end is a word's border.
        self._pattern = re.compile(f"(?:^|(?<= ))(?:{'|'.join(map(re.escape, longest_first))})(?= |$)")
        self._max_share = config.max_share

    def judge(self, loaded: LoadedRecord) -> Verdict:
        """By the share of listed words in all words of text and captions."""
        words = words_of(loaded.full_text)
        if not words:
            return PASSED
        hits = self._pattern.findall(" ".join(words))
        share = sum(len(hit.split()) for hit in hits) / len(words)
        if hits and share > self._max_share:
            # The words themselves are not repeated in a reject file.
            return Verdict("toxic", f"{len(hits)} listed, a share of {share:.3f}; max_share is {self._max_share:g}")
        return PASSED


def _lines(words_file: str | None, folder: Path) -> list[str]:
    """Lines that are no comment."""
    try:
        if words_file is None:
            text = resources.files("mmhydra.data.filters").joinpath(_SHIPPED).read_text(encoding="utf-8")
        else:
            text = (folder / words_file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"filter toxicity: cannot read words_file {words_file} ({error}); give a text file of one word a line, "
            "or null for the list that comes with mmhydra"
        ) from error
    return [line for line in text.splitlines() if not line.startswith("#")]
