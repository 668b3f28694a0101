"""Is this node fit to compute? A smoke test before its ranks meet those of other nodes; bounded in time in all parts.

What hangs here (a file server, a driver) can hang a thread for ever, and no thread can be killed. So all checks run in
a child process that sends its findings through a pipe: one that fails or is silent for too long is killed and left
behind, and another one goes on with the next check. This process itself touches neither storage nor devices. It must
not have used CUDA before: the children are forked.
"""

import errno
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from mmhydra.config.schema import RunConfig
from mmhydra.data.datasets import load
from mmhydra.data.shards.manifest import Shard
from mmhydra.errors import UserError
from mmhydra.files import time_of_file_system
from mmhydra.job.report import NOT_RUN, Check, PreflightError, Report, require_safe
from mmhydra.run.directory import Attempt

CHECK_S = 20.0  # a check that takes longer has failed
DATA_S = 60.0  # all nodes ask the file server at the same time, each after its part of the shards
LOAD_TORCH_S = 60.0  # thousands of files, from a file server that all nodes ask at the same time
WRITE_S = 10.0  # of the whole time, kept for the report
CLOCK_S = 10.0  # a clock that is off by more: leases, logs and who failed first would lie
MEMORY_PER_RANK_GIB = 0.5  # torch and its libraries alone, without a model
FREE_GPU_MEMORY = 0.9  # of all; the context of this check is among the rest
CHECKPOINT_BYTES_PER_PARAMETER = 12  # fp32 weights and two moments of Adam
PROBE_BYTES = 4 * 1024**2  # written to storage and read back
STAT_THREADS = 16  # a file server takes a millisecond to answer, and there may be 100,000 shards
MATMUL_SIZE = {"cpu": 512, "cuda": 2048}  # 2048: enough tiles for all multiprocessors of a GPU
MATMUL_REPEATS = 3  # on CUDA, which have to agree bit for bit
_GIB = 1024**3


Part = tuple[int, int]  # the number of this node among those of the job, and how many they are
ALONE = (0, 1)


def run(attempt: Attempt, node: str, timeout_s: float, part: Part = ALONE) -> int:
    """Tests this node and writes its report; one line a failed check on standard error. 0: the node is fit, else 1.

    Takes at most `timeout_s` in all. A report that can't be written goes to standard error, and the answer is 1.
    End the process with os._exit: an interpreter that takes its leave may wait for storage that hangs.
    """
    began = time.monotonic()
    try:
        require_safe(node)
    except PreflightError as error:
        print(f"preflight: {error}", file=sys.stderr, flush=True)
        return 1
    end = began + timeout_s
    checks_end = end - min(WRITE_S, timeout_s / 4)
    frozen = next(_ask([(attempt.read_frozen, CHECK_S)], checks_end))
    if frozen.ok:
        config = frozen.value[0]
        checks = check_node(config, attempt, node, checks_end - time.monotonic(), part).checks
    else:
        checks = (Check("config", False, str(frozen.value), frozen.seconds),)
    report = Report(node, round(time.monotonic() - began, 3), checks)
    for check in report.checks:
        if not check.ok:
            print(f"preflight of {node}: {check.name}: {' '.join(check.message.split())}", file=sys.stderr)
    written = next(_ask([(partial(report.write, attempt), WRITE_S)], end))
    if not written.ok:
        print(f"preflight of {node}: the report can't be written: {written.value}", file=sys.stderr)
        print(json.dumps(report.document), file=sys.stderr)
    sys.stderr.flush()
    return 0 if report.ok and written.ok else 1


def check_node(config: RunConfig, attempt: Attempt, node: str, timeout_s: float, part: Part = ALONE) -> Report:
    """All checks, one after the other, in at most `timeout_s`. Nothing that a check does raises here.

    Raises PreflightError for a node whose name is no file name.
    """
    require_safe(node)
    began = time.monotonic()
    plan = _plan(config, attempt, node, part)
    answers = _ask([(call, limit_s) for _, call, limit_s in plan], began + timeout_s)
    checks = tuple(
        Check(name, answer.ok, str(answer.value), answer.seconds)
        for (name, _, _), answer in zip(plan, answers, strict=True)
    )
    return Report(node, round(time.monotonic() - began, 3), checks)


_Call = Callable[[], Any]


def _plan(config: RunConfig, attempt: Attempt, node: str, part: Part) -> list[tuple[str, _Call, float]]:
    """Name, check and limit in seconds. A check returns a remark, and raises what is wrong."""
    cluster = config.cluster
    num_ranks = cluster.gpus_per_node or config.world_size
    plan: list[tuple[str, _Call, float]] = [
        ("config", partial(_check_config, attempt), CHECK_S),
        ("storage", partial(_check_storage, attempt.run.path, node), CHECK_S),
        ("clock", partial(_check_clock, attempt.run.path), CHECK_S),
        ("memory", partial(_check_memory, num_ranks), CHECK_S),
        ("space", partial(_check_space, config, attempt.run.checkpoints), CHECK_S),
        ("data", partial(_check_data, config, part), DATA_S),
        ("torch", _check_torch, LOAD_TORCH_S),
    ]
    if cluster.device == "cpu":
        plan += [("devices", _check_cpus, CHECK_S), ("matmul cpu", partial(_check_matmul, "cpu"), CHECK_S)]
    else:
        names = [f"cuda:{index}" for index in range(num_ranks)]
        plan += [("devices", partial(_check_gpus, num_ranks), CHECK_S)]
        for name in names:
            # The first one also starts the driver and makes a context.
            limit_s = LOAD_TORCH_S if name == names[0] else CHECK_S
            plan.append((f"free memory of {name}", partial(_check_gpu_memory, name), limit_s))
        plan += [(f"matmul {name}", partial(_check_matmul, name), CHECK_S) for name in names]
    return plan


def _check_config(attempt: Attempt) -> str:
    """Also tells a node that has another file system mounted in the run directory's place."""
    attempt.read_frozen()
    return f"{attempt.path.name}/config.yaml is what was frozen"


def _check_storage(folder: Path, node: str) -> str:
    path, content = folder / f".preflight.{node}", os.urandom(PROBE_BYTES)
    began = time.monotonic()
    try:
        try:
            with open(path, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # else memory would be read
            found = path.read_bytes()
        finally:
            path.unlink(missing_ok=True)
    except OSError as error:
        reasons = {
            errno.ENOSPC: "no space is left",
            errno.EDQUOT: "the quota is used up",
            errno.EROFS: "it is mounted read-only",
        }
        reason = reasons.get(error.errno or 0, error.strerror)
        raise PreflightError(f"{folder} can't be written and read: {reason}") from error
    if found != content:
        raise PreflightError(f"{folder} gives back other bytes than were written")
    return f"{PROBE_BYTES / 1024**2:.0f} MiB written and read in {time.monotonic() - began:.2f} s"


def _check_clock(folder: Path) -> str:
    before_s = time.time()
    file_s = time_of_file_system(folder)
    # A slow file server is no wrong clock: its time may be any between before and after.
    off_s = max(file_s - time.time(), before_s - file_s, 0.0)
    if off_s > CLOCK_S:
        way = "behind" if file_s > before_s else "ahead of"
        raise PreflightError(f"this node's clock is {off_s:.0f} s {way} that of {folder}; at most {CLOCK_S:.0f} s")
    return f"within {off_s:.1f} s of the file system's"


def _check_memory(num_ranks: int) -> str:
    text = Path("/proc/meminfo").read_text()
    match = re.search(r"^MemAvailable: +(\d+) kB$", text, re.MULTILINE)
    if match is None:
        raise PreflightError("/proc/meminfo has no MemAvailable")
    available, needed = int(match[1]) / 1024**2, MEMORY_PER_RANK_GIB * num_ranks
    said = f"{available:.1f} GiB of memory available, {num_ranks} ranks need {needed:.1f} GiB at least"
    if available < needed:
        raise PreflightError(said)
    return said


def _check_space(config: RunConfig, folder: Path) -> str:
    if not config.checkpoint.enabled:
        return "this run saves no checkpoints"
    needed = CHECKPOINT_BYTES_PER_PARAMETER * config.model.num_parameters(config.tokens.vocab_size)
    free = shutil.disk_usage(folder).free
    said = f"{folder} has {free / _GIB:.1f} GiB free, a checkpoint takes about {needed / _GIB:.1f} GiB"
    if free < needed:
        raise PreflightError(said)
    return said


def _check_data(config: RunConfig, part: Part) -> str:
    # numpy comes with it; as for torch, a node where it is broken shall say so in its report.
    from mmhydra.data.mirror import is_remote, remote_fault
    from mmhydra.data.shards.index import SIDECAR_SUFFIXES

    folder = Path(config.paths.data)
    manifests = load(config.data, config.tokens, folder)
    store = config.loader.store
    remote = [name for name in manifests if is_remote(folder / name, store)]
    used = {(source.dataset, source.name) for source in config.data.sources}
    shards = [
        (folder / dataset / shard.path, shard)
        for dataset, manifest in manifests.items()
        for shard in manifest.shards
        if dataset not in remote and (dataset, shard.source) in used
    ][part[0] :: part[1]]

    def fault(entry: tuple[Path, Shard]) -> str | None:
        path, shard = entry
        try:
            if (size := path.stat().st_size) != shard.size_bytes:
                return f"{path} has {size} bytes, the manifest says {shard.size_bytes}"
            for suffix in SIDECAR_SUFFIXES:
                path.with_name(path.name + suffix).stat()
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        return None

    if store is not None:  # one shard of each: can this node reach it at all?
        for said in (remote_fault(folder / name, manifests[name], store) for name in remote):
            if said:
                raise PreflightError(said)
    with ThreadPoolExecutor(STAT_THREADS) as pool:
        faults = [said for said in pool.map(fault, shards) if said]
    if faults:
        shown = "\n".join(faults[:3])
        raise PreflightError(f"{len(faults)} of {len(shards)} shards are not what the manifest says:\n{shown}")
    return f"{len(shards)} shards of {', '.join(manifests)}, as many as each node looks at"


def _check_torch() -> str:
    import torch  # not above: a node where it can't be loaded shall say so in its report

    return f"torch {torch.__version__}"


def _check_cpus() -> str:
    num_cpus = len(os.sched_getaffinity(0))
    if num_cpus == 0:
        raise PreflightError("no CPU")
    return f"{num_cpus} CPUs"


def _check_gpus(expected: int) -> str:
    import torch  # see _check_torch

    found = torch.cuda.device_count()
    said = f"{found} GPUs visible, {expected} expected"
    if found < expected:
        raise PreflightError(f"{said}; nvidia-smi on the node shows which are there")
    return said


def _check_gpu_memory(device: str) -> str:
    import torch  # see _check_torch

    free, total = torch.cuda.mem_get_info(device)
    said = f"{device} has {free / _GIB:.1f} of {total / _GIB:.1f} GiB free"
    if free < FREE_GPU_MEMORY * total:
        raise PreflightError(f"{said}: another process sits on it; nvidia-smi on the node shows which")
    return said


def _check_matmul(device: str) -> str:
    """Products in fp32 and bf16 against those in fp64 on CPU, and on CUDA against themselves."""
    import torch  # see _check_torch

    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork, if the parent ever had some
    # Then all formats add in fp32, and the tolerance can be close.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    size = MATMUL_SIZE[torch.device(device).type]
    worst = {}
    for dtype in ("float32", "bfloat16"):
        a, b, reference, tolerance = _product(size, dtype)
        left, right = a.to(device), b.to(device)
        first = left @ right
        if device != "cpu" and not all(torch.equal(left @ right, first) for _ in range(MATMUL_REPEATS - 1)):
            raise PreflightError(f"{device} gives another product of the same {dtype} matrices each time")
        found = first.cpu()
        if not found.isfinite().all():
            raise PreflightError(f"{device} gives a product of {dtype} matrices that is not finite")
        worst[dtype] = float(((found.double() - reference).abs() / tolerance).max())
        if worst[dtype] > 1:
            error = float((found.double() - reference).abs().max())
            raise PreflightError(
                f"{device} multiplies {dtype} matrices wrongly: the largest error is {error:.3g}, "
                f"{worst[dtype]:.3g} times the tolerance"
            )
    return "largest error by tolerance: " + ", ".join(f"{dtype} {value:.2g}" for dtype, value in worst.items())


@cache
def _product(size: int, dtype: str) -> tuple[Any, Any, Any, Any]:
    """Two seeded matrices on CPU, their product in fp64, and how far off each element may be.

    The inputs are rounded before, so what is left is adding `size` products in fp32, at most size * 2**-24 of
    |a| @ |b| (Higham, Accuracy and Stability of Numerical Algorithms, 3.5), and rounding the result, at most half a
    unit in its last place. Both are allowed twice.
    """
    import torch  # see _check_torch

    kind = getattr(torch, dtype)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(kind) for _ in range(2))
    reference = a.double() @ b.double()
    adding = 2 * size * 2**-24 * (a.double().abs() @ b.double().abs())
    return a, b, reference, adding + torch.finfo(kind).eps * reference.abs()


@dataclass(frozen=True)
class _Answer:
    ok: bool
    value: Any  # what the call returned, or what is wrong
    seconds: float = 0.0


class _Child:
    """A process that makes calls in order and sends an answer for each."""

    def __init__(self, calls: Sequence[_Call]) -> None:
        # Not multiprocessing.Process: at exit that waits for its children, and one that hangs never ends.
        self._answers, theirs = Pipe(duplex=False)
        self._pid = os.fork()
        if self._pid:
            theirs.close()
            return
        try:
            self._answers.close()
            for call in calls:
                theirs.send(_answer(call))
        except OSError:
            pass  # nobody listens any more
        finally:
            os._exit(0)

    def answer(self, limit_s: float) -> _Answer:
        """The next answer; a failed one if it does not come."""
        if not self._answers.poll(limit_s):
            return _Answer(False, f"no answer within {limit_s:.3g} s")
        try:
            answer: _Answer = self._answers.recv()
            return answer
        except EOFError:
            return _Answer(False, self._end())

    def abandon(self) -> None:
        """Kills the process without waiting: the kernel may not be able to end it."""
        self._answers.close()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, os.WNOHANG)

    def _end(self) -> str:
        """How the process ended, whose pipe has closed."""
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                code = os.waitstatus_to_exitcode(status)
                return f"the check was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with {code}"
            time.sleep(0.01)
        return "the check ended without an answer"


def _answer(call: _Call) -> _Answer:
    try:
        return _Answer(True, call())
    except UserError as error:
        return _Answer(False, str(error))
    except BaseException as error:  # a SystemExit of a library is no end of the preflight either
        return _Answer(False, f"{type(error).__name__}: {error}")


def _ask(calls: Sequence[tuple[_Call, float]], end: float) -> Iterator[_Answer]:
    """An answer for each call, which takes at most its limit in seconds; all are there at `end` (time.monotonic)."""
    child = None
    try:
        for number, (_, limit_s) in enumerate(calls):
            began = time.monotonic()
            if began >= end:
                yield _Answer(False, f"{NOT_RUN}: the time of the preflight was over")
                continue
            child = child or _Child([call for call, _ in calls[number:]])
            answer = child.answer(min(limit_s, end - began))
            if not answer.ok:  # silent, dead, or broken: an error of CUDA stays with its process
                child.abandon()
                child = None
            yield _Answer(answer.ok, answer.value, round(time.monotonic() - began, 3))
    finally:
        if child:
            child.abandon()
