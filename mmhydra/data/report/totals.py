"""Sums over a manifest's sources, as the card and the report show them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mmhydra.data.records.reasons import REASONS
from mmhydra.data.shards.manifest import Manifest
from mmhydra.data.shards.statistics import HISTOGRAMS, FilterCount, Histogram, SourceStatistics, add

SHOWN_MODALITIES = ("text", "image", "audio", "video", "special")  # what carries no meaning comes last
UNREADABLE, REPEATED, NOT_RENDERED = "broken or unusable", "repeated unique_id", "not rendered"
_REPEATED_REASON = "duplicate_id"
_READING_REASONS = (*REASONS, "template_mismatch")


@dataclass(frozen=True)
class Stage:
    """One step of the funnel: how many records came to it, and how many it refused."""

    name: str
    seen: int
    rejected: int
    changed: int = 0

    @property
    def kept(self) -> int:
        """Records that went on."""
        return self.seen - self.rejected


def summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts of several sources added up, the largest first; equal ones by name."""
    total: dict[str, int] = {}
    for one in counts:
        add(total, one.items())
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def tokens_by_modality(statistics: SourceStatistics, split: str | None = None) -> dict[str, int]:
    """Tokens of one split, or of all, in the order of SHOWN_MODALITIES."""
    splits = statistics.tokens.values() if split is None else [statistics.tokens.get(split, {})]
    total = summed(splits)
    return dict(sorted(total.items(), key=lambda item: modality_order(item[0])))


def modality_order(modality: str) -> tuple[int, str]:
    """A key to sort modalities by; `image_text` comes where `image` does."""
    first = modality.partition("_")[0]
    return (SHOWN_MODALITIES.index(first) if first in SHOWN_MODALITIES else len(SHOWN_MODALITIES), modality)


def modalities(manifest: Manifest) -> list[str]:
    """All modalities that have tokens."""
    found = {modality for source in manifest.sources for modality in tokens_by_modality(source.statistics)}
    return sorted(found, key=modality_order)


def num_tokens(statistics: SourceStatistics, split: str | None = None) -> int:
    """Tokens of one split, or of all."""
    return sum(tokens_by_modality(statistics, split).values())


def num_rejected(statistics: SourceStatistics) -> int:
    """Records that were refused, for whatever reason."""
    return sum(statistics.rejected.values())


def splits(manifest: Manifest) -> list[str]:
    """All splits, train first."""
    found = {
        split for source in manifest.sources for split in (*source.statistics.tokens, *source.statistics.documents)
    }
    found |= {shard.split for shard in manifest.shards}
    return sorted(found, key=lambda split: (split != "train", split))


def filter_counts(manifest: Manifest) -> dict[str, FilterCount]:
    """Each filter's counts over all sources, in the order of the chain.

    manifest.json sorts names, so the order is that of the recipe's `filters`; of filters that it does not name, those
    that saw more come first, for they stood earlier.
    """
    total: dict[str, FilterCount] = {}
    for source in manifest.sources:
        for name, counts in source.statistics.filters.items():
            before = total.get(name, FilterCount())
            total[name] = FilterCount(
                seen=before.seen + counts.seen,
                rejected=before.rejected + counts.rejected,
                changed=before.changed + counts.changed,
            )
    names = [entry["kind"] for entry in chain(manifest)]
    place = {name: names.index(name) if name in names else len(names) for name in total}
    return dict(sorted(total.items(), key=lambda item: (place[item[0]], -item[1].seen, item[0])))


def chain(manifest: Manifest) -> list[dict[str, Any]]:
    """Settings of the filters, with their `kind`, as the recipe lists them; none where it has another shape."""
    recipe = manifest.builder.get("recipe")
    filters = recipe.get("filters") if isinstance(recipe, dict) else None
    entries = filters if isinstance(filters, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and "kind" in entry]


def num_screened_for_pii(manifest: Manifest) -> int:
    """Records that the filter of personal data looked at: those that came to it."""
    return filter_counts(manifest).get("pii", FilterCount()).seen


def funnel(manifest: Manifest) -> list[Stage]:
    """From all records read to those accepted, in the order of the build: each stage sees what the one before kept.

    What can't be read or fits no template goes first. A repeated unique_id is found among what is left when duplicates
    are looked for, so its stage stands where the next filter saw fewer than the last one kept, or behind all filters.
    What no template could render goes last.
    """
    records = sum(source.statistics.records for source in manifest.sources)
    accepted = sum(source.statistics.accepted for source in manifest.sources)
    rejected = summed(source.statistics.rejected for source in manifest.sources)
    filters = filter_counts(manifest)
    unreadable = sum(rejected.get(reason, 0) for reason in _READING_REASONS)
    if filters:  # a template that can't be rendered has some of the same reasons
        unreadable = records - next(iter(filters.values())).seen
    stages = [Stage(UNREADABLE, records, unreadable)]
    repeated = rejected.get(_REPEATED_REASON, 0)
    for name, counts in filters.items():
        if repeated and counts.seen < stages[-1].kept:
            stages.append(Stage(REPEATED, stages[-1].kept, repeated))
            repeated = 0
        stages.append(Stage(name, stages[-1].kept, counts.rejected, counts.changed))
    if repeated:
        stages.append(Stage(REPEATED, stages[-1].kept, repeated))
    if not_rendered := stages[-1].kept - accepted:
        stages.append(Stage(NOT_RENDERED, stages[-1].kept, not_rendered))
    return stages


def toxicity(statistics: SourceStatistics) -> FilterCount | None:
    """What the filters did whose name has "toxic" in it; None if there is none."""
    found = [counts for name, counts in statistics.filters.items() if "toxic" in name]
    if not found:
        return None
    return FilterCount(
        seen=max(counts.seen for counts in found),
        rejected=sum(counts.rejected for counts in found),
        changed=sum(counts.changed for counts in found),
    )


def histogram(manifest: Manifest, name: str) -> tuple[Histogram, dict[str, tuple[int, ...]]] | None:
    """A histogram over all sources, and its counts by the sources' modality; None without any value.

    Sources whose edges differ from the first one's are left out: their bins cannot be added.
    """
    whole: Histogram | None = None
    parts: dict[str, tuple[int, ...]] = {}
    for source in manifest.sources:
        one = source.statistics.histograms.get(name)
        if one is None or not sum(one.counts) or (whole and one.edges != whole.edges):
            continue
        before = parts.get(source.modality, (0,) * len(one.counts))
        parts[source.modality] = tuple(map(sum, zip(before, one.counts, strict=True)))
        counts = tuple(map(sum, zip(whole.counts, one.counts, strict=True))) if whole else one.counts
        whole = Histogram(unit=one.unit, edges=one.edges, counts=counts)
    if whole is None:
        return None
    return whole, dict(sorted(parts.items(), key=lambda item: modality_order(item[0])))


def histogram_names(manifest: Manifest) -> list[str]:
    """Names of the histograms that have values, the known ones first and in their order."""
    found = {name for source in manifest.sources for name in source.statistics.histograms}
    known = [name for name in HISTOGRAMS if name in found]
    return [name for name in [*known, *sorted(found - set(known))] if histogram(manifest, name)]


def untrained(manifest: Manifest) -> list[str]:
    """Modalities whose codec has no trained weights."""
    return sorted((m for m, codec in manifest.codecs.items() if not codec.trained), key=modality_order)
