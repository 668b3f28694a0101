import gzip
import json

import pytest

from mmhydra.config.filters import DecontaminationFilter
from mmhydra.data.filters.decontamination import DecontaminationJudge
from mmhydra.data.records.media import LoadedRecord
from mmhydra.data.records.record import Record
from mmhydra.errors import UserError

LONG = "Which of the seven bridges of the old town did the engineer cross twice before breakfast?"
SHORT = "How many lanterns hang over the northern harbour gate?"
CHINESE = "请问这座古老的石桥一共有多少个桥洞它们分别是在哪一个朝代由什么人主持修建完成"


def judge(folder, *files):
    return DecontaminationJudge(
        DecontaminationFilter(
            kind="decontamination",
            files=list(files),
            num_words=13,
            num_characters=30,
            min_words=8,
            min_characters=16,
        ),
        folder,
    )


@pytest.fixture
def sets(tmp_path):
    rows = [{"question": LONG, "choices": ["yes", SHORT], "id": 7}, {"question": CHINESE}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "bridges.jsonl").write_text(lines)
    (tmp_path / "bridges.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "plain.txt").write_text("Only nine words are in this line of text.\n\ntoo short\n")
    return tmp_path


def verdict(judge, text):
    record = Record(unique_id="a", source="s", modalities=("text",), text="x")
    return judge.judge(LoadedRecord(record, text=text))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"Before it. {LONG} After it.", "13 words in a row are also in bridges.jsonl"),
        ("... WHICH of the seven bridges of\nthe old town -- did the engineer cross ...", "13 words"),
        ("Which of the seven bridges of the old town did the engineer", None),  # 12 words of 13 or more
        (f"So: {SHORT.upper()}", "9 words in a row"),
        ("lanterns hang over the northern harbour gate", None),
        (f"问题是{CHINESE[3:35]}吗", "30 characters in a row"),
        (CHINESE[:29], None),
        ("Only nine words are in this line of text", "9 words in a row are also in plain.txt"),
        (f"So: {SHORT}".replace("northern", "nor\u00adthe\u200brn"), "9 words in a row"),
        (LONG.replace("old", "<|image|> old<|image|>"), "13 words in a row"),
        (LONG.replace("town", "town 桥").replace("did", "桥 did"), "13 words in a row"),
        (CHINESE.replace("桥洞", "桥 x 洞"), "30 characters in a row"),
        ("too short", None),
        ("", None),
    ],
)
def test_ngrams(sets, text, found):
    made = verdict(judge(sets, "bridges.jsonl", "plain.txt"), text)
    assert made.reason == ("contaminated" if found else None)
    assert (found or "") in made.detail


def test_items_that_guard_nothing_are_counted(sets):
    assert judge(sets, "bridges.jsonl", "plain.txt").guarded == {"bridges.jsonl": (3, 1), "plain.txt": (1, 1)}


def test_compressed_sets_are_read(sets):
    assert verdict(judge(sets, "bridges.jsonl.gz"), LONG).reason == "contaminated"


@pytest.mark.parametrize(
    ("content", "message"), [("{", "cannot read bad.jsonl"), ('"two words"', "has no item of 8 words or 16 characters")]
)
def test_sets_that_are_none(tmp_path, content, message):
    (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        judge(tmp_path, "bad.jsonl")
    with pytest.raises(UserError, match="cannot read nowhere"):
        judge(tmp_path, "nowhere.txt")
