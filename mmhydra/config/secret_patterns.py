"""The detectors of detect-secrets, and the few token formats that it lacks."""

import re
from typing import Any

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import BasePlugin, RegexBasedDetector
from detect_secrets.plugins.keyword import KeywordDetector

# Guesses by entropy flag every digest and commit; addresses are no secrets.
_NOT_USED = {"Base64 High Entropy String", "Hex High Entropy String", "Public IP (ipv4)", "Secret Keyword"}


class _HubToken(RegexBasedDetector):
    secret_type = "Hugging Face token"
    denylist = (re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}\b"),)


class _ServiceKey(RegexBasedDetector):
    secret_type = "API key"
    # At the end a long run with a digit: `sk-` is Slovak too, as in sk-wikipedia-20260101-cleaned.
    denylist = (re.compile(r"\bsk-[A-Za-z0-9_-]*?(?=[A-Za-z]{0,99}\d)[A-Za-z0-9]{20,}"),)


_SHIPPED: dict[str, Any] = dict(get_mapping_from_secret_type_to_class())
_DETECTORS: list[BasePlugin] = [
    *(detector() for kind, detector in _SHIPPED.items() if kind not in _NOT_USED),
    _HubToken(),
    _ServiceKey(),
]
_KEYWORDS = KeywordDetector()


def kinds(text: str, file: str | None) -> list[str]:
    """What kinds of secret a line holds. In a file, what is assigned to a name such as `api_key` counts too."""
    detectors = _DETECTORS if file is None else [*_DETECTORS, _KEYWORDS]
    found = (detector.analyze_line(filename=file or "", line=text, line_number=0) for detector in detectors)
    return sorted({str(secret.type) for secrets in found for secret in secrets})
