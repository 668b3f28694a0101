"""Nothing secret is frozen: values, overrides and the uncommitted code are searched before a run is written.

A secret reaches a run by the name of an environment variable, `${secret:NAME}` in YAML: the name is frozen, and
the job reads the variable where it uses the value.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mmhydra.errors import UserError

PREFIX = "secret:"
ALLOW = "pragma: allowlist secret"  # the mark of detect-secrets, which people know from pre-commit
_SENSITIVE_NAME = re.compile(
    r"(?:^|_|API)KEYS?(?:_|$)|TOKEN|SECRET|PASSW(?:OR)?D|CREDENTIAL|PRIVATE|CONNECTION_STRING", re.IGNORECASE
)
_PLACE = re.compile(r"[/~]|file:|[a-z][a-z0-9+.-]*://[^@]*$")  # SSH_KEY_FILE=/home/... names a place
_MIN_LENGTH = 8  # a shorter value of a variable would be found everywhere
# What a credential looks like from afar: cheap, so that the detectors are imported only when there is something.
_CANDIDATE = re.compile(r"[\w+/=.-]{16,}|://[^/\s]+@|PRIVATE KEY")
_LETTERS_WILL_DO = re.compile(r"\b(?:hf_|api_org_|gl\w+-|sk-|npm_|pypi-)")  # such tokens need not hold a digit
_REFERENCE = re.compile(r"\$\{(?:secret|oc\.env):[^}]*\}|\bsecret:[A-Z][A-Z0-9_]*\b")  # a name, not a value
_CURE = "take it out, or for a tracker write ${secret:NAME}, which freezes the name of the variable only"
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def is_secret_name(name: str) -> bool:
    """Whether a variable or an option of this name holds something secret, as far as its name says."""
    return _SENSITIVE_NAME.search(name) is not None


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
        if is_secret_name(name) and len(value) >= _MIN_LENGTH and not _PLACE.match(value)
    }
    for place, text in values.items():
        variable = next((name for value, name in held.items() if value in text), None)
        if variable is not None:
            yield Finding(place, f"the value of ${variable}; {_CURE.replace('NAME', variable)}")
            continue
        for kind in _kinds(text):
            yield Finding(place, f"{kind}; {_CURE}")


def find_in_patch(patch: bytes, folder: str) -> Iterator[Finding]:
    """Secrets in the lines that a git diff adds, with file and line."""
    for file, line, text in _added_lines(patch.decode(errors="replace")):
        if ALLOW not in text:
            for kind in _kinds(_REFERENCE.sub("", text), file):
                yield Finding(f"{folder}/{file}:{line}", f"{kind}; take it out, or mark a harmless line with `{ALLOW}`")


def find_in_file(path: Path) -> Iterator[Finding]:
    """Secrets in a text file, by file and line."""
    return find_in_text(path.read_text(errors="replace"), str(path))


def find_in_text(text: str, file: str) -> Iterator[Finding]:
    """Secrets in the text of a file, by file and line."""
    for number, line in enumerate(text.split("\n"), 1):
        if ALLOW not in line:
            for kind in _kinds(_REFERENCE.sub("", line), Path(file).name):
                yield Finding(f"{file}:{number}", f"{kind}; take it out, or mark a harmless line with `{ALLOW}`")


def _added_lines(patch: str) -> Iterator[tuple[str, int, str]]:
    """File, number and text of added lines of a git diff. A hunk's length tells `+++ FILE` from an added `++ x`."""
    file, line, removed, added = "", 0, 0, 0
    for text in patch.split("\n"):  # not splitlines: a form feed ends no line of a diff
        if removed == added == 0:
            if text.startswith("+++ "):
                file = _file_name(text[4:])
            elif hunk := _HUNK.match(text):
                removed, line, added = int(hunk[1] or 1), int(hunk[2]), int(hunk[3] or 1)
        elif text.startswith("+"):
            yield file, line, text[1:]
            line, added = line + 1, added - 1
        elif text.startswith("-"):
            removed -= 1
        elif not text.startswith("\\"):  # else: no newline at the end of the file
            line, removed, added = line + 1, removed - 1, added - 1


def _file_name(text: str) -> str:
    """The name behind `+++ `: a tab ends one with blanks, and one beyond ASCII stands in quotes with octal escapes."""
    name = text.rstrip("\t")
    if name.startswith('"'):
        name = name.strip('"').encode("latin-1", "replace").decode("unicode_escape")
        name = name.encode("latin-1", "replace").decode(errors="replace")
    return name.removeprefix("b/")


def refuse(findings: Iterable[Finding]) -> None:
    """Raises SecretError that names every place."""
    lines = [f"  {finding.place}: {finding.kind}" for finding in findings]
    if lines:
        raise SecretError("\n".join(["a run is written down for ever, so nothing secret may be in it:", *lines]))


def masked(text: str, names: Iterable[str], environment: Mapping[str, str] = os.environ) -> str:
    """A text of which the values of variables are taken out again: libraries put what they were given into errors."""
    for name in names:
        if environment.get(name):
            text = text.replace(environment[name], f"${{secret:{name}}}")
    return text


def names_in(values: Iterable[object]) -> list[str]:
    """The variables that values such as `secret:NAME` name."""
    return [value.removeprefix(PREFIX) for value in values if isinstance(value, str) and value.startswith(PREFIX)]


def reveal(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The value behind `secret:NAME`; other text as it is. Raises SecretError where the variable is not set."""
    if not text.startswith(PREFIX):
        return text
    name = text.removeprefix(PREFIX)
    if name not in environment:
        raise SecretError(f"${name} is not set, and the config takes a secret from it; type export {name}=...")
    return environment[name]


def _kinds(text: str, file: str | None = None) -> list[str]:
    if not any(_is_candidate(found[0]) for found in _CANDIDATE.finditer(text)):
        return []
    from mmhydra.config.secret_patterns import kinds  # detect-secrets takes longer to import than a dry run may add

    return kinds(text, file)


def _is_candidate(text: str) -> bool:
    """Whether a find has digits and letters; a key block, an address with a user and some tokens need no digit."""
    if "://" in text or " " in text or _LETTERS_WILL_DO.search(text):
        return True
    return any(map(str.isdigit, text)) and any(map(str.isalpha, text))
