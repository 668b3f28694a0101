"""The sections about what was refused and why: rejects, toxicity, the filter chain, personal data."""

from collections.abc import Sequence

from mmhydra.data.report import totals
from mmhydra.data.report.charts import Bar, bars, legend
from mmhydra.data.report.markup import Html, count, element, percent, table
from mmhydra.data.report.parts import MOST_BARS, by_source, counted, largest, pair, plot, section
from mmhydra.data.shards.manifest import Manifest


def personal_data(manifest: Manifest) -> Html:
    """PII findings by kind."""
    found = totals.summed(source.statistics.pii for source in manifest.sources)
    screened = totals.num_screened_for_pii(manifest)
    if not screened:
        what = "No filter looked for it."
    elif not found:
        what = f"Nothing was found in the {count(screened)} records that the filter looked at."
    else:
        what = (
            f"{count(sum(found.values()))} findings in the {count(screened)} records that the filter looked at, those "
            "that were refused for it included."
        )
    return section(
        "pii",
        "Personal data (PII)",
        what,
        counted("PII findings by kind", "kind", found, what="findings", series="lost"),
        by_source("kind", manifest, lambda source: source.statistics.pii),
        paired=False,
    )


def rejects(manifest: Manifest) -> Html:
    """What was refused, by reason and source, and how much of it for toxicity."""
    reasons = totals.summed(source.statistics.rejected for source in manifest.sources)
    records = sum(source.statistics.records for source in manifest.sources)
    refused = sum(reasons.values())
    rows = [[name, count(n), percent(n, refused), percent(n, records)] for name, n in reasons.items()]
    reason_bars = [Bar(name, {"lost": n}, count(n)) for name, n in list(reasons.items())[:MOST_BARS]]
    by_source_rates = [(s.name, totals.num_rejected(s.statistics), s.statistics.records) for s in manifest.sources]
    toxic = [(s.name, found.rejected, found.seen) for s in manifest.sources if (found := totals.toxicity(s.statistics))]
    return section(
        "rejects",
        "Rejects and toxicity",
        f"{count(refused)} of {count(records)} records were refused, {percent(refused, records)}.",
        element("h3", "By reason"),
        pair(
            plot(bars("Rejects by reason", reason_bars)) if reasons else element("p", "No record was refused."),
            table(["reason", "records", "of rejects", "of all read"], rows),
        ),
        element("h3", "By source"),
        _rates("Reject rate by source", "read", by_source_rates),
        element("h3", "Toxicity"),
        _rates("Toxicity reject rate by source", "seen", toxic)
        if toxic
        else element("p", "No filter looked for toxicity in these sources.", class_="soft"),
        by_source("reason", manifest, lambda source: source.statistics.rejected),
        paired=False,
    )


def _rates(title: str, seen: str, rates: Sequence[tuple[str, int, int]]) -> Html:
    """Bars of (source, refused, seen) with their table."""
    drawn = [
        Bar(name, {"lost": part / whole}, percent(part, whole), f"({count(part)} of {count(whole)})")
        for name, part, whole in rates[:MOST_BARS]
        if whole
    ]
    rows = [[name, count(whole), count(part), percent(part, whole)] for name, part, whole in rates]
    return pair(plot(bars(title, drawn, whole=largest(drawn))), table(["source", seen, "refused", "rate"], rows))


def funnel(manifest: Manifest) -> Html:
    """How many records each step of the chain let through."""
    stages = totals.funnel(manifest)
    rows = [[s.name, count(s.seen), count(s.rejected), count(s.changed), count(s.kept)] for s in stages]
    bar_rows = [Bar(s.name, {"kept": s.kept, "lost": s.rejected}, count(s.kept)) for s in stages]
    return section(
        "filters",
        "Filter funnel",
        "Each row is a step of the build, in its order: what it kept, and what it refused. What one row left is what "
        "the next one saw; the last left what was accepted. “Changed” went on with something made unreadable, such as "
        "a telephone number.",
        plot(bars("Records kept by each filter", bar_rows), legend(["kept", "lost"])),
        table(["step", "seen", "refused", "changed", "left"], rows),
    )
