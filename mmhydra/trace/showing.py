"""One sample of a step, decoded: what its sequence holds of each document, and no more. Imports codecs."""

from mmhydra.data.show import Decoder  # first: it keeps torch's companions quiet

# isort: split
from pathlib import Path

import numpy as np
from rich.console import Console

from mmhydra.data.shards.document import NO_OPENER, Document, Segment
from mmhydra.data.shards.reader import TokenShards
from mmhydra.trace.listing import Piece, Sample
from mmhydra.trace.opening import Traced
from mmhydra.trace.printing import piece_words


def show(console: Console, traced: Traced, sample: Sample, out: Path, weights: Path | None) -> None:
    """Prints the pieces of a sample as text, and writes their media below `out` as PNG, WAV and GIF.

    `weights` is the folder of the codecs' weights, if not $MMHYDRA_WEIGHTS. Raises ShardError for damaged documents
    and what decoding raises.
    """
    decoder = Decoder(console, traced.folder / sample.dataset, traced.manifests[sample.dataset], out, weights)
    shards = traced.split.sequences[sample.source].shards
    for number, piece in enumerate(sample.pieces):
        console.print(f"piece {number}: {piece_words(piece)}", style="bold", markup=False)
        decoder.show(piece_document(shards, piece), f"sample-{sample.n}-{number:02d}-{piece.key}")


def piece_document(shards: TokenShards, piece: Piece) -> Document:
    """What a sequence holds of a document, as one: its opener, its ids, and the end that a whole one is closed by.

    A last piece is cut before the end-of-document id, which is its last label; any other before its last label, which
    is the first id of the piece after it.
    """
    is_last = piece.offset + piece.length + 1 == piece.num_ids
    length = piece.length + is_last
    ids = shards.ids(piece.document, piece.offset, length)
    segments, place = [], 0
    if piece.opener > NO_OPENER:
        ids, place = np.append(piece.opener, ids), 1
        segments.append(Segment("special", 0, 1, 1, False, NO_OPENER))
    for segment in shards.segments(piece.document):
        start = max(segment.start, piece.offset)
        end = min(segment.start + segment.length, piece.offset + length)
        if start < end:
            segments.append(segment._replace(start=place, length=end - start))
            place += end - start
    return Document(ids, tuple(segments))
