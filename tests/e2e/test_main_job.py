"""The main job on its defaults, as a newcomer runs it."""

import json
import re
import statistics
import subprocess
import sys

import pytest
from workplace import Finished, Workplace, events, records

pytestmark = pytest.mark.slow

FIELDS = {
    "timestamp",
    "level",
    "run_id",
    "kind",
    "step",
    "loss",
    "loss_by_modality",
    "tokens_by_modality",
    "max_loss",
    "grad_norm",
    "lr",
    "consumed_tokens",
    "throughput_tps",
    "mfu",
    "data_time_s",
    "step_time_s",
    "gpu_mem_used_gb",
    "data_shard",
    "seen_tokens_by_source",
    "seen_tokens_by_modality",
    "epochs_by_source",
    "skipped_samples",
}


def test_learns_more_than_frequencies(main_job: tuple[Workplace, Finished]) -> None:
    place, finished = main_job
    assert finished.code == 0, finished.text + place.logs()
    entropy = float(re.search(r"unigram entropy +([\d.]+)", finished.out)[1])
    manifest = json.loads((place.data / "demo-v2/manifest.json").read_text())
    assert entropy == pytest.approx(manifest["unigram_entropy_nats"], abs=1e-4)
    validation = records(place.newest_run(), "validation")
    assert list(validation) == [100, 200]
    assert f"{validation[200]['val_loss']:.4f}" in finished.out
    assert validation[200]["val_loss"] < entropy - 1


def test_shows_progress_and_what_to_type_next(main_job: tuple[Workplace, Finished]) -> None:
    _, finished = main_job
    assert re.search(r"step 1/200  loss [\d.]+ \(text [\d.]+( [a-z]+ [\d.]+)+\)  [\d,]+ tokens/s", finished.out)
    for row in ("run directory", "metrics", "checkpoint", "held-out loss", "-m mmhydra.checkpoint show"):
        assert row in finished.out


def test_each_modality_learns(main_job: tuple[Workplace, Finished]) -> None:
    place, finished = main_job
    train, heldout = records(place.newest_run()), records(place.newest_run(), "validation")
    for modality in ("text", "image", "audio", "video"):
        first = next(record for record in train.values() if modality in record["loss_by_modality"])
        last = heldout[200]["val_loss_by_modality"][modality]
        assert last < first["loss_by_modality"][modality]
        assert re.search(rf"{modality} +[\d.-]+ +{last:.4f}", finished.out)


def test_metrics_have_every_step_and_field(main_job: tuple[Workplace, Finished]) -> None:
    place, _ = main_job
    train = records(place.newest_run())
    assert list(train) == list(range(1, 201))
    for step, record in train.items():
        assert record.keys() >= FIELDS
        assert record["consumed_tokens"] == step * 16 * 128
        assert record["mfu"] is None  # the peak of this machine is not known, so none is invented
        assert record["data_time_s"] < record["step_time_s"]
    waited = [record["data_time_s"] / record["step_time_s"] for record in train.values()]
    assert statistics.median(waited) < 0.01, "the trainer never waits for data"


def test_first_log_line_names_run_and_hash(main_job: tuple[Workplace, Finished]) -> None:
    place, _ = main_job
    attempt = place.newest_run() / "attempts/0001"
    digest = (attempt / "config.yaml.sha256").read_text().split()[0]
    first = (attempt / "logs/rank-0000.log").read_text().splitlines()[0]
    assert place.newest_run().name in first
    assert digest in first
    subprocess.run(["sha256sum", "--check", "config.yaml.sha256"], cwd=attempt, check=True, capture_output=True)


def test_frozen_config_is_what_a_dry_run_prints(main_job: tuple[Workplace, Finished]) -> None:
    place, _ = main_job
    printed = place.run("dry_run=config").out
    assert printed == (place.newest_run() / "attempts/0001/config.yaml").read_text()


def test_every_checkpoint_is_stamped_and_whole(main_job: tuple[Workplace, Finished]) -> None:
    place, _ = main_job
    run = place.newest_run()
    checkpoints = sorted(run.glob("checkpoints/step-*"))
    assert [folder.name for folder in checkpoints] == ["step-00000100", "step-00000200"]
    for folder in checkpoints:
        stamp = json.loads((folder / "stamp.json").read_text())
        step = int(folder.name.removeprefix("step-"))
        assert stamp["step"] == step
        assert stamp["stream"]["sample"] == step * 16
        tokens, seen = stamp["tokens"], records(run)[step]
        assert tokens["total"] == sum(tokens["by_source"].values()) + tokens["padding"] == step * 16 * 128
        assert tokens["by_source"] == seen["seen_tokens_by_source"]
        assert tokens["by_modality"] == seen["seen_tokens_by_modality"]
        assert (folder / "config.yaml").read_bytes() == (run / "attempts/0001/config.yaml").read_bytes()
        assert place.run("verify", str(folder), module="mmhydra.checkpoint").code == 0
    shown = place.run("show", str(run), module="mmhydra.checkpoint").out
    assert "step 200" in shown


def test_same_command_again_says_complete(main_job: tuple[Workplace, Finished]) -> None:
    place, _ = main_job
    again = place.run()
    assert again.code == 0
    assert "already complete" in again.out
    assert "held-out loss" in again.out
    assert [path.name for path in sorted(place.newest_run().glob("attempts/*"))] == ["0001"]


def test_submit_side_never_imports_torch() -> None:
    code = "import sys, mmhydra.train, mmhydra.launch.submit; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_rank_0_says_what_it_did(main_job: tuple[Workplace, Finished]) -> None:
    place, _ = main_job
    kinds = [event["kind"] for event in events(place.newest_run())]
    assert kinds == ["model", "checkpoint", "checkpoint"]
