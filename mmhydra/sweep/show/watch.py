"""Shows a sweep once, or until nothing of it is at work."""

import json
import sys
import time
from collections.abc import Sequence

from rich.live import Live

from mmhydra import startup
from mmhydra.errors import ExitCode
from mmhydra.monitor.page import console
from mmhydra.sweep.record import SweepDirectory
from mmhydra.sweep.show.as_json import as_json as to_json
from mmhydra.sweep.show.overview import read_overview
from mmhydra.sweep.show.table import ended, page, print_page
from mmhydra.sweep.state.asking import BulkAsker
from mmhydra.sweep.state.states import STATES, Memory, State

REFRESH_S = 2.0
ASK_S = 10.0  # between questions to SLURM
_WATCH_TIMEOUT_S = 10.0


def show(sweep: SweepDirectory, wanted: Sequence[State] = STATES, *, as_json: bool) -> int:
    """Prints the page, or the JSON object, with all points of the wanted states. Raises UserError."""
    overview = read_overview(sweep)
    if as_json:
        print(json.dumps(to_json(overview, wanted), indent=2, ensure_ascii=False))
    else:
        print_page(overview, wanted)
    return ExitCode.DONE


def watch(sweep: SweepDirectory, wanted: Sequence[State] = STATES) -> int:
    """Shows the page anew until nothing is at work, or until Ctrl-C, which ends nothing but this. Raises UserError."""
    asks = BulkAsker(ASK_S, _WATCH_TIMEOUT_S), BulkAsker(ASK_S, _WATCH_TIMEOUT_S)
    memory, screen = Memory(ask=asks[0], ask_driver=asks[1]), console()
    startup.finished()  # it may look for days
    try:
        overview = read_overview(sweep, memory)
        with Live(page(overview, wanted, screen), console=screen, auto_refresh=False) as live:
            while overview.is_active:
                began = time.monotonic()
                overview = read_overview(sweep, memory)
                live.update(page(overview, wanted, screen), refresh=True)
                # A sweep of thousands on a slow file system must not be read all the time.
                time.sleep(max(REFRESH_S, 2 * (time.monotonic() - began)))
        print(ended(overview), file=sys.stderr)
    except KeyboardInterrupt:
        print("the sweep goes on", file=sys.stderr)
    return ExitCode.DONE
