"""What a process of a run reads: one opened split for all, exact budgets, the loader's tensors and state."""

import json
import math
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fitting_dataset import write_fitting

from mmhydra.config.schema import RunConfig
from mmhydra.data.datasets import DataError
from mmhydra.data.storage.faults import WHOLE_SHARD, BadChunk
from mmhydra.data.stream.skips import NO_SKIPS
from mmhydra.errors import UserError
from mmhydra.titan import data as module
from mmhydra.titan.agreement import Agreement
from mmhydra.titan.data import RunData

Make = Callable[..., RunData]
SHAPE: dict[str, Any] = {"dp_world_size": 1, "dp_rank": 0, "local_batch_size": 4}


@pytest.fixture
def events() -> list[tuple[str, str]]:
    """What was told."""
    return []


@pytest.fixture(scope="module")
def small(default_config: RunConfig, change: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Leaves of a small run, whose data are there."""
    leaves = {"training.seq_len": 32, "training.global_batch_size": 8, "training.steps": 12}
    leaves["paths.data"] = str(tmp_path_factory.mktemp("data"))
    write_fitting(change(default_config, leaves))
    return leaves


@pytest.fixture
def make(
    default_config: RunConfig,
    change: Any,
    small: dict[str, Any],
    events: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Make:
    """The data of the small run, whose leaves may be changed."""
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)

    def make(**leaves: Any) -> RunData:
        changes = {name.replace("__", "."): value for name, value in leaves.items()}
        return RunData(change(default_config, small | changes), lambda kind, text, **more: events.append((kind, text)))

    return make


def steps_of(loader: Any, number: int) -> list[tuple[torch.Tensor, ...]]:
    """So many steps of 8 sequences, two yields each."""
    batches = iter(loader)
    found = []
    for _ in range(number):
        yields = [next(batches) for _ in range(2)]
        found.append(
            (
                torch.cat([inputs["input"] for inputs, _ in yields]),
                torch.cat([inputs["positions"] for inputs, _ in yields]),
                torch.cat([labels for _, labels in yields]),
            )
        )
    return found


def equal(left: Any, right: Any) -> bool:
    return all(
        torch.equal(a, b) for one, other in zip(left, right, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_loader_gives_tensors_as_torch_wants_them_and_goes_on_where_it_was(make: Make, workers: int) -> None:
    data = make(loader__workers=workers)
    loader = data.train_loader().build(**SHAPE)
    steps = steps_of(loader, 6)
    assert {tensor.dtype for step in steps for tensor in step} == {torch.int64}
    assert {tuple(tensor.shape) for step in steps for tensor in step} == {(8, 32)}
    assert loader.state_dict() == {"sample": 48, "skips": "[]", "algorithm": 2}
    again = make(loader__workers=workers).train_loader().build(**SHAPE)
    again.load_state_dict({"sample": 24, "skips": "[]", "algorithm": 2})
    assert equal(steps_of(again, 3), steps[3:])
    loader.load_state_dict({"sample": 0, "skips": "[]", "algorithm": 2})  # what was read ahead is forgotten
    assert equal(steps_of(loader, 1), steps[:1])
    for each in (loader, again):
        each.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch-")]


def test_a_list_from_a_checkpoint_holds_whatever_the_policy_is_now(make: Make) -> None:
    data = make(loader__on_bad_chunk="fail")
    source = "stdlib_code"
    shards = data.train.sequences[source].shards
    path = shards.shard_of_document(0)
    bad = BadChunk("demo-v2", path, WHOLE_SHARD, "other bytes", *shards.documents_of(path, WHOLE_SHARD))
    skips = NO_SKIPS.with_bad([bad], 8)
    loader = data.train_loader().build(**SHAPE)
    loader.load_state_dict({"sample": 8, "skips": skips.text, "algorithm": 2})
    blank = [int((labels < 0).all(dim=1).sum()) for _, _, labels in steps_of(loader, 4)]
    assert sum(blank) == sum(data.train.is_skipped(n, skips) for n in range(8, 40)) > 0
    assert json.loads(loader.state_dict()["skips"]) == skips.records
    assert data.seen(5)["skipped_samples"] == data.tokens(40, skips).skipped_samples == sum(blank)
    loader.close()


def test_one_opened_split_serves_all(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    whole = module.open_run_split
    monkeypatch.setattr(
        module, "open_run_split", lambda config, split, *rest: opened.append(split) or whole(config, split, *rest)
    )
    data = make()
    data.train_loader().build(**SHAPE).close()
    for _ in range(3):  # torchtitan makes a loader for each validation
        data.heldout_loader().build(**SHAPE).close()
    data.seen(1), data.tokens(8, NO_SKIPS), data.shard_of_step(1)
    assert opened == ["train", "heldout"]


def test_a_record_says_what_was_seen_and_a_stamp_the_same(make: Make) -> None:
    data = make()
    loader = data.train_loader().build(**SHAPE)
    labels = torch.cat([step[2] for step in steps_of(loader, 7)])
    loader.close()
    seen, tokens = data.seen(7), data.tokens(56, NO_SKIPS)
    assert seen["seen_tokens_by_source"] == tokens.by_source
    assert seen["seen_tokens_by_modality"] == tokens.by_modality
    assert sum(tokens.by_source.values()) == sum(tokens.by_modality.values()) == int((labels >= 0).sum())
    assert tokens.total == 56 * 32 == sum(tokens.by_source.values()) + tokens.padding
    assert (tokens.skipped, tokens.skipped_samples) == (0, 0)
    drawn, there = data.train.stream.counts(56), data.train.sequences
    for name, epochs in seen["epochs_by_source"].items():
        assert epochs == pytest.approx(drawn[name] / len(there[name]), abs=1e-6)
    assert "data_stage" not in seen


def test_a_run_with_a_schedule_names_its_stage(make: Make, default_config: RunConfig) -> None:
    names = [source.name for source in default_config.data.sources]
    even = {name: [1 / 8, 1 / 8] for name in names[1:]} | {names[0]: [1 - (len(names) - 1) / 8] * 2}
    stage = {"tokens": None, "fraction": None, "steps": None, "shares": even, "lr_multiplier": [1.0, 1.0]}
    data = make(data__schedule=[{**stage, "name": "warm", "steps": 5}, {**stage, "name": "blend", "fraction": 1.0}])
    assert [data.seen(step)["data_stage"] for step in (1, 5, 6, 12, 20)] == ["warm", "warm", "blend", "blend", "blend"]


@pytest.mark.parametrize("schedule", ["none", "constant at the end", "changing at the end"])
def test_a_longer_run_goes_on_with_the_same_samples(make: Make, default_config: RunConfig, schedule: str) -> None:
    names = [source.name for source in default_config.data.sources]
    alone = {names[0]: [1.0, 1.0]} | {name: [0.0, 0.0] for name in names[1:]}
    both = {
        names[0]: [0.75, 0.5 if "changing" in schedule else 0.75],
        names[1]: [0.25, 0.5 if "changing" in schedule else 0.25],
    }
    both |= {name: [0.0, 0.0] for name in names[2:]}
    stage = {"tokens": None, "fraction": None, "steps": None, "lr_multiplier": [1.0, 1.0]}
    stages = [
        {**stage, "name": "a", "steps": 3, "shares": alone},
        {**stage, "name": "b", "fraction": 1.0, "shares": both},
    ]
    leaves = {} if schedule == "none" else {"data__schedule": stages}
    found = [
        [column.tolist() for column in make(training__steps=steps, **leaves).train.stream.locate_many(0, 40)]
        for steps in (5, 9, 4000)
    ]
    assert (found[0] == found[1] == found[2]) == ("changing" not in schedule)


def test_a_source_that_would_be_read_too_often_is_refused_with_numbers(make: Make) -> None:
    whole = make().train
    drawn = whole.stream.counts(12 * 8)
    epochs = {name: drawn[name] / len(own) for name, own in whole.sequences.items()}
    worst = max(epochs, key=lambda name: epochs[name])
    assert make(data__max_epochs=epochs[worst]).train
    with pytest.raises(DataError) as caught:
        _ = make(data__max_epochs=epochs[worst] - 0.01).train
    text = str(caught.value)
    for part in (
        "the 12 steps of this run read sources too often",
        f"{worst}: {drawn[worst]} sequences are drawn, {len(whole.sequences[worst])} are there",
        f"{epochs[worst]:.2f} epochs",
        "type a lower training.steps",
    ):
        assert part in text
    assert "give the source a lower weight" in text
    other = next(name for name in epochs if epochs[name] < epochs[worst])
    assert other not in text


def test_the_cure_of_a_run_with_a_schedule_is_in_its_schedule(make: Make, default_config: RunConfig) -> None:
    shares = {
        source.name: [1.0, 1.0] if not number else [0.0, 0.0]
        for number, source in enumerate(default_config.data.sources)
    }
    stage = {"name": "all", "tokens": None, "fraction": 1.0, "steps": None, "lr_multiplier": [1.0, 1.0]}
    with pytest.raises(DataError, match=r"fewer steps in data\.schedule, or raise data\.max_epochs") as caught:
        _ = make(data__schedule=[{**stage, "shares": shares}], data__max_epochs=0.01).train
    assert "weight" not in str(caught.value)


def test_windows_that_do_not_fit_into_memory_are_told_of(make: Make, events: list[tuple[str, str]]) -> None:
    needed = make().train.window_bytes
    assert needed > 0
    assert events == []
    megabytes = needed / 1e6
    for memory_mb, workers, said in (
        (2 * megabytes + 0.001, 2, None),
        (1.5 * megabytes, 0, None),  # nothing reads ahead
        (1.5 * megabytes, 2, "the chunks of the next windows are not read ahead"),
        (0.5 * megabytes, 2, "read more often than needed, and none ahead"),
        (0.5 * megabytes, 0, "read more often than needed; type"),
    ):
        events.clear()
        assert make(loader__memory_mb=memory_mb, loader__workers=workers).train
        assert len(events) == (said is not None)
        for kind, text in events:
            assert kind == "small_memory"
            assert said is not None
            assert said in text
            enough = int(re.findall(r"type loader\.memory_mb=(\d+)", text)[0])
            assert enough == math.ceil((2 if workers else 1) * megabytes)
            assert ("(two windows)" in text) == (workers > 0)
            events.clear()
            assert make(loader__memory_mb=float(enough), loader__workers=workers).train
            assert events == []


@pytest.mark.parametrize("text", ["", "x", "[3]"])
def test_a_state_that_is_no_state_is_refused(make: Make, text: str) -> None:
    loader = make().train_loader().build(**SHAPE)
    with pytest.raises(UserError, match="no list of skipped chunks"):
        loader.load_state_dict({"sample": 0, "skips": text, "algorithm": 2})


@pytest.mark.parametrize("state", [{"sample": 8}, {"sample": 8, "skips": "[]", "algorithm": 3}])
def test_a_state_of_another_order_of_samples_is_refused_with_words(make: Make, state: dict[str, Any]) -> None:
    loader = make().train_loader().build(**SHAPE)
    with pytest.raises(UserError, match=r"version [13] of the stream, the code has version 2: its sample 8 is another"):
        loader.load_state_dict(state)


def test_ranks_wait_for_one_that_tries_again(default_config: RunConfig, change: Any) -> None:
    patient = change(default_config, {"loader.retries": 6, "loader.timeout_s": 600.0})
    waits = [
        Agreement(
            "train", config.loader, samples_per_step=8, on_event=lambda *told, **more: None
        ).timeout.total_seconds()
        for config in (default_config, patient)
    ]
    assert waits[0] >= 600
    assert waits[1] > 7 * 600
