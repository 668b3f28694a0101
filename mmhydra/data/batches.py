"""One rank's batches: batch(n) is a pure function of (seed, n), and n is the only state."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmhydra.config.data import Data
from mmhydra.data.manifest import load_manifest
from mmhydra.data.sequences import FixedSequences, to_batch
from mmhydra.data.shards import TokenShards
from mmhydra.data.stream import Stream, batch_slice

# Held-out batches never change within a run or between runs, whatever their seed.
_HELDOUT_SEED = 0


class Batch(NamedTuple):
    """Ids, next ids, and positions inside the document, int64 [B, L] each."""

    input_BL: NDArray[np.int64]
    labels_BL: NDArray[np.int64]
    positions_BL: NDArray[np.int64]


class OpenSplit(NamedTuple):
    """A split of a mixture, ready to be read."""

    stream: Stream
    eod_id: int
    shards: dict[str, TokenShards]  # by source
    datasets: dict[str, str]  # by source

    def shard_of(self, n: int) -> str:
        """The shard that holds the first token of sample n, as `dataset/path`."""
        ref = self.stream.locate(n)
        shards = self.shards[ref.source]
        return f"{self.datasets[ref.source]}/{shards.shard_at(ref.sequence * self.stream.seq_len)}"


def open_split(data: Data, folder: Path, split: str, *, seq_len: int, seed: int) -> OpenSplit:
    """Maps the shards of a split and puts the mixture over them. Raises UserError for missing or broken shards."""
    manifests = {dataset: load_manifest(folder / dataset) for dataset in data.datasets}
    shards = {
        source.name: TokenShards(folder / source.dataset, manifests[source.dataset], source.name, split)
        for source in data.sources
    }
    weighted = [(source.name, FixedSequences(shards[source.name], seq_len), source.weight) for source in data.sources]
    ends = {manifest.vocabulary.eod_id for manifest in manifests.values()}
    assert len(ends) == 1, "all datasets of one vocabulary end their documents alike"
    is_train = split == "train"
    stream = Stream(weighted, seed if is_train else _HELDOUT_SEED, data.shuffle if is_train else True)
    return OpenSplit(stream, ends.pop(), shards, {source.name: source.dataset for source in data.sources})


class RankBatches:
    """The share of one data-parallel rank of each global batch, `per_yield` sequences at a time.

    `sample` is the global number of the next sample: all of the state, the same on all ranks, and valid at
    every data-parallel degree at the edge of a step.
    """

    def __init__(
        self, split: OpenSplit, *, global_batch_size: int, dp_degree: int, dp_rank: int, per_yield: int
    ) -> None:
        self.split = split
        self.sample = 0
        self._shape = (global_batch_size, dp_degree, dp_rank, per_yield)

    def next(self) -> Batch:
        """The next batch of this rank; moves `sample` on."""
        indices, following = batch_slice(self.sample, *self._shape)
        batch = Batch(*to_batch(self.split.stream.samples(indices), self.split.eod_id))
        self.sample = following
        return batch
