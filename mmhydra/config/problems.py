"""Reasons why a config can't run, and the one way in which they are told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mmhydra.config.explain import Clash
from mmhydra.config.secrets import find_in_values
from mmhydra.errors import UserError


@dataclass(frozen=True)
class Problem:
    """One reason. `placement`: another cluster would cure it. A note does not stop a run."""

    keys: tuple[str, ...]
    message: str
    placement: bool = False
    is_note: bool = False
    rule: str = ""  # the name of the rule that found it

    def __str__(self) -> str:
        return f"{', '.join(key or repr(key) for key in self.keys)}: {self.message}"


class Origins(Protocol):
    """Knows which file and line, or which override, set a key."""

    def describe(self, keys: Sequence[str]) -> list[str]:
        """One line for each key that something set: its value and where."""

    def clashes(self) -> list[Clash]:
        """What can't be merged."""


class ConfigError(UserError):
    """All reasons at once, each with the places that set the values involved."""

    def __init__(self, problems: Sequence[Problem], origins: Origins | None = None) -> None:
        self.problems = tuple(problems)
        head = [f"{len(self.problems)} problems"] if len(self.problems) > 1 else []
        super().__init__("\n".join([*head, *(tell(problem, origins) for problem in self.problems)]))


def tell(problem: Problem, origins: Origins | None) -> str:
    """The text of a problem, and below it where its values come from."""
    lines = origins.describe(problem.keys) if origins is not None else []
    shown = (line for line in lines if not any(find_in_values({"": line})))  # what looks secret is not repeated
    return "\n".join([str(problem), *(f"    {line}" for line in shown)])
