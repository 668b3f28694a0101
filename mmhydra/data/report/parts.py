"""What sections are made of: a title, plots, and tables beside them."""

from collections.abc import Callable, Iterable, Mapping

from mmhydra.data.report import totals
from mmhydra.data.report.charts import Bar, bars, bin_name, columns, legend
from mmhydra.data.report.markup import Html, count, element, join, percent, table
from mmhydra.data.shards.manifest import Manifest, Source

MOST_BARS = 20  # of a plot; the table beside it has all rows
HISTOGRAM_TITLES = {
    "document_length": "Length of documents",
    "text_length": "Length of texts",
    "audio_duration": "Duration of sounds",
    "video_duration": "Duration of clips",
    "duration_error": "Decoded duration less the stated one",
    "audio_less_video": "Duration of the sound less that of the video",
    "caption_overhang": "End of the last caption less the end of the signal",
    "characters_per_second": "Text per second of signal",
}


def histogram(manifest: Manifest, name: str, meaning: str = "", target: tuple[float, float] | None = None) -> Html:
    """A histogram of HISTOGRAMS with its bins as a table. It has values. `target` is the stretch to mark."""
    found = totals.histogram(manifest, name)
    assert found is not None, name
    whole, parts = found
    first = next(i for i, n in enumerate(whole.counts) if n)
    last = max(i for i, n in enumerate(whole.counts) if n)
    # One empty bin on each side shows that nothing is beyond; a marked stretch is always in sight.
    start, stop = max(0, first - 1), min(len(whole.counts), last + 2)
    if target and not set(target) <= set(whole.edges):
        target = None
    if target:
        start, stop = min(start, whole.edges.index(target[0])), max(stop, whole.edges.index(target[1]))
    edges = whole.edges[start : stop + 1]
    stacks = {modality: counts[start:stop] for modality, counts in parts.items()}
    title = HISTOGRAM_TITLES.get(name, name.replace("_", " "))
    values = sum(whole.counts)
    rows = [
        [bin_name(whole.edges, i), *(count(part[i]) for part in parts.values()), percent(whole.counts[i], values)]
        for i in range(start, stop)
    ]
    return join(
        [
            element("h3", title),
            element("p", f"{count(values)} values, in {whole.unit}. {meaning}", class_="soft"),
            pair(
                plot(
                    columns(title, edges, stacks, whole.unit, target=target),
                    legend(list(parts)) if len(parts) > 1 else None,
                ),
                table([f"bin, {whole.unit}", *parts, "share"], rows),
                even=True,
            ),
        ]
    )


def counted(
    title: str, heading: str, counts: Mapping[str, int], *, what: str = "documents", series: str = "main"
) -> Html:
    """Bars of counts, with the table beside them."""
    if not counts:
        return nothing()
    whole = sum(counts.values())
    shown_rows = [Bar(name, {series: n}, count(n)) for name, n in list(counts.items())[:MOST_BARS]]
    rows = [[name, count(n), percent(n, whole)] for name, n in counts.items()]
    return pair(plot(bars(title, shown_rows)), table([heading, what, "share"], rows))


def by_source(heading: str, manifest: Manifest, counts: Callable[[Source], Mapping[str, int]]) -> Html | None:
    """All numbers, folded away: one row for each source and name."""
    rows = [
        [source.name, name, count(n), percent(n, sum(counts(source).values()))]
        for source in manifest.sources
        for name, n in totals.summed([counts(source)]).items()
    ]
    if not rows:
        return None
    headings = ["source", heading, "count", "share of the source's"]
    return element("details", element("summary", f"by source and {heading}"), table(headings, rows, numbers_from=2))


def section(name: str, title: str, what: str, *parts: Html | None, paired: bool = True) -> Html:
    """A section with its title and what it shows; `paired`: its parts side by side."""
    content = pair(*(part for part in parts if part is not None)) if paired else join(parts)
    return element("section", element("h2", title), element("p", what, class_="lead"), content, id=name)


def pair(*parts: Html, even: bool = False) -> Html:
    """A plot and its table side by side, one above the other where the window is narrow; `even`: two plots."""
    return element("div", *parts, class_="pair even" if even else "pair")


def plot(svg: Html, key: Html | None = None) -> Html:
    """A plot under its legend."""
    return element("figure", key, svg)


def nothing() -> Html:
    """What stands where there are no counts."""
    return element("p", "Nothing was counted.", class_="soft")


def largest(rows: Iterable[Bar]) -> float:
    """The longest bar, rounded up to a share that is easy to read the others against."""
    longest = max((sum(row.parts.values()) for row in rows), default=0.0)
    return next((share for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if longest <= share), 1.0)
