"""What is kept of a record to find its duplicates: a key of all of it, and a MinHash of its text."""

import hashlib
import unicodedata
from functools import cache
from typing import Any

import numpy as np
import xxhash
from datasketch import MinHash
from numpy.typing import NDArray

from mmhydra.config.filters import NearDuplicatesFilter
from mmhydra.data.filters.words import by_script, shingles, words_of
from mmhydra.data.records.media import LoadedRecord

Signature = NDArray[np.uint32]  # [num_perm]
_AT_ONCE = 4096  # shingles that are permuted at the same time: bounds memory for long texts


def exact_key(loaded: LoadedRecord) -> bytes:
    """16 bytes over text, captions and decoded media: equal for equal content, whatever the files' formats.

    Of a text only the encoding of its accents (NFC) makes no difference.
    """
    digest = hashlib.blake2b(digest_size=16)

    def feed(tag: str, content: Any) -> None:
        view = memoryview(content).cast("B") if len(content) else memoryview(b"")
        digest.update(f"{tag}:{len(view)};".encode())
        digest.update(view)

    def feed_text(tag: str, text: str) -> None:
        feed(tag, unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass"))

    feed_text("text", loaded.text or "")
    for caption in loaded.captions:
        feed_text(f"caption {caption.start_s} {caption.end_s}", caption.text)
    for picture in loaded.images:
        feed(f"image {picture.shape}", np.ascontiguousarray(picture))
    for sound in loaded.sounds:
        feed(f"audio {sound.samples.shape} {sound.rate_hz}", np.ascontiguousarray(sound.samples))
    for name, clip in loaded.clips.items():
        feed(f"{name} {clip.frames.shape} {clip.frame_rate}", np.ascontiguousarray(clip.frames))
    return digest.digest()


def signature(loaded: LoadedRecord, config: NearDuplicatesFilter) -> Signature | None:
    """MinHash of the text's shingles, uint32 [num_perm]; None for short texts and for records with media.

    Many pictures share a caption and are no duplicates; equal ones are found by `exact_key`.
    """
    if loaded.has_media:
        return None
    words = words_of(loaded.full_text)
    if len(words) < max(config.min_words, config.shingle_words):
        return None
    unique = sorted({shingle for _, run in by_script(words) for shingle in shingles(run, config.shingle_words)})
    if not unique:
        return None
    made = _empty(config.num_perm, _permutations(config.num_perm))
    for start in range(0, len(unique), _AT_ONCE):
        made.update_batch(unique[start : start + _AT_ONCE])
    return np.asarray(made.hashvalues, dtype=np.uint32)


@cache
def _permutations(num_perm: int) -> Any:
    """MinHash draws them from its fixed seed, the same each time, which takes longer than a short text's hashes."""
    return _empty(num_perm).permutations


def _empty(num_perm: int, permutations: Any = None) -> MinHash:
    return MinHash(num_perm=num_perm, hashfunc=xxhash.xxh32_intdigest, scheme="affine32", permutations=permutations)
