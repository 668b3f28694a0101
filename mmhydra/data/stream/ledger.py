"""What a run has seen after n samples: tokens by source and modality, epochs, padding, and what was left out.

It is computed from n alone, without a replay: whole epochs and whole windows of each source by the pack's sums, the
part of one window row by row. So what a checkpoint's stamp says, what the metrics show and what a trace adds up are the
same numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmhydra.config.tokens import MODALITIES
from mmhydra.data.stream.stream import Stream

# By source: sequences that are left out, each with the sample number from which on it is.
LeftOut = Mapping[str, Mapping[int, int]]


@dataclass(frozen=True)
class Ledger:
    """What the first `num_samples` samples were.

    `samples` and `epochs` (passes over the source, 1.5 is one and a half) count skipped samples as drawn. `tokens` are
    filled input positions of the samples that were not skipped, by source and modality, openers as `special`; `padding`
    is the rest of their positions. `skipped_tokens` is what the `skipped_samples` would have filled. So
    num_samples * seq_len = num_tokens + padding + skipped_samples * seq_len.
    """

    num_samples: int
    seq_len: int
    samples: dict[str, int]
    epochs: dict[str, float]
    tokens: dict[str, dict[str, int]]
    padding: int
    skipped_samples: int
    skipped_tokens: int

    @property
    def num_tokens(self) -> int:
        """Filled positions of all sources."""
        return sum(self.by_source.values())

    @property
    def by_source(self) -> dict[str, int]:
        """Filled positions by source."""
        return {source: sum(counts.values()) for source, counts in self.tokens.items()}

    @property
    def by_modality(self) -> dict[str, int]:
        """Filled positions by modality."""
        return {modality: sum(counts[modality] for counts in self.tokens.values()) for modality in MODALITIES}


def ledger(stream: Stream, n: int, without: LeftOut | None = None) -> Ledger:
    """What the first `n` samples of a stream were, less the sequences of `without` from their samples on.

    O(sources * chunk groups) at most, however large `n` is. Raises IndexError if n < 0.
    """
    drawn = stream.counts(n)
    tokens = np.stack([stream.orders[name].totals(drawn[name]) for name in stream.names])
    skipped_samples, skipped_tokens = 0, np.zeros_like(tokens)
    for name, since in (without or {}).items():
        if not since:
            continue
        sequences = np.array(sorted(since), np.int64)
        times = stream.drawn(name, sequences, n)
        first = np.array([min(since[sequence], n) for sequence in sequences.tolist()], np.int64)
        for begin in np.unique(first).tolist():
            mine = first == begin
            times[mine] -= stream.drawn(name, sequences[mine], begin)
        skipped_samples += int(times.sum())
        skipped_tokens[stream.names.index(name)] = times @ stream.orders[name].pack.counts[sequences].astype(np.int64)
    tokens -= skipped_tokens
    return Ledger(
        num_samples=n,
        seq_len=stream.seq_len,
        samples=drawn,
        epochs={name: drawn[name] / stream.orders[name].size for name in stream.names},
        tokens={
            name: dict(zip(MODALITIES, row, strict=True))
            for name, row in zip(stream.names, tokens.tolist(), strict=True)
        },
        padding=(n - skipped_samples) * stream.seq_len - int(tokens.sum()),
        skipped_samples=skipped_samples,
        skipped_tokens=int(skipped_tokens.sum()),
    )
