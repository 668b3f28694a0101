"""Does torchtitan take a config? Asks its real Trainer, in one process for many worlds, with no neighbours.

torchtitan's fake backend makes one process a rank of a world of any size: meshes, sharding, pipeline schedule and
shapes are real, what arrives from other ranks is garbage. So a refusal is torchtitan's own, and no number is.
"""

import json
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mmhydra.config.frozen import to_yaml
from mmhydra.config.schema import RunConfig

_CHILD = Path(__file__).with_name("fake_rank.py")
_MAX_STEP_PARAMETERS = 20_000_000
_MAX_STEP_TOKENS = 1 << 16  # of one rank


@dataclass(frozen=True)
class Cell:
    """A config and the ranks to build of it; by default the first, a middle and the last one."""

    config: RunConfig
    ranks: tuple[int, ...] = ()
    exact: bool = False  # build it as it is, without `on_cpu`

    def requests(self) -> Iterator[dict[str, object]]:
        """One for each rank."""
        config = self.config if self.exact else on_cpu(self.config)
        last = config.world_size - 1
        text = to_yaml(config).decode()
        for rank in self.ranks or dict.fromkeys((0, last // 2, last)):
            yield {"config": text, "rank": rank, "step": _is_cheap(config)}


def on_cpu(config: RunConfig) -> RunConfig:
    """The same run on CPU: nothing compiled or captured, float8 emulated. GPU configs can't be built as such here."""
    cluster = config.cluster.model_copy(update={"device": "cpu", "compile": False, "cuda_graphs": False})
    emulate = config.precision.float8_recipe is not None
    precision = config.precision.model_copy(update={"float8_emulate": emulate})
    return config.model_copy(update={"cluster": cluster, "precision": precision})


def _is_cheap(config: RunConfig) -> bool:
    """Whether a training step costs little enough to be tried, rather than the build alone."""
    tokens = config.training.tokens_per_step // config.dp
    return tokens <= _MAX_STEP_TOKENS and config.model.num_parameters(config.tokens.vocab_size) <= _MAX_STEP_PARAMETERS


def verdicts(cells: Iterable[Cell], timeout_s: float = 120) -> list[str | None]:
    """For each cell None where torchtitan takes it, else the text of its refusal.

    Builds the trainer of each rank and runs one training step, a validation step and the state dicts of a checkpoint
    where the model is small. A cell that kills the child or hangs longer than `timeout_s` counts as refused.
    """
    with _Child.started(timeout_s) as child:
        return [_verdict(child, cell) for cell in cells]


def linear_verdicts(linears: Iterable[tuple[int, int, int, str]], timeout_s: float = 120) -> list[str | None]:
    """The same for single float8 layers (tokens, in, out, recipe): do the kernels of a GPU take their shapes?

    torch checks them without the GPU. It shows what the emulation on CPU can't: the sizes that the hardware needs.
    """
    with _Child.started(timeout_s) as child:
        return [child.ask({"linear": linear}) for linear in linears]


def _verdict(child: "_Child", cell: Cell) -> str | None:
    for request in cell.requests():
        refusal = child.ask(request)
        if refusal is not None:
            return f"rank {request['rank']}: {refusal}"
    return None


@dataclass
class _Child:
    timeout_s: float
    log: IO[bytes]
    process: subprocess.Popen[str] | None = field(default=None)

    @classmethod
    @contextmanager
    def started(cls, timeout_s: float) -> Iterator["_Child"]:
        with tempfile.TemporaryFile() as log:
            child = cls(timeout_s, log)
            try:
                yield child
            finally:
                child.stop()

    def ask(self, request: dict[str, object]) -> str | None:
        if self.process is None:
            self.process = self._start()
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], self.timeout_s)
            line = process.stdout.readline() if ready else None
        except BrokenPipeError:
            line = ""
        if line:
            answer: str | None = json.loads(line)["refusal"]
            return answer
        self.stop()
        how = f"exit status {process.returncode}" if line == "" else f"no answer in {self.timeout_s:.0f} s"
        return f"the process died: {how}\n{self._tail()}"

    def stop(self) -> None:
        """Ends the process; the next question starts another."""
        process, self.process = self.process, None
        if process is None:
            return
        try:
            process.communicate(timeout=5)  # it ends with its stdin
        except (subprocess.TimeoutExpired, BrokenPipeError):
            process.kill()
            process.communicate()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def _tail(self) -> str:
        self.log.seek(0, 2)
        self.log.seek(max(0, self.log.tell() - 2000))
        return self.log.read().decode(errors="replace")
