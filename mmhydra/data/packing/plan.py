"""How the sequences of a chunk group are put together: worked out once for all of them, so that each is a few copies.

The inputs of a sequence are runs of ids that lie in the chunks of its shards, one after the other. Its labels are its
inputs moved by one, but for the last label of each piece. A plan takes some 30 bytes a piece, and a document takes over
1500 bytes of its tar beside its ids: the plan of a group stays near 2% of its chunk.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.packing.pack import DOCUMENT, LENGTH, OFFSET, OPENER, Pack
from mmhydra.data.shards.document import NO_OPENER
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.shards.tables import ranges


class Rows(NamedTuple):
    """A table; its rows [edges[i], edges[i + 1]) are those of the plan's sequence i."""

    table: NDArray[np.int32]
    edges: list[int]

    def of(self, i: int) -> NDArray[np.int32]:
        """The rows of sequence i."""
        return self.table[self.edges[i] : self.edges[i + 1]]


class Plan(NamedTuple):
    """The sequences from number `first` on; i counts from there. A slot is a place in `chunks`.

    `chunks`: (shard number, chunk) as `TokenShards.ids_of_chunk` takes them, in reading order.
    `copies`: slot, low, high. The ids [low, high) of that chunk are the next inputs. An id holds an opener's place.
    `edges`: the pieces of sequence i are [edges[i], edges[i + 1]) of `starts` and `needs`, int32 [num_pieces], which
    are a piece's first position and their number, and of `ends`, int64 [num_pieces], its last position.
    `openers`: position, id.
    `tails`: position, slot, place. The id at that place of the chunk is the last label of a piece after which its
    document goes on. The last label of all other pieces is the end-of-document id.
    `silent`: low, high. The labels at the positions [low, high) carry no loss.
    """

    first: int
    chunks: list[tuple[int, int]]
    copies: Rows
    edges: list[int]
    starts: NDArray[np.int32]
    needs: NDArray[np.int32]
    ends: NDArray[np.int64]
    openers: Rows
    tails: Rows
    silent: Rows


def make_plan(shards: TokenShards, pack: Pack, first: int, last: int) -> Plan:
    """The plan of the sequences [first, last) of a pack. Raises ChunkFault where what lies beside a shard is bad."""
    edges = pack.edges[first : last + 1]
    pieces = pack.pieces[edges[0] : edges[-1]]
    edges = edges - edges[0]
    lengths, opened = pieces[:, LENGTH], pieces[:, OPENER] > NO_OPENER
    needs = lengths + opened
    before = np.cumsum(needs) - needs
    starts = before - np.repeat(before[edges[:-1]], np.diff(edges))
    ends = starts + needs - 1
    # One id more than a piece has inputs: its last label.
    places = shards.places(pieces[:, DOCUMENT], pieces[:, OFFSET], lengths + 1)
    itemsize = shards.itemsize

    # Runs of inputs. An opener's place is held by the first id of its piece, which costs no other chunk.
    piece = np.repeat(np.arange(len(pieces)), 1 + opened)
    holds = np.diff(piece, append=-1) == 0
    low = places.first[piece]
    high = low + np.where(holds, 1, lengths[piece])
    # Runs are cut where chunks end.
    size = places.chunk_bytes[piece]
    chunk = low * itemsize // size
    num_parts = (high - 1) * itemsize // size - chunk + 1
    run = np.repeat(np.arange(len(piece)), num_parts)
    chunk, size = ranges(chunk, num_parts), size[run]
    begin, end = (-(-edge * size // itemsize) for edge in (chunk, chunk + 1))  # ids before a chunk, and up to its end
    lows, highs = np.maximum(low[run], begin) - begin, np.minimum(high[run], end) - begin
    of_run = piece[run]

    tail = np.flatnonzero(~places.is_last)
    tail_at, tail_size = places.first[tail] + lengths[tail], places.chunk_bytes[tail]
    tail_chunk = tail_at * itemsize // tail_size
    tail_place = tail_at - -(-tail_chunk * tail_size // itemsize)

    # Shard and chunk in one number, which sorts as they do.
    stride = 1 + max(int(chunk.max()), int(tail_chunk.max(initial=0)))
    shard = places.shard * stride
    keys, slots = np.unique(np.concatenate([shard[of_run] + chunk, shard[tail] + tail_chunk]), return_inverse=True)

    # The id at place r of a run is the label of the position before it. Of a piece without opener the first is none.
    silent_run, silent_low, silent_high = places.silent.T
    shift = (starts + opened - 1)[silent_run]
    silent_low, silent_high = np.maximum(silent_low + shift, starts[silent_run]), silent_high + shift
    is_label = silent_high > silent_low

    def rows(of_piece: NDArray[np.int64], *columns: NDArray[np.int64]) -> Rows:
        return Rows(np.stack(columns, axis=1).astype(np.int32), np.searchsorted(of_piece, edges).tolist())

    with_opener = np.flatnonzero(opened)
    return Plan(
        first,
        [divmod(key, stride) for key in keys.tolist()],
        rows(of_run, slots[: len(run)], lows, highs),
        edges.tolist(),
        starts.astype(np.int32),
        needs.astype(np.int32),
        ends,
        rows(with_opener, starts[with_opener], pieces[with_opener, OPENER]),
        rows(tail, ends[tail], slots[len(run) :], tail_place),
        rows(silent_run[is_label], silent_low[is_label], silent_high[is_label]),
    )
