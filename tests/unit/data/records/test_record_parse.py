import contextlib
import datetime
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhydra.data.records.batches import RawRecord
from mmhydra.data.records.parse import parse
from mmhydra.data.records.reasons import BadRecord
from mmhydra.data.records.record import Record

GOOD = {"unique_id": "a", "source": "s", "modalities": ["text"], "text": "Some text."}


def parsed(value, fault=""):
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse(RawRecord("f:1", content, fault))


def reason(value, fault=""):
    with pytest.raises(BadRecord) as caught:
        parsed(value, fault)
    return caught.value.reason


def test_the_record_of_the_source():
    record = parsed(
        {
            "unique_id": "youtube_dQw4w9WgXcQ",
            "source": "youtube",
            "source_uri": "https://example.org",
            "modalities": ["text", "audio", "video"],
            "data_paths": {"text": "text/id.txt", "audio": "audio/id.wav", "video": "video/id.mp4"},
            "metadata": {
                "title": "t",
                "license": "CC-BY-3.0",
                "upload_date": "20231013",
                "duration_seconds": 12,
                "resolution": {"width": 640, "height": 360},
                "sample_rate_hz": 24000,
                "language": "en",
                "channel": {"name": "kept as it is"},
            },
            "quality_scores": {"text_perplexity": 20.5},
            "processing_log": [{"stage": "dedup", "timestamp": "2023-10-13T10:00:00Z", "hash": "ff"}],
            "data_card_info": {"collection_process": "crawl"},
        }
    )
    assert record.metadata.upload_date == "2023-10-13"
    assert record.data_paths.get("audio") == ("audio/id.wav",)
    assert record.metadata.model_extra == {"channel": {"name": "kept as it is"}}
    assert parsed(record.model_dump_json(exclude_none=True).encode()) == record


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"unique_id": 1}, "schema"),
        ({"unique_id": ""}, "schema"),
        ({"modalities": []}, "schema"),
        ({"modalities": "text"}, "schema"),
        ({"other": 1}, "schema"),
        ({"quality_scores": {"a": "1"}}, "schema"),
        ({"metadata": {"upload_date": "13/10/2023"}}, "schema"),
        ({"metadata": {"resolution": {"width": 0, "height": 1}}}, "schema"),
        ({"data_paths": {"text": "a.txt"}}, "schema"),
        ({"data_paths": {"smell": "a.txt"}}, "schema"),
        ({"data_paths": {"image": []}}, "schema"),
        ({"modalities": ["text", "smell"]}, "unknown_modality"),
        ({"data_paths": {"image": "a/../../b.png"}}, "bad_path"),
        ({"data_paths": {"image": ["ok.png", "https://example.org/b.png"]}}, "bad_path"),
        ({"modalities": ["text", "image"]}, "modality_mismatch"),
        ({"modalities": ["text", "text"]}, "modality_mismatch"),
        ({"data_paths": {"camera_front": "a.mp4"}}, "modality_mismatch"),
        ({"text": "<|image|>"}, "placeholder_mismatch"),
        ({"metadata": {"captions": [{"start_s": 2, "end_s": 1, "text": "x"}]}}, "corrupt_captions"),
    ],
)
def test_refused(changes, expected):
    assert reason({**GOOD, **changes}) == expected


@pytest.mark.parametrize("path", ["/data/a.png", "a.png", "a..b/c.png", "./a.png"])
def test_paths_that_are_fine(path):
    assert parsed({**GOOD, "modalities": ["text", "image"], "data_paths": {"image": path}})


def test_a_video_may_be_frames_and_text_its_captions():
    record = parsed(
        {
            "unique_id": "a",
            "source": "s",
            "modalities": ["text", "video"],
            "data_paths": {"camera_back": ["1.png", "2.png"], "captions": "a.vtt"},
        }
    )
    assert record.data_paths.get("camera_back") == ("1.png", "2.png")


@pytest.mark.parametrize(
    ("line", "fault", "expected"),
    [
        (b"{", "", "not_json"),
        (b"{", "unended", "truncated_line"),
        (b'{"text": "Stra\xc3', "unended", "truncated_line"),
        (b'{"text": "Stra\xdfe"}', "", "bad_encoding"),
        (b'{"text": "\\udc00"}', "", "bad_encoding"),
        (b'{"a\x00": 1}', "", "nul_character"),
        (b'{"a\\u0000": 1}', "", "nul_character"),
        (b'{"a": {"b": 1, "b": 2}}', "", "duplicate_key"),
        (b'{"a": Infinity}', "", "not_finite"),
        (b'{"a": -1e400}', "", "not_finite"),
        (b"null", "", "not_an_object"),
        (b"[" * 200_000, "", "not_json"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "", "not_json"),
        (b'{"a": ' + b"9" * 5000 + b"}", "", "not_json"),
        (b"", "line_too_long", "line_too_long"),
    ],
)
def test_lines_that_are_no_records(line, fault, expected):
    assert reason(line, fault) == expected


def test_a_last_line_without_newline_that_is_whole_is_a_record():
    assert parse(RawRecord("f:1", json.dumps(GOOD).encode(), "unended")).text == "Some text."


def test_the_detail_says_where():
    with pytest.raises(BadRecord, match=r"schema: metadata\.sample_rate_hz: Input should be a valid integer"):
        parsed({**GOOD, "metadata": {"sample_rate_hz": "16000"}})


def test_rows_of_parquet_have_nulls_datetimes_and_json_as_text():
    row = {
        **GOOD,
        "source_uri": None,
        "data_paths": {"text": None, "image": None},
        "metadata": json.dumps({"license": "MIT", "upload_date": "2020-01-02"}),
        "processing_log": [{"stage": "x", "timestamp": datetime.datetime(2020, 1, 2, 3), "status": None}],
    }
    record = parse(RawRecord("f:1", row))
    assert record.metadata.license == "MIT"
    assert record.processing_log[0].timestamp == "2020-01-02T03:00:00"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_a_reason(line):
    with contextlib.suppress(BadRecord):
        assert isinstance(parse(RawRecord("f:1", line)), Record)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(Record.model_fields)), JSON, min_size=1))
def test_any_values_of_fields_are_a_record_or_a_reason(changes):
    with contextlib.suppress(BadRecord):
        assert isinstance(parse(RawRecord("f:1", json.dumps({**GOOD, **changes}).encode())), Record)
