"""Text as words, for all filters alike: equal words are equal whatever their case, width or accents' encoding."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

import regex  # type: ignore[import-untyped]  # knows Unicode's classes; re does not

from mmhydra.config.forms import IMAGE_PLACEHOLDER

# Scripts without spaces between words: Han, kana, Thai, Lao, Myanmar, Khmer.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
)
INVISIBLE = r"\p{Cf}\p{Default_Ignorable_Code_Point}"  # soft hyphens, joiners, variation selectors
_INVISIBLE = regex.compile(f"[{INVISIBLE}]+")
# Marks belong to the letter before them: vowel signs of Indic scripts, points of Arabic and Hebrew.
_WORD = regex.compile(
    rf"[{UNSPACED}]|[[\p{{L}}\p{{N}}]--[{UNSPACED}]][[\p{{L}}\p{{M}}\p{{N}}]--[{UNSPACED}]]*", regex.VERSION1
)
_ASCII_WORD = re.compile("[a-z0-9]+")  # what _WORD finds in case-folded ASCII, in half the time
_UNSPACED = regex.compile(f"[{UNSPACED}]")


def normal(text: str) -> str:
    """NFKC and case folded, without characters that nobody sees."""
    if not text.isascii():
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    return text.casefold()


def words_of(text: str) -> list[str]:
    """Runs of letters, their marks and digits of the normal text; in scripts without spaces each character is a word.

    Placeholders of images are no words.
    """
    seen = normal(text.replace(IMAGE_PLACEHOLDER, " "))
    words: list[str] = _ASCII_WORD.findall(seen) if seen.isascii() else _WORD.findall(seen)
    return words


def is_unspaced(word: str) -> bool:
    """Whether a word is a character of a script without spaces."""
    return len(word) == 1 and bool(_UNSPACED.match(word))


def by_script(words: Sequence[str]) -> Iterator[tuple[bool, list[str]]]:
    """(whether unspaced, words) of both kinds of scripts: a character of one parts no run of words of the other."""
    for unspaced in (False, True):
        if run := [word for word in words if is_unspaced(word) == unspaced]:
            yield unspaced, run


def shingles(words: Sequence[str], length: int) -> Iterator[bytes]:
    """Runs of `length` words."""
    for start in range(len(words) - length + 1):
        yield " ".join(words[start : start + length]).encode("utf-8", "surrogatepass")
