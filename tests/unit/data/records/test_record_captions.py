import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhydra.data.records.captions import parse_captions
from mmhydra.data.records.reasons import BadRecord

VTT = """WEBVTT
Kind: captions

NOTE a comment

intro
00:00:01.500 --> 00:00:04.000 align:start position:0%
<v Anna>Hello <00:00:02.000><c>there</c> &amp; welcome</v>
second line

01:02.25 --> 01:03.000

02:00.000 --> 02:01.000
last
"""
SRT = (
    "\ufeff2\r\n00:00:05,000 --> 00:00:06,000\r\n{\\an8}<i>Two</i>\r\n\r\n1\r\n00:00:01,000 --> 00:00:02,000\r\nOne\r\n"
)


def rows(text):
    return [(entry.start_s, entry.end_s, entry.text) for entry in parse_captions(text, "f")]


def test_webvtt():
    assert rows(VTT) == [(1.5, 4.0, "Hello there & welcome second line"), (120.0, 121.0, "last")]


def test_subrip_in_the_order_of_time():
    assert rows(SRT) == [(1.0, 2.0, "One"), (5.0, 6.0, "Two")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("WEBVTT\n", "f: no cue"),
        ("00:01.000 --> soon\nx\n", "f:1: .* is no timing"),
        ("00:02.000 --> 00:01.000\nx\n", "f:1: the cue ends before it starts"),
    ],
)
def test_refused(text, message):
    with pytest.raises(BadRecord, match=f"^corrupt_captions: {message}"):
        parse_captions(text, "f")


@given(st.text(alphabet=st.sampled_from("0123456789:.,-> \n<>/&ab{}\\"), max_size=60))
def test_any_text_has_captions_or_a_reason(text):
    with contextlib.suppress(BadRecord):
        captions = parse_captions(text, "f")
        assert all(entry.start_s <= entry.end_s and entry.text for entry in captions)
