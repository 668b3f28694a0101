"""Which of several templates a record gets."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from mmhydra.config.templates import Template

_BITS = 53  # as many as a float holds exactly


def draw(templates: Sequence[Template], seed: int, unique_id: str) -> Template:
    """One of the templates by their shares: a function of seed and id alone, whatever was drawn before."""
    if len(templates) == 1:
        return templates[0]
    key = hashlib.blake2b(f"{seed} {unique_id}".encode(errors="surrogatepass"), digest_size=8, person=b"template")
    place = (int.from_bytes(key.digest(), "big") >> (64 - _BITS)) / 2**_BITS
    edges = list(accumulate(template.share for template in templates))
    return templates[min(bisect_right(edges, place * edges[-1]), len(templates) - 1)]
