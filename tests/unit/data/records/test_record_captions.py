import contextlib
import re

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


# What YouTube gives for speech that nobody wrote down: each line comes word by word, stands still, and rolls up.
ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.250 --> 00:00:02.500 align:start position:0%
 
so<00:00:00.480><c> this</c><00:00:00.900><c> is</c>

00:00:02.500 --> 00:00:02.750 align:start position:0%
so this is
 

00:00:02.750 --> 00:00:05.125 align:start position:0%
so this is
the<00:00:02.700><c> old</c><00:00:03.100><c> bridge</c>

00:00:05.125 --> 00:00:05.250 align:start position:0%
the old bridge
 

00:00:05.250 --> 00:00:07.000 align:start position:0%
the old bridge
the<00:00:05.700><c> old</c><00:00:06.100><c> bridge</c>
"""


def test_rolling_captions_have_each_line_once():
    expected = [(0.25, 2.5, "so this is"), (2.75, 5.125, "the old bridge"), (5.25, 7.0, "the old bridge")]
    assert rows(ROLLING) == expected
    # Without the times of words, as yt-dlp leaves them in SubRip.
    plain = re.sub(r"<[^>]+>", "", ROLLING)
    assert rows(plain) == expected


def test_what_is_said_twice_stays():
    cues = [(0, 1, "No."), (1, 2, "No."), (2, 3, "He said so."), (3, 4, "No."), (9, 10, "No.")]
    text = "\n".join(f"00:{start:02}.000 --> 00:{end:02}.000\n{words}\n" for start, end, words in cues)
    assert rows(text) == cues


def test_a_line_of_spaces_between_subrip_cues():
    text = "1\n00:00:01,000 --> 00:00:02,000\nOne\n \n2\n00:00:03,000 --> 00:00:04,000\nTwo\n"
    assert rows(text) == [(1.0, 2.0, "One"), (3.0, 4.0, "Two")]


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
