"""The losses by modality of a metrics record, as a person reads them."""

from collections.abc import Mapping
from typing import Any

from mmhydra.track.sink import numeric_fields

TRAIN_LOSS = "loss_by_modality"
HELDOUT_LOSS = "val_loss_by_modality"


def by_modality(record: Mapping[str, Any], field: str) -> dict[str, float]:
    """The numbers of `record` under `field`, by modality in the vocabulary's order; empty if it has none."""
    prefix = f"{field}/"
    values = numeric_fields({field: record[field]} if field in record else {})
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def in_words(losses: Mapping[str, float], digits: int) -> str:
    """`text 3.91 image 5.10`; empty for one modality alone, whose loss is that of all tokens."""
    return " ".join(f"{name} {loss:.{digits}f}" for name, loss in losses.items()) if len(losses) > 1 else ""
