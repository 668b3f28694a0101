"""From the variables that srun sets to those that torch.distributed reads, on every rank of a step."""

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from mmhydra.errors import UserError
from mmhydra.files import write_json
from mmhydra.run.directory import Attempt

_TIMEOUT_S = 300.0  # a node may start its tasks long after the first
_POLL_S = 0.05


class RendezvousError(UserError):
    """The ranks of a step did not find each other."""


def rank_variables(environment: Mapping[str, str], attempt: Attempt) -> dict[str, str]:
    """RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT of a task of srun.

    Rank 0 lies on the first node: it looks for a free port there and writes both into the attempt, where the others
    read them. Raises RendezvousError if it does not do so in time, or if srun set nothing.
    """
    try:
        rank, world_size = int(environment["SLURM_PROCID"]), int(environment["SLURM_NTASKS"])
        local_rank = int(environment["SLURM_LOCALID"])
    except (KeyError, ValueError) as error:
        raise RendezvousError(f"srun says neither rank nor number of tasks ({error}); start it by srun") from error
    place = _file(environment, attempt)
    if rank == 0:
        host = environment.get("SLURMD_NODENAME") or socket.gethostname()
        write_json(place, {"host": host, "port": free_port(host)})
    first = _read(place)
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(_tasks_on_this_node(environment, world_size)),
        "MASTER_ADDR": str(first["host"]),
        "MASTER_PORT": str(first["port"]),
    }


def free_port(host: str) -> int:
    """A TCP port of this node that nobody uses now."""
    for address in (host, ""):  # a name that only other nodes resolve: any interface tells as well
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.bind((address, 0))
                return int(probe.getsockname()[1])
        except OSError:
            continue
    raise RendezvousError(f"no TCP port is free on {host}")


def _file(environment: Mapping[str, str], attempt: Attempt) -> Path:
    """One a step: what an earlier start left behind is another file."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return attempt.path / f"rendezvous-{'-'.join(environment.get(name, '0') for name in names)}.json"


def _read(place: Path) -> Mapping[str, object]:
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            os.listdir(place.parent)  # makes a network file system look again
            document = json.loads(place.read_text())
            if isinstance(document, dict) and {"host", "port"} <= document.keys():
                return document
        except (OSError, ValueError):
            pass
        time.sleep(_POLL_S)
    raise RendezvousError(f"rank 0 did not write {place} within {_TIMEOUT_S:.0f} s: it did not start, see its log")


def _tasks_on_this_node(environment: Mapping[str, str], world_size: int) -> int:
    """From SLURM_TASKS_PER_NODE, such as `8(x32)` or `4,2`; the ranks of a run are equal on all nodes."""
    text = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE") or str(world_size)
    first = text.partition(",")[0].partition("(")[0]
    return int(first) if first.isdigit() else world_size
