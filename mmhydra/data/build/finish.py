"""The end of a build: pack index, rejects, manifest, data card and report."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from mmhydra.data.build.encoded import label_counts
from mmhydra.data.build.examples import keep_examples
from mmhydra.data.build.lines import read_lines, write_lines
from mmhydra.data.build.plan import ENCODE, READ, Batch, Context, read_counts
from mmhydra.data.build.tally import Tally
from mmhydra.data.build.verdicts import Verdicts
from mmhydra.data.packing.kept import ensure_pack
from mmhydra.data.report import CARD_NAME, REPORT_NAME
from mmhydra.data.report.card import write_card
from mmhydra.data.report.page import write_report
from mmhydra.data.shards.manifest import CodecInfo, Manifest, Shard, Source, write_manifest
from mmhydra.data.shards.manifest import Vocabulary as VocabularyInfo
from mmhydra.data.vocabulary import TextTokenizer, Vocabulary, load_tokenizer, vocabulary_digest

REJECTS = "rejects"


def finish(
    context: Context,
    settings: Mapping[str, JsonValue],
    files: Sequence[Mapping[str, JsonValue]],
    batches: Sequence[Batch],
    verdicts: Verdicts,
    shards: Sequence[Shard],
    on_line: Callable[[str], None],
) -> Manifest:
    """Writes what is left into the dataset's folder, the manifest last."""
    recipe = context.recipe
    vocabulary = Vocabulary.of(context.tokens)
    assert context.tokenizer is not None
    tokenizer = load_tokenizer(context.tokenizer)
    builder: dict[str, JsonValue] = {**settings, "inputs": [dict(file) for file in files]}
    manifest = Manifest(
        dataset=recipe.name,
        builder=builder,
        vocabulary=_vocabulary(vocabulary, tokenizer),
        sources=tuple(_source(context, batches, verdicts, source.name) for source in recipe.sources),
        shards=tuple(shards),
        unigram_entropy_nats=entropy_nats(label_counts(context, batches, vocabulary.size)),
        codecs=_codecs(context),
    )
    for source in recipe.sources:
        path = context.building / REJECTS / f"{source.name}.jsonl"
        write_lines(path, _rejects(context, batches, verdicts, source.name))
    on_line("packing documents into sequences")
    for seq_len in recipe.seq_lens:
        for source_name, split in dict.fromkeys((shard.source, shard.split) for shard in shards):
            ensure_pack(context.building, manifest, source_name, split, seq_len)
    on_line("writing the data card and the report")
    examples = keep_examples(context, batches)
    write_card(context.building / CARD_NAME, manifest, examples)
    write_report(context.building / REPORT_NAME, manifest, examples)
    write_manifest(context.building, manifest)
    return manifest


def _vocabulary(vocabulary: Vocabulary, tokenizer: TextTokenizer) -> VocabularyInfo:
    return VocabularyInfo(
        size=vocabulary.size,
        digest=vocabulary_digest(vocabulary.layout_digest, tokenizer),
        layout_digest=vocabulary.layout_digest,
        layout=vocabulary.layout,
        eod_id=vocabulary.eod_id,
        tokenizer_file=tokenizer.file_name,
        tokenizer_sha256=tokenizer.digest,
    )


def _source(context: Context, batches: Sequence[Batch], verdicts: Verdicts, name: str) -> Source:
    total = Tally()
    largest_unit = 1
    own = [batch for batch in batches if batch.source == name]
    # Filters in the order of the chain: those of the first stage, then the duplicates.
    for batch in own:
        total.merge(Tally(read_counts(batch.file(context, READ, ".json"))))
    total.merge(verdicts.tallies[name])
    for batch in own:
        counts = read_counts(batch.file(context, ENCODE, ".json"))
        largest_unit = max(largest_unit, int(str(counts["largest_unit"])))
        total.merge(Tally(counts))
    source = context.source(name)
    return Source(
        name=name,
        description=source.description,
        modality=source.modality,
        largest_unit=largest_unit,
        statistics=total.statistics(),
    )


def _codecs(context: Context) -> dict[str, CodecInfo]:
    """As the encoding processes left them: this one need not load the weights."""
    found = {}
    for path in sorted((context.work / ENCODE).glob("codec-*.json")):
        found[path.stem.removeprefix("codec-")] = CodecInfo.model_validate_json(path.read_bytes())
    return found


def entropy_nats(counts: NDArray[np.int64]) -> float:
    """Entropy of the distribution of `counts` [n]: the loss of a model that knows only frequencies."""
    shares = counts[counts > 0] / max(1, counts.sum())
    # fsum rounds once, so the digest does not hang on the order in which this machine adds.
    return max(0.0, -math.fsum((shares * np.log(shares)).tolist()))


def _rejects(context: Context, batches: Sequence[Batch], verdicts: Verdicts, source: str) -> Iterator[dict[str, str]]:
    """What was refused of a source, batch by batch: when it was read, as a duplicate, when it was encoded."""
    for number, batch in enumerate(batches):
        if batch.source == source:
            yield from read_lines(batch.file(context, READ, ".rejects.jsonl"))
            yield from verdicts.rejects.get(number, [])
            yield from read_lines(batch.file(context, ENCODE, ".rejects.jsonl"))
