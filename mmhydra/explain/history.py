"""The history of a composed config as a table, and the collisions between groups."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmhydra.compose import Request
from mmhydra.config.explain import Collision, Provenance, Setting
from mmhydra.config.frozen import flatten
from mmhydra.config.typed import COMMAND_KEYS, no_such_key
from mmhydra.errors import UserError

_PIPE_WIDTH = 1_000_000  # no line is folded


def _console() -> Console:
    """On a terminal as wide as it is; in a pipe wide enough that no line breaks."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def show(request: Request, keys: Sequence[str]) -> None:
    """Prints the history of all leaves, or of those below `keys`, then the collisions.

    Raises UserError for a key that does not exist.
    """
    leaves = {key: value for key, value in flatten(request.config.model_dump()).items() if _is_below(key, keys)}
    for key in keys:
        if key in COMMAND_KEYS:
            raise UserError(f"{key}: this is a key of the command, and no value of the run")
        if not any(_is_below(leaf, [key]) for leaf in leaves):
            raise UserError(f"{key}: {no_such_key(key)}")
    console, history = _console(), request.origins.provenance()
    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    for title in ("key", "value", "set by", "replaced"):
        table.add_column(title, overflow="fold")
    for key, value in leaves.items():
        settings = history.settings(key)
        table.add_row(Text(key), Text(_shown(value, settings)), Text(_by(settings)), Text(_replaced(settings)))
    console.print(table)
    collisions = [collision for collision in history.collisions() if _is_below(collision.key, keys)]
    if collisions:
        console.print("\nGroups that set one key differently; the last of them wins, the command line over all:")
        for collision in collisions:
            console.print(Text(_collision(collision, history)))


def _is_below(key: str, sections: Sequence[str]) -> bool:
    return not sections or any(key == section or key.startswith(f"{section}.") for section in sections)


def _shown(value: object, settings: Sequence[Setting]) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = text if text and text.isprintable() else repr(text)  # a row of the table stays one line
    raw = settings[-1].text if settings else ""
    return f"{text}  (from {raw})" if "${" in raw else text


def _by(settings: Sequence[Setting]) -> str:
    return settings[-1].where if settings else "nothing"


def _replaced(settings: Sequence[Setting]) -> str:
    return ", ".join(f"{setting.text} of {setting.where}" for setting in reversed(settings[:-1]))


def _collision(collision: Collision, history: Provenance) -> str:
    lines = [f"  {collision.key}: {history.where(collision.key)} wins"]
    return "\n".join([*lines, *(f"    {setting.text}  {setting.where}" for setting in collision.settings)])
