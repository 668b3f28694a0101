"""Text as words, for all filters alike: equal words are equal whatever their case, width or accents' encoding."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

# Scripts without spaces between words: Han, kana, Thai, Lao, Myanmar, Khmer.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")
_UNSPACED = re.compile(f"[{UNSPACED}]")


def normal(text: str) -> str:
    """NFKC and case folded."""
    return unicodedata.normalize("NFKC", text).casefold()


def words_of(text: str) -> list[str]:
    """Runs of letters and digits of the normal text; in scripts without spaces each character is a word."""
    return _WORD.findall(normal(text))


def is_unspaced(word: str) -> bool:
    """Whether a word is a character of a script without spaces."""
    return len(word) == 1 and bool(_UNSPACED.match(word))


def shingles(words: Sequence[str], length: int) -> Iterator[bytes]:
    """Runs of `length` words."""
    for start in range(len(words) - length + 1):
        yield " ".join(words[start : start + length]).encode("utf-8", "surrogatepass")
