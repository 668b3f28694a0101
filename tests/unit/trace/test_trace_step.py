"""`trace --step`: what is listed is what the ranks of a run really get."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_run import FakeRun

from mmhydra.data.packing.sequences import IGNORE_INDEX
from mmhydra.data.shards.manifest import load_manifest
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.stream.batches import RankBatches, open_run_split
from mmhydra.trace.logged import record_of
from mmhydra.track.jsonl import JsonlWriter

BATCH, SEQ_LEN, STEPS = 12, 96, 40  # as in conftest.py


def split_of(run: FakeRun):
    return open_run_split(run.config, "train", data_of(run))


def data_of(run: FakeRun) -> Path:
    return Path(run.config.paths.data)


def batches_of(run: FakeRun, dp: int, rank: int, steps: int) -> list[np.ndarray]:
    """Inputs [BATCH / dp, SEQ_LEN] of each step as one rank's loader gives them, microbatch by microbatch."""
    batches = RankBatches(split_of(run), global_batch_size=BATCH, dp_degree=dp, dp_rank=rank, per_yield=2)
    share = BATCH // dp // 2
    found = [np.concatenate([batches.next().input_BL for _ in range(share)]) for _ in range(steps)]
    batches.close()
    return found


def ids_of(run: FakeRun, sample: dict) -> np.ndarray:
    """The input of a sample, put together from what was listed of it and the shards alone."""
    manifest = load_manifest(data_of(run) / sample["dataset"])
    shards = TokenShards(data_of(run) / sample["dataset"], manifest, sample["source"], "train")
    row = np.full(SEQ_LEN, manifest.vocabulary.eod_id)
    for piece in sample["pieces"]:
        ids = shards.ids(shards.find(piece["key"]), piece["offset"], piece["length"])
        if piece["opener"] is not None:
            ids = np.append(piece["opener"], ids)
        assert shards.shard_of_document(piece["document"]) == piece["shard"]
        row[piece["position"] : piece["position"] + len(ids)] = ids
    return row


@pytest.mark.parametrize("dp", [1, 2, 3])
def test_what_is_listed_is_what_each_rank_gets(dp, make_run, trace_json):
    run = make_run()
    for rank in range(dp):
        got = batches_of(run, dp, rank, 3)
        for step in (1, 3):
            _, *samples = trace_json(run, "--step", step, "--dp", dp, "--rank", rank)
            assert [sample["rank"] for sample in samples] == [rank] * (BATCH // dp)
            for row, sample in zip(got[step - 1], samples, strict=True):
                np.testing.assert_array_equal(row, ids_of(run, sample))
                assert sample["n"] == (step - 1) * BATCH + sample["number"]


def test_the_ranks_of_a_step_are_those_of_the_attempt_that_made_it(make_run, trace_json, change):
    run = make_run()
    log(run, 0, range(1, 11))
    run.config = change(run.config, {"parallel.dp": 4})
    run.start()
    log(run, 1, range(11, 16))
    for step, dp in ((3, 2), (12, 4), (30, 4)):
        head, *samples = trace_json(run, "--step", step)
        assert head["data_parallel"] == dp
        assert [sample["rank"] for sample in samples] == [number * dp // BATCH for number in range(BATCH)]


def log(run: FakeRun, attempt: int, steps, **more) -> None:
    """Records as the trainer writes them, with figures counted in the batches themselves."""
    split = split_of(run)
    writer = JsonlWriter(run.directory.attempts[attempt].metrics)
    for step in steps:
        batch = split.read(np.arange((step - 1) * BATCH, step * BATCH), run.skips).batch
        labels = batch.labels_BL[batch.labels_BL != IGNORE_INDEX]
        spans = {span.name: (span.start, span.stop) for span in run.config.tokens.spans}
        counts = {name: int(((labels >= low) & (labels < high)).sum()) for name, (low, high) in spans.items()}
        record = {"kind": "train", "step": step, "tokens_by_modality": {n: c for n, c in counts.items() if c}}
        writer.write({**record, **more})
    writer.close()


def test_every_document_is_named_with_where_it_comes_from(make_run, trace_json):
    _, *samples = trace_json(make_run(), "--step", 5)
    for sample in samples:
        assert sample["dataset"] == {"web": "texts", "shows": "media"}[sample["source"]]
        position = 0
        for piece in sample["pieces"]:
            assert piece["source_uri"] == f"https://example.org/{piece['unique_id']}"
            assert (piece["license"], piece["template"], piece["fault"]) == ("CC0-1.0", "t", "")
            assert piece["position"] == position
            assert piece["offset"] + piece["length"] < piece["num_ids"]
            position += piece["positions"]
        assert position <= SEQ_LEN


def test_the_tokens_of_a_step_and_the_ledger_are_those_of_the_batches(make_run, trace_json):
    run = make_run()
    heads = [trace_json(run, "--step", step)[0] for step in range(1, 6)]
    filled = dict.fromkeys(("web", "shows"), 0)
    for head, batch in zip(heads, batches_of(run, 1, 0, 5), strict=True):
        own = {name: sum(counts.values()) for name, counts in head["tokens"]["tokens"].items()}
        assert sum(own.values()) + head["tokens"]["padding"] == batch.size
        filled = {name: filled[name] + own[name] for name in filled}
        seen = head["seen"]["tokens"]
        assert {name: sum(counts.values()) for name, counts in seen.items()} == filled
        assert head["seen"]["num_samples"] == head["step"] * BATCH
        # Padding repeats the end-of-document id, which is never an input.
        eod = load_manifest(data_of(run) / "texts").vocabulary.eod_id
        assert head["tokens"]["padding"] == int((batch == eod).sum())


def test_figures_of_the_metrics_are_compared(make_run, trace, trace_json):
    run = make_run()
    assert trace_json(run, "--step", 2)[0]["metrics"]["is_logged"] is False
    log(run, 0, range(1, 4))
    head = trace_json(run, "--step", 2)[0]
    seen = {name: sum(counts.values()) for name, counts in head["seen"]["tokens"].items()}
    assert head["metrics"] == {"is_logged": True, "same": ["tokens_by_modality"], "differing": {}, "fault": ""}
    log(run, 0, [4], seen_tokens_by_source=seen)  # those of step 2
    head = trace_json(run, "--step", 4)[0]
    assert list(head["metrics"]["differing"]) == ["seen_tokens_by_source"]
    assert "metrics.jsonl differs in seen_tokens_by_source" in trace(run, "--step", 4)[1]
    assert "metrics.jsonl says the same of this step: tokens_by_modality" in trace(run, "--step", 2)[1]


def test_in_a_pipe_each_piece_is_one_whole_line(make_run, trace, trace_json):
    run = make_run()
    code, out, _ = trace(run, "--step", 7)
    assert code == 0
    title, header, *lines = out.splitlines()
    assert re.fullmatch(
        rf"run \w+, step 7 of {STEPS}: samples 72 to 83, 96 positions each; 2 .* ranks of 6 samples", title
    )
    pieces = [(sample, piece) for sample in trace_json(run, "--step", 7)[1:] for piece in sample["pieces"]]
    columns = header.split()
    for line, (sample, piece) in zip(lines[: len(pieces)], pieces, strict=True):
        cells = dict(zip(columns, line.split(), strict=True))
        assert (int(cells["n"]), cells["key"], cells["unique_id"]) == (sample["n"], piece["key"], piece["unique_id"])
        assert cells["tokens"] == f"{piece['offset']}-{piece['offset'] + piece['length'] - 1}"
    assert lines[len(pieces)] == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--step", 0], f"no step 0 .* its steps are 1 to {STEPS} "),
        (["--step", STEPS + 1], f"no step 41 .* its steps are 1 to {STEPS} "),
        (["--step", 1, "--rank", 2], "--rank 2: a step is shared by 2 data-parallel ranks, 0 to 1"),
        (["--step", 1, "--dp", 5], "--dp 5: .* type one of 1, 2, 3, 4, 6, 12"),
        (["--step", 1, "--show", 12], "--show 12: the samples of step 1 are 0 to 11"),
        (["--step", 1, "--show", 6, "--rank", 0], "--show 6: the samples of rank 0 of step 1 are 0 to 5"),
        (["--step", 1, "--show", 0, "--json"], "leave out --json"),
        (["--step", 1, "--out", "x"], "--out and --weights are of --show"),
        (["--find", "text-5", "--rank", 0], "type --step N with them"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(arguments, told, make_run, trace):
    code, out, err = trace(make_run(), *arguments)
    assert (code, out) == (2, "")
    assert re.search(f"^error: .*{told}", err), err


def test_a_place_that_is_no_run_and_a_run_without_steps_are_refused(make_run, trace, tmp_path):
    code, _, err = trace(tmp_path, "--step", 1)
    assert code == 2
    assert "is no run and in none; give a folder like outputs/NAME/RUN_ID" in err
    code, _, err = trace(make_run(training__steps=0, training__validation_interval=None), "--step", 1)
    assert code == 2
    assert "has no steps: with training.steps=0 it only writes its initial weights" in err
    code, _, err = trace(make_run(training__steps=0, checkpoint__init_from="/seed"), "--step", 1)
    assert code == 2
    assert "has no steps: with training.steps=0 it only measures the held-out loss of weights" in err


def test_data_that_are_gone_or_others_are_refused_and_can_be_given(make_run, trace, data, tmp_path):
    run = make_run(paths__data=str(tmp_path / "gone"))
    code, _, err = trace(run, "--step", 1)
    assert code == 2
    assert "dataset texts is not below" in err
    assert "--data DIR" in err
    assert trace(run, "--step", 1, "--data", data)[0] == 0
    run.manifests = {**run.manifests, "texts": "9" * 64}
    run.start()
    code, _, err = trace(run, "--step", 1, "--data", data)
    assert code == 2
    assert "these are other data than" in err
    assert re.search(r"texts: the run read manifest 999999999999, below \S+ is \w{12}\n", err)


def test_a_run_of_another_order_of_samples_is_refused(make_run, trace):
    run = make_run()
    run.stream_algorithm = 1
    run.start()
    code, _, err = trace(run, "--step", 1)
    assert code == 2
    assert "put samples in another order (version 1 of the stream" in err


def test_any_path_in_a_run_leads_to_it(make_run, trace):
    run = make_run()
    attempt = run.directory.attempts[0].path
    assert trace(attempt / "config.yaml", "--step", 1)[1] == trace(run, "--step", 1)[1]


def test_a_late_step_is_listed_at_once(make_run, trace_json):
    run = make_run(training__steps=2_000_000)
    trace_json(run, "--step", 1)
    began = time.monotonic()
    head, *samples = trace_json(run, "--step", 1_000_000)
    assert time.monotonic() - began < 2
    assert head["first_sample"] == 999_999 * BATCH
    assert len(samples) == BATCH
    assert samples[0]["epoch"] > 10_000


def test_the_record_of_a_step_is_found_among_many(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with path.open("w") as file:
        for step in range(0, 60_000, 3):
            file.write(json.dumps({"kind": "train", "step": step, "loss": step / 2, "more": "x" * (step % 40)}) + "\n")
            if step % 300 == 0:
                file.write(json.dumps({"kind": "validation", "step": step}) + "\n")
        file.write('{"kind": "train", "st')
    assert path.stat().st_size > 10 * 64 * 1024
    for step in (0, 3, 300, 29_997, 30_000, 59_997):
        assert record_of(path, step)["loss"] == step / 2
    assert record_of(path, 31_000) is None
    assert record_of(path, 60_000) is None
    assert record_of(tmp_path / "none.jsonl", 3) is None


def test_listing_needs_no_torch(make_run):
    run = make_run()
    code = (
        "import sys; from mmhydra.trace.__main__ import main; "
        f"code = main([{str(run.directory.path)!r}, '--step', '1', '--json']); "
        "sys.exit(code or 'torch' in sys.modules or 'hydra' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
