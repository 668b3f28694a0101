"""Is a config legal? For tests: assertions that say why not, and where the values come from; needs no pytest."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmhydra.compose import Request, compose, known_clusters
from mmhydra.config.facts import Facts
from mmhydra.config.problems import ConfigError, Problem
from mmhydra.config.rules import RULES, check
from mmhydra.config.schema import RunConfig
from mmhydra.errors import UserError
from mmhydra.launch.verify import refuse_secrets

# Beside the rules, what is wrong before they are asked: with the command line, with values, with interpolations.
RULE_NAMES = (
    *sorted(rule.__name__ for rule in RULES),
    *("schema", "interpolation", "override", "given_twice", "sweep", "hydra_key"),
    *("unknown_key", "unknown_group", "unknown_choice", "choice", "command", "confirm"),
)
# Messages that have nothing in common but their form: what is found in each of them is no reason.
_UNRELATED = ("optim.lr: no such key", "model.dim, model.num_heads: 128 is no multiple of 5", "x: got '???'")

Folders = Sequence[Path | str]


def problems(*overrides: str, config_dirs: Folders = ()) -> list[Problem]:
    """All reasons why a command line is no legal config; empty for a legal one. Notes are no reasons.

    The data at hand is not looked at: the answer is the same on each machine.
    """
    return list(_verdict(overrides, config_dirs).problems)


def assert_legal(*overrides: str, config_dirs: Folders = ()) -> RunConfig:
    """The config of a legal command line.

    Raises AssertionError with all problems and the places that set their values.
    """
    __tracebackhide__ = True
    verdict = _verdict(overrides, config_dirs)
    if verdict.problems or verdict.config is None:
        raise AssertionError(f"{_typed(overrides)} is illegal\n{verdict.text}")
    return verdict.config


def assert_illegal(*overrides: str, because: str, config_dirs: Folders = ()) -> None:
    """A command line is refused for a reason: the name of a rule, or a regular expression found in a message.

    A single word is always the name of a rule. Raises AssertionError if the config is legal, if it is illegal for
    other reasons only, and for a `because` that is neither a rule nor an expression.
    """
    __tracebackhide__ = True
    expression = _expression(because)
    verdict = _verdict(overrides, config_dirs)
    if not verdict.problems:
        raise AssertionError(f"{_typed(overrides)} is legal; expected it to be illegal because of {because!r}")
    if expression is not None:
        found = any(expression.search(str(problem)) for problem in verdict.problems)
    else:
        found = any(problem.rule == because for problem in verdict.problems)
    if not found:
        rules = ", ".join(dict.fromkeys(problem.rule or "(no rule)" for problem in verdict.problems))
        raise AssertionError(
            f"{_typed(overrides)} is illegal, but not because of {because!r}; rules that refuse it: {rules}\n"
            f"{verdict.text}"
        )


@dataclass(frozen=True)
class ConfigCheck:
    """The assertions above, bound to folders of the user's own groups."""

    config_dirs: tuple[Path, ...] = ()

    def legal(self, *overrides: str) -> RunConfig:
        """See `assert_legal`. Raises AssertionError."""
        __tracebackhide__ = True
        return assert_legal(*overrides, config_dirs=self.config_dirs)

    def illegal(self, *overrides: str, because: str) -> None:
        """See `assert_illegal`. Raises AssertionError."""
        __tracebackhide__ = True
        assert_illegal(*overrides, because=because, config_dirs=self.config_dirs)


@dataclass(frozen=True)
class _Verdict:
    """`text` is what a command would print; `config` is None if there is nothing to check."""

    config: RunConfig | None
    problems: tuple[Problem, ...]
    text: str = ""


def _verdict(overrides: Sequence[str], config_dirs: Folders) -> _Verdict:
    try:
        request = compose(overrides, [Path(folder) for folder in config_dirs])
        refuse_secrets(request)
    except ConfigError as error:
        return _Verdict(None, error.problems, str(error))
    except UserError as error:
        return _Verdict(None, (Problem(("config",), str(error)),), str(error))
    return _checked(request)


def _checked(request: Request) -> _Verdict:
    found = check(request.config, Facts(known_clusters(request.config_dirs)))
    reasons = [problem for problem in found if not problem.is_note]
    text = str(ConfigError(reasons, request.origins)) if reasons else ""
    return _Verdict(request.config, tuple(reasons), text)


def _expression(because: str) -> re.Pattern[str] | None:
    """None for the name of a rule. Raises AssertionError for what would let a typo, or any reason, pass."""
    if because in RULE_NAMES:
        return None
    if because.isidentifier():
        raise AssertionError(
            f"because={because!r}: no such rule; legal: {', '.join(RULE_NAMES)}; "
            "a regular expression needs more than one word"
        )
    try:
        expression = re.compile(because)
    except re.error as error:
        raise AssertionError(f"because={because!r} is neither a rule nor a regular expression: {error}") from error
    if expression.search("") or expression.search("\0") or all(map(expression.search, _UNRELATED)):
        raise AssertionError(f"because={because!r} is found in every message; name a rule, or words of the message")
    return expression


def _typed(overrides: Sequence[str]) -> str:
    return " ".join(overrides) or "the config without overrides"
