"""The governance report says what the manifest says, and nothing in it is taken for markup."""

import base64
import json
from html.parser import HTMLParser
from typing import Any

import pytest
from report_data import EVIL, evil_document, evil_examples, minimal_document

from mmhydra.data.report.examples import MAX_EMBEDDED_BYTES, Example, MediaExample
from mmhydra.data.report.page import report, write_report
from mmhydra.data.report.sections import SECTIONS
from mmhydra.data.shards.manifest import Manifest, load_manifest, write_manifest


class Reader(HTMLParser):
    """Elements with their attributes, and the text of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        self.text = "\n".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def tags(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(document: dict[str, Any], examples: list[Example]) -> Reader:
    return Reader(report(Manifest.model_validate_json(json.dumps(document)), examples))


def test_every_number_is_beside_its_plot(document, examples):
    page = read(document, examples)
    for expected in (
        "demo-v2", "1,863,625", "1,421,052", "22,016", "55,200", "32,000",  # tokens
        "python", "zh", "PSF-2.0", "CC-BY-4.0",
        "duplicate_near", "sample_rate_mismatch", "near_duplicates", "email", "card",
        "six_cameras", "image_then_text", "untrained: plumbing only", "weights from encodec_24khz-d7cc33bc.th",
        "shards/pictures-heldout-00000.tar", "python -m mmhydra.data verify .", "2,048",
    ):  # fmt: skip
        assert expected in page.words or expected in page.text, expected
    assert page.text.count("Untrained: plumbing only.") == 1
    assert len(page.tags("svg")) == 20
    assert {attributes["id"] for attributes in page.tags("section")} == {
        *(name for name, _ in SECTIONS), "codecs", "examples", "recipe"
    }  # fmt: skip
    assert {link["href"] for link in page.tags("a")} == {f"#{section['id']}" for section in page.tags("section")}


def test_personal_data_is_of_the_records_that_its_filter_saw(document):
    assert "67 findings in the 712 records that the filter looked at" in read(document, []).text
    for source in document["sources"]:
        source["statistics"]["pii"] = {}
    assert "Nothing was found in the 712 records that the filter looked at." in read(document, []).text


def test_media_are_in_the_page(document, examples):
    page = read(document, examples)
    images = [attributes["src"] or "" for attributes in page.tags("img")]
    assert [source.partition(";")[0] for source in images] == ["data:image/png", "data:image/gif"]
    assert base64.b64decode(images[0].partition(",")[2]).startswith(b"\x89PNG")
    assert [(a["src"] or "")[:15] for a in page.tags("audio")] == ["data:audio/wav;"]
    assert "camera_front (19 bytes, not shown here)" in page.text
    large = b"\x89PNG\r\n\x1a\n" + bytes(MAX_EMBEDDED_BYTES)
    page = read(document, [Example("s", "t", "", [MediaExample("image", large, "large")])])
    assert not page.tags("img")
    assert "large (2.0 MB, not shown here)" in page.text


def test_all_is_trained_then_nothing_is_loud(document, examples):
    for codec in document["codecs"].values():
        codec |= {"trained": True, "note": "weights"}
    assert "plumbing" not in read(document, examples).text


@pytest.mark.parametrize("examples_too", [False, True])
def test_a_manifest_with_nothing_in_it_has_a_page(examples_too):
    page = read(minimal_document(), evil_examples() if examples_too else [])
    assert "Nothing was counted." in page.text
    assert "No record was refused." in page.text


def test_the_page_needs_nothing_else_and_runs_nothing(document, examples):
    page = read(document, examples)
    assert not page.tags("script") + page.tags("link") + page.tags("iframe") + page.tags("object")
    policy = next(a for a in page.tags("meta") if a.get("http-equiv") == "Content-Security-Policy")["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    style = report(Manifest.model_validate_json(json.dumps(document)), []).partition("<style>")[2]
    assert "url(" not in style.partition("</style>")[0]
    assert "@import" not in style
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name != "style", "the policy refuses it"
            if name in ("src", "href", "data", "action", "xlink:href"):
                assert value is not None
                assert value.startswith(("data:image/", "data:audio/", "data:video/", "#"))


def test_no_text_of_a_record_becomes_an_element(document, examples):
    honest = read(document, examples)
    evil = read(evil_document(document), evil_examples())
    assert not evil.tags("script")
    assert not [name for _, attributes in evil.elements for name in attributes if name.startswith("on")]
    assert {tag for tag, _ in evil.elements} <= {tag for tag, _ in honest.elements}
    assert evil.text.count(EVIL) > 60, "it is shown as what it is"


def test_the_same_bytes_each_time(manifest, examples, tmp_path):
    pages = []
    for name in ("a", "b"):
        (tmp_path / name / "demo-v2").mkdir(parents=True)
        write_report(tmp_path / name / "demo-v2" / "governance.html", manifest, examples)
        pages.append((tmp_path / name / "demo-v2" / "governance.html").read_bytes())
    assert pages[0] == pages[1]
    assert len(pages[0]) < 200_000


def test_the_manifest_in_the_folder_gives_the_same_page_as_the_one_in_memory(manifest, examples, tmp_path):
    write_manifest(tmp_path, manifest)
    assert report(load_manifest(tmp_path), examples) == report(manifest, examples)


def test_many_rows_keep_the_plots_small_and_the_tables_whole(document):
    languages = {f"l{i:03d}": 1000 - i for i in range(150)}
    document["sources"][0]["statistics"]["languages"] = languages
    page = read(document, [])
    assert all(name in page.text for name in languages)
    heights = [float((a["viewbox"] or "").split()[3]) for a in page.tags("svg")]
    assert max(heights) < 600
