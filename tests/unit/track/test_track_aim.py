import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import aim_quietly  # noqa: F401  before the first import of Aim
import pytest
from aim.sdk.repo import Repo
from track_samples import (
    ROOT,
    Failures,
    python_command,
    read_aim,
    run_info,
    run_python,
    train_record,
    validation_record,
    wait_for,
    write_steps,
)

from mmhydra.track import Follower, build_sinks, read_jsonl
from mmhydra.track.__main__ import main
from mmhydra.track.aim import AimSink, aim_hash

# A trainer: writes steps of an attempt, followed by Aim.
_TRAIN = """
import json, time
from pathlib import Path
from mmhydra.track import Follower, JsonlWriter, build_sinks
from track_samples import run_info, train_record
path, repo, attempt, first, last, shift, forever = sys.argv[1:]
run = run_info(attempt=int(attempt), git_commit="commit" + attempt)
sinks = build_sinks({"aim": {"repo": repo}}, run, Path(path).parent)
follower = Follower(path, sinks, lambda name, message: print("FAILED", name, message, flush=True))
writer = JsonlWriter(path)
for step in range(int(first), int(last)):
    writer.write(train_record(step, loss=step + float(shift)))
while forever == "yes":
    time.sleep(0.1)
follower.stop(30.0)
"""


def test_values_steps_and_params_come_back_through_aims_sdk(tmp_path: Path) -> None:
    path, failures = tmp_path / "metrics.jsonl", Failures()
    write_steps(path, range(1, 51))
    with path.open("a") as file:
        file.write(json.dumps(validation_record(50)) + "\n")
        file.write(json.dumps(train_record(51, loss="NaN")) + "\n")
    sinks = build_sinks({"aim": {"repo": tmp_path / "repo" / ".aim"}}, run_info(), tmp_path)
    Follower(path, sinks, failures).stop(40.0)
    assert failures.calls == []
    assert os.listdir(tmp_path / "repo") == [".aim"]

    (run,) = read_aim(tmp_path / "repo")
    assert run["hash"] == aim_hash("0123456789ab")
    assert run["name"] == "p0_demo"
    assert run["ended"]
    params = run["params"]
    assert params["config"] == run_info().config
    expected = {"git_commit": "deadbeef", "config_sha256": "c0ffee", "attempt": 1, "model": "debug"}
    assert expected.items() <= params.items()
    assert params["run_id"] == "0123456789ab"
    metrics = run["metrics"]
    assert metrics["lr train"] == [[step, 0.003] for step in range(1, 52)]
    assert metrics["loss train"][:50] == [[step, 5.0 - step / 100] for step in range(1, 51)]
    step, value = metrics["loss train"][50]
    assert step == 51
    assert value != value
    assert metrics["val_loss val"] == [[50, 4.5]]
    # Neither null nor text, and nothing of Aim's own (system metrics, terminal logs).
    assert {name.split()[0] for name in metrics} == {
        "loss",
        "grad_norm",
        "lr",
        "consumed_tokens",
        "throughput_tps",
        "data_time_s",
        "step_time_s",
        "val_loss",
    }


def test_resume_after_kill_9_continues_the_same_aim_run(tmp_path: Path) -> None:
    repo, first, second = tmp_path / "repo", tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    process = subprocess.Popen(python_command(_TRAIN, str(first), str(repo), "1", "0", "80", "0", "yes"))
    lock = repo / ".aim" / "locks" / f"{aim_hash('0123456789ab')}.softlock"
    wait_for(lambda: lock.exists() and first.exists())
    wait_for(lambda: len(list(read_jsonl(first))) == 80)
    threading.Event().wait(1.0)  # for the sink to take some of them
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert lock.exists()

    # The checkpoint was at 50: steps 50 to 79 are logged again, with other values.
    result = run_python(_TRAIN, str(second), str(repo), "2", "50", "100", "1000", "no")
    assert (result.returncode, result.stdout) == (0, "")
    assert "corruption" not in result.stderr

    (run,) = read_aim(repo)
    expected = [[s, float(s)] for s in range(50)] + [[s, s + 1000.0] for s in range(50, 100)]
    assert run["metrics"]["loss train"] == expected
    assert run["params"]["attempt"] == 2
    assert run["params"]["git_commit"] == "commit2"
    assert run["ended"]
    assert not lock.exists()


@pytest.mark.parametrize("kind", ["file", "unwritable"])
def test_broken_repository_harms_nothing(tmp_path: Path, kind: str) -> None:
    if kind == "file":
        repo = tmp_path / "repo"
        repo.write_text("not a folder")
    elif os.geteuid() == 0:
        repo = Path("/proc/repo")  # nobody can write there; a root user ignores mode bits
    else:
        repo = tmp_path / "repo"
        repo.mkdir(mode=0o555)
    path, failures = tmp_path / "metrics.jsonl", Failures()
    follower = Follower(path, build_sinks({"aim": {"repo": repo}}, run_info(), tmp_path), failures)
    write_steps(path, range(20))
    follower.stop(20.0)
    assert [record["step"] for record in read_jsonl(path)] == list(range(20))
    ((name, message),) = failures.calls
    assert name == "aim"
    assert str(path) in message


def test_aims_exit_hook_cannot_keep_the_process_alive(tmp_path: Path) -> None:
    # A sink that hangs inside Aim while the interpreter exits.
    code = """
import threading
from pathlib import Path
from mmhydra.track import Follower
from mmhydra.track.aim import AimSink
from track_samples import run_info, write_steps
hangs = threading.Event()
class Hangs(AimSink):
    def write(self, record):
        hangs.set()
        threading.Event().wait()
from aim.sdk.run import BasicRunAutoClean
BasicRunAutoClean._close = lambda self: threading.Event().wait()
path = Path(sys.argv[1])
write_steps(path, range(4))
follower = Follower(path, {"aim": lambda: Hangs(run_info(), path.parent)}, lambda name, text: print(text))
assert hangs.wait(20)
follower.stop(0.3)
"""
    result = run_python(code, str(tmp_path / "m.jsonl"), timeout_s=30.0)
    assert result.returncode == 0, result
    assert "4 records were not delivered" in result.stdout


def test_two_new_runs_in_quick_succession(tmp_path: Path) -> None:
    # Aim remembers its list of runs for a while and would not find the second one.
    for run_id in ("aaaa", "bbbb"):
        sink = AimSink(run_info(run_id=run_id), tmp_path / "repo")
        sink.write(train_record(1))
        sink.close()
    assert {run["params"]["run_id"] for run in read_aim(tmp_path / "repo")} == {"aaaa", "bbbb"}


def test_ending_that_aim_would_cut_off_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name the folder that holds"):
        AimSink(run_info(), tmp_path / "metrics.aim")


def _attempt(folder: Path, attempt: int, steps: range, loss: float) -> None:
    folder.mkdir(parents=True)
    provenance = {
        "run_id": "0123456789ab",
        "run_name": "p0_demo",
        "attempt": attempt,
        "config_sha256": "c0ffee",
    }
    (folder / "provenance.json").write_text(json.dumps({**provenance, "git": {"commit": f"commit{attempt}"}}))
    (folder / "config.yaml").write_text("model: {name: debug, dim: 64}\n")
    with (folder / "metrics.jsonl").open("w") as file:
        for step in steps:
            file.write(json.dumps(train_record(step, loss=loss)) + "\n")


def _replay(*args: str | Path) -> subprocess.CompletedProcess[str]:
    code = "from mmhydra.track.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    return run_python(code, "replay", *map(str, args))


def test_replaying_twice_and_out_of_order_doubles_nothing(tmp_path: Path) -> None:
    attempts, repo = tmp_path / "attempts", tmp_path / "repo"
    _attempt(attempts / "0001", 1, range(0, 80), 1.0)
    _attempt(attempts / "0002", 2, range(50, 70), 2.0)
    for attempt, num_records in (("0002", 20), ("0001", 60), ("0001", 60)):
        result = _replay(attempts / attempt, "--aim", repo)
        assert result.returncode == 0, result.stderr
        assert f"aim: {num_records} records delivered" in result.stdout
    (run,) = read_aim(repo)
    expected = [1.0] * 50 + [2.0] * 20 + [1.0] * 10
    assert run["metrics"]["loss train"] == [[step, loss] for step, loss in enumerate(expected)]
    assert run["params"]["attempt"] == 2
    assert run["params"]["git_commit"] == "commit2"


def test_replay_respects_the_lock_of_another_node_unless_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt, repo = tmp_path / "0001", tmp_path / "repo"
    _attempt(attempt, 1, range(3), 1.0)
    command = ["replay", str(attempt), "--aim", str(repo)]
    assert main(command) == 0
    lock = repo / ".aim" / "locks" / f"{aim_hash('0123456789ab')}.softlock"
    lock.write_text("1-1-1.0")  # machine, process, time
    monkeypatch.setattr(Repo.request_run_lock, "__defaults__", (0.2,))  # instead of ten seconds
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "another process writes Aim run" in error
    assert error.count("\n") == 1
    assert main([*command, "--force"]) == 0


def test_living_writer_on_this_host_cannot_be_pushed_aside(tmp_path: Path) -> None:
    attempt, repo = tmp_path / "0001", tmp_path / "repo"
    _attempt(attempt, 1, range(3), 1.0)
    sink = AimSink(run_info(), repo)
    result = _replay(attempt, "--aim", repo, "--force")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    sink.write(train_record(7, loss=7.0))
    sink.close()
    (run,) = read_aim(repo)
    assert run["metrics"]["loss train"] == [[7, 7.0]]


def test_module_is_a_command(tmp_path: Path) -> None:
    command = ["-m", "mmhydra.track", "replay", str(tmp_path), "--aim", str(tmp_path / "repo")]
    python = python_command("")[0]
    result = subprocess.run([python, *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert "no metrics.jsonl in" in result.stderr
