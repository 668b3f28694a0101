"""`trace --find` against all samples of a run, read one by one."""

import re
import shutil

import pytest
from fake_run import FakeRun

from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.storage.access import Access

BATCH, STEPS = 12, 40  # as in conftest.py
HELDOUT = "shards/web-heldout-00000.tar"
SCHEDULE = [
    {
        "name": "texts",
        "steps": 7,
        "tokens": None,
        "fraction": None,
        "shares": {"web": [1.0, 1.0], "shows": [0.0, 0.0]},
        "lr_multiplier": [1.0, 1.0],
    },
    {
        "name": "blend",
        "steps": None,
        "tokens": None,
        "fraction": 1.0,
        "shares": {"web": [0.9, 0.2], "shows": [0.1, 0.8]},
        "lr_multiplier": [1.0, 1.0],
    },
]


def everything(run: FakeRun, trace_json) -> list[tuple[int, dict, dict]]:
    """(step, sample, piece) of the whole run, step by step."""
    return [
        (step, sample, piece)
        for step in range(1, STEPS + 1)
        for sample in trace_json(run, "--step", step)[1:]
        for piece in sample["pieces"]
    ]


@pytest.mark.parametrize("schedule", [[], SCHEDULE], ids=["constant", "schedule"])
def test_steps_are_those_whose_listing_has_the_record(schedule, make_run, trace_json):
    run = make_run(data__schedule=schedule)
    rows = everything(run, trace_json)
    assert {sample["epoch"] for _, sample, _ in rows} >= {0, 1}
    # Short, long enough to be cut, a sound that is cut and begins again with its opener, a picture.
    for name in ("text-5", "text-13", "text-31", "sound-7", "picture-3", "clip-11"):
        record, *visits = trace_json(run, "--find", name)
        assert record["unique_id"] == name
        expected = [
            (
                step,
                sample["number"],
                sample["rank"],
                sample["epoch"],
                piece["offset"],
                piece["length"],
                piece["position"],
            )
            for step, sample, piece in rows
            if piece["unique_id"] == name
        ]
        fields = ("step", "number", "rank", "epoch", "offset", "length", "position")
        assert [tuple(visit[field] for field in fields) for visit in visits] == expected
        assert expected
        assert all(visit["n"] == (visit["step"] - 1) * BATCH + visit["number"] for visit in visits)


def test_a_record_has_three_names(make_run, trace_json):
    run = make_run()
    record, *visits = trace_json(run, "--find", "sound-7")
    for key in (f"shows/{record['key']}", f"media/{record['shard']}:{record['key']}"):
        assert trace_json(run, "--find", key) == [record, *visits]


def test_held_out_records_are_looked_for_in_chunks_and_not_one_by_one(make_run, trace, data, tmp_path, monkeypatch):
    run, asked = make_run(), []
    info = TokenShards.info

    def counted(self, document):
        asked.append((self.split, document))
        return info(self, document)

    monkeypatch.setattr(TokenShards, "info", counted)
    code, _, err = trace(run, "--find", "text-1")
    assert code == 2
    assert "no step sees record text-1: it is held out of source web of texts" in err
    assert asked == [("heldout", 1)]
    torn = shutil.copytree(data, tmp_path / "torn")
    content = bytearray((torn / "texts" / HELDOUT).read_bytes())
    content[1000] ^= 1
    (torn / "texts" / HELDOUT).write_bytes(content)
    assert f"(but these can't be read: texts/{HELDOUT}, chunk 0)" in trace(run, "--find", "text-1", "--data", torn)[2]


@pytest.mark.parametrize("what", [("--step", 3), ("--find", "text-5"), ("--find", "text-1"), ("--find", "text-9999")])
def test_a_store_is_read_without_the_cache_of_the_node_and_closed(make_run, trace, data, tmp_path, monkeypatch, what):
    shutil.copytree(data, tmp_path / "stored")
    local = shutil.copytree(data, tmp_path / "local", ignore=shutil.ignore_patterns("shards"))
    cache = tmp_path / "cache"
    store = {"url": f"file://{tmp_path}/stored", "cache_dir": str(cache), "cache_gb": 1.0, "options": {}}
    plain, run, opened, closed = make_run(), make_run(loader__store=store, tag="store"), [], []
    of, close = Access.of, Access.close
    monkeypatch.setattr(Access, "of", lambda *args, **kwargs: opened.append(of(*args, **kwargs)) or opened[-1])
    monkeypatch.setattr(Access, "close", lambda self: closed.append(self) or close(self))
    code = trace(plain, *what)[0]
    closed.clear()
    found = trace(run, *what, "--data", local)
    assert (found[0], "Traceback" in found[2]) == (code, False)
    assert opened[0].counters.store_reads > 0
    assert opened == closed
    assert not cache.exists()


def test_past_and_coming_steps_are_told_apart(make_run, trace, trace_json):
    run = make_run()
    run.directory.attempts[0].metrics.write_text('{"kind": "train", "step": 20}\n')
    _, *visits = trace_json(run, "--find", "text-5")
    assert {visit["state"] for visit in visits if visit["step"] <= 20} <= {"seen"}
    assert {visit["state"] for visit in visits if visit["step"] > 20} == {"to come"}
    _, out, _ = trace(run, "--find", "text-5")
    past = sum(visit["step"] <= 20 for visit in visits)
    coming = len(visits) - past
    assert re.search(rf"seen by {past} samples? up to step 20, will be seen by {coming} samples? up to the end", out)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("text-5x", r"no document .* record text-5x; did you mean text-5.*\?; type a record's unique_id, SOURCE/KEY"),
        ("text-1", "no step sees record text-1: it is held out of source web of texts"),
        ("web/999999999", "web/train has no document 999999999; its keys are 000000000 to 000000117"),
        ("texts/shards/web-train-00000.ta:000000003", "has no shard .*; did you mean shards/web-train-00000.tar"),
        ("books/shards/web-train-00000.tar:000000003", "the run reads no dataset books; it reads texts, media"),
        ("texts/shards/web-train-00000.tar:000000117", r"it is in (\S+); type texts/\1:000000117"),
        ("texts/shards/web-heldout-00000.tar:000000000", "is held out: no step trains on it"),
    ],
)
def test_unknown_keys_are_answered_with_what_to_type(key, told, make_run, trace):
    code, out, err = trace(make_run(), "--find", key)
    assert (code, out) == (2, "")
    assert re.search(told, err), err


def test_a_record_that_was_refused_is_told_with_the_reason(make_run, trace, data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "copy")
    (copy / "texts" / "rejects").mkdir()
    (copy / "texts" / "rejects" / "web.jsonl").write_text(
        '{"place": "a:1", "unique_id": "bad-1", "reason": "license", "detail": "GPL-3.0-only"}\n'
    )
    code, _, err = trace(make_run(), "--find", "bad-1", "--data", copy)
    assert code == 2
    assert "no step sees record bad-1: it was refused when texts was built, for license (GPL-3.0-only)" in err
