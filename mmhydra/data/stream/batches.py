"""One rank's batches: batch(n) is a pure function of (seed, n), and n is the only state."""

from pathlib import Path
from typing import NamedTuple

from mmhydra.config.data import Data
from mmhydra.data.datasets import TRAIN
from mmhydra.data.packing.kept import ensure_pack
from mmhydra.data.packing.sequences import Batch, PackedSequences, PieceRef
from mmhydra.data.shards.manifest import load_manifest
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.stream.stream import Stream, batch_slice

__all__ = ["Batch", "OpenSplit", "RankBatches", "open_split"]

# Held-out batches never change within a run or between runs, whatever their seed.
_HELDOUT_SEED = 0


class OpenSplit(NamedTuple):
    """A split of a mixture, ready to be read."""

    stream: Stream
    sequences: dict[str, PackedSequences]  # by source
    datasets: dict[str, str]  # by source

    def shard_of(self, n: int) -> str:
        """The shard that holds the first token of sample n, as `dataset/path`."""
        ref = self.stream.locate(n)
        return f"{self.datasets[ref.source]}/{self.sequences[ref.source].shard_of(ref.sequence)}"

    def describe(self, n: int) -> list[PieceRef]:
        """The pieces of sample n."""
        ref = self.stream.locate(n)
        return self.sequences[ref.source].describe(ref.sequence)


def open_split(data: Data, folder: Path, split: str, *, seq_len: int, seed: int) -> OpenSplit:
    """Maps the shards of a split and puts the mixture over them.

    Makes pack indexes that are not there yet. Raises UserError for missing or broken shards, and for documents that
    cannot be cut into sequences of `seq_len`.
    """
    manifests = {dataset: load_manifest(folder / dataset) for dataset in data.datasets}
    sequences = {}
    for source in data.sources:
        manifest, place = manifests[source.dataset], folder / source.dataset
        pack = ensure_pack(place, manifest, source.name, split, seq_len)
        shards = TokenShards(place, manifest, source.name, split)
        sequences[source.name] = PackedSequences(shards, pack, manifest.vocabulary.eod_id)
    is_train = split == TRAIN
    weighted = [(source.name, sequences[source.name], source.weight) for source in data.sources]
    stream = Stream(weighted, seed if is_train else _HELDOUT_SEED, data.shuffle if is_train else True)
    return OpenSplit(stream, sequences, {source.name: source.dataset for source in data.sources})


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
        batch = self.split.stream.samples(indices)
        self.sample = following
        return batch
