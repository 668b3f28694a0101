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

Integers = NDArray[np.integer[Any]]
# The same expressions serve a Python integer and a uint64 array (1-D or more: there overflow wraps silently).
Word = TypeVar("Word", int, NDArray[np.uint64])


def mix64(word: Word) -> Word:
    """SplitMix64's finaliser (Stafford's variant 13): a bijection of 64-bit words that spreads every bit."""
    bits: Any = word
    if isinstance(bits, np.ndarray):  # in place and without masks: half of the time
        bits = bits ^ (bits >> 30)
        bits *= 0xBF58476D1CE4E5B9
        bits ^= bits >> 27
        bits *= 0x94D049BB133111EB
        bits ^= bits >> 31
    else:
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & MASK
        bits ^= bits >> 31
    result: Word = bits
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


def derive_keys(key: int | NDArray[np.uint64], parts: Integers) -> NDArray[np.uint64]:
    """What `derive_key` gives with one integer more behind the parts of `key` (one, or each its own), for each part."""
    before: Any = mix64((key + GOLDEN) & MASK) if isinstance(key, int) else mix64(key + np.uint64(GOLDEN))
    words: NDArray[np.uint64] = parts.astype(np.uint64) + before
    return mix64(words)


@overload
def permute(index: int, size: int, key: int) -> int: ...
@overload
def permute(index: Integers, size: int | Integers, key: int | NDArray[np.uint64]) -> NDArray[np.int64]: ...
def permute(index: int | Integers, size: int | Integers, key: int | NDArray[np.uint64]) -> int | NDArray[np.int64]:
    """Where a bijection of [0, size) chosen by `key` sends `index`; O(1), the same for integers and arrays.

    With an array of indices, `size` and `key` may be arrays of its shape: a bijection for each (sizes below 2^52).

    A Feistel network over pairs (left, right) with left < a, right < b and a * b just above `size`; an image
    outside of [0, size) is sent through again (cycle walking), which at most about 2/sqrt(size) of them need.

    Raises IndexError when an index is not in [0, size).
    """
    return _walk(index, size, key, False)


@overload
def unpermute(index: int, size: int, key: int) -> int: ...
@overload
def unpermute(index: Integers, size: int | Integers, key: int | NDArray[np.uint64]) -> NDArray[np.int64]: ...
def unpermute(index: int | Integers, size: int | Integers, key: int | NDArray[np.uint64]) -> int | NDArray[np.int64]:
    """The inverse of `permute`, with the same arguments and errors: what was sent to `index`."""
    return _walk(index, size, key, True)


def _walk(
    index: int | Integers, size: int | Integers, key: int | NDArray[np.uint64], back: bool
) -> int | NDArray[np.int64]:
    """Through the network, again and again until the image is in [0, size)."""
    if not isinstance(index, np.ndarray):
        assert isinstance(size, int)
        assert isinstance(key, int)
        if not 0 <= index < size:
            raise IndexError(f"index {index} is not in [0, {size})")
        height, width = _sides(size)
        keys = _round_keys(key)
        word = _feistel(int(index), height, width, keys, back)
        while word >= size:
            word = _feistel(word, height, width, keys, back)
        return word
    if index.size and (int(index.min()) < 0 or bool((index >= size).any())):
        most = size if isinstance(size, int) else f"the sizes, {np.min(size)} to {np.max(size)}"
        raise IndexError(f"an index in [{index.min()}, {index.max()}] is not in [0, {most})")
    limit = size if isinstance(size, int) else np.asarray(size, np.uint64).ravel()
    height, width = _sides(limit) if index.size else (1, 1)
    all_keys: tuple[Any, ...] = _round_keys(key) if isinstance(key, int) else _many_round_keys(key.ravel())
    words = _feistel(index.astype(np.uint64).ravel(), height, width, all_keys, back)
    todo = np.flatnonzero(words >= limit)
    while len(todo):
        rows, columns, *some = (one if isinstance(one, int) else one[todo] for one in (height, width, *all_keys))
        words[todo] = _feistel(words[todo], rows, columns, tuple(some), back)
        todo = todo[words[todo] >= (limit if isinstance(limit, int) else limit[todo])]
    return words.astype(np.int64).reshape(index.shape)


def _sides(size: Any) -> tuple[Any, Any]:
    """(height, width) of the table of pairs: the least square side, and as few columns as hold `size`."""
    if isinstance(size, int):
        height = math.isqrt(size - 1) + 1
    else:
        height = np.sqrt(size - np.uint64(1)).astype(np.uint64) + np.uint64(1)  # floor: exact below 2^52
    return height, (size + height - 1) // height


@lru_cache(maxsize=1024)  # a stream asks for the same few keys again and again
def _round_keys(key: int) -> tuple[int, ...]:
    return tuple(mix64((key + GOLDEN * number) & MASK) for number in range(1, ROUNDS + 1))


def _many_round_keys(key: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], ...]:
    return tuple(mix64(key + np.uint64(GOLDEN * number & MASK)) for number in range(1, ROUNDS + 1))


def _feistel(word: Word, height: Any, width: Any, keys: tuple[Any, ...], back: bool) -> Word:
    left: Any = word // width
    right: Any = word - left * width
    pairs = list(zip(keys[::2], keys[1::2], strict=True))
    if back:
        for first, second in reversed(pairs):
            right = (right + (width - mix64(left ^ second) % width)) % width
            left = (left + (height - mix64(right ^ first) % height)) % height
    else:
        for first, second in pairs:
            left = (left + mix64(right ^ first) % height) % height
            right = (right + mix64(left ^ second) % width) % width
    result: Word = left * width + right
    return result
