"""The sections of the governance report: plots, with the exact numbers beside them."""

from collections.abc import Callable, Sequence

from mmhydra.data.report import totals
from mmhydra.data.report.audit import funnel, personal_data, rejects
from mmhydra.data.report.charts import Bar, bars, legend
from mmhydra.data.report.facts import id_ranges
from mmhydra.data.report.markup import NOTHING, Html, count, element, percent, size, table
from mmhydra.data.report.parts import (
    MOST_BARS,
    by_source,
    counted,
    histogram,
    nothing,
    pair,
    plot,
    section,
)
from mmhydra.data.shards.manifest import Manifest

MOST_SHARDS = 200
_ALIGNMENT: dict[str, tuple[str, tuple[float, float] | None]] = {  # what it means, and where values should lie
    "duration_error": (
        "Near zero the file is as long as its metadata says. Far from it the file was cut or is another one.",
        (-0.1, 0.1),
    ),
    "audio_less_video": (
        "Of records that have both, the longest of each. Far from zero they are not of the same recording.",
        (-0.1, 0.1),
    ),
    "caption_overhang": (
        "Above zero a caption goes on after the signal has ended: it is about something that is not there.",
        None,
    ),
    "characters_per_second": (
        "People speak about 10 to 20 characters a second; far more is text of something else.",
        None,
    ),
}


def tokens_by_source(manifest: Manifest) -> Html:
    """Stacked bars of each source's tokens by modality."""
    names = totals.modalities(manifest)
    counts = {source.name: totals.tokens_by_modality(source.statistics) for source in manifest.sources}
    sums = {name: sum(counts[name].values()) for name in counts}
    order = sorted(counts, key=lambda name: -sums[name])
    whole = sum(sums.values())
    rows = [
        [name, *(count(counts[name].get(m, 0)) for m in names), count(sums[name]), percent(sums[name], whole)]
        for name in order
    ]
    if len(rows) > 1:
        total = totals.summed(counts.values())
        rows.append(["all", *(count(total.get(m, 0)) for m in names), count(whole), percent(whole, whole)])
    shown = order[:MOST_BARS]
    amounts = bars("Tokens by source and modality", [Bar(name, counts[name]) for name in shown])
    shares = [
        Bar(name, {m: n / sums[name] for m, n in counts[name].items()}, percent(sums[name], whole))
        for name in shown
        if sums[name]
    ]
    return section(
        "tokens",
        "Tokens by source and modality",
        "All splits together. On the left how many tokens a source has; on the right what they are, and the source's "
        "share of all. “special” are ids that only say where a modality or a document begins and ends.",
        legend(names),
        pair(plot(amounts), plot(bars("Modalities of each source", shares, whole=1.0)), even=True),
        table(["source", *names, "tokens", "share"], rows),
        paired=False,
    )


def splits(manifest: Manifest) -> Html:
    """What is for training and what is held out."""
    names = totals.splits(manifest)
    rows, bar_rows = [], []
    for source in manifest.sources:
        statistics = source.statistics
        tokens = {split: totals.num_tokens(statistics, split) for split in names}
        whole = sum(tokens.values())
        if whole:
            bar_rows.append(
                Bar(source.name, {s: n / whole for s, n in tokens.items()}, percent(tokens[names[0]], whole))
            )
        for split in names:
            documents, labels = statistics.documents.get(split, 0), statistics.loss_tokens.get(split, 0)
            rows.append([source.name, split, count(documents), count(tokens[split]), percent(labels, tokens[split])])
    return section(
        "splits",
        "Splits",
        f"Share of each source's tokens by split; the number is that of {names[0] if names else 'train'}. Tokens with "
        "loss are labels: what a model is trained to predict, so never the first id of a document.",
        plot(bars("Splits by source", bar_rows[:MOST_BARS], whole=1.0), legend(names)),
        table(["source", "split", "documents", "tokens", "with loss"], rows, numbers_from=2),
    )


def languages_and_licenses(manifest: Manifest) -> Html:
    """Documents by language, and by license."""
    languages = totals.summed(source.statistics.languages for source in manifest.sources)
    licenses = totals.summed(source.statistics.licenses for source in manifest.sources)
    return section(
        "languages",
        "Languages and licenses",
        "Documents that were accepted, as their records or the language filter say.",
        element("h3", "Languages"),
        counted("Documents by language", "language", languages),
        by_source("language", manifest, lambda source: source.statistics.languages),
        element("h3", "Licenses"),
        counted("Documents by license", "license", licenses),
        by_source("license", manifest, lambda source: source.statistics.licenses),
        paired=False,
    )


def lengths(manifest: Manifest) -> Html:
    """Histograms of lengths and durations."""
    names = [name for name in totals.histogram_names(manifest) if name not in _ALIGNMENT]
    pairs = [histogram(manifest, name) for name in names]
    what = "Of accepted documents; colors are the sources' modality. Bins are of equal width, whatever they span."
    return section("lengths", "Lengths and durations", what, *(pairs or [nothing()]), paired=False)


def alignment(manifest: Manifest) -> Html:
    """Whether text, sound and picture are of the same time."""
    there = totals.histogram_names(manifest)
    pairs = [histogram(manifest, name, *_ALIGNMENT[name]) for name in _ALIGNMENT if name in there]
    what = "Whether durations and captions fit the signals that they belong to."
    return section("alignment", "Alignment of text, sound and video", what, *(pairs or [nothing()]), paired=False)


def templates(manifest: Manifest) -> Html:
    """How records became sequences."""
    found = totals.summed(source.statistics.templates for source in manifest.sources)
    return section(
        "templates",
        "Templates",
        "Documents by the template that laid them out.",
        counted("Documents by template", "template", found),
        by_source("template", manifest, lambda source: source.statistics.templates),
        paired=False,
    )


def sources(manifest: Manifest) -> Html:
    """What the sources are."""
    rows = [
        [
            source.name,
            source.description,
            source.modality,
            ", ".join(totals.summed([source.statistics.licenses])) or NOTHING,
            ", ".join(totals.summed([source.statistics.languages])) or NOTHING,
            count(source.statistics.records),
            count(source.statistics.accepted),
            count(source.largest_unit),
        ]
        for source in manifest.sources
    ]
    headings = ["source", "what it is", "modality", "licenses", "languages", "records", "accepted", "largest unit"]
    what = "The largest unit is the longest run of ids that is never cut; a sequence has to be at least that long."
    return section("sources", "Sources", what, table(headings, rows, numbers_from=5), paired=False)


def vocabulary(manifest: Manifest) -> Html:
    """The ranges of ids."""
    made = manifest.vocabulary
    ranges = id_ranges(manifest)
    rows = [
        [r.name, r.modality, count(r.start), count(r.last), count(r.size), percent(r.size, made.size)] for r in ranges
    ]
    what = f"{count(made.size)} ids; a document ends with id {made.eod_id}."
    digests = element(
        "p",
        "digest ",
        element("code", made.digest),
        element("br"),
        "layout digest ",
        element("code", made.layout_digest),
        element("br"),
        f"tokenizer {made.tokenizer_file}, sha256 ",
        element("code", made.tokenizer_sha256),
        class_="soft",
    )
    drawn = bars("Ids by range", [Bar(r.name, {r.modality: r.size}, count(r.size)) for r in ranges[:MOST_BARS]])
    return section(
        "vocabulary",
        "Vocabulary",
        what,
        pair(plot(drawn), table(["range", "modality", "first id", "last id", "ids", "share"], rows, numbers_from=2)),
        digests,
        paired=False,
    )


def shards(manifest: Manifest) -> Html:
    """The files."""
    whole = sum(shard.size_bytes for shard in manifest.shards)
    rows = [
        [
            s.path,
            s.source,
            s.split,
            count(s.num_documents),
            count(s.num_tokens),
            size(s.size_bytes),
            s.sha256[:16] + "…",
        ]
        for s in manifest.shards[:MOST_SHARDS]
    ]
    left = len(manifest.shards) - len(rows)
    what = f"{count(len(manifest.shards))} shards, {size(whole)}."
    more = f" The first {count(len(rows))} are listed; manifest.json has all." if left > 0 else ""
    headings = ["shard", "source", "split", "documents", "tokens", "size", "sha256"]
    return section("shards", "Shards", what + more, table(headings, rows, numbers_from=3), paired=False)


SECTIONS: Sequence[tuple[str, Callable[[Manifest], Html]]] = (
    ("tokens", tokens_by_source),
    ("splits", splits),
    ("sources", sources),
    ("languages", languages_and_licenses),
    ("rejects", rejects),
    ("filters", funnel),
    ("pii", personal_data),
    ("lengths", lengths),
    ("alignment", alignment),
    ("templates", templates),
    ("vocabulary", vocabulary),
    ("shards", shards),
)
