"""Shows a run once, or until it ends."""

import json
import sys
import time

from rich.live import Live

from mmhydra import startup
from mmhydra.errors import ExitCode, UserError
from mmhydra.monitor.document import document
from mmhydra.monitor.facts import Asker, Facts, read_facts
from mmhydra.monitor.page import console, page
from mmhydra.run.directory import RunDirectory

REFRESH_S = 2.0
ASK_S = 10.0  # between questions to SLURM
_WATCH_TIMEOUT_S = 5.0


def show(run: RunDirectory, *, as_json: bool) -> int:
    """Prints the page, or the JSON object. Raises UserError if the folder can't be read."""
    facts = _read(run, Asker())
    if as_json:
        print(json.dumps(document(facts), indent=2, ensure_ascii=False))
    else:
        console().print(page(facts))
    return ExitCode.DONE


def watch(run: RunDirectory) -> int:
    """Shows the page anew until the run ends, or until Ctrl-C, which ends nothing but this."""
    ask, screen = Asker(ASK_S, _WATCH_TIMEOUT_S), console()
    startup.finished()  # it may look for days
    try:
        facts = _read(run, ask)
        with Live(page(facts), console=screen, auto_refresh=False) as live:
            while not facts.is_final:
                time.sleep(REFRESH_S)
                facts = _read(run, ask)
                live.update(page(facts), refresh=True)
    except KeyboardInterrupt:
        print("the run goes on", file=sys.stderr)
    return ExitCode.DONE


def _read(run: RunDirectory, ask: Asker) -> Facts:
    try:
        return read_facts(run, ask)
    except OSError as error:
        raise UserError(f"{run.path} can't be read: {error.strerror or error}") from error
