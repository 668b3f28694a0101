"""Kills, and what comes after them."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from workplace import SHORT, Workplace, events, records, replacing

pytestmark = pytest.mark.slow

DEADLINE_S = 120


def start_and_kill(place: Workplace, at_step: int, *overrides: str) -> Path:
    """Starts a run, ends its whole process group with SIGKILL once a step is logged, and waits for the workers."""
    process = subprocess.Popen(
        place.command(*overrides), env=place.environment, start_new_session=True, stdout=subprocess.DEVNULL
    )
    wait_for_step(place, process, at_step)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run = place.newest_run()
    deadline = time.monotonic() + DEADLINE_S
    while workers_of(run):
        assert time.monotonic() < deadline, "workers outlive their launcher"
        time.sleep(0.05)
    return run


def wait_for_step(place: Workplace, process: "subprocess.Popen[bytes]", step: int) -> None:
    """Waits until a run has logged a step."""
    deadline = time.monotonic() + DEADLINE_S
    while not any(logged >= step for run in place.outputs.glob("*/*") for logged in records(run)):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers_of(run: Path) -> list[int]:
    """Living processes whose command line names an attempt of the run."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if str(run).encode() in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
    return found


def test_killed_run_continues_bit_for_bit(short_place: Workplace, place: Workplace) -> None:
    run = start_and_kill(place, 13, *SHORT)
    assert [path.name for path in run.glob("checkpoints/*")] == ["step-00000010"]
    assert place.train(*SHORT) == run
    whole, resumed = records(short_place.newest_run()), records(run, attempt="0002")
    assert list(resumed) == list(range(11, 21))
    for step, record in resumed.items():
        assert (record["loss"], record["grad_norm"]) == (whole[step]["loss"], whole[step]["grad_norm"])
    held_out = [records(folder, "validation")[20]["val_loss"] for folder in (short_place.newest_run(), run)]
    assert held_out[0] == held_out[1]
    assert "resume" in [event["kind"] for event in events(run)]


def test_killed_on_one_rank_with_damaged_newest_checkpoint_continues_on_two(
    short_place: Workplace, place: Workplace
) -> None:
    """The number of data-parallel ranks is no identity, and the previous checkpoint serves, loudly."""
    run = start_and_kill(place, 13, *replacing(SHORT, "checkpoint.interval=5", "checkpoint.async_mode=async"))
    damaged = run / "checkpoints/step-00000010"
    flip_a_byte(damaged)
    assert place.train(*SHORT, "parallel=fsdp") == run
    told = [event["message"] for event in events(run) if event["kind"] == "checkpoint_corrupt"]
    assert len(told) == 1
    assert str(damaged) in told[0]
    whole, resumed = records(short_place.newest_run()), records(run, attempt="0002")
    assert list(resumed) == list(range(6, 21))
    for step, record in resumed.items():
        assert record["loss"] == pytest.approx(whole[step]["loss"], rel=1e-5)
        assert record["data_shard"] == whole[step]["data_shard"]


def test_dead_rank_ends_the_run_and_the_same_command_resumes(place: Workplace) -> None:
    process = subprocess.Popen(
        place.command(*SHORT, "parallel=fsdp"), env=place.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    wait_for_step(place, process, 13)
    run = place.newest_run()
    os.kill(max(workers_of(run)), signal.SIGKILL)  # the last started: a rank, not the agent
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1, errors
    assert b"rank 1 was ended by SIGKILL" in errors
    assert b"the same command resumes it" in errors
    assert workers_of(run) == []
    assert place.train(*SHORT, "parallel=fsdp") == run
    before, after = records(run, attempt="0001"), records(run, attempt="0002")
    assert list(after) == list(range(11, 21))
    assert before.keys() & after.keys() >= {11, 12, 13}
    for step in before.keys() & after.keys():
        assert (before[step]["loss"], before[step]["grad_norm"]) == (after[step]["loss"], after[step]["grad_norm"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_says_so_and_leaves_no_worker(place: Workplace, number: signal.Signals) -> None:
    process = subprocess.Popen(
        place.command(*SHORT),
        env=place.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # As in a terminal: what runs in the background of a script inherits that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for_step(place, process, 3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=DEADLINE_S)
    run = place.newest_run()
    assert process.returncode == 1
    assert errors.decode().startswith("interrupted; the same command resumes")
    assert workers_of(run) == []
    assert "interrupted" in (run / "attempts/0001/outcome.json").read_text()


def test_weights_that_are_not_finite_are_never_saved(place: Workplace) -> None:
    """The loss is logged once in a hundred steps, so only the weights can tell; a person has to decide."""
    poison = ("optim.lr=1e30", "optim.min_lr=0.0", "optim.warmup_steps=0", "track.log_interval=100")
    done = place.run(*replacing(SHORT, *poison))
    assert done.code == 3, done.text
    assert "are not finite" in done.err
    assert "a person has to decide" in done.err
    assert list(place.outputs.glob("*/*/checkpoints/*/stamp.json")) == []


def test_full_disk_leaves_no_half_checkpoint(place: Workplace) -> None:
    """A limit on the size of files stands for the disk: the checkpoint does not fit, metrics do."""
    limited = ["bash", "-c", 'ulimit -f 2000; exec "$@"', "limited", *place.command(*SHORT)]  # blocks of 1 KiB
    done = subprocess.run(limited, env=place.environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 1, done.stdout + done.stderr
    run = place.newest_run()
    assert list(run.glob("checkpoints/*/stamp.json")) == []
    assert list(records(run)) == list(range(1, 11))
    assert "the checkpoint of step 10 could not be written" in done.stderr
    assert "GB are free" in done.stderr
    assert "Traceback" not in done.stderr
    assert place.train(*SHORT) == run
    assert list(records(run, attempt="0002")) == list(range(1, 21))


def flip_a_byte(folder: Path) -> str:
    """Changes one bit in the middle of a shard of a checkpoint; returns the shard's name."""
    shard = max(folder.glob("*.distcp"), key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    return shard.name


@pytest.fixture
def copied(short_place: Workplace, place: Workplace) -> tuple[Workplace, Path]:
    """A finished run with its last checkpoint taken away, so that the same command has to resume."""
    shutil.copytree(short_place.outputs, place.outputs)
    run = place.newest_run()
    shutil.rmtree(run / "checkpoints/step-00000020")
    return place, run


@pytest.mark.parametrize("policy", ["previous", "refuse"])
def test_damaged_only_checkpoint_is_refused(copied: tuple[Workplace, Path], policy: str) -> None:
    place, run = copied
    shard = flip_a_byte(run / "checkpoints/step-00000010")
    refused = place.run(*SHORT, f"checkpoint.on_corrupt={policy}")
    assert refused.code == 2, refused.text
    assert "Traceback" not in refused.text
    told = [event["message"] for event in events(run) if event["kind"] == "checkpoint_corrupt"]
    assert f"{shard} was changed" in told[0]
    expected = "was changed" if policy == "refuse" else "none of the 1 checkpoints"
    assert expected in refused.err


def start_worker(place: Workplace, attempt: Path) -> str:
    """Starts the one rank of an attempt again and returns what it says of its failure."""
    elastic = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", "-m", "mmhydra.worker"]
    command = [place.command()[0], *elastic, str(attempt)]
    environment = {**place.environment, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode != 0
    return (attempt / "failures/rank-0000.json").read_text()


def test_worker_refuses_a_config_that_was_edited(copied: tuple[Workplace, Path]) -> None:
    place, run = copied
    config = run / "attempts/0001/config.yaml"
    config.write_text(config.read_text().replace("lr: 0.003", "lr: 0.03"))
    failure = start_worker(place, config.parent)
    assert '"exit_code": 2' in failure
    assert "was changed after it was frozen" in failure


def test_worker_refuses_data_that_was_replaced(place: Workplace, tmp_path: Path) -> None:
    own = Workplace(tmp_path / "data", place.outputs)
    shutil.copytree(place.data, own.data)
    run = own.train("training.steps=0")
    manifest = own.data / "demo-v2/manifest.json"
    manifest.write_text(manifest.read_text().replace('"dataset": "', '"dataset": "other-'))
    failure = start_worker(own, run / "attempts/0001")
    assert '"exit_code": 2' in failure
    assert "demo-v2" in failure


def test_demo_with_other_settings_never_replaces_the_old_one(place: Workplace) -> None:
    other = place.run("training.steps=0", "data.builder.corpus_mb=5.0")
    assert other.code == 2, other.text
    assert "corpus_mb" in other.err
