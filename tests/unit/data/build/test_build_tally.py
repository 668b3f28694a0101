"""What is counted of a document is what a model is trained on, and every signal is measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from dataset_builds import text_record
from documents import mixed_document

from mmhydra.config.tokens import Tokens
from mmhydra.data.build.measure import measure
from mmhydra.data.build.tally import Tally
from mmhydra.data.packing.pack import OPENER, pack
from mmhydra.data.packing.sequences import IGNORE_INDEX, PackedSequences
from mmhydra.data.records.media import Clip, LoadedRecord, Sound
from mmhydra.data.records.record import Record
from mmhydra.data.shards.document import Document, text_document
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.shards.statistics import HISTOGRAMS, SourceStatistics
from mmhydra.data.shards.writer import DocumentInfo
from mmhydra.data.vocabulary import Vocabulary

INFO = DocumentInfo("a", "web", "", ("text",), "CC0-1.0", "en", "text")


TOKENS = Path(__file__).resolve().parents[4] / "conf/tokens/demo.yaml"


@pytest.fixture(scope="module")
def layout() -> Tokens:
    return Tokens.model_validate(yaml.safe_load(TOKENS.read_text()))


def sound(seconds: float) -> Sound:
    return Sound(np.zeros((1, round(seconds * 100)), np.float32), 100)


def clip(seconds: float) -> Clip:
    return Clip(np.zeros((round(seconds * 10), 1, 1, 3), np.uint8), 10.0)


def measured(layout: Tokens, document: Document, metadata: dict[str, Any], **media: Any) -> SourceStatistics:
    record = Record.model_validate(text_record("a", "some words", metadata=metadata))
    tally = Tally()
    measure(tally, "train", INFO, LoadedRecord(record, **media), document, Vocabulary.of(layout))
    return tally.statistics()


def bins(statistics: SourceStatistics, name: str) -> dict[float, int]:
    """Counts that are not zero, by the lower edge of their bin."""
    found = statistics.histograms[name]
    return {low: number for low, number in zip(found.edges, found.counts, strict=False) if number}


def test_signals_are_held_against_what_is_stated_and_against_each_other(layout):
    statistics = measured(
        layout, text_document([5, 6], 0), {"duration_seconds": 4.0}, sounds=(sound(4.0),), clips={"video": clip(9.0)}
    )
    assert bins(statistics, "duration_error") == {-0.1: 1, 5: 1}, "of each signal: the sound fits"
    assert bins(statistics, "audio_less_video") == {-5: 1}, "the sound ends 5 s before the picture"
    assert HISTOGRAMS["audio_less_video"][0] == "s"


@pytest.mark.parametrize("media", [{}, {"sounds": (sound(1.0),)}, {"clips": {"video": clip(1.0)}}])
def test_one_signal_is_compared_with_no_other(layout, media):
    assert "audio_less_video" not in measured(layout, text_document([5], 0), {}, **media).histograms


@pytest.mark.parametrize(
    ("document", "num_labels"),
    [
        (text_document([5, 6, 7], 0), 3),  # 6, 7 and the end
        (text_document([], 0), 0),
        (mixed_document(("text", 2, 1, False), ("audio", 4, 2, True, 90)), 5),  # the first id has no loss anyway
    ],
)
def test_the_first_id_of_a_document_is_no_label(layout, document, num_labels):
    assert measured(layout, document, {}).loss_tokens == {"train": num_labels}


def test_labels_are_those_of_the_sequences_and_one_more_behind_an_opener(make_dataset):
    speech = mixed_document(("text", 2, 1, False), ("special", 1), ("audio", 12, 2, True, 90), ("special", 1))
    documents = [text_document([5, 6, 7], 0), speech, text_document(list(range(1, 30)), 0)]
    made = make_dataset(documents)
    shards = TokenShards(made.folder, made.manifest, "web", "train")
    sequences = PackedSequences(shards, pack(shards, 7), eod_id=0)
    in_sequences = sum(int((sequences[k].labels_L != IGNORE_INDEX).sum()) for k in range(len(sequences)))
    opened = int((sequences.pack.pieces[:, OPENER] >= 0).sum())
    assert opened > 0
    assert in_sequences == sum(document.num_labels for document in documents) + opened
