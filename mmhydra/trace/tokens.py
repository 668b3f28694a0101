"""The tokens of a step and of all steps up to it, and whether metrics.jsonl says the same."""

from typing import Any, NamedTuple

import numpy as np

from mmhydra.config.tokens import MODALITIES
from mmhydra.data.packing.sequences import IGNORE_INDEX
from mmhydra.data.storage.faults import ShardError
from mmhydra.data.stream.ledger import Ledger
from mmhydra.data.vocabulary import Vocabulary
from mmhydra.trace.opening import Traced

BySource = dict[str, dict[str, int]]  # source to modality to filled input positions


class StepTokens(NamedTuple):
    """What a step feeds the model: filled input positions, padding, and positions of samples that are left out."""

    tokens: BySource
    padding: int
    skipped_samples: int
    skipped_tokens: int


def step_tokens(traced: Traced, step: int) -> StepTokens:
    """Counts the input positions of a step, of all ranks, from the pack indexes alone."""
    first, end = traced.samples_of(step)
    counts = {name: np.zeros(len(MODALITIES), np.int64) for name in traced.split.sequences}
    skipped = 0
    for n in range(first, end):
        ref = traced.split.stream.locate(n)
        if traced.is_skipped(n):
            skipped += 1
        else:
            counts[ref.source] += traced.split.sequences[ref.source].pack.counts[ref.sequence]
    seq_len = traced.config.training.seq_len
    filled = sum(int(row.sum()) for row in counts.values())
    by_source: BySource = {name: dict(zip(MODALITIES, row.tolist(), strict=True)) for name, row in counts.items()}
    return StepTokens(by_source, (end - first - skipped) * seq_len - filled, skipped, skipped * seq_len)


class Check(NamedTuple):
    """The record of a step in metrics.jsonl beside what follows from the data.

    `same` are the fields that agree; `differing` those that do not, each with what the data and what the record say.
    `fault` is why the labels of the step could not be counted, or empty.
    """

    is_logged: bool
    same: list[str]
    differing: dict[str, tuple[Any, Any]]
    fault: str


def compare(traced: Traced, step: int, seen: Ledger) -> Check:
    """Compares the record of a step with the labels of its samples, which are read, and with the ledger up to it."""
    record = traced.logged.record(step)
    if not record:
        return Check(False, [], {}, "")
    found: dict[str, Any] = {
        "seen_tokens_by_source": seen.by_source,
        "seen_tokens_by_modality": {name: count for name, count in seen.by_modality.items() if count},
        "skipped_samples": seen.skipped_samples,
    }
    fault = ""
    try:
        found["tokens_by_modality"] = _labels(traced, step)
    except ShardError as error:
        fault = str(error)
    logged = {name: value for name, value in found.items() if name in record}
    differing = {name: (value, record[name]) for name, value in logged.items() if record[name] != value}
    return Check(True, [name for name in logged if name not in differing], differing, fault)


def _labels(traced: Traced, step: int) -> dict[str, int]:
    vocabulary = Vocabulary.of(traced.config.tokens)
    labels_BL = traced.read(*traced.samples_of(step)).labels_BL
    codes, counts = np.unique(vocabulary.modality_of(labels_BL[labels_BL != IGNORE_INDEX]), return_counts=True)
    return {vocabulary.modalities[code]: int(count) for code, count in zip(codes, counts, strict=True)}
