"""Losses by modality in the sinks, and as words."""

import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from track_samples import run_info, train_record, validation_record

from mmhydra.track.modalities import HELDOUT_LOSS, TRAIN_LOSS, by_modality, in_words
from mmhydra.track.prometheus import PrometheusSink
from mmhydra.track.tensorboard import TensorBoardSink

LOSSES = {"text": 3.912, "image": 5.1, "audio": 5.25}
TRAIN = train_record(4, loss_by_modality=LOSSES, tokens_by_modality={"text": 900, "image": 80, "audio": 20})
SEEN = {
    "seen_tokens_by_modality": {"text": 2000, "image": 200},
    "seen_tokens_by_source": {"web": 2000, "pictures": 200},
    "epochs_by_source": {"web": 1.25, "pictures": 0.5},
    "skipped_samples": 3,
    "data_stage": "warm",
}
HELDOUT = validation_record(4) | {"val_loss_by_modality": {"text": 4.0, "image": 6.5}}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (TRAIN, LOSSES),
        (train_record(1), {}),
        (train_record(1, loss_by_modality={}), {}),
        (train_record(1, loss_by_modality=None), {}),
        (train_record(1, loss_by_modality=3.0), {}),
        (train_record(1, loss_by_modality={"text": "Infinity", "image": None, "audio": "x"}), {"text": float("inf")}),
    ],
)
def test_the_numbers_of_a_record_whatever_is_in_it(record, expected):
    assert by_modality(record, TRAIN_LOSS) == expected


def test_words_are_for_several_modalities():
    assert in_words(by_modality(TRAIN, TRAIN_LOSS), 1) == "text 3.9 image 5.1 audio 5.2"
    assert in_words(by_modality(HELDOUT, HELDOUT_LOSS), 3) == "text 4.000 image 6.500"
    assert in_words({"text": 3.9}, 1) == in_words({}, 1) == ""


def test_prometheus_has_a_series_for_each_modality():
    sink = PrometheusSink(run_info(), "127.0.0.1", 0)
    sink.write(TRAIN)
    sink.write(HELDOUT)
    sink.write(train_record(5, loss_by_modality={"text": 3.5}))  # no image in this step: its last value stands
    with urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics") as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    sink.close()
    found = {(one.name, one.labels.get("modality")): one.value for family in families for one in family.samples}
    prefix = "llm_pretrain_training_"
    assert {name: value for (metric, name), value in found.items() if metric == prefix + "modality_loss"} == (
        LOSSES | {"text": 3.5}
    )
    assert found[prefix + "validation_modality_loss", "image"] == 6.5
    assert found[prefix + "loss", None] == 4.95


def test_prometheus_counts_what_the_run_has_read():
    sink = PrometheusSink(run_info(), "127.0.0.1", 0)
    page = f"http://127.0.0.1:{sink.port}/metrics"
    with urllib.request.urlopen(page) as answer:
        assert "data_pipeline" not in answer.read().decode()
    sink.write(train_record(5, **SEEN))
    sink.write(validation_record(5))
    sink.write(train_record(6, seen_tokens_by_modality={"text": 2500, "image": 300}))
    with urllib.request.urlopen(page) as answer:
        text = answer.read().decode()
    sink.close()
    prefix = "llm_pretrain_data_pipeline_"
    for line in (
        f"# TYPE {prefix}processed_tokens_total counter",
        f'{prefix}processed_tokens_total{{modality="text",model="debug"}} 2500.0',
        f'{prefix}processed_tokens_total{{modality="image",model="debug"}} 300.0',
        f'{prefix}source_tokens_total{{model="debug",source="web"}} 2000.0',
        f'{prefix}source_epochs{{model="debug",source="web"}} 1.25',
        f'{prefix}skipped_samples_total{{model="debug"}} 3.0',
    ):
        assert line in text.splitlines(), text


def test_tensorboard_has_a_scalar_for_each_modality(tmp_path):
    sink = TensorBoardSink(run_info(), tmp_path)
    sink.write(TRAIN | SEEN)
    sink.write(HELDOUT)
    sink.close()
    events = EventAccumulator(str(tmp_path / "0123456789ab/attempt-0001"))
    events.Reload()
    shown = {f"train/loss_by_modality/{name}": loss for name, loss in LOSSES.items()}
    shown |= {"train/tokens_by_modality/image": 80, "val/val_loss_by_modality/image": 6.5}
    shown |= {"train/seen_tokens_by_modality/image": 200, "train/epochs_by_source/web": 1.25}
    for tag, value in shown.items():
        assert [(point.step, point.value) for point in events.Scalars(tag)] == [(4, pytest.approx(value))]
