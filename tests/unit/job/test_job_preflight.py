"""The smoke test of a node: what it finds, and that nothing can hold it up. Bad things are real where they can be."""

import contextlib
import ctypes
import faulthandler
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fitting_dataset import write_fitting

from mmhydra.config.frozen import to_yaml
from mmhydra.data.shards.index import INDEX_SUFFIX
from mmhydra.job import preflight, report
from mmhydra.job.report import Check, PreflightError, Report, read_reports
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.identity import identify

CHECKS = ["config", "storage", "clock", "memory", "space", "data", "torch", "devices", "matmul cpu"]


@pytest.fixture(scope="module")
def data(tmp_path_factory, default_config, change):
    """A dataset for the default config, in many shards."""
    folder = tmp_path_factory.mktemp("data")
    write_fitting(change(default_config, {"paths.data": str(folder)}))
    return folder


@pytest.fixture
def config(tmp_path, data, default_config, change):
    """The default config over data of its own: a copy of hard links, which a test may break."""
    own = tmp_path / "data"
    subprocess.run(["cp", "-rl", data, own], check=True)
    return change(default_config, {"paths.data": str(own), "paths.outputs": str(tmp_path / "outputs")})


def freeze(folder: Path, config) -> Attempt:
    run = RunDirectory(folder)
    run.create(identify(config, {}, None))
    attempt, text = run.new_attempt(), to_yaml(config)
    attempt.freeze(text, (), {"config_sha256": hashlib.sha256(text).hexdigest()}, {"code.patch": b""})
    return attempt


@pytest.fixture
def attempt(tmp_path, config):
    return freeze(tmp_path / "outputs" / "debug" / "0123456789ab", config)


@pytest.fixture
def without_torch(monkeypatch):
    """For tests of other checks: they take no seconds then."""
    plan = preflight._plan
    slow = ("torch", "matmul cpu")
    monkeypatch.setattr(preflight, "_plan", lambda *given: [entry for entry in plan(*given) if entry[0] not in slow])


def plan_of(monkeypatch, *calls, limit_s=0.3):
    plan = [(f"check {number}", call, limit_s) for number, call in enumerate(calls)]
    monkeypatch.setattr(preflight, "_plan", lambda config, attempt, node, part: plan)


def failed(report: Report) -> dict[str, str]:
    return {check.name: check.message for check in report.checks if not check.ok}


RUN = """
import os, sys
from pathlib import Path
from mmhydra.job.preflight import run
from mmhydra.run.directory import Attempt
os._exit(run(Attempt(Path(sys.argv[1])), sys.argv[2], float(sys.argv[3])))
"""


def run_process(attempt: Attempt, node: str = "gpu01", timeout_s: float = 100, **options):
    """As a job does it: in a process of its own."""
    line = [sys.executable, "-c", RUN, str(attempt.path), node, str(timeout_s)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, **options)


def test_a_good_node_passes_and_says_what_was_seen(attempt):
    done = run_process(attempt)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    document = json.loads((attempt.path / "preflight" / "gpu01.json").read_text())
    assert document.keys() == {"node", "ok", "seconds", "checks"}
    assert [check["name"] for check in document["checks"]] == CHECKS
    assert all(check.keys() == {"name", "ok", "message", "seconds"} and check["ok"] for check in document["checks"])
    assert document["ok"] is True
    report = read_reports(attempt)["gpu01"]
    assert report.document == document
    assert 0 < sum(check.seconds for check in report.checks) <= report.seconds
    # The errors are there, and within the tolerance.
    errors = [float(value) for value in re.findall(r"(?:float32|bfloat16) (\S+?)(?:,|$)", report.checks[-1].message)]
    assert len(errors) == 2
    assert all(0 < error < 1 for error in errors)
    assert not list(attempt.run.path.glob(".preflight*"))


def test_a_node_without_a_working_torch_gets_a_report(attempt, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')")
    done = run_process(attempt, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    said = "ImportError: libcudart.so.13: cannot open shared object file"
    assert failed(read_reports(attempt)["gpu01"]) == {"torch": said, "matmul cpu": said}
    assert done.stderr.splitlines() == [f"preflight of gpu01: {name}: {said}" for name in ("torch", "matmul cpu")]


def test_gpus_that_are_not_there_are_named(attempt, config, change):
    """None is visible to torch, on any machine; no check of a GPU may pass."""
    attempt = freeze(attempt.run.path, change(config, {"cluster.device": "cuda", "cluster.gpus_per_node": 1}))
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    assert run_process(attempt, env=hidden).returncode == 1
    faults = failed(read_reports(attempt)["gpu01"])
    assert faults.pop("devices") == "0 GPUs visible, 1 expected; nvidia-smi on the node shows which are there"
    assert faults.keys() == {"free memory of cuda:0", "matmul cuda:0"}


def test_a_wrong_product_names_device_and_error(monkeypatch):
    torch = pytest.importorskip("torch")
    right = torch.Tensor.__matmul__

    def wrong(left, other):
        product = right(left, other)
        if left.dtype == torch.bfloat16:
            product[3, 7] += 0.02 * product.abs().max()  # one element of 262,144
        return product

    monkeypatch.setattr(torch.Tensor, "__matmul__", wrong)
    preflight._product.cache_clear()
    report = ask(lambda: preflight._check_matmul("cpu"))
    assert not report.ok
    assert re.fullmatch(
        r"cpu multiplies bfloat16 matrices wrongly: the largest error is \d.*, \d.* times the tolerance", report.value
    )


def test_a_product_that_is_not_finite_is_refused(monkeypatch):
    torch = pytest.importorskip("torch")
    right = torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor,
        "__matmul__",
        lambda a, b: right(a, b) * (torch.nan if a.dtype == torch.float32 else 1),
    )
    assert (
        ask(lambda: preflight._check_matmul("cpu")).value
        == "cpu gives a product of float32 matrices that is not finite"
    )


def ask(call, limit_s: float = 20):
    """One check, in a child as in a preflight: torch's threads stay out of this process."""
    return next(preflight._ask([(call, limit_s)], time.monotonic() + limit_s))


def test_missing_data_is_named(attempt, config, without_torch):
    (Path(config.paths.data) / "demo-v2" / "manifest.json").unlink()
    faults = failed(preflight.check_node(config, attempt, "gpu01", 30))
    assert faults.keys() == {"data"}
    assert "dataset demo-v2 is not there" in faults["data"]


@pytest.mark.parametrize("kind", ["missing", "cut", "no index"])
def test_shards_that_are_not_those_of_the_manifest_are_counted_and_named(attempt, config, without_torch, kind):
    shards = sorted(Path(config.paths.data, "demo-v2").rglob("*.tar"))
    assert len(shards) > 3
    bad = shards[1] if kind != "no index" else shards[1].with_name(shards[1].name + INDEX_SUFFIX)
    content = bad.read_bytes()
    bad.unlink()  # a hard link: the others keep theirs
    if kind == "cut":
        bad.write_bytes(content[:-1])
    said = f"{bad} has {len(content) - 1} bytes, the manifest says {len(content)}"
    message = failed(preflight.check_node(config, attempt, "gpu01", 30))["data"]
    assert message.startswith(f"1 of {len(shards)} shards are not what the manifest says:\n")
    assert (said if kind == "cut" else f"{bad}: No such file or directory") in message


def test_a_config_that_is_not_the_frozen_one_is_refused(attempt):
    (attempt.path / "config.yaml").write_bytes(b"name: other\n")
    began = time.monotonic()
    assert preflight.run(attempt, "gpu01", 30) == 1
    assert time.monotonic() - began < 10
    assert "changed after it was frozen" in failed(read_reports(attempt)["gpu01"])["config"]


def test_a_full_disk_is_named(config, tmp_path, without_torch):
    if os.geteuid() != 0:
        pytest.skip("only root mounts a small tmpfs")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small tmpfs")
    try:
        attempt = freeze(small / "run", config)
        faults = failed(preflight.check_node(config, attempt, "gpu01", 30))
        assert faults["storage"] == f"{small / 'run'} can't be written and read: no space is left"
        assert faults["space"].startswith(f"{small / 'run' / 'checkpoints'} has 0.0 GiB free, a checkpoint takes about")
        assert not list((small / "run").glob(".preflight*"))
        subprocess.run(["mount", "-o", "remount,ro", small], check=True)
        faults = failed(preflight.check_node(config, attempt, "gpu01", 30))
        assert faults["storage"] == f"{small / 'run'} can't be written and read: it is mounted read-only"
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_file_that_may_not_grow_is_a_failed_check(attempt, config):
    limit = (1024**2, 1024**2)
    done = run_process(attempt, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    assert done.returncode == 1
    assert failed(read_reports(attempt)["gpu01"]) == {
        "storage": f"{attempt.run.path} can't be written and read: File too large"
    }


def test_storage_that_hangs_ends_in_time(attempt):
    """A FIFO that nobody writes to: reading the config never returns, as on a file server that is away."""
    (attempt.path / "config.yaml").unlink()
    os.mkfifo(attempt.path / "config.yaml")
    began = time.monotonic()
    done = run_process(attempt, timeout_s=4)
    assert time.monotonic() - began < 8  # 4 s and the start of Python
    assert done.returncode == 1
    assert done.stderr == "preflight of gpu01: config: no answer within 3 s\n"
    assert failed(read_reports(attempt)["gpu01"]) == {"config": "no answer within 3 s"}


def test_a_report_that_can_not_be_written_is_printed(attempt, config, without_torch, capfd):
    attempt.preflight.write_text("a file in the folder's place")
    assert preflight.run(attempt, "gpu01", 30) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[-2].startswith("preflight of gpu01: the report can't be written: FileExistsError: ")
    assert json.loads(lines[-1])["ok"] is True


def test_a_report_whose_writing_hangs_is_printed(attempt, monkeypatch, capfd):
    plan_of(monkeypatch, lambda: "well")
    monkeypatch.setattr(preflight, "WRITE_S", 0.3)
    monkeypatch.setattr(report, "write_json", lambda path, document: time.sleep(60))
    began = time.monotonic()
    assert preflight.run(attempt, "gpu01", 20) == 1
    assert time.monotonic() - began < 5
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "preflight of gpu01: the report can't be written: no answer within 0.3 s"
    assert json.loads(lines[1])["checks"][0]["name"] == "check 0"


def test_a_check_that_hangs_fails_and_the_next_ones_are_made(attempt, config, monkeypatch):
    pids = attempt.path / "pids"

    def hang():
        pids.write_text(str(os.getpid()))
        time.sleep(60)

    plan_of(monkeypatch, lambda: "before", hang, lambda: "after")
    report = preflight.check_node(config, attempt, "gpu01", 30)
    assert [(check.ok, check.message) for check in report.checks] == [
        (True, "before"),
        (False, "no answer within 0.3 s"),
        (True, "after"),
    ]
    assert report.seconds < 5
    await_end(int(pids.read_text()))


def await_end(pid: int) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} goes on")


def test_all_checks_that_hang_take_the_time_that_was_given_and_no_more(attempt, config, monkeypatch):
    plan_of(monkeypatch, *[lambda: time.sleep(60)] * 9, limit_s=0.5)
    began = time.monotonic()
    report = preflight.check_node(config, attempt, "gpu01", 1.2)
    assert time.monotonic() - began < 2.2
    messages = [check.message for check in report.checks]
    assert messages[:2] == ["no answer within 0.5 s"] * 2
    assert messages[-1] == "not run: the time of the preflight was over"
    assert not any(check.ok for check in report.checks)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: 1 // 0, "ZeroDivisionError: integer division or modulo by zero"),
        (lambda: sys.exit("a library gives up"), "SystemExit: a library gives up"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "the check was ended by SIGKILL"),
        (lambda: (faulthandler.disable(), ctypes.string_at(0)), "the check was ended by SIGSEGV"),
        (lambda: os._exit(7), "it ended with 7"),
    ],
)
def test_whatever_a_check_does_is_a_failed_check(attempt, config, monkeypatch, capfd, call, message):
    plan_of(monkeypatch, call, lambda: "after", limit_s=10)
    assert preflight.run(attempt, "gpu01", 60) == 1
    report = read_reports(attempt)["gpu01"]
    assert failed(report) == {"check 0": message}
    assert report.checks[1].message == "after"
    assert capfd.readouterr().err == f"preflight of gpu01: check 0: {message}\n"


def test_after_a_failure_the_next_check_has_a_process_of_its_own(attempt, config, monkeypatch):
    """An error of CUDA stays with its process, and would be taken for one of the next device."""
    broken: list[int] = []

    def first():
        broken.append(1)
        raise RuntimeError("an illegal memory access was encountered")

    plan_of(monkeypatch, first, lambda: f"{len(broken)} broken", limit_s=10)
    assert preflight.check_node(config, attempt, "gpu01", 60).checks[1].message == "0 broken"


@pytest.mark.parametrize(("off_s", "way"), [(100, "behind"), (-100, "ahead of"), (9, None), (-9, None)])
def test_a_clock_that_is_off_is_named(tmp_path, monkeypatch, off_s, way):
    monkeypatch.setattr(preflight, "time_of_file_system", lambda folder: time.time() + off_s)
    if way is None:
        assert preflight._check_clock(tmp_path).startswith("within ")
        return
    with pytest.raises(PreflightError, match=f"this node's clock is (99|100) s {way} that of .*; at most 10 s"):
        preflight._check_clock(tmp_path)


def test_a_slow_file_server_is_no_wrong_clock(tmp_path, monkeypatch):
    now = iter([1000.0, 1300.0])
    monkeypatch.setattr(preflight.time, "time", lambda: next(now))
    monkeypatch.setattr(preflight, "time_of_file_system", lambda folder: 1290.0)
    assert preflight._check_clock(tmp_path) == "within 0.0 s of the file system's"


def test_too_little_memory_is_named():
    with pytest.raises(PreflightError, match=r"GiB of memory available, 1000000 ranks need 500000\.0 GiB at least"):
        preflight._check_memory(1_000_000)


def test_a_model_whose_checkpoint_does_not_fit_is_named(attempt, config, change):
    huge = change(config, {"model.num_layers": 10**9})
    with pytest.raises(PreflightError, match=r"checkpoints has .* GiB free, a checkpoint takes about \d{5,}\.\d GiB"):
        preflight._check_space(huge, attempt.run.checkpoints)
    assert preflight._check_space(change(huge, {"checkpoint.enabled": False}), attempt.run.checkpoints)


@pytest.mark.parametrize("node", ["", ".", "..", "../gpu01", "a/b", ".hidden", "gpu01\n", "-x", "a" * 201, "gpu 1"])
def test_names_that_are_no_file_names_are_refused(attempt, config, capfd, node):
    with pytest.raises(PreflightError, match="is no name of a node"):
        Report(node, 0.0, ())
    with pytest.raises(PreflightError, match="is no name of a node"):
        preflight.check_node(config, attempt, node, 1)
    assert preflight.run(attempt, node, 1) == 1
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert not attempt.preflight.exists()


@pytest.mark.parametrize("node", ["127.0.0.2", "gpu01", "gpu-01.example.org", "a" * 200])
def test_reports_of_nodes_are_read_back(attempt, node):
    report = Report(node, 1.5, (Check("clock", True, "well", 0.1), Check("data", False, "a\nb", 0.2)))
    report.write(attempt)
    assert read_reports(attempt) == {node: report}
    assert not report.ok
    assert not replace(report, checks=()).ok


def test_what_is_no_report_has_not_answered(attempt):
    assert read_reports(attempt) == {}
    Report("gpu01", 1.5, (Check("clock", True, "well", 0.1),)).write(attempt)
    whole = (attempt.preflight / "gpu01.json").read_text()
    for name, content in {"cut": whole[:30], "list": "[]", "fields": '{"node": "fields"}', "renamed": whole}.items():
        (attempt.preflight / f"{name}.json").write_text(content)
    assert read_reports(attempt).keys() == {"gpu01"}


def test_the_module_itself_loads_no_torch():
    code = "import sys, mmhydra.job.preflight; print([m for m in ('torch', 'numpy', 'hydra') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
