"""Personal data in texts. A pattern finds candidates, a library tells which of them are valid."""

import hashlib
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import unquote

import phonenumbers
from pydantic import BaseModel
from stdnum import iban, luhn
from stdnum.cn import ric
from stdnum.us import ssn

from mmhydra.config.filters import PiiFilter, PiiKind
from mmhydra.data.filters.plain import plain
from mmhydra.data.filters.verdict import PASSED, Verdict
from mmhydra.data.records.media import LoadedRecord
from mmhydra.errors import UserError


class Finding(NamedTuple):
    """Personal data at text[start:stop]."""

    start: int
    stop: int
    kind: PiiKind


# Bounded repeats: no text makes these slow. Lengths by RFC 5321.
_EMAIL = re.compile(
    r"(?<![\w.%+-])[A-Za-z0-9](?:[\w.%+-]{0,62}[\w%+-])?@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}"
    r"(?:[A-Za-z]{2,24}|xn--[a-z0-9-]{2,59})(?![\w@]|\.\w)",
    re.ASCII,
)
# Grouped as on the card, or not at all: other groups of digits are tables and versions.
_CARD = re.compile(
    r"(?<![\w.,:/+-])(?:\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ -])\d{6}\2\d{5}|\d{13,19})"
    r"(?![\w]|[.,:/-]\d)",
    re.ASCII,
)
# First digits of Visa, Mastercard, American Express, Discover, Diners, JCB, UnionPay, Maestro, with their lengths.
_ISSUERS = (
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"6(?:011|4[4-9]|5)"), (16, 19)),
    (re.compile(r"3(?:0[0-5]|[689])"), (14, 16)),
    (re.compile(r"35(?:2[89]|[3-8])"), (16,)),
    (re.compile(r"62"), (16, 17, 18, 19)),
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])", re.ASCII)
_SSN = re.compile(r"(?<![\w.-])\d{3}-\d{2}-\d{4}(?![\w]|[.-]\d)", re.ASCII)
_RESIDENT = re.compile(r"(?<![A-Za-z0-9.])\d{17}[\dXx](?![A-Za-z0-9]|\.\d)", re.ASCII)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:.])", re.ASCII)
_LEAST_CHARACTERS, _LEAST_GROUPS = 10, 4  # of an address in version 4, in version 6
# 7 digits at least: phonenumbers' matcher is slow, so it sees only what is around candidates.
_PHONE = re.compile(r"\+?\(?\d(?:[\s().\-/\u2010-\u2015\u00a0]{0,3}\d){6,16}", re.ASCII)
_DECIMAL = re.compile(r"[+(]*\d+\.\d+")
# Three groups or more with one kind of separator; two only with a trunk 0 in front, or an area code in brackets.
_GROUPS = re.compile(
    r"(?:\(\d{2,5}\)[ -]?\d{2,8}(?:[ -]\d{2,8}){0,3}|1?[ -]?\(\d{3}\) ?\d{3}[ -]\d{4}"
    r"|\d{1,5}([ .-])\d{2,5}\1\d{2,8}(?:\1\d{2,5}){0,3}|0\d{2,5}[ /-]\d{4,9})",
    re.ASCII,
)
_OPERATORS = ("+", "-", "=", "[", "^", "*", "/", "<", ">", "#", "~")
_LONGEST_WINDOW = 200  # characters; a candidate and what is around it are shorter
_AROUND = 20  # characters on both sides that the matcher looks at too


def _emails(text: str) -> Iterator[Finding]:
    if "@" in text:
        for found in _EMAIL.finditer(text):
            if ".." not in found[0]:
                yield Finding(*found.span(), "email")


def _cards(text: str) -> Iterator[Finding]:
    for found in _CARD.finditer(text):
        digits = re.sub(r"\D", "", found[0])
        known = any(first.match(digits) and len(digits) in lengths for first, lengths in _ISSUERS)
        if known and luhn.is_valid(digits):
            yield Finding(*found.span(), "card")


def _ibans(text: str) -> Iterator[Finding]:
    for found in _IBAN.finditer(text):
        # A word in capitals may follow the number: try without the last groups.
        value = found[0]
        while len(value) >= 15:
            if iban.is_valid(value):
                yield Finding(found.start(), found.start() + len(value), "iban")
                break
            value = value.rpartition(" ")[0]


def _ssns(text: str) -> Iterator[Finding]:
    for found in _SSN.finditer(text):
        if ssn.is_valid(found[0]):
            yield Finding(*found.span(), "us_ssn")


def _resident_ids(text: str) -> Iterator[Finding]:
    for found in _RESIDENT.finditer(text):
        if ric.is_valid(found[0].upper()):
            yield Finding(*found.span(), "cn_resident_id")


def _addresses(text: str) -> Iterator[Finding]:
    for pattern in (_IPV4, _IPV6):
        for found in pattern.finditer(text):
            try:
                address = ipaddress.ip_address(found[0])
            except ValueError:
                continue
            # Private, loopback and documentation addresses are nobody's.
            if address.is_global and not address.is_multicast and _is_long(found[0]):
                yield Finding(*found.span(), "ip_address")


def _is_long(address: str) -> bool:
    """Versions, sections and slices look like short addresses: 8.2.4.45, a[1::2]."""
    if ":" in address:
        return len(re.findall("[0-9A-Fa-f]+", address)) >= _LEAST_GROUPS and address[0] in "23"
    return len(address) >= _LEAST_CHARACTERS


_FINDERS: dict[PiiKind, Callable[[str], Iterator[Finding]]] = {
    "email": _emails,
    "card": _cards,
    "iban": _ibans,
    "us_ssn": _ssns,
    "cn_resident_id": _resident_ids,
    "ip_address": _addresses,
}
# Which kind a stretch is that two kinds claim: the most specific first.
_ORDER: tuple[PiiKind, ...] = ("email", "iban", "cn_resident_id", "card", "us_ssn", "ip_address", "phone")


# Fields that hold nobody's data, or are looked at by themselves.
_LEFT_ALONE = {"license", "upload_date", "language", "captions", "split_group", "stage", "timestamp"}
_LONGEST_SOURCE = 512  # characters, as in a record


class PiiJudge:
    """Looks at all of a record that is kept of it: text, captions, id, address and what is stated.

    In an id nothing can be overwritten, others may name it: a record whose id holds personal data is refused.
    """

    def __init__(self, config: PiiFilter) -> None:
        unknown = [region for region in config.phone_regions if region not in phonenumbers.SUPPORTED_REGIONS]
        if unknown:
            raise UserError(
                f"filter pii: phone_regions has {', '.join(unknown)}, which no phone numbers are known of; "
                "type ISO 3166 codes such as US, DE, CN"
            )
        self._kinds = tuple(kind for kind in _ORDER if kind in config.find)
        self._regions = tuple(config.phone_regions)
        self._redacts = config.action == "redact"

    def judge(self, loaded: LoadedRecord) -> Verdict:
        """Refuses or overwrites (`[EMAIL]`), and counts what was found by kind."""
        counts: Counter[str] = Counter()

        def cleaned(value: Any) -> Any:
            """A string, or all strings inside of lists and objects, keys too."""
            if isinstance(value, dict):
                return {cleaned(key): cleaned(inside) for key, inside in value.items()}
            if isinstance(value, (list, tuple)):
                return type(value)(map(cleaned, value))
            if isinstance(value, BaseModel):
                return value.model_copy(update={name: cleaned(inside) for name, inside in _fields(value)})
            if not isinstance(value, str):
                return value
            found = self.find(value)
            counts.update(finding.kind for finding in found)
            return redacted(value, found)

        record = loaded.record
        named = self.find(record.unique_id)
        counts.update(finding.kind for finding in named)
        text = cleaned(loaded.text)
        captions = tuple(entry.model_copy(update={"text": cleaned(entry.text)}) for entry in loaded.captions)
        metadata = cleaned(record.metadata)
        group = metadata.split_group
        if group and cleaned(group) != group:  # records of one group stay together
            metadata = metadata.model_copy(update={"split_group": hashlib.sha256(group.encode()).hexdigest()[:16]})
        if metadata.captions is not None:
            metadata = metadata.model_copy(update={"captions": captions})
        update: dict[str, Any] = {
            "source": cleaned(record.source)[:_LONGEST_SOURCE],
            "source_uri": self._address(record.source_uri, counts),
            "metadata": metadata,
            "processing_log": cleaned(record.processing_log),
            "data_card_info": cleaned(record.data_card_info),
        }
        if not counts:
            return PASSED
        found = dict(sorted(counts.items()))
        detail = ", ".join(f"{count} {kind}" for kind, count in found.items())
        if named:
            shown = record.model_copy(update={"unique_id": redacted(record.unique_id, named)})  # in the reject file
            return Verdict("pii", f"{detail}, in unique_id too", replace(loaded, record=shown), pii=found)
        if not self._redacts:
            return Verdict("pii", detail, pii=found)
        if record.text is not None:
            update["text"] = text
        changed = replace(loaded, record=record.model_copy(update=update), text=text, captions=captions)
        return Verdict(changed=changed, pii=found)

    def _address(self, address: str, counts: Counter[str]) -> str:
        """Without its query if there is something in it (`?user=ann%40example.org`); what is left is overwritten."""
        decoded = unquote(address)
        found = self.find(decoded)
        if not found:
            return address
        counts.update(finding.kind for finding in found)
        bare = unquote(re.split("[?#]", address, maxsplit=1)[0])
        return redacted(bare, self.find(bare))

    def find(self, text: str) -> list[Finding]:
        """All findings in order, none over another."""
        seen = plain(text)
        return [Finding(*seen.span(found.start, found.stop), found.kind) for found in self._find(seen.text)]

    def _find(self, text: str) -> list[Finding]:
        findings: list[Finding] = []
        taken = bytearray(len(text))
        for kind in self._kinds:
            found = _phones(text, self._regions) if kind == "phone" else _FINDERS[kind](text)
            for finding in found:
                if not any(taken[finding.start : finding.stop]):
                    taken[finding.start : finding.stop] = b"\1" * (finding.stop - finding.start)
                    findings.append(finding)
        return sorted(findings)


def _fields(part: BaseModel) -> Iterator[tuple[str, Any]]:
    """Fields and extra keys that may hold personal data; nested parts as they are."""
    return ((name, value) for name, value in part if name not in _LEFT_ALONE)


def redacted(text: str, findings: Sequence[Finding]) -> str:
    """The text with each finding overwritten by its kind."""
    parts, place = [], 0
    for start, stop, kind in findings:
        parts += [text[place:start], f"[{kind.upper()}]"]
        place = stop
    return "".join([*parts, text[place:]])


def _phones(text: str, regions: Sequence[str]) -> Iterator[Finding]:
    """Valid numbers, written as people write them: other digits in a row are no phone numbers."""
    for start, stop in _windows(text):
        window = text[start:stop]
        # What `_is_written_as_phone` would turn down needs no matcher.
        international = [None] if "+" in window or "\uff0b" in window else []
        for region in (*international, *(regions if _GROUPS.search(window) else ())):
            leniency = phonenumbers.Leniency.VALID if region is None else phonenumbers.Leniency.STRICT_GROUPING
            for match in phonenumbers.PhoneNumberMatcher(window, region, leniency=leniency):
                before = text[max(0, start + match.start - 1) : start + match.start]
                if _is_written_as_phone(match.raw_string, before):
                    yield Finding(start + match.start, start + match.end, "phone")


def _is_written_as_phone(written: str, before: str) -> bool:
    """+49 30 1234567 anywhere but in a sum (x+4930...); else groups like (415) 555-2671 or 030/1234567."""
    if _DECIMAL.fullmatch(written):
        return False
    if written.lstrip("(").startswith(("+", "\uff0b")):
        return not (before.isalnum() or before in _OPERATORS)
    groups = _GROUPS.fullmatch(written)
    return bool(groups) and before not in _OPERATORS


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """Stretches around candidates, those that meet joined, but none long: the matcher's time grows faster than text."""
    start = stop = -1
    for found in _PHONE.finditer(text):
        low, high = max(0, found.start() - _AROUND), found.end() + _AROUND
        if stop >= 0 and (low > stop or high - start > _LONGEST_WINDOW):
            yield start, stop
            start = low
        start = low if start < 0 else start
        stop = high
    if stop >= 0:
        yield start, stop
