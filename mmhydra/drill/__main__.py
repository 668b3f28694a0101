"""`python -m mmhydra.drill RUN --kill-node|--preempt|--kill-rank`: how fast does a run recover, and what is lost?"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from mmhydra.drill.faults import Fault, kill_node, kill_rank, preempt
from mmhydra.drill.measure import Findings, drill
from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.monitor.find import find


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if the run went on, 2 if the drill could not be made or the run did not go on in time."""
    parser = argparse.ArgumentParser(prog="python -m mmhydra.drill", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="a run on the development SLURM (scripts/slurm-dev)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--kill-node", nargs="?", const="", metavar="NODE", help="a power cut; default: the last node")
    what.add_argument("--preempt", action="store_true", help="a job of a higher partition takes the nodes")
    what.add_argument("--kill-rank", nargs="?", const=-1, type=int, metavar="RANK", help="SIGKILL; default: the last")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="for all of it (default 300)")
    parser.add_argument("--json", action="store_true", help="the findings as one JSON object")
    options = parser.parse_args(arguments)
    console = Console(stderr=options.json, highlight=False, soft_wrap=True)
    try:
        findings = drill(find(options.run), _fault(options), options.timeout, lambda text: console.print(text))
    except UserError as error:
        return refuse(error)
    if options.json:
        print(json.dumps({**asdict(findings), "lost_steps": findings.lost_steps}))
    else:
        console.print(_table(findings))
    return ExitCode.DONE


def _fault(options: argparse.Namespace) -> Fault:
    if options.preempt:
        return preempt()
    if options.kill_node is not None:
        return kill_node(options.kill_node or None)
    return kill_rank(None if options.kill_rank == -1 else options.kill_rank)


def _table(findings: Findings) -> Table:
    table = Table(title=f"drill: {findings.fault}", show_header=False)
    for name, value in {
        "fault": f"{findings.what}, at step {findings.step}",
        "detection": f"{findings.detection_s} s",
        "lost steps": f"{findings.lost_steps} (went on from step {findings.resumed_step})",
        "recovery": f"{findings.recovery_s} s until a new step, in attempt {findings.attempt}",
        "nodes now": ", ".join(findings.nodes),
    }.items():
        table.add_row(name, value)
    return table


if __name__ == "__main__":
    sys.exit(main())
