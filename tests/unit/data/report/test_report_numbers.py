"""Sums, charts and how numbers are written."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_data import CHAIN, assert_funnel_adds_up, minimal_document

from mmhydra.data.report import totals
from mmhydra.data.report.charts import Bar, bars, bin_name, columns, nice_ticks, series_class
from mmhydra.data.report.examples import media_type
from mmhydra.data.report.facts import id_ranges
from mmhydra.data.report.markup import Html, element, escape, percent, short, shown, size
from mmhydra.data.shards.manifest import Manifest
from mmhydra.data.shards.statistics import SourceStatistics


def test_numbers_are_short_and_never_claim_nothing_or_all():
    assert [short(n) for n in (0, 7, 999, 1000, 1234, 99_960, 999_999, 1_234_567, 3e12)] == [
        "0", "7", "999", "1k", "1.23k", "100k", "1M", "1.23M", "3T"
    ]  # fmt: skip
    shares = ((0, 5), (1, 100_000), (1, 3), (99_999, 100_000), (5, 5), (1, 0))
    assert [percent(*share) for share in shares] == ["0.0%", "< 0.1%", "33.3%", "> 99.9%", "100.0%", "—"]
    assert [size(n) for n in (0, 999, 1000, 4_200_000, 10**13)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "4.2 MB",
        "10.0 TB",
    ]


@given(st.text())
def test_text_never_becomes_markup(text):
    made = element("p", text, title=text)
    assert re.fullmatch(r'<p title="[^"<>]*">[^<>]*</p>', made, re.DOTALL)
    made.encode("utf-8")


def test_only_markup_stays_as_it_is():
    assert element("p", element("b", "<&>"), None, Html("<br>")) == "<p><b>&lt;&amp;&gt;</b><br></p>"
    assert element("rect", stroke_width=1.5, x=2.0, class_="a", hidden=None, controls=True) == (
        '<rect stroke-width="1.5" x="2" class="a" controls></rect>'
    )
    assert shown("a\x00b\u202ec\ud800\n\t") == "a\ufffdb\ufffdc\ufffd\n\t"
    assert escape("\"'") == "&quot;&#x27;"


def test_funnel_goes_from_records_to_accepted(manifest):
    stages = totals.funnel(manifest)
    assert_funnel_adds_up(stages, manifest)
    names = [stage.name for stage in stages]
    assert names == [totals.UNREADABLE, *CHAIN[:5], totals.REPEATED, *CHAIN[5:], totals.NOT_RENDERED]
    refused = {stage.name: stage.rejected for stage in stages}
    assert refused[totals.UNREADABLE] == 3 + 3 + 2 + 1 + 1
    assert refused[totals.REPEATED] == 2
    assert refused[totals.NOT_RENDERED] == 1
    assert next(s for s in stages if s.name == "pii").changed == 31 + 31 + 4 + 1


@pytest.mark.parametrize(
    "rejected", [{}, {"duplicate_id": 3}, {"template_mismatch": 1, "duplicate_id": 1, "no_text": 2}]
)
def test_funnel_without_filters_goes_by_reason(rejected):
    document = minimal_document()
    refused = {"not_json": 2, **rejected}
    document["sources"][0]["statistics"] = {"records": 9, "accepted": 9 - sum(refused.values()), "rejected": refused}
    manifest = Manifest.model_validate_json(json.dumps(document))
    stages = totals.funnel(manifest)
    assert_funnel_adds_up(stages, manifest)
    assert {stage.name: stage.rejected for stage in stages} == {
        totals.UNREADABLE: 2 + rejected.get("template_mismatch", 0),
        **({totals.REPEATED: rejected["duplicate_id"]} if "duplicate_id" in rejected else {}),
        **({totals.NOT_RENDERED: rejected["no_text"]} if "no_text" in rejected else {}),
    }


def test_filters_that_the_recipe_does_not_name_are_ordered_by_what_they_saw(document):
    for builder in ({}, {"recipe": "x"}, {"recipe": {"filters": [1, {}, {"kind": "toxicity"}]}}):
        document["builder"] = builder
        names = list(totals.filter_counts(Manifest.model_validate_json(json.dumps(document))))
        named = ["toxicity"] if builder.get("recipe", "x") != "x" else []
        # language and pii saw the same number: by name.
        rest = ["license", "language", "pii", *CHAIN[3:]]
        assert names == named + [name for name in rest if name not in named]


def test_sums_of_tokens_splits_and_toxicity(manifest):
    pictures = manifest.sources[2].statistics
    assert totals.tokens_by_modality(pictures) == {"text": 2204, "image": 22016, "special": 258}
    assert list(totals.tokens_by_modality(pictures)) == ["text", "image", "special"]
    assert totals.num_tokens(pictures, "heldout") == 104 + 1024 + 12
    assert totals.num_tokens(pictures, "nowhere") == 0
    assert totals.splits(manifest) == ["train", "heldout"]
    assert totals.modalities(manifest) == ["text", "image", "audio", "video", "special"]
    toxic = totals.toxicity(pictures)
    assert toxic is not None
    assert (toxic.seen, toxic.rejected) == (98 - 2 - 3 - 2, 1)
    assert totals.toxicity(SourceStatistics()) is None
    assert totals.untrained(manifest) == ["image", "video"]
    assert sorted(["image_text", "odd", "text", "audio"], key=totals.modality_order) == [
        "text", "image_text", "audio", "odd"
    ]  # fmt: skip


def test_histograms_are_added_by_modality_unless_their_bins_differ(document):
    video = document["sources"][4]["statistics"]["histograms"]
    video["duration_error"] = {"unit": "s", "edges": [0, 1], "counts": [5]}
    manifest = Manifest.model_validate_json(json.dumps(document))
    found = totals.histogram(manifest, "duration_error")
    assert found is not None
    assert sum(found[0].counts) == 46
    assert list(found[1]) == ["audio"]
    both = totals.histogram(manifest, "characters_per_second")
    assert both is not None
    assert {name: sum(counts) for name, counts in both[1].items()} == {"audio": 46, "video": 29}
    assert both[0].counts == tuple(map(sum, zip(*both[1].values(), strict=True)))
    assert totals.histogram(manifest, "nothing") is None
    assert totals.histogram_names(manifest)[0] == "document_length"


def test_ranges_follow_each_other_unless_they_say_where_they_start(manifest):
    ranges = [(r.name, r.start, r.last) for r in id_ranges(manifest)]
    assert ranges == [
        ("text", 0, 2047), ("special", 2048, 2111), ("image", 2112, 2623), ("audio", 2624, 3135), ("video", 3136, 3647)
    ]  # fmt: skip
    for layout in ({}, {"ranges": "x"}, {"ranges": [1, {"name": "a"}, {"size": "9"}]}):
        changed = manifest.model_copy(update={"vocabulary": manifest.vocabulary.model_copy(update={"layout": layout})})
        assert id_ranges(changed) == []


def rectangles(svg: str, series: str) -> list[dict[str, float]]:
    found = re.findall(
        rf'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" class="bar s-{series}">', svg
    )
    return [dict(zip(("x", "y", "width", "height"), map(float, values), strict=True)) for values in found]


def test_bars_are_as_long_as_their_numbers():
    svg = bars("t", [Bar("a", {"text": 300, "image": 100}), Bar("b", {"text": 200}), Bar("c", {"text": 0})])
    text, image = rectangles(svg, "text"), rectangles(svg, "image")
    assert len(text) == 2
    assert text[0]["width"] == pytest.approx(3 * image[0]["width"], rel=0.01)
    assert text[0]["width"] == pytest.approx(1.5 * text[1]["width"], rel=0.01)
    assert image[0]["x"] == pytest.approx(text[0]["x"] + text[0]["width"], abs=0.1)
    assert "a · text: 300" in svg
    half = rectangles(bars("t", [Bar("a", {"text": 0.5})], whole=1.0), "text")[0]["width"]
    assert half == pytest.approx(2 / 3 * text[0]["width"], rel=0.01)


def test_columns_are_as_high_as_their_numbers_and_stand_on_each_other():
    svg = columns("t", (0, 1, 2, 3), {"text": (40, 0, 10), "image": (20, 5, 0)}, "s", target=(1, 2))
    text, image = rectangles(svg, "text"), rectangles(svg, "image")
    assert (len(text), len(image)) == (2, 2), "nothing is drawn for a zero"
    assert text[0]["height"] == pytest.approx(4 * text[1]["height"], rel=0.01)
    assert image[0]["y"] + image[0]["height"] == pytest.approx(text[0]["y"], abs=0.1)
    assert svg.count('class="target"') == 1


@given(st.integers(0, 10**15))
def test_ticks_are_few_round_and_reach_the_largest(largest):
    ticks = nice_ticks(largest)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= 6
    assert ticks[-1] >= largest
    assert all(tick == int(tick) for tick in ticks)


def test_names_of_bins_series_and_files():
    edges = (0.0, 512.0, 1024.0, 1048576.0)
    assert [bin_name(edges, i).replace("\u00a0", " ") for i in range(3)] == ["below 512", "512 to 1Ki", "1Ki or more"]
    assert [series_class(s) for s in ("text", "image_text", "heldout", '"><b>')] == [
        "text",
        "image",
        "heldout",
        "other",
    ]
    files = (b"\x89PNG\r\n\x1a\n..", b"RIFF....WAVEfmt ", b"....ftypisom", b"", b"<script>")
    assert [media_type(content) for content in files] == [
        "image/png", "audio/wav", "video/mp4", None, None
    ]  # fmt: skip
