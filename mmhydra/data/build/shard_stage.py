"""Stage `shards`: documents are laid into shards. Which go into which is planned beforehand, so each is a task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.build.encoded import read_documents, splits_and_sizes
from mmhydra.data.build.plan import Batch, Context
from mmhydra.data.build.verdicts import SPLITS
from mmhydra.data.shards.manifest import Shard
from mmhydra.data.shards.writer import ShardWriter
from mmhydra.data.vocabulary import Vocabulary
from mmhydra.files import read_object, write_json

_FEW_BYTES = 20_000_000


@dataclass(frozen=True)
class ShardPlan:
    """One shard: its number within source and split, the number of its first document, and what goes in."""

    source: str
    split: str
    number: int
    first_document: int
    size_bytes: int  # about
    parts: tuple[tuple[Batch, NDArray[np.int64]], ...]  # places of documents in batches

    def done(self, context: Context) -> Path:
        """The file that says that the shard is whole."""
        return context.work / "shards" / f"{self.source}-{self.split}-{self.number:05d}.json"


def plan_shards(context: Context, batches: Sequence[Batch]) -> list[ShardPlan]:
    """Cuts the documents of each source and split, in the order of the records, at about `shard_mb`."""
    limit = context.recipe.shard_mb * 1e6
    plans: list[ShardPlan] = []
    for source in context.recipe.sources:
        own = [batch for batch in batches if batch.source == source.name]
        tables = [splits_and_sizes(context, batch) for batch in own]
        for number, split in enumerate(SPLITS):
            parts: list[tuple[Batch, NDArray[np.int64]]] = []
            filled, first, documents, shards = 0, 0, 0, 0
            for batch, (splits, sizes) in zip(own, tables, strict=True):
                start = 0
                places = np.flatnonzero(splits == number)
                for end, size in enumerate(sizes[places].tolist()):
                    if filled and filled + size > limit:
                        parts += [(batch, places[start:end])] if end > start else []
                        plans.append(ShardPlan(source.name, split, shards, first, filled, tuple(parts)))
                        parts, filled, first, start, shards = [], 0, documents, end, shards + 1
                    filled += size
                    documents += 1
                parts += [(batch, places[start:])] if len(places) > start else []
            if parts:
                plans.append(ShardPlan(source.name, split, shards, first, filled, tuple(parts)))
    return plans


def few(plans: Sequence[ShardPlan]) -> bool:
    """Whether shards are written sooner than processes start that would share the work."""
    return len(plans) == 1 or sum(plan.size_bytes for plan in plans) < _FEW_BYTES


def open_stage(context: Context) -> Callable[[ShardPlan], Shard]:
    """What a process of the pool does with a plan; returns the shard's entry in the manifest."""
    vocabulary = Vocabulary.of(context.tokens)
    return lambda plan: write_shard(context, vocabulary, plan)


def write_shard(context: Context, vocabulary: Vocabulary, plan: ShardPlan) -> Shard:
    """Writes a shard, or takes the entry of one that an earlier start has written."""
    done = plan.done(context)
    if there := read_object(done):
        return Shard.model_validate(there)
    with ShardWriter(
        context.building,
        plan.source,
        plan.split,
        vocab_size=vocabulary.size,
        eod_id=vocabulary.eod_id,
        max_bytes=None,
        chunk_bytes=int(context.recipe.chunk_mb * 1e6),
        first_shard=plan.number,
        first_document=plan.first_document,
    ) as writer:
        for batch, places in plan.parts:
            for document, info in read_documents(context, batch, places):
                writer.write(document, info)
    (shard,) = writer.shards
    done.parent.mkdir(parents=True, exist_ok=True)
    write_json(done, shard.model_dump(mode="json"))
    return shard
