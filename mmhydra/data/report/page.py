"""The governance report: one HTML page that needs nothing but itself, and runs no script."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from mmhydra.config.codecs import UNTRAINED
from mmhydra.data.report import totals
from mmhydra.data.report.examples import MAX_EMBEDDED_BYTES, Example, MediaExample, data_uri, media_type
from mmhydra.data.report.facts import commands, limits, warning
from mmhydra.data.report.markup import Html, count, element, join, percent, short, size
from mmhydra.data.report.sections import SECTIONS
from mmhydra.data.shards.manifest import CodecInfo, Manifest
from mmhydra.files import write_atomic

_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def write_report(path: Path, manifest: Manifest, examples: Sequence[Example]) -> None:
    """Writes the page to `path`. The same manifest and examples give the same bytes. Raises OSError.

    All text is escaped, and the page's own policy lets a browser load nothing and run nothing, whatever a record says.
    """
    write_atomic(path, report(manifest, examples).encode("utf-8"))


def report(manifest: Manifest, examples: Sequence[Example]) -> str:
    """The page as text."""
    names = [name for name, _ in SECTIONS] + ["codecs", "examples", "recipe"]
    body = [
        _header(manifest),
        element("nav", element("div", join(element("a", name, href=f"#{name}") for name in names))),
        element(
            "main",
            *(section(manifest) for _, section in SECTIONS),
            _codecs(manifest),
            _examples(examples),
            _recipe(manifest),
        ),
        element("footer", "Made from ", element("code", "manifest.json"), " alone, and from decoded documents."),
    ]
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy()),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{manifest.dataset}: governance report"),
        element("style", Html(_STYLE)),
    ]
    page = element("html", element("head", *head), element("body", *body), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _policy() -> str:
    """Nothing is loaded, sent or run; the one style is known by its hash, media stand in the page."""
    style = base64.b64encode(hashlib.sha256(_STYLE.encode("utf-8")).digest()).decode("ascii")
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _header(manifest: Manifest) -> Html:
    statistics = [source.statistics for source in manifest.sources]
    records, accepted = sum(s.records for s in statistics), sum(s.accepted for s in statistics)
    documents = sum(sum(s.documents.values()) for s in statistics)
    tokens = sum(totals.num_tokens(s) for s in statistics)
    shards = manifest.shards
    tiles = (
        ("tokens", short(tokens), count(tokens)),
        ("documents", short(documents), f"in {len(totals.splits(manifest))} splits"),
        ("records accepted", percent(accepted, records), f"{count(accepted)} of {count(records)}"),
        ("sources", str(len(statistics)), ", ".join(totals.modalities(manifest))),
        ("shards", short(len(shards)), size(sum(shard.size_bytes for shard in shards))),
        ("vocabulary", short(manifest.vocabulary.size), f"{count(manifest.vocabulary.size)} ids"),
    )
    text = warning(manifest)
    loud = element("p", element("strong", UNTRAINED.capitalize() + "."), f" {text}", class_="warning", role="alert")
    return element(
        "header",
        element("p", "Governance report", class_="kind"),
        element("h1", manifest.dataset),
        element("p", "Digest ", element("code", manifest.digest), class_="soft"),
        loud if text else None,
        element(
            "dl",
            *(
                element("div", element("dt", name), element("dd", value, element("small", more)), class_="tile")
                for name, value, more in tiles
            ),
            class_="tiles",
        ),
    )


def _codecs(manifest: Manifest) -> Html:
    names = sorted(manifest.codecs, key=totals.modality_order)
    cards = [_codec(name, manifest.codecs[name]) for name in names]
    return element(
        "section",
        element("h2", "Codecs"),
        element("p", "How pictures, sounds and clips became ids.", class_="lead"),
        element("div", *cards, class_="cards") if cards else element("p", "This dataset has text alone."),
        id="codecs",
    )


def _codec(modality: str, codec: CodecInfo) -> Html:
    badge = element(
        "span", "trained" if codec.trained else UNTRAINED, class_="badge good" if codec.trained else "badge bad"
    )
    return element(
        "div",
        element("h3", modality, " ", badge),
        element("p", codec.note) if codec.note != UNTRAINED else None,
        element("p", "digest ", element("code", codec.digest), class_="soft"),
        element("pre", _json(codec.settings)),
        class_="card",
    )


def _examples(examples: Sequence[Example]) -> Html:
    cards = [
        element(
            "div",
            element("h3", example.template),
            element("p", f"source {example.source}", class_="soft"),
            element("div", *map(_medium, example.media), class_="media") if example.media else None,
            element("pre", example.text),
            class_="card example",
        )
        for example in examples
    ]
    return element(
        "section",
        element("h2", "Decoded examples"),
        element("p", "One document of each template, decoded from the ids in its shard.", class_="lead"),
        element("div", *cards, class_="cards") if cards else element("p", "No document was decoded."),
        id="examples",
    )


def _medium(medium: MediaExample) -> Html:
    content = medium.read()
    kind = media_type(content)
    note = medium.note or medium.modality
    if kind is None or len(content) > MAX_EMBEDDED_BYTES:
        return element("figure", element("figcaption", f"{note} ({size(len(content))}, not shown here)"))
    uri = data_uri(content, kind)
    if kind.startswith("image/"):
        shown = element("img", src=uri, alt=note)
    else:
        tag = "audio" if kind.startswith("audio/") else "video"
        shown = element(tag, src=uri, controls=True, preload="metadata", title=note)
    return element("figure", shown, element("figcaption", note))


def _recipe(manifest: Manifest) -> Html:
    return element(
        "section",
        element("h2", "Recipe, checks and limits"),
        element(
            "p", "The same recipe over the same records gives the same digest. To type in this folder:", class_="lead"
        ),
        element("pre", commands(manifest)),
        element("ul", *(element("li", limit) for limit in limits(manifest))),
        element(
            "details",
            element("summary", "the recipe, as the manifest keeps it"),
            element("pre", _json(manifest.builder)),
        ),
        id="recipe",
    )


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
