"""The data card says what the manifest says, in Markdown that no record can break."""

import json
import re
from typing import Any

from report_data import EVIL, evil_document, evil_examples, minimal_document

from mmhydra.data.report.card import MAX_EXAMPLE_CHARACTERS, card, write_card
from mmhydra.data.report.examples import Example, MediaExample
from mmhydra.data.report.page import report
from mmhydra.data.shards.manifest import Manifest, load_manifest, write_manifest


def read(document: dict[str, Any]) -> Manifest:
    return Manifest.model_validate_json(json.dumps(document))


def test_what_a_person_looks_for_is_there(manifest, examples, tmp_path):
    text = card(manifest, examples, tmp_path)
    for expected in (
        "# Data card: demo-v2",
        "> **UNTRAINED: PLUMBING ONLY.** The codecs of image, video have seeded random weights.",
        f"Digest: `{manifest.digest}`",
        "| stdlib_code | source files of the Python standard library | text | PSF-2.0 258 | python 258 | 1 |",
        "| pictures | train | 82 | 2,100 | 20,992 | 0 | 0 | 246 | 23,338 | 13,000 |",
        "image_then_text 51",
        "| near_duplicates | 688 | 10 | 0 |",
        "| duplicate_near | 10 | 1.4% |",
        "Personal data found in the 712 records looked at: email 56, phone 10, card 1.",
        "| image | **untrained: plumbing only** |",
        "| audio | trained | weights from encodec_24khz-d7cc33bc.th |",
        f"of the layout alone `{'2' * 64}`",
        "| audio | audio | 2,624 | 3,135 | 512 |",
        "python -m mmhydra.data verify .\npython -m mmhydra.data show shards/stdlib_code-train-00000.tar KEY",
        '"corpus_mb": 6.0',
        "![decoded from 256 ids](examples/picture.png)",
        "audio: 0.5 s",
        "A red square, and nothing else.<|endoftext|>",
    ):
        assert expected in text, expected
    for example in examples:
        assert f"### {example.template}\n" in text


def test_personal_data_is_of_the_records_that_its_filter_saw(manifest, document, tmp_path):
    seen = sum(source.statistics.filters["pii"].seen for source in manifest.sources)
    records = sum(source.statistics.records for source in manifest.sources)
    assert seen == records - 10 - 3, "not what was broken, nor what the license filter refused"
    assert f"Personal data found in the {seen:,} records looked at" in card(manifest, [], tmp_path)
    for source in document["sources"]:
        source["statistics"]["pii"] = {}
    assert f"in the {seen:,} records looked at: none." in card(read(document), [], tmp_path)
    for source in document["sources"]:
        del source["statistics"]["filters"]["pii"]
    assert "No filter looked for personal data." in card(read(document), [], tmp_path)


def test_the_languages_of_the_shipped_toxicity_list_are_told(document, tmp_path):
    told = "The toxicity filter used the word list that comes with mmhydra."
    assert told not in card(read(document), [], tmp_path), "nothing is known of the list"
    toxicity = next(entry for entry in document["builder"]["recipe"]["filters"] if entry["kind"] == "toxicity")
    toxicity["words_file"] = "words.txt"
    assert told not in card(read(document), [], tmp_path)
    toxicity["words_file"] = None
    text, page = card(read(document), [], tmp_path), report(read(document), [])
    assert told in text
    assert told in page
    assert "German, French, Spanish and Chinese" in text


def test_tables_have_as_many_cells_in_each_row(document, tmp_path):
    manifest = Manifest.model_validate_json(json.dumps(evil_document(document)))
    for block in card(manifest, [], tmp_path).split("\n\n"):
        if block.startswith("|"):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


def test_no_record_gets_out_of_its_place(document, tmp_path):
    manifest = Manifest.model_validate_json(json.dumps(evil_document(document)))
    text = card(manifest, evil_examples(), tmp_path)
    inside, open_fence = [], ""
    for line in text.splitlines():
        fence = re.match("`{3,}", line)
        if open_fence:
            open_fence = "" if line == open_fence else open_fence
        elif fence:
            open_fence = fence[0]
        else:
            inside.append(line)
    assert not open_fence
    assert not [line for line in inside if "<" in line], "a reader that lets HTML through finds none"
    assert "document.title" in "\n".join(inside)
    assert EVIL in text, "between fences it stands as it is"
    headings = [line for line in inside if line.startswith("#")]
    assert "# not a heading" not in headings


def test_only_files_of_the_dataset_are_linked(manifest, tmp_path):
    folder = tmp_path / "demo"
    folder.mkdir()
    media = [
        MediaExample("image", folder / "a.png"),
        MediaExample("image", tmp_path / "b.png"),
        MediaExample("image", folder / "c (1).png"),
        MediaExample("audio", folder / "d.wav", "two | three"),
    ]
    text = card(manifest, [Example("s", "t", "x", media)], folder)
    assert re.findall(r"\]\((.*?)\)", text) == ["a.png", "d.wav"]
    assert r"[two \| three](d.wav)" in text


def test_the_manifest_in_the_folder_gives_the_same_card_as_the_one_in_memory(manifest, examples, tmp_path):
    write_manifest(tmp_path, manifest)
    assert card(load_manifest(tmp_path), examples, tmp_path) == card(manifest, examples, tmp_path)


def test_long_examples_are_cut_and_say_so(manifest, tmp_path):
    text = card(manifest, [Example("s", "t", "x" * (MAX_EXAMPLE_CHARACTERS + 1234))], tmp_path)
    assert "[1,234 more characters]" in text


def test_a_manifest_with_nothing_in_it_has_a_card(tmp_path):
    manifest = Manifest.model_validate_json(json.dumps(minimal_document()))
    write_card(tmp_path / "data_card.md", manifest, [])
    text = (tmp_path / "data_card.md").read_text()
    for expected in ("No filter was applied.", "No record was refused.", "text alone", "No document was decoded."):
        assert expected in text
    assert "plumbing" not in text.lower()
