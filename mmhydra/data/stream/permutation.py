"""Counter-based randomness: a shuffle whose every place is computed on its own, with no list and no state."""

import hashlib
import math
from functools import lru_cache
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, the increment of SplitMix64
ROUNDS = 8  # 4 make a Feistel network pseudo-random (Luby and Rackoff); small halves need more

# The same expressions serve a Python integer and a uint64 array (1-D or more: there overflow wraps silently).
Word = TypeVar("Word", int, NDArray[np.uint64])


def mix64(word: Word) -> Word:
    """SplitMix64's finaliser (Stafford's variant 13): a bijection of 64-bit words that spreads every bit."""
    bits: Any = word
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & MASK
    result: Word = bits ^ (bits >> 31)
    return result


@lru_cache(maxsize=1024)
def derive_key(*parts: int | str) -> int:
    """One 64-bit key from integers (taken modulo 2^64) and names; order matters."""
    key = 0
    for part in parts:
        if isinstance(part, str):
            part = int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "little")
        key = mix64((mix64((key + GOLDEN) & MASK) + part) & MASK)
    return key


@overload
def permute(index: int, size: int, key: int) -> int: ...
@overload
def permute(index: NDArray[np.integer[Any]], size: int, key: int) -> NDArray[np.int64]: ...
def permute(index: int | NDArray[np.integer[Any]], size: int, key: int) -> int | NDArray[np.int64]:
    """Where a bijection of [0, size) chosen by `key` sends `index`; O(1), the same for integers and arrays.

    A Feistel network over pairs (left, right) with left < a, right < b and a * b just above `size`; an image
    outside of [0, size) is sent through again (cycle walking), which at most about 2/sqrt(size) of them need.

    Raises IndexError when an index is not in [0, size).
    """
    height = math.isqrt(size - 1) + 1 if size > 0 else 0
    width = -(-size // height) if height else 0
    keys = _round_keys(key)
    if isinstance(index, np.ndarray):
        if index.size and (int(index.min()) < 0 or int(index.max()) >= size):
            raise IndexError(f"an index in [{index.min()}, {index.max()}] is not in [0, {size})")
        words = index.astype(np.uint64).ravel()
        todo = np.arange(len(words))
        while len(todo):
            words[todo] = _feistel(words[todo], height, width, keys)
            todo = todo[words[todo] >= size]
        return words.astype(np.int64).reshape(index.shape)
    if not 0 <= index < size:
        raise IndexError(f"index {index} is not in [0, {size})")
    word = _feistel(int(index), height, width, keys)
    while word >= size:
        word = _feistel(word, height, width, keys)
    return word


@lru_cache(maxsize=1024)  # a stream asks for the same few keys again and again
def _round_keys(key: int) -> tuple[int, ...]:
    return tuple(mix64((key + GOLDEN * number) & MASK) for number in range(1, ROUNDS + 1))


def _feistel(word: Word, height: int, width: int, keys: tuple[int, ...]) -> Word:
    left: Any = word // width
    right: Any = word % width
    for first, second in zip(keys[::2], keys[1::2], strict=True):
        left = (left + mix64(right ^ first) % height) % height
        right = (right + mix64(left ^ second) % width) % width
    result: Word = left * width + right
    return result
