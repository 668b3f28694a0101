"""Bounds of texts and of the scores that came with a record."""

import unicodedata

from mmhydra.config.filters import QualityFilter
from mmhydra.data.filters.verdict import PASSED, Verdict
from mmhydra.data.records.media import LoadedRecord

_LETTERS = ("L", "M", "N", "Z")  # Unicode categories: letters, marks, numbers, separators


class QualityJudge:
    """Counts characters; knows nothing of what they say."""

    def __init__(self, config: QualityFilter) -> None:
        self._config = config

    def judge(self, loaded: LoadedRecord) -> Verdict:
        """A record without text, or without a score, passes the bounds on it."""
        config = self._config
        scores = loaded.record.quality_scores
        for name, bound in config.min_scores.items():
            if scores.get(name, bound) < bound:
                return Verdict("score_too_low", f"{name} is {scores[name]:g}, at least {bound:g}")
        for name, bound in config.max_scores.items():
            if scores.get(name, bound) > bound:
                return Verdict("score_too_high", f"{name} is {scores[name]:g}, at most {bound:g}")
        text = loaded.full_text
        if not text:
            return PASSED
        if len(text) < config.min_characters:
            return Verdict("too_few_characters", f"{len(text)}, min_characters is {config.min_characters}")
        if len(text) > config.max_characters:
            return Verdict("too_many_characters", f"{len(text)}, max_characters is {config.max_characters}")
        share = symbol_share(text)
        if share > config.max_symbol_share:
            return Verdict("too_many_symbols", f"{share:.2f}, max_symbol_share is {config.max_symbol_share:g}")
        return PASSED


def symbol_share(text: str) -> float:
    """The share of characters that are no letter, digit or white space."""
    if text.isascii():
        plain = sum(map(str.isalnum, text)) + sum(map(str.isspace, text))
        return 1 - plain / len(text)
    plain = sum(unicodedata.category(character)[0] in _LETTERS or character.isspace() for character in text)
    return 1 - plain / len(text)
