"""Nothing secret is frozen: values, overrides and the uncommitted code are searched before a run is written.

A secret reaches a run by the name of an environment variable, `${secret:NAME}` in YAML: the name is frozen, and
the job reads the variable where it uses the value.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mmhydra.errors import UserError

PREFIX = "secret:"
ALLOW = "pragma: allowlist secret"  # the mark of detect-secrets, which people know from pre-commit
_SENSITIVE_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSW(OR)?D|CREDENTIAL|PRIVATE)", re.IGNORECASE)
_PLACES = ("/", "~", "http://", "https://", "file:")  # SSH_KEY_FILE=/home/... names a place
_MIN_LENGTH = 8  # a shorter value of a variable would be found everywhere
# What a credential looks like from afar: cheap, so that the detectors are imported only when there is something.
_CANDIDATE = re.compile(r"(?=[\w+/=.-]*\d)(?=[\w+/=.-]*[A-Za-z])[\w+/=.-]{16,}|://[^/\s]+@|PRIVATE KEY")


class SecretError(UserError):
    """Something secret would be written down."""


class Finding(NamedTuple):
    """Where something secret stands and what kind it is; never the secret itself."""

    place: str
    kind: str


def find_in_values(values: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Secrets in named values: those that look like one, and those that an environment variable holds."""
    held = {
        value: name
        for name, value in environment.items()
        if _SENSITIVE_NAME.search(name) and len(value) >= _MIN_LENGTH and not value.startswith(_PLACES)
    }
    for place, text in values.items():
        variable = next((name for value, name in held.items() if value in text), None)
        if variable is not None:
            yield Finding(place, f"the value of ${variable}; write ${{secret:{variable}}}, which freezes the name only")
            continue
        for kind in _kinds(text):
            yield Finding(place, f"{kind}; put it into an environment variable and write ${{secret:NAME}}")


def find_in_patch(patch: bytes, folder: str) -> Iterator[Finding]:
    """Secrets in the lines that a git diff adds, with file and line."""
    file, line = "", 0
    for text in patch.decode(errors="replace").splitlines():
        if text.startswith("+++ "):
            file = text[4:].removeprefix("b/")
        elif text.startswith("@@ "):
            line = int(re.findall(r"\+(\d+)", text)[0]) - 1
        elif text.startswith("+"):
            line += 1
            if ALLOW not in text:
                for kind in _kinds(text[1:], in_code=True):
                    yield Finding(
                        f"{folder}/{file}:{line}", f"{kind}; take it out, or mark a harmless line with `{ALLOW}`"
                    )
        elif text.startswith(" "):
            line += 1


def refuse(findings: Iterable[Finding]) -> None:
    """Raises SecretError that names every place."""
    lines = [f"  {finding.place}: {finding.kind}" for finding in findings]
    if lines:
        raise SecretError("\n".join(["a run is written down for ever, so nothing secret may be in it:", *lines]))


def reveal(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The value behind `secret:NAME`; other text as it is. Raises SecretError where the variable is not set."""
    if not text.startswith(PREFIX):
        return text
    name = text.removeprefix(PREFIX)
    if name not in environment:
        raise SecretError(f"${name} is not set, and the config takes a secret from it; type export {name}=...")
    return environment[name]


def _kinds(text: str, *, in_code: bool = False) -> list[str]:
    if _CANDIDATE.search(text) is None:
        return []
    from mmhydra.config.secret_patterns import kinds  # detect-secrets takes longer to import than a dry run may add

    return kinds(text, in_code=in_code)
