"""What can be wrong with the bytes of a shard, as errors that name it."""

from typing import NamedTuple

from mmhydra.errors import ExitCode, UserError

WHOLE_SHARD = -1  # in place of a chunk's number


def place_of(dataset: str, shard: str, chunk: int) -> str:
    """`dataset/shard, chunk 3` in words, or `dataset/shard, the whole shard`."""
    return f"{dataset}/{shard}, {'the whole shard' if chunk == WHOLE_SHARD else f'chunk {chunk}'}"


class BadChunk(NamedTuple):
    """A chunk that can't be used. `shard` is its path as in the manifest; chunk WHOLE_SHARD is all of the shard.

    It holds bytes of the documents [first_document, last_document), numbered within their source and split.
    """

    dataset: str
    shard: str
    chunk: int
    reason: str
    first_document: int
    last_document: int

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return place_of(self.dataset, self.shard, self.chunk)


class ShardError(UserError):
    """A shard or what lies beside it is missing, damaged or not what the manifest says."""


class ChunkFault(ShardError):
    """A chunk could not be read, or is not the one that was written; all retries are behind it.

    `passing`: a store did not answer, so that the same run may do better later; else the data has to be mended.
    """

    def __init__(self, bad: BadChunk, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.bad, self.passing = bad, passing
        if passing:
            self.exit_code = ExitCode.FAILED

    def again(self) -> "ChunkFault":
        """The same fault to be raised anew: one that was raised keeps the frames, and so the buffers, of that time."""
        return ChunkFault(self.bad, str(self), passing=self.passing)


class StoreDown(ShardError):
    """A store is so far gone that to go on, with other chunks, is of no use. No chunk is to blame: none is skipped."""

    exit_code = ExitCode.FAILED
