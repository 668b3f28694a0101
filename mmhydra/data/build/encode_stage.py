"""Stage `encode`: the accepted records of a batch become documents of ids."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from mmhydra.config.templates import takes
from mmhydra.data.build.encoded import EncodedBatch
from mmhydra.data.build.examples import describe_example
from mmhydra.data.build.lines import read_lines, write_lines
from mmhydra.data.build.measure import measure
from mmhydra.data.build.plan import (
    ENCODE,
    EXAMPLE_BATCHES,
    READ,
    Batch,
    BuildError,
    Context,
    reject,
    unforeseen,
    write_counts,
)
from mmhydra.data.build.read_stage import parts_of
from mmhydra.data.build.reasons import known
from mmhydra.data.build.tally import Tally
from mmhydra.data.build.verdicts import DROPPED, SPLITS
from mmhydra.data.records.load import load
from mmhydra.data.records.media import LoadedRecord
from mmhydra.data.records.reasons import BadRecord
from mmhydra.data.records.record import Caption, Record
from mmhydra.data.shards.writer import DocumentInfo
from mmhydra.data.templates import EncodedMedia, Renderer, Unrenderable
from mmhydra.data.vocabulary import Vocabulary, load_tokenizer
from mmhydra.errors import UserError

_PROVENANCE = ("source", "metadata", "quality_scores", "processing_log", "data_card_info")


def open_stage(context: Context) -> Callable[[tuple[Batch, NDArray[np.uint8]]], None]:
    """What a process of the pool does with a batch and the splits of its candidates."""
    encoder = _Encoder(context)
    return lambda task: encoder.encode(*task)


class _Encoder:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._vocabulary = Vocabulary.of(context.tokens)
        assert context.tokenizer is not None, "the tokenizer's stage comes before"
        self._tokenizer = load_tokenizer(context.tokenizer)
        codecs = context.recipe.codecs
        self._media: Any = None  # a MediaEncoder
        if codecs.image or codecs.audio or codecs.video:
            # By name: it takes torch along, which text alone need not wait for.
            self._media = importlib.import_module("mmhydra.data.build.media").MediaEncoder(context)
        self._renderers = {
            source.name: Renderer(self._vocabulary, self._tokenizer, source.templates, context.recipe.seed)
            for source in context.recipe.sources
        }

    def encode(self, batch: Batch, splits: NDArray[np.uint8]) -> None:
        """Leaves documents, rejects, examples and counts of a batch in the work folder."""
        tally = Tally()
        encoded = EncodedBatch(self._vocabulary.size)
        rejects: list[dict[str, str]] = []
        examples: dict[str, dict[str, Any]] = {}
        renderer = self._renderers[batch.source]
        for line, split in self._accepted(batch, splits):
            loaded = self._load(line, Path(batch.ref.path).parent)
            unique_id = loaded.record.unique_id
            try:
                template = renderer.template_of(unique_id, parts_of(loaded))
                media = self._media.encode(loaded, takes(template)) if self._media else EncodedMedia()
                name, document = renderer.render(unique_id, media, loaded.text, loaded.captions, template)
            except Unrenderable as error:
                tally.accepted -= 1
                tally.count("rejected", known(error.reason))
                rejects.append(reject(line["place"], unique_id, error.reason, error.detail))
                continue
            except UserError:
                raise
            except Exception as error:
                raise unforeseen(line["place"], error) from error
            info = _info(line, loaded.record, batch.source, name)
            encoded.add(split, document, info)
            measure(tally, SPLITS[split], info, loaded, document, self._vocabulary)
            if batch.number < EXAMPLE_BATCHES and name not in examples:
                example, signals = describe_example(document, name, self._vocabulary, self._tokenizer)
                if self._media:
                    example["media"] = list(self._media.decode(signals))
                examples[name] = example
        encoded.write(self._context, batch)
        write_lines(batch.file(self._context, ENCODE, ".rejects.jsonl"), rejects)
        if batch.number < EXAMPLE_BATCHES:
            write_lines(batch.file(self._context, ENCODE, ".examples.jsonl"), list(examples.values()))
        counts = tally.to_json() | {"largest_unit": encoded.largest_unit}
        write_counts(batch.file(self._context, ENCODE, ".json"), counts)

    def _accepted(self, batch: Batch, splits: NDArray[np.uint8]) -> Iterator[tuple[dict[str, Any], int]]:
        for line, split in zip(read_lines(batch.file(self._context, READ, ".jsonl")), splits.tolist(), strict=True):
            if split != DROPPED:
                yield line, split

    def _load(self, line: dict[str, Any], folder: Path) -> LoadedRecord:
        record = Record.model_validate(line["record"])
        try:
            loaded = load(record, folder, self._context.recipe.limits)
        except BadRecord as error:
            raise BuildError(
                f"{line['place']}: record {record.unique_id} could be read when it was checked, and can't any more: "
                f"{error}. Records and their media must not change during a build: put the file back and type the same "
                "command, or start anew"
            ) from error
        captions = tuple(Caption.model_validate(caption) for caption in line["captions"])
        return replace(loaded, text=line["text"], captions=captions)  # as the filters left them


def _info(line: dict[str, Any], record: Record, source: str, template: str) -> DocumentInfo:
    return DocumentInfo(
        unique_id=record.unique_id,
        source=source,
        source_uri=record.source_uri,
        modalities=tuple(record.modalities),
        license=line["license"],
        language=line["language"],
        template=template,
        record={"place": line["place"], **_provenance(record)},
    )


def _provenance(record: Record) -> dict[str, JsonValue]:
    """What a record says of itself as the filters left it, but for its data and where that lies."""
    stated: dict[str, JsonValue] = record.model_dump(mode="json", exclude_none=True)
    kept = {key: stated[key] for key in _PROVENANCE if stated.get(key)}
    if isinstance(metadata := kept.get("metadata"), dict):
        metadata.pop("captions", None)  # text, which is in the ids
    return kept
