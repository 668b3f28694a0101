"""The data card: what a dataset version is, in Markdown that reads well as plain text."""

import html
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mmhydra.config.codecs import UNTRAINED
from mmhydra.data.report import REPORT_NAME, totals
from mmhydra.data.report.examples import Example, MediaExample
from mmhydra.data.report.facts import commands, id_ranges, limits, warning
from mmhydra.data.report.markup import NOTHING, count, percent, shown, size
from mmhydra.data.shards.manifest import Manifest
from mmhydra.files import write_atomic

MAX_EXAMPLE_CHARACTERS = 1500
# An underscore inside a word is none of Markdown's marks: names stay readable.
_MARKS = re.compile(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w))")


def write_card(path: Path, manifest: Manifest, examples: Sequence[Example]) -> None:
    """Writes the card to `path`. The same manifest and examples give the same bytes. Raises OSError.

    Media that are files below the card's folder are linked; others are only named.
    """
    write_atomic(path, card(manifest, examples, path.parent).encode("utf-8"))


def card(manifest: Manifest, examples: Sequence[Example], folder: Path) -> str:
    """The card as text; `folder` is where it is going to lie."""
    blocks = [
        f"# Data card: {_inline(manifest.dataset)}",
        *_warning(manifest),
        *_summary(manifest),
        *_sources(manifest),
        *_counts(manifest),
        *_filters(manifest),
        *_codecs(manifest),
        *_vocabulary(manifest),
        *_checks(manifest),
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits(manifest)),
        "## Decoded examples",
        *([] if examples else ["No document was decoded."]),
        *(block for example in examples for block in _example(example, folder)),
    ]
    return "\n\n".join(blocks) + "\n"


def _warning(manifest: Manifest) -> Iterator[str]:
    if text := warning(manifest):
        yield f"> **{UNTRAINED.upper()}.** {_inline(text)}"


def _summary(manifest: Manifest) -> Iterator[str]:
    statistics = [source.statistics for source in manifest.sources]
    tokens, documents = sum(map(totals.num_tokens, statistics)), sum(sum(s.documents.values()) for s in statistics)
    records, accepted = sum(s.records for s in statistics), sum(s.accepted for s in statistics)
    whole = size(sum(shard.size_bytes for shard in manifest.shards))
    modalities = ", ".join(map(_inline, totals.modalities(manifest))) or "nothing"
    yield (
        f"{count(tokens)} tokens in {count(documents)} documents of {modalities}, "
        f"from {count(len(statistics))} sources, in {count(len(manifest.shards))} shards ({whole}). "
        f"Of {count(records)} records {count(accepted)} were accepted ({percent(accepted, records)})."
    )
    yield f"Digest: `{manifest.digest}` (manifest schema {manifest.schema_version})."
    yield f"Plots of all that stands here, and more, are in `{REPORT_NAME}`; all numbers are in `manifest.json`."


def _sources(manifest: Manifest) -> Iterator[str]:
    yield "## Sources"
    yield _table(
        ("source", "what it is", "modality", "licenses", "languages", "largest unit"),
        (
            (
                source.name,
                source.description,
                source.modality,
                _listed(totals.summed([source.statistics.licenses])),
                _listed(totals.summed([source.statistics.languages])),
                count(source.largest_unit),
            )
            for source in manifest.sources
        ),
    )
    yield "The largest unit is the longest run of ids that is never cut; a sequence has to be at least that long."


def _counts(manifest: Manifest) -> Iterator[str]:
    names = totals.modalities(manifest)
    yield "## Counts by split and modality"
    yield _table(
        ("source", "split", "documents", *names, "tokens", "with loss"),
        (
            (
                source.name,
                split,
                count(source.statistics.documents.get(split, 0)),
                *(count(source.statistics.tokens.get(split, {}).get(name, 0)) for name in names),
                count(totals.num_tokens(source.statistics, split)),
                count(source.statistics.loss_tokens.get(split, 0)),
            )
            for source in manifest.sources
            for split in totals.splits(manifest)
        ),
    )
    yield "Documents by template: " + _listed(totals.summed(s.statistics.templates for s in manifest.sources)) + "."


def _filters(manifest: Manifest) -> Iterator[str]:
    yield "## Filters and rejects"
    counts = totals.filter_counts(manifest)
    if counts:
        yield _table(
            ("filter", "seen", "refused", "changed"),
            ((name, count(c.seen), count(c.rejected), count(c.changed)) for name, c in counts.items()),
        )
    else:
        yield "No filter was applied."
    reasons = totals.summed(source.statistics.rejected for source in manifest.sources)
    records = sum(source.statistics.records for source in manifest.sources)
    if reasons:
        rows = ((name, count(number), percent(number, records)) for name, number in reasons.items())
        yield _table(("reason", "records refused", "of all read"), rows)
    else:
        yield "No record was refused."
    found = totals.summed(source.statistics.pii for source in manifest.sources)
    if screened := totals.num_screened_for_pii(manifest):
        yield f"Personal data found in the {count(screened)} records looked at: {_listed(found) if found else 'none'}."
    else:
        yield "No filter looked for personal data."


def _codecs(manifest: Manifest) -> Iterator[str]:
    yield "## Codecs"
    if not manifest.codecs:
        yield "None: this dataset has text alone."
        return
    rows = []
    for name in sorted(manifest.codecs, key=totals.modality_order):
        codec = manifest.codecs[name]
        state = "trained" if codec.trained else f"**{UNTRAINED}**"
        settings = json.dumps(codec.settings, sort_keys=True, ensure_ascii=False)
        rows.append((name, _Marked(state), codec.note, settings, codec.digest))
    yield _table(("modality", "weights", "note", "settings", "digest"), rows)


def _vocabulary(manifest: Manifest) -> Iterator[str]:
    made = manifest.vocabulary
    yield "## Vocabulary"
    yield (
        f"{count(made.size)} ids; a document ends with id {made.eod_id}. Digest `{made.digest}`, of the layout "
        f"alone `{made.layout_digest}`; tokenizer {_inline(made.tokenizer_file)}, sha256 `{made.tokenizer_sha256}`."
    )
    if ranges := id_ranges(manifest):
        rows = ((r.name, r.modality, count(r.start), count(r.last), count(r.size)) for r in ranges)
        yield _table(("range", "modality", "first id", "last id", "ids"), rows)


def _checks(manifest: Manifest) -> Iterator[str]:
    yield "## Verify, look, rebuild"
    yield "In this folder:"
    yield _fenced(commands(manifest))
    yield (
        "`verify` compares every shard with the hash in the manifest; `show` decodes one document. The same recipe "
        "over the same records gives the same digest, with any number of processes:"
    )
    yield _fenced(json.dumps(manifest.builder, indent=2, ensure_ascii=False, sort_keys=True), "json")


def _example(example: Example, folder: Path) -> Iterator[str]:
    yield f"### {_inline(example.template)}"
    yield f"Source {_inline(example.source)}."
    for medium in example.media:
        yield _medium(medium, folder)
    text = example.text
    if len(text) > MAX_EXAMPLE_CHARACTERS:
        text = f"{text[:MAX_EXAMPLE_CHARACTERS]}\n[{count(len(text) - MAX_EXAMPLE_CHARACTERS)} more characters]"
    yield _fenced(text)


def _medium(medium: MediaExample, folder: Path) -> str:
    note = _inline(medium.note or medium.modality)
    if isinstance(medium.content, Path) and medium.content.absolute().is_relative_to(folder.absolute()):
        link = os.path.relpath(medium.content, folder)
        if not re.search(r"[\s()<>]", link):
            return f"{'!' if medium.modality == 'image' else ''}[{note}]({link})"
    return f"{_inline(medium.modality)}: {note}"


class _Marked(str):
    """Markdown already."""

    __slots__ = ()


def _inline(text: str) -> str:
    """Text on one line that no Markdown reader takes for markup."""
    if isinstance(text, _Marked):
        return text
    return _MARKS.sub(r"\\\1", html.escape(" ".join(shown(text).split()), quote=False))


def _listed(counts: dict[str, int]) -> _Marked:
    return _Marked(", ".join(f"{_inline(name)} {count(number)}" for name, number in counts.items()) or NOTHING)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(map(_inline, row)) + " |" for row in (headings, *rows)]
    return "\n".join([lines[0], "|" + " --- |" * len(headings), *lines[1:]])


def _fenced(text: str, language: str = "") -> str:
    """Text as it is, between fences that are longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language or 'text'}\n{shown(text)}\n{fence}"
