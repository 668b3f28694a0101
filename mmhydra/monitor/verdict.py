"""The state of a run in one word and one remark: what its files, its lease and SLURM say together."""

from mmhydra.monitor.history import Past
from mmhydra.monitor.holder import Holder
from mmhydra.monitor.words import duration
from mmhydra.slurm import JobState


def job_state(newest: Past, job: JobState | None) -> tuple[str, str | None]:
    """What the files and SLURM say together; SLURM knows whether anything runs, the files know how it ended."""
    runs = job is not None and job.is_active and not job.is_pending
    if job is not None and runs and newest.began is not None and (job.restarts or 0) > newest.restart:
        return (
            "starting",
            f"requeued {'once' if job.restarts == 1 else f'{job.restarts} times'}: its nodes are being checked",
        )
    told = f"SLURM says {job.state}" if job is not None else "SLURM does not know the job any more"
    if newest.state in ("done", "failed", "stopped"):
        if job is not None and job.is_active and newest.outcome.get("requeue") is True:
            return ("waiting", None) if job.is_pending else ("ending", "the job requeues itself")
        if job is not None and job.is_active and not newest.outcome:
            return "ending", f"{newest.state}; the job is about to end"
        return newest.state, newest.message
    if job is not None and job.is_active:
        if newest.state == "preempted":
            return ("waiting", None) if job.is_pending else ("ending", "a checkpoint is saved, the job requeues")
        if job.is_pending:
            return ("pending", None) if newest.began is None else ("waiting", "its attempt ended without a word")
        if job.state == "COMPLETING":
            return "ending", "SLURM is ending the job"
        return ("starting" if newest.state == "pending" else newest.state), None
    if newest.state == "pending":
        if job is not None and job.state == "CANCELLED":
            return "cancelled", "the job was cancelled before it began"
        return ("failed" if job is not None else "gone"), f"the job ended before its ranks began: {told}"
    if job is not None and job.state == "CANCELLED":
        saved = f"; {newest.message}" if newest.state == "preempted" and newest.message else ""
        return "cancelled", f"the job was cancelled{saved}"
    if newest.state == "preempted" and newest.outcome.get("requeue") is False:
        return "preempted", newest.message
    if newest.state == "preempted":
        return "gone", f"preempted, and not started again: {told}"
    return "gone", f"its files say that it runs, but the job is gone without a word: {told}"


def unasked_state(newest: Past, holder: Holder | None) -> tuple[str, str | None]:
    """SLURM can't be asked: the folder alone has to tell, and the remark says so."""
    if newest.state in ("done", "failed", "stopped"):
        return newest.state, newest.message
    if holder is not None and holder.alive:
        return newest.state, f"SLURM can't be asked; its lease was renewed {duration(holder.silent_s)} ago"
    state = "waiting" if newest.state == "preempted" else newest.state
    return state, "so say its files; SLURM can't be asked"


def local_state(attempts: list[Past], kind: str | None, holder: Holder | None) -> tuple[str, str | None]:
    """A run without a job: its lease says whether the process that started it lives. `kind` is that of its cluster."""
    alive = holder is not None and holder.alive
    if not attempts:
        return ("starting", None) if alive else ("empty", "nothing was ever started")
    newest = attempts[-1]
    if newest.is_over and not (alive and not newest.outcome):
        return newest.state, newest.message
    if alive:
        return "ending" if newest.is_over else "starting" if newest.status is None else newest.state, None
    if kind == "slurm":
        return "gone", "it was never submitted: no job is noted"
    if newest.is_over:
        return newest.state, newest.message
    if holder is not None and not holder.released and not holder.is_here:
        return "gone", f"the process that started it on {holder.host} is silent for {duration(holder.silent_s)}"
    return "gone", "the process that started it is gone: it was killed, or its machine went down"
