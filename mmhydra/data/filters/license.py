"""Licences: SPDX expressions against a list."""

import re
from collections.abc import Sequence

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from mmhydra.config.filters import LicenseFilter
from mmhydra.data.filters.verdict import PASSED, Verdict
from mmhydra.data.records.media import LoadedRecord
from mmhydra.errors import UserError

# What sites and packages write, in lower case with single spaces; SPDX knows it by another name. Names that leave open
# which version or text is meant (`bsd`, `apache`, `creative commons attribution`) are none.
_ALIASES = {
    "cc0": "CC0-1.0",
    "cc0 1.0": "CC0-1.0",
    "creative commons zero": "CC0-1.0",
    "creative commons attribution license (reuse allowed)": "CC-BY-3.0",  # YouTube's
    "youtube standard license": "LicenseRef-YouTube-Standard",
    "standard youtube license": "LicenseRef-YouTube-Standard",
    "public domain": "LicenseRef-Public-Domain",
    "all rights reserved": "LicenseRef-All-Rights-Reserved",
    "proprietary": "LicenseRef-Proprietary",
    "mit license": "MIT",
    "the mit license": "MIT",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "psf": "PSF-2.0",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
    "gpl-2.0": "GPL-2.0-only",
    "gpl-3.0": "GPL-3.0-only",
    "gplv2": "GPL-2.0-only",
    "gplv3": "GPL-3.0-only",
    "lgpl-3.0": "LGPL-3.0-only",
}
_CREATIVE_COMMONS = re.compile(r"(?:creative commons |cc[ -])?(by(?:[ -](?:nc|nd|sa))*)[ -]?v?(\d\.\d)", re.IGNORECASE)
_LONGEST = 1000  # characters
_TOKEN = re.compile(r"[()]|[^\s()]+")


def spdx(license: str) -> str | None:
    """The SPDX expression that a licence's name stands for; None for one that is none."""
    name = " ".join(license.split())
    if len(name) > _LONGEST:
        return None
    name = _ALIASES.get(name.lower(), name)
    if found := _CREATIVE_COMMONS.fullmatch(name):
        name = f"CC-{found[1].replace(' ', '-').upper()}-{found[2]}"
    try:
        return str(canonicalize_license_expression(name))
    except (InvalidLicenseExpression, RecursionError):
        return None


class LicenseJudge:
    """A licence passes if the list allows one way of taking its expression: `A OR B` needs one, `A AND B` both."""

    def __init__(self, config: LicenseFilter) -> None:
        self._allowed = set()
        for name in config.allow:
            known = spdx(name)
            if known is None or re.search(r"[\s()]", known):
                raise UserError(
                    f"filter license: allow has {name!r}, which is no SPDX identifier; type one from "
                    f"https://spdx.org/licenses such as CC-BY-4.0, or LicenseRef-NAME for one that is not there"
                )
            self._allowed.add(known)

    def judge(self, loaded: LoadedRecord) -> Verdict:
        """By `metadata.license` alone."""
        stated = loaded.record.metadata.license
        if stated is None or not stated.strip():
            return Verdict("license_missing", "metadata.license is not there")
        expression = spdx(stated)
        if expression is None:
            return Verdict("license_unknown", f"{stated[:100]!r} is no SPDX expression")
        if not _allows(_TOKEN.findall(expression), self._allowed):
            return Verdict("license_not_allowed", expression)
        return PASSED


def _allows(tokens: Sequence[str], allowed: set[str]) -> bool:
    """Evaluates a canonical expression: AND binds more than OR; an exception (WITH) only gives more."""
    left = list(reversed(tokens))

    def any_of() -> bool:
        result = all_of()
        while left and left[-1] == "OR":
            left.pop()
            result |= all_of()
        return result

    def all_of() -> bool:
        result = one()
        while left and left[-1] == "AND":
            left.pop()
            result &= one()
        return result

    def one() -> bool:
        token = left.pop()
        if token == "(":
            result = any_of()
            left.pop()
            return result
        if left and left[-1] == "WITH":
            del left[-2:]
        return token in allowed

    return any_of()
