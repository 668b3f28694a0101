"""Batches of the stream: which samples a rank takes, reading them, and what becomes of those that can't be read.

batch(n) is a pure function of (data, mixture, seed, skipped chunks, n); n and the skipped chunks are the only state.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmhydra.config.data import Data
from mmhydra.config.schema import RunConfig
from mmhydra.config.stages import stages
from mmhydra.data.datasets import TRAIN, DataError
from mmhydra.data.packing.kept import ensure_pack
from mmhydra.data.packing.sequences import IGNORE_INDEX, Batch, PackedSequences, PieceRef
from mmhydra.data.shards.manifest import Shard, load_manifest
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.storage.access import Access
from mmhydra.data.storage.faults import BadChunk, ChunkFault
from mmhydra.data.stream.ledger import Ledger, ledger
from mmhydra.data.stream.left_out import LeftOut
from mmhydra.data.stream.mixture import Mixture
from mmhydra.data.stream.prefetch import Prefetch
from mmhydra.data.stream.read_ahead import ReadAhead
from mmhydra.data.stream.schedule import Phase, phases_of
from mmhydra.data.stream.skips import NO_SKIPS, Skips
from mmhydra.data.stream.stream import Stream, StreamSource, batch_slice

__all__ = ["Batch", "OpenSplit", "RankBatches", "Read", "open_run_split", "open_split"]

# Held-out batches never change within a run or between runs, whatever their seed.
_HELDOUT_SEED = 0

# Takes the chunks that this rank found bad, the first sample of the step, and the list so far; returns the list that
# all ranks go on with.
Agree = Callable[[Sequence[BadChunk], int, Skips], Skips]


class Read(NamedTuple):
    """Samples as rows, and which of them could not be read: (number of the sample, chunk). Their rows are blank."""

    batch: Batch
    faults: list[tuple[int, BadChunk]]


@dataclass
class OpenSplit:
    """A split of a mixture, ready to be read by any number of threads.

    `passes_faults`: whether chunks that are damaged or gone are returned (`loader.on_bad_chunk=skip`) or raised.
    """

    stream: Stream
    sequences: Mapping[str, PackedSequences]  # by source
    datasets: Mapping[str, str]  # by source
    passes_faults: bool = False
    window_bytes: int = 0  # of the chunks that the windows of all sources are in
    memory_bytes: int = 0  # for chunks

    def __post_init__(self) -> None:
        self._left_out = LeftOut(self.sequences, self.datasets)

    @property
    def can_read_ahead(self) -> bool:
        """Whether memory holds two windows of all sources: else the next one would drive out the one in use."""
        return 2 * self.window_bytes <= self.memory_bytes

    def read(self, indices: NDArray[np.int64], skips: Skips = NO_SKIPS) -> Read:
        """Samples by number, int32 [len(indices), seq_len] each, those that `skips` leaves out as blanks.

        Raises ChunkFault for a chunk that can't be read and is not in `skips`, unless faults are passed on. One that
        may pass is always raised: the same run can read that chunk later, so it is nothing to go on without.
        """
        batch = Batch.empty(len(indices), self.stream.seq_len)
        faults = []
        names, left_out = self.stream.mixture.names, self.left_out(skips)
        for row, n, source, sequence in self._located(indices):
            rows = (batch.input_BL[row], batch.labels_BL[row], batch.positions_BL[row])
            sequences = self.sequences[names[source]]
            try:
                if _is_out(left_out[names[source]], sequence, n):
                    _blank(*rows, sequences.eod_id)
                else:
                    sequences.fill(sequence, *rows)
            except ChunkFault as fault:
                if fault.passing or not self.passes_faults:
                    raise
                faults.append((n, fault.bad))
                _blank(*rows, sequences.eod_id)
        return Read(batch, faults)

    def _located(self, indices: NDArray[np.int64]) -> list[tuple[int, int, int, int]]:
        """(row, n, number of the source, sequence) of each; runs of numbers that follow each other in one go."""
        found: list[tuple[int, int, int, int]] = []
        edges = [0, *(np.flatnonzero(np.diff(indices) != 1) + 1).tolist(), len(indices)]
        for low, high in pairwise(edges):
            if low < high:
                first = int(indices[low])
                located = self.stream.locate_many(first, first + high - low)
                numbers = zip(located.source.tolist(), located.sequence.tolist(), strict=True)
                found += [(low + at, first + at, source, sequence) for at, (source, sequence) in enumerate(numbers)]
        return found

    def is_skipped(self, n: int, skips: Skips) -> bool:
        """Whether `skips` leaves sample `n` out. Nothing is read for it."""
        if not skips:
            return False
        ref = self.stream.locate(n)
        return _is_out(self.left_out(skips)[ref.source], ref.sequence, n)

    def left_out(self, skips: Skips) -> Mapping[str, Mapping[int, int]]:
        """By source the sequences that `skips` leaves out, each with the first sample number from which it is.

        It follows from the list and the pack indexes alone, and is remembered for the lists that came last.
        """
        return self._left_out.of(skips)

    def ledger(self, n: int, skips: Skips = NO_SKIPS) -> Ledger:
        """What the first `n` samples were, without those that `skips` leaves out."""
        return ledger(self.stream, n, self.left_out(skips))

    def shard_of(self, n: int) -> str:
        """The shard that holds the first token of sample n, as `dataset/path`."""
        ref = self.stream.locate(n)
        return f"{self.datasets[ref.source]}/{self.sequences[ref.source].shard_of(ref.sequence)}"

    def describe(self, n: int) -> list[PieceRef]:
        """The pieces of sample n."""
        ref = self.stream.locate(n)
        return self.sequences[ref.source].describe(ref.sequence)


def _is_out(since: Mapping[int, int], sequence: int, n: int) -> bool:
    """Whether sample `n`, which is this sequence, is left out."""
    return since.get(sequence, n + 1) <= n


def _blank(
    input_L: NDArray[np.int32], labels_L: NDArray[np.int32], positions_L: NDArray[np.int32], eod_id: int
) -> None:
    """A row of padding alone: it has no label, so it adds nothing to the loss."""
    input_L[:], labels_L[:], positions_L[:] = eod_id, IGNORE_INDEX, np.arange(len(input_L), dtype=np.int32)


def open_split(
    data: Data,
    folder: Path,
    split: str,
    *,
    seq_len: int,
    seed: int,
    phases: Sequence[Phase] | None = None,
    access: Access | None = None,
) -> OpenSplit:
    """Puts the mixture over the shards of a split; no shard is opened yet.

    `phases`: how the shares of the sources change, None for the weights of the configuration. `access`: how shards are
    read, None for local files below `folder` and the usual memory. Makes pack indexes that are not there yet.

    Raises UserError for missing or broken files, and for documents that can't be cut into sequences of `seq_len`.
    """
    access = access or Access.local()
    manifests = {dataset: load_manifest(folder / dataset) for dataset in data.datasets}
    sequences = {}
    for source in data.sources:
        manifest, place = manifests[source.dataset], folder / source.dataset
        pack = ensure_pack(place, manifest, source.name, split, seq_len, access)
        shards = TokenShards(place, manifest, source.name, split, access)
        sequences[source.name] = PackedSequences(shards, pack, manifest.vocabulary.eod_id, data.window_chunks)
    is_train = split == TRAIN
    seed, shuffle = (seed, data.shuffle) if is_train else (_HELDOUT_SEED, True)
    filled = {name: Fraction(own.pack.num_filled, own.pack.num_sequences) for name, own in sequences.items()}
    if phases is None:
        weights = {source.name: source.weight for source in data.sources}
        mixture = Mixture.constant(weights, filled, seed, shuffle)
    else:
        mixture = Mixture(phases, filled, seed, shuffle)
    stream = Stream(
        [StreamSource(name, own) for name, own in sequences.items()], mixture, seed, shuffle, data.window_chunks
    )
    return OpenSplit(
        stream,
        sequences,
        {source.name: source.dataset for source in data.sources},
        passes_faults=access.policy.on_bad_chunk == "skip",
        window_bytes=sum(
            _window_bytes(manifests[source.dataset].shards_of(source.name, split), data.window_chunks)
            for source in data.sources
        ),
        memory_bytes=access.memory.max_bytes,
    )


def open_run_split(config: RunConfig, split: str, folder: Path, access: Access | None = None) -> OpenSplit:
    """A split as a run reads it: its training split follows the schedule of the config. Raises UserError.

    Both the trainer and a trace open it here, so that sample n is the same for both. Where shares do not change at the
    end, the length of the run has no say in the order of samples, so a longer run goes on with the same stream.
    """
    phases = None
    if config.data.schedule and split == TRAIN:
        phases = phases_of(stages(config), config.training.global_batch_size) or None
    return open_split(
        config.data,
        folder,
        split,
        seq_len=config.training.seq_len,
        seed=config.seed.data,
        phases=phases,
        access=access,
    )


def _window_bytes(shards: Sequence[Shard], window_chunks: int) -> int:
    """Bytes of the chunks of one window, at most: of the largest ones, or of all there are.

    The last sequences that begin in a chunk have pieces in the chunk after it, so that one is needed as well.
    """
    largest = max(min(shard.chunk_bytes, shard.size_bytes) for shard in shards)
    return min(2 * window_chunks * largest, sum(shard.size_bytes for shard in shards))


class RankBatches:
    """The share of one data-parallel rank of each global batch, `per_yield` sequences at a time.

    `sample` (the global number of the next sample) and `skips` are all of the state. They are the same on all ranks,
    and valid at every data-parallel degree at the edge of a step.

    `num_workers` threads read ahead, at most `prefetch` yields or those of one step, whichever is more: a trainer takes
    all yields of a step before it computes. `agree` is asked at the first yield of each step, on all ranks alike, when
    the rows of the whole step are there; without it the list of skipped chunks stays as it is.
    """

    def __init__(
        self,
        split: OpenSplit,
        *,
        global_batch_size: int,
        dp_degree: int,
        dp_rank: int,
        per_yield: int,
        num_workers: int = 0,
        prefetch: int = 1,
        agree: Agree | None = None,
    ) -> None:
        batch_slice(0, global_batch_size, dp_degree, dp_rank, per_yield)  # refuses what does not divide
        self.split = split
        self._shape = (global_batch_size, dp_degree, dp_rank, per_yield)
        self._together = dp_degree * per_yield
        self._num_workers = num_workers
        self._ahead = max(prefetch, global_batch_size // self._together)
        self._agree = agree
        self._sample, self._skips = 0, NO_SKIPS
        self._reads: Prefetch[Read] | None = None
        self._windows: ReadAhead | None = None
        self._agreed: deque[Read] = deque()  # of this step, not yet given out

    @property
    def sample(self) -> int:
        """The global number of the next sample that is given out."""
        return self._sample

    @property
    def skips(self) -> Skips:
        """The chunks that are left out."""
        return self._skips

    def seek(self, sample: int, skips: Skips = NO_SKIPS) -> None:
        """Goes on at a global sample. Raises UserError when it is not at the edge of a yield of these ranks."""
        batch_slice(sample, *self._shape)
        self.close()
        self._sample, self._skips = sample, skips

    def next(self) -> Batch:
        """The next batch of this rank; moves `sample` on.

        Raises ChunkFault for a chunk that can't be read and is not skipped.
        """
        if self._sample % self._shape[0] == 0:
            self._look_ahead()
        if self._agree is not None and not self._agreed:
            self._agreed.extend(self._agreed_step(self._agree))
        read = self._agreed.popleft() if self._agreed else self._take()
        self._sample += self._together
        return read.batch

    def close(self) -> None:
        """Ends the threads, and forgets what they have read."""
        if self._reads is not None:
            self._reads.close()
            self._reads = None
        if self._windows is not None:
            self._windows.close()
            self._windows = None
        self._agreed.clear()

    def _take(self) -> Read:
        if self._reads is None:
            self._reads = Prefetch(self._reading(), num_threads=self._num_workers, ahead=self._ahead)
        return self._reads.take()

    def _look_ahead(self) -> None:
        """Once a step: the chunks of the next windows."""
        if self._windows is None and self._num_workers and self.split.can_read_ahead:
            self._windows = ReadAhead(self.split.stream, self.split.sequences)
        if self._windows is not None:
            self._windows.at(self._sample + self._ahead * self._together)

    def _reading(self) -> Callable[[int], Read]:
        """What the threads do: yield `number` from now on, with the list of now."""
        first, skips = self._sample, self._skips

        def read(number: int) -> Read:
            indices, _ = batch_slice(first + number * self._together, *self._shape)
            return self.split.read(indices, skips)

        return read

    def _agreed_step(self, agree: Agree) -> list[Read]:
        """The rest of this step, read with a list that all ranks have agreed on.

        Ranks that read other rows, or the same rows from other disks, must not differ in which samples they leave out.
        """
        global_batch_size = self._shape[0]
        end = self._sample - self._sample % global_batch_size + global_batch_size
        while True:
            reads = [self._take() for _ in range((end - self._sample) // self._together)]
            faults = [bad for read in reads for _, bad in read.faults]
            skips = agree(faults, self._sample, self._skips)
            if skips is self._skips:
                if faults:
                    bad = faults[0]  # it is in the list, and was asked for all the same
                    raise ChunkFault(bad, f"{bad.place}: {bad.reason}")
                return reads
            if self._reads is not None:
                self._reads.close(wait_s=0)  # what was read ahead is of the old list, and so is what is being read
                self._reads = None
            self._skips = skips
            self._require_some(range(self._sample, end))

    def _require_some(self, step: range) -> None:
        """Raises DataError when a step would have no sample left: the same on all ranks, as nothing is read for it."""
        if all(self.split.is_skipped(n, self._skips) for n in step):
            places = "\n".join(f"  {skip.place}: {skip.reason}" for skip in self._skips)
            raise DataError(
                f"none of the {len(step)} samples from sample {step.start} on can be read; skipped so far:\n{places}\n"
                "mend the storage, and type the same command to go on from the newest checkpoint"
            )
