"""Qwen's text vocabulary: 151,643 byte-level merges, run by tiktoken. Its special tokens are those of our layout."""

import base64
import binascii
import hashlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import tiktoken

from mmhydra.config.token_rules import QWEN_SIZE
from mmhydra.data.vocabulary.errors import VocabularyError
from mmhydra.data.vocabulary.protocol import check_text

FILE_NAME = "qwen.tiktoken"
# The expression that cuts text into words is part of the vocabulary: Qwen (2023), tokenization_qwen.py.
_WORDS = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
_LONGEST = 50_000  # characters at once: tiktoken's regex overflows its stack on a few 100,000 spaces
_LINE = re.compile(r".*\n(?=\S)", re.DOTALL)  # no word of _WORDS goes across the start of a line that is not blank


class QwenTokenizer:
    """A `TextTokenizer` from the bytes of qwen.tiktoken: a line for each id, its bytes in base64 and its number.

    Text is not normalised, so that it comes back as it was; Qwen's own code brings it to NFC first, which gives other
    ids to text that is not in NFC.
    """

    file_name = FILE_NAME

    def __init__(self, content: bytes) -> None:
        ranks = {base64.b64decode(word): int(rank) for word, rank in map(bytes.split, content.splitlines())}
        if sorted(ranks.values()) != list(range(QWEN_SIZE)):
            raise ValueError(f"{len(ranks):,} ids, not {QWEN_SIZE:,}")
        self._content = content
        self._encoding = tiktoken.Encoding("qwen", pat_str=_WORDS, mergeable_ranks=ranks, special_tokens={})
        self.num_ids = QWEN_SIZE
        self.digest = hashlib.sha256(content).hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        return QwenTokenizer, (self._content,)

    def encode(self, text: str) -> list[int]:
        """See `TextTokenizer`."""
        check_text(text)
        ids: list[int] = []
        for part in _parts(text):
            ids += self._encoding.encode_ordinary(part)
        return ids

    def decode(self, ids: list[int]) -> str:
        """See `TextTokenizer`."""
        text: str = self._encoding.decode(ids)
        return text

    def save(self, folder: Path) -> Path:
        """See `TextTokenizer`."""
        path = folder / FILE_NAME
        path.write_bytes(self._content)
        return path


def _parts(text: str) -> list[str]:
    """Stretches that tiktoken takes, cut where a line begins; only a line longer than that is cut inside."""
    parts, start = [], 0
    while len(text) - start > _LONGEST:
        line = _LINE.match(text, start, start + _LONGEST)
        end = line.end() if line else start + _LONGEST
        parts.append(text[start:end])
        start = end
    return [*parts, text[start:]]


def open_installed() -> QwenTokenizer:
    """The vocabulary that comes inside the package dashscope. Raises ModuleNotFoundError without that package."""
    spec = importlib.util.find_spec("dashscope")  # found, not imported: it would load a network client
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'dashscope'", name="dashscope")
    return read_file(Path(spec.origin).parent / "resources" / FILE_NAME)


def read_file(path: Path) -> QwenTokenizer:
    """The vocabulary of a qwen.tiktoken. Raises VocabularyError for what is none."""
    try:
        return QwenTokenizer(path.read_bytes())
    except (OSError, ValueError, binascii.Error) as error:
        raise VocabularyError(f"{path} is not Qwen's vocabulary: {error}; install dashscope again") from error
