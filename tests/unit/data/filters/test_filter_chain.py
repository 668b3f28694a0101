import pickle
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from mmhydra.config.filters import Filter, MediaLimits, chain_problems
from mmhydra.data.demo.testset import ACCEPTED, TESTSET_FILES, TESTSET_FILTERS, TESTSET_LIMITS, write_testset
from mmhydra.data.filters.chain import Chain
from mmhydra.data.filters.duplicates import Deduplicator
from mmhydra.data.filters.reasons import FILTER_REASONS
from mmhydra.data.records.batches import list_files, read, scan
from mmhydra.data.records.crawl import Crawl, render
from mmhydra.data.records.load import load
from mmhydra.data.records.media import LoadedRecord
from mmhydra.data.records.parse import parse
from mmhydra.data.records.reasons import REASONS, BadRecord
from mmhydra.data.records.record import Record
from mmhydra.errors import UserError

FILTERS = TypeAdapter(list[Filter])
LIMITS = MediaLimits.model_validate(TESTSET_LIMITS)


@pytest.fixture(scope="module")
def testset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("testset")
    return folder, write_testset(folder)


def outcomes(folder, records_per_batch):
    """What became of each record, in order."""
    chain = Chain.of(FILTERS.validate_python(TESTSET_FILTERS), folder)
    dedup = Deduplicator(chain.duplicates)
    found = []
    for ref in scan(list_files(TESTSET_FILES, folder), records_per_batch):
        for raw in read(ref):
            try:
                judged = chain.judge(load(parse(raw), folder, LIMITS))
            except BadRecord as error:
                found.append((error.reason, error.detail))
                continue
            if judged.reason is not None:
                found.append((judged.reason, judged.detail))
                continue
            twin = dedup.feed(len(found), judged.exact_key, judged.signature)
            found.append(twin or (ACCEPTED, pickle.dumps((judged.exact_key, judged.loaded.text))))
    return found


def test_the_test_set_has_every_reason_and_ends_as_expected(testset):
    folder, expected = testset
    found = outcomes(folder, 50)
    assert Counter(reason for reason, _ in found) == expected
    assert expected.keys() == {ACCEPTED, *REASONS, *FILTER_REASONS}
    assert expected[ACCEPTED] > 150


def test_the_test_set_in_another_folder_and_other_batches_ends_the_same(testset, tmp_path):
    folder, _ = testset
    write_testset(tmp_path)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert all((folder / path).read_bytes() == (tmp_path / path).read_bytes() for path in files)
    assert outcomes(tmp_path, 7) == outcomes(folder, 1000)


def judged(text, filters, folder=None, **metadata):
    record = {"unique_id": "a", "source": "s", "modalities": ["text"], "text": text, "metadata": metadata}
    chain = Chain.of(FILTERS.validate_python(filters), folder)
    return chain.judge(LoadedRecord(Record.model_validate(record), text=text))


PII = {"kind": "pii", "find": ["email"], "phone_regions": [], "action": "redact"}
LICENSE = {"kind": "license", "allow": ["MIT"]}
EXACT = {"kind": "exact_duplicates"}
NEAR = {"kind": "near_duplicates", "num_perm": 64, "threshold": 0.8, "shingle_words": 2, "min_words": 4}


def test_a_record_that_passes():
    made = judged("Write to a@example.org about the old bridge.", [PII, LICENSE, EXACT, NEAR], license="MIT")
    assert made.passed == ("pii", "license")
    assert (made.rejected_by, made.reason, made.detail) == (None, None, "")
    assert made.changed_by == ("pii",)
    assert made.pii == {"email": 1}
    assert made.loaded.text == "Write to [EMAIL] about the old bridge."
    assert len(made.exact_key) == 16
    assert made.signature.shape == (64,)


def test_a_record_that_is_refused_goes_no_further():
    made = judged("Write to a@example.org.", [LICENSE, PII, EXACT, NEAR], license="GPL-3.0-only", language="en")
    assert made.passed == ()
    assert (made.rejected_by, made.reason) == ("license", "license_not_allowed")
    assert made.pii == {}
    assert made.language == "en"
    assert made.exact_key is None
    assert made.signature is None


@pytest.mark.parametrize(
    ("stated", "license"),
    [
        ("mit", "MIT"),
        ("The MIT License", "MIT"),
        ("psf-2.0 or mit", "PSF-2.0 OR MIT"),
        ("my own", "my own"),
        (None, None),
    ],
)
def test_licences_are_told_by_their_canonical_name(stated, license):
    assert judged("Some text.", [PII], license=stated).license == license


def test_evaluation_items_that_guard_nothing_are_told(tmp_path):
    (tmp_path / "set.txt").write_text("Eight words are enough for an item here.\nToo short.\n")
    entry = {"kind": "decontamination", "files": ["set.txt"], "num_words": 13, "num_characters": 30}
    chain = Chain.of(FILTERS.validate_python([{**entry, "min_words": 8, "min_characters": 16}]), tmp_path)
    assert chain.guarded == {"set.txt": (1, 1)}


def test_the_docs_say_of_each_reason_what_the_code_says():
    docs = Path(__file__).resolve().parents[4] / "docs"
    for name, reasons in (("records.md", REASONS), ("filters.md", FILTER_REASONS)):
        text = (docs / name).read_text(encoding="utf-8").replace("\\|", "|")
        assert [reason for reason, meaning in reasons.items() if f"| `{reason}` | {meaning} |" not in text] == []


def test_redacted_texts_are_compared_redacted():
    one, two = (judged(f"Write to {name}@example.org.", [PII, EXACT]) for name in ("ann", "bob"))
    assert one.exact_key == two.exact_key


def test_names_are_in_order_and_the_empty_chain_passes_all():
    assert Chain.of(FILTERS.validate_python([PII, LICENSE, EXACT, NEAR]), None).names == (
        "pii",
        "license",
        "exact_duplicates",
        "near_duplicates",
    )
    assert judged("x", []).reason is None


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ([EXACT, PII], "filter pii stands after a filter of duplicates"),
        ([NEAR, EXACT], "exact_duplicates stands after near_duplicates"),
        ([PII, LICENSE, PII], "filter pii is there 2 times"),
    ],
)
def test_orders_that_are_refused(filters, message):
    assert any(message in problem for problem in chain_problems(FILTERS.validate_python(filters)))
    with pytest.raises(UserError, match=message):
        Chain.of(FILTERS.validate_python(filters), None)


@pytest.mark.parametrize("entry", [{"kind": "other"}, {"kind": "license"}, {**PII, "action": "keep"}, {**NEAR, "x": 1}])
def test_sections_are_strict_and_have_no_defaults(entry):
    with pytest.raises(ValidationError):
        FILTERS.validate_python([entry])


def yaml_of_docs(name):
    text = (Path(__file__).resolve().parents[4] / "docs" / name).read_text(encoding="utf-8")
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


def test_the_chain_and_limits_of_the_docs_are_valid(tmp_path):
    (chain,) = yaml_of_docs("filters.md")
    filters = FILTERS.validate_python(chain["filters"])
    assert chain_problems(filters) == []
    assert {entry.kind for entry in filters} == {entry["kind"] for entry in TESTSET_FILTERS}
    limits, crawl = yaml_of_docs("records.md")
    assert MediaLimits.model_validate(limits["limits"]).max_seconds > 0
    assert render(Crawl.model_validate(crawl["crawl"]), ["dQw4w9WgXcQ"]).startswith("yt-dlp")


def test_the_docs_have_every_reason():
    docs = Path(__file__).resolve().parents[4] / "docs"
    for name, reasons in (("records.md", REASONS), ("filters.md", FILTER_REASONS)):
        listed = set(re.findall(r"^\| `(\w+)` \|", (docs / name).read_text(encoding="utf-8"), re.MULTILINE))
        assert reasons.keys() <= listed, name
