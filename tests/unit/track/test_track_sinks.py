import json
import math
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from track_samples import (
    Failures,
    run_info,
    run_python,
    train_record,
    validation_record,
    wait_for,
    write_steps,
)

from mmhydra.track import Follower, TrackError, build_sinks
from mmhydra.track.__main__ import main
from mmhydra.track.prometheus import PrometheusSink
from mmhydra.track.tensorboard import TensorBoardSink


def _scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_tensorboard_events_come_back(tmp_path: Path) -> None:
    path, failures = tmp_path / "metrics.jsonl", Failures()
    write_steps(path, range(20))
    with path.open("a") as file:
        file.write(json.dumps(validation_record(20)) + "\n")
        file.write(json.dumps({"kind": "train", "loss": 1.0}) + "\n")  # no step
    sinks = build_sinks({"tensorboard": {}}, run_info(attempt=3), tmp_path)
    Follower(path, sinks, failures).stop(20.0)
    assert failures.calls == []
    folder = tmp_path / "tensorboard" / "0123456789ab" / "attempt-0003"
    losses = _scalars(folder, "train/loss")
    assert [step for step, _ in losses] == list(range(20))
    assert [value for _, value in losses] == pytest.approx([5.0 - step / 100 for step in range(20)])
    assert _scalars(folder, "val/val_loss") == [(20, 4.5)]
    events = EventAccumulator(str(folder))
    events.Reload()
    assert events.Scalars("train/loss")[0].wall_time == pytest.approx(1795395723.456)


def test_tensorboard_needs_neither_torch_nor_tensorflow(tmp_path: Path) -> None:
    code = """
from mmhydra.track.tensorboard import TensorBoardSink
from track_samples import run_info, train_record
sink = TensorBoardSink(run_info(), sys.argv[1])
sink.write(train_record(1))
sink.close()
print([name for name in ("torch", "tensorflow") if name in sys.modules])
"""
    result = run_python(code, str(tmp_path))
    assert result.stdout.strip() == "[]", result.stderr


def test_tensorboard_run_id_stays_in_its_folder(tmp_path: Path) -> None:
    with pytest.raises(TrackError, match="run id"):
        TensorBoardSink(run_info(run_id="../elsewhere"), tmp_path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def _samples(text: str) -> dict[str, tuple[dict[str, str], float]]:
    families = text_string_to_metric_families(text)
    return {sample.name: (sample.labels, sample.value) for family in families for sample in family.samples}


def test_prometheus_scrape_through_the_follower(tmp_path: Path) -> None:
    path, port, failures = tmp_path / "metrics.jsonl", _free_port(), Failures()
    write_steps(path, range(11))
    settings = {"prometheus": {"host": "127.0.0.1", "port": port}, "aim": None}
    follower = Follower(path, build_sinks(settings, run_info(), tmp_path), failures)

    def is_there() -> bool:
        try:
            return _samples(_scrape(port))["llm_pretrain_training_step"][1] == 10
        except (OSError, KeyError):  # not up yet, or up before the first record
            return False

    wait_for(is_there)
    samples = _samples(_scrape(port))
    follower.stop(20.0)
    assert failures.calls == []
    model = {"model": "debug"}
    assert samples == {
        "llm_pretrain_training_loss": ({"model": "debug", "rank": "0"}, 4.9),
        "llm_pretrain_training_grad_norm": (model, 0.9),
        "llm_pretrain_training_throughput_tokens_per_second": (model, 15000.0),
        "llm_pretrain_training_step": (model, 10),
        "llm_pretrain_training_learning_rate": (model, 0.003),
        "llm_pretrain_training_data_time_seconds": (model, 0.001),
        "llm_pretrain_training_step_time_seconds": (model, 0.13),
        "llm_pretrain_training_consumed_tokens": (model, 20480),
        "llm_pretrain_training_last_record_timestamp_seconds": (model, pytest.approx(1795395723.456)),
    }
    with pytest.raises(OSError, match="refused"):
        _scrape(port)


@pytest.fixture
def full_scrape() -> str:
    """Every gauge has a value."""
    sink = PrometheusSink(run_info(), "127.0.0.1", 0, rank=2)
    seen = {"seen_tokens_by_source": {"web": 9}, "epochs_by_source": {"web": 0.5}, "skipped_samples": 0}
    sink.write(train_record(1, mfu=0.41, loss="NaN", seen_tokens_by_modality={"text": 9}, **seen))
    sink.write(validation_record(2))
    text = _scrape(sink.port)
    sink.close()
    return text


def test_prometheus_shows_validation_and_non_finite_values(full_scrape: str) -> None:
    samples = _samples(full_scrape)
    labels, loss = samples["llm_pretrain_training_loss"]
    assert labels == {"model": "debug", "rank": "2"}
    assert math.isnan(loss)
    assert samples["llm_pretrain_training_mfu_ratio"][1] == 0.41
    assert samples["llm_pretrain_training_validation_loss"][1] == 4.5
    assert "_created" not in full_scrape


def test_promtool_finds_nothing_to_mend(full_scrape: str) -> None:
    promtool = shutil.which("promtool") or "/usr/bin/promtool"
    if not Path(promtool).exists():
        pytest.skip("NOT CHECKED: promtool is not installed (Debian: apt install prometheus)")
    result = subprocess.run([promtool, "check", "metrics"], input=full_scrape, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_taken_port_is_reported_and_harms_nothing(tmp_path: Path) -> None:
    failures = Failures()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = {"prometheus": {"host": "127.0.0.1", "port": taken.getsockname()[1]}}
        Follower(tmp_path / "m.jsonl", build_sinks(settings, run_info(), tmp_path), failures).stop(20.0)
    ((name, message),) = failures.calls
    assert name == "prometheus"
    assert "in use" in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"wandb": {}}, "sinks are: aim, prometheus, tensorboard"),
        ({"wandb": None}, "no sink 'wandb'"),
        ({"aim": {}}, "sink aim needs: repo"),
        ({"prometheus": {"host": "x", "prot": 1}}, "no setting 'prot'; settings are: host, port, rank"),
    ],
)
def test_wrong_settings_are_refused_at_once(tmp_path: Path, settings: Any, message: str) -> None:
    with pytest.raises(TrackError, match=message):
        build_sinks(settings, run_info(), tmp_path)


@pytest.mark.parametrize(
    ("name", "library", "options"),
    [
        ("aim", "aim", {"repo": "x"}),
        ("tensorboard", "tensorboard", {"logdir": "x"}),
        ("prometheus", "prometheus_client", {"host": "127.0.0.1", "port": 0}),
    ],
)
def test_library_that_is_not_installed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: str, options: dict[str, Any]
) -> None:
    for module in list(sys.modules):
        if module == library or module.startswith(f"{library}.") or module == f"mmhydra.track.{name}":
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)  # importing it now fails
    failures = Failures()
    Follower(tmp_path / "m.jsonl", build_sinks({name: options}, run_info(), tmp_path), failures).stop(20.0)
    ((sink_name, message),) = failures.calls
    assert sink_name == name
    assert f"pip install 'mmhydra[{name}]'" in message


@pytest.fixture
def attempt_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "attempts" / "0001"
    folder.mkdir(parents=True)
    write_steps(folder / "metrics.jsonl", range(10))
    provenance = {"run_id": "0123456789ab", "run_name": "p0", "attempt": 1, "config_sha256": "c"}
    (folder / "provenance.json").write_text(json.dumps({**provenance, "git": {"commit": "deadbeef"}}))
    (folder / "config.yaml").write_text("model: {name: debug}\n")
    return folder


def test_replay_to_tensorboard_twice_doubles_nothing(
    tmp_path: Path, attempt_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tb" / "0123456789ab" / "attempt-0001"
    for _ in range(2):
        assert main(["replay", str(attempt_dir), "--tensorboard", str(tmp_path / "tb")]) == 0
        assert capsys.readouterr().out == "tensorboard: 10 records delivered\n"
        (events,) = folder.iterdir()
        events.rename(folder / "events.out.tfevents.0000000001.host.1")  # as an earlier process named it
    assert [step for step, _ in _scalars(folder, "train/loss")] == list(range(10))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("provenance.json", None, "cannot read"),
        ("provenance.json", "{", "cannot read"),
        ("provenance.json", "[]", "should hold a mapping"),
        ("provenance.json", '{"run_id": "a"}', "has no key 'run_name'"),
        ("config.yaml", "model: {name: [", "cannot read"),
        ("config.yaml", "data: {}", "has no key 'model'"),
        ("config.yaml", "model: debug", "provenance.json or config.yaml"),
        ("metrics.jsonl", None, "no metrics.jsonl"),
    ],
)
def test_replay_says_what_is_wrong_in_one_line(
    attempt_dir: Path, capsys: pytest.CaptureFixture[str], file: str, content: str | None, message: str
) -> None:
    (attempt_dir / file).unlink()
    if content is not None:
        (attempt_dir / file).write_text(content)
    assert main(["replay", str(attempt_dir), "--tensorboard", str(attempt_dir / "tb")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (attempt_dir / "tb").exists()


def test_replay_needs_a_sink_and_a_writable_place(
    attempt_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(attempt_dir)]) == 2
    assert "--aim REPO or --tensorboard DIR" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    for option in ("--tensorboard", "--aim"):
        assert main(["replay", str(attempt_dir), option, str(tmp_path / "file")]) == 2
        error = capsys.readouterr().err
        assert str(tmp_path / "file") in error
        assert error.count("\n") == 1
