"""Counts of one source, added up batch by batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mmhydra.data.shards.statistics import HISTOGRAMS, FilterCount, Histogram, SourceStatistics, add

_FLAT = ("rejected", "documents", "loss_tokens", "templates", "languages", "licenses", "pii")


class Tally:
    """Counts that can be kept as JSON, merged in any order, and become SourceStatistics."""

    def __init__(self, document: Mapping[str, Any] | None = None) -> None:
        given = document or {}
        self.records: int = given.get("records", 0)
        self.accepted: int = given.get("accepted", 0)
        self.flat: dict[str, dict[str, int]] = {name: dict(given.get(name, {})) for name in _FLAT}
        self.filters: dict[str, list[int]] = {name: list(row) for name, row in given.get("filters", {}).items()}
        self.tokens: dict[str, dict[str, int]] = {split: dict(row) for split, row in given.get("tokens", {}).items()}
        self.histograms: dict[str, list[int]] = {name: list(row) for name, row in given.get("histograms", {}).items()}

    def count(self, what: str, key: str, number: int = 1) -> None:
        """Adds to one of the counts by key, such as `languages`."""
        add(self.flat[what], [(key, number)])

    def count_filter(self, name: str, *, seen: int = 0, rejected: int = 0, changed: int = 0) -> None:
        """Adds what one filter did."""
        row = self.filters.setdefault(name, [0, 0, 0])
        for place, number in enumerate((seen, rejected, changed)):
            row[place] += number

    def count_tokens(self, split: str, by_modality: Mapping[str, int]) -> None:
        """Adds ids of a document."""
        add(self.tokens.setdefault(split, {}), by_modality.items())

    def measure(self, name: str, values: ArrayLike) -> None:
        """Adds values to a histogram; those outside of its edges fall into the first or last bin."""
        edges = np.array(HISTOGRAMS[name][1])
        places = np.clip(np.searchsorted(edges, np.asarray(values, float), side="right") - 1, 0, len(edges) - 2)
        row = self.histograms.setdefault(name, [0] * (len(edges) - 1))
        for place in places.tolist():
            row[place] += 1

    def merge(self, other: "Tally") -> None:
        """Adds another's counts."""
        self.records += other.records
        self.accepted += other.accepted
        for name in _FLAT:
            add(self.flat[name], other.flat[name].items())
        for name, (seen, rejected, changed) in other.filters.items():
            self.count_filter(name, seen=seen, rejected=rejected, changed=changed)
        for split, row in other.tokens.items():
            self.count_tokens(split, row)
        for name, numbers in other.histograms.items():
            row_ = self.histograms.setdefault(name, [0] * len(numbers))
            self.histograms[name] = [a + b for a, b in zip(row_, numbers, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """The inverse of the constructor."""
        return {
            "records": self.records,
            "accepted": self.accepted,
            **self.flat,
            "filters": self.filters,
            "tokens": self.tokens,
            "histograms": self.histograms,
        }

    def statistics(self) -> SourceStatistics:
        """The counts as a manifest keeps them; keys in an order that does not hang on the batches."""
        return SourceStatistics(
            records=self.records,
            accepted=self.accepted,
            filters={
                name: FilterCount(seen=seen, rejected=rejected, changed=changed)
                for name, (seen, rejected, changed) in self.filters.items()
            },
            tokens={split: dict(sorted(row.items())) for split, row in sorted(self.tokens.items())},
            histograms={
                name: Histogram(unit=unit, edges=edges, counts=tuple(self.histograms[name]))
                for name, (unit, edges) in HISTOGRAMS.items()
                if name in self.histograms
            },
            **{name: dict(sorted(counts.items())) for name, counts in self.flat.items()},
        )
