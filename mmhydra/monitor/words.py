"""Numbers and SLURM's words as a person reads them."""

import shlex
import sys
from datetime import datetime
from pathlib import Path

from mmhydra.paths import short

_REASONS = {
    "Resources": "no nodes are free",
    "Priority": "jobs of a higher priority are before it",
    "Dependency": "it waits for another job",
    "DependencyNeverSatisfied": "the job it waits for failed: it will never start",
    "BeginTime": "it may not start yet, as just after a requeue",
    "JobHeldUser": "held by its owner; `scontrol release` lets it go",
    "JobHeldAdmin": "held by an administrator",
    "JobArrayTaskLimit": "as many of its array run as may",
    "PartitionDown": "the partition is down",
    "PartitionTimeLimit": "it asks for more time than the partition gives: it will never start",
    "PartitionNodeLimit": "it asks for more nodes than the partition has: it will never start",
    "ReqNodeNotAvail": "nodes that it asks for are down or reserved",
    "BadConstraints": "no node has what it asks for: it will never start",
    "Licenses": "no licence is free",
    "Reservation": "it waits for its reservation",
    "NodeDown": "a node is down",
    "launch_failed_requeued_held": "its start failed; `scontrol release` tries again",
    "NonZeroExitCode": "its batch script failed",
    "TimeLimit": "its time was up",
    "OutOfMemory": "a node had no memory left",
}
_FAMILIES = {
    "AssocGrp": "a limit of the account is reached",
    "AssocMax": "a limit of the account is reached",
    "Association": "a limit of the account is reached",
    "QOS": "a limit of the quality of service is reached",
    "MaxJobs": "a limit on jobs is reached",
}
_STATES = {
    "CONFIGURING": "its nodes are being made ready",
    "COMPLETING": "it is ending",
    "SUSPENDED": "stopped for another job; it goes on later",
    "REQUEUE_HOLD": "requeued and held; `scontrol release` lets it go",
    "NODE_FAIL": "a node died",
    "TIMEOUT": "its time was up",
    "OUT_OF_MEMORY": "a node had no memory left",
    "PREEMPTED": "another job took its nodes",
    "DEADLINE": "its deadline passed",
    "BOOT_FAIL": "a node did not boot",
}


def reason(state: str, why: str | None) -> str | None:
    """What SLURM's state and reason mean; None for those that say it themselves."""
    if why is not None:
        known = _REASONS.get(why.split(",")[0])
        family = next((words for start, words in _FAMILIES.items() if why.startswith(start)), None)
        if known or family:
            return known or family
    return _STATES.get(state)


def duration(seconds: float) -> str:
    """Two units at most: 45 s, 3 min, 2 h 10 min, 3 d 4 h."""
    whole = int(max(0.0, seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def moment(iso: str) -> str:
    """A time stamp to the minute, in the time zone of the reader."""
    try:
        return datetime.fromisoformat(iso).astimezone().strftime("%m-%d %H:%M")
    except ValueError:
        return iso[:16]


def count(number: int, noun: str) -> str:
    """1 node, 2 nodes."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def count_are(number: int, noun: str) -> str:
    """1 node is, 2 nodes are."""
    return f"{count(number, noun)} {'is' if number == 1 else 'are'}"


def python_module(module: str, *arguments: str) -> str:
    """A command of this package as one would type it here; the arguments are quoted already where they need it."""
    return " ".join([shlex.quote(short(Path(sys.executable))), "-m", f"mmhydra.{module}", *arguments])
