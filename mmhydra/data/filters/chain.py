"""The chain: filters that look at one record each, in the configured order, then fingerprints for duplicates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mmhydra.config.filters import (
    DecontaminationFilter,
    DuplicatesFilter,
    ExactDuplicatesFilter,
    LanguageFilter,
    LicenseFilter,
    NearDuplicatesFilter,
    PiiFilter,
    QualityFilter,
    RecordFilter,
    ToxicityFilter,
    chain_problems,
)
from mmhydra.data.filters.decontamination import DecontaminationJudge, Guarded
from mmhydra.data.filters.fingerprint import Signature, exact_key, signature
from mmhydra.data.filters.language import LanguageJudge
from mmhydra.data.filters.license import LicenseJudge, spdx
from mmhydra.data.filters.pii import PiiJudge
from mmhydra.data.filters.quality import QualityJudge
from mmhydra.data.filters.reasons import FILTER_REASONS
from mmhydra.data.filters.toxicity import ToxicityJudge
from mmhydra.data.filters.verdict import RecordJudge
from mmhydra.data.records.media import LoadedRecord
from mmhydra.errors import UserError


@dataclass(frozen=True)
class Judged:
    """What the chain made of one record. A record that is refused has no fingerprints."""

    loaded: LoadedRecord  # as it goes on, or into the rejects: with what filters changed
    passed: tuple[str, ...]  # filters, in order
    rejected_by: str | None  # filter
    reason: str | None  # a key of FILTER_REASONS
    detail: str
    changed_by: tuple[str, ...]
    pii: dict[str, int]  # findings by kind
    language: str | None
    license: str | None  # as a canonical SPDX expression, or as stated where it is none
    exact_key: bytes | None  # 16 bytes
    signature: Signature | None  # uint32 [num_perm]


class Chain:
    """The filters of one source. It holds no state between records, so each process has one of its own."""

    def __init__(self, judges: Sequence[tuple[str, RecordJudge]], duplicates: Sequence[DuplicatesFilter]) -> None:
        self._judges = tuple(judges)
        self.duplicates = tuple(duplicates)  # for Deduplicator
        self.names = (*(name for name, _ in self._judges), *(config.kind for config in duplicates))
        # Of each evaluation set, how many items it guards, and how many are too short to.
        self.guarded: dict[str, Guarded] = {}
        for _, judge in self._judges:
            if isinstance(judge, DecontaminationJudge):
                self.guarded |= judge.guarded
        self._has_exact = any(isinstance(config, ExactDuplicatesFilter) for config in duplicates)
        self._near = next((config for config in duplicates if isinstance(config, NearDuplicatesFilter)), None)

    @classmethod
    def of(cls, filters: Sequence[RecordFilter | DuplicatesFilter], folder: Path) -> Self:
        """Builds the filters; files that they name are relative to `folder`. Raises UserError."""
        if problems := chain_problems(filters):
            raise UserError("\n".join(problems))
        judges = [(c.kind, _judge(c, folder)) for c in filters if not isinstance(c, DuplicatesFilter)]
        return cls(judges, [config for config in filters if isinstance(config, DuplicatesFilter)])

    def judge(self, loaded: LoadedRecord) -> Judged:
        """Sends one record through the filters up to the first that refuses it."""
        passed: list[str] = []
        changed_by: list[str] = []
        pii: dict[str, int] = {}
        language, stated = loaded.record.metadata.language, loaded.record.metadata.license
        license = stated and (spdx(stated) or stated)
        for name, judge in self._judges:
            verdict = judge.judge(loaded)
            pii |= verdict.pii
            language = verdict.language or language
            if verdict.reason is not None:
                assert verdict.reason in FILTER_REASONS, verdict.reason
                return Judged(
                    verdict.changed or loaded,
                    tuple(passed),
                    name,
                    verdict.reason,
                    verdict.detail,
                    tuple(changed_by),
                    pii,
                    language,
                    license,
                    None,
                    None,
                )
            passed.append(name)
            if verdict.changed is not None:
                loaded = verdict.changed
                changed_by.append(name)
        key = exact_key(loaded) if self._has_exact else None
        near = signature(loaded, self._near) if self._near else None
        return Judged(loaded, tuple(passed), None, None, "", tuple(changed_by), pii, language, license, key, near)


def _judge(config: RecordFilter, folder: Path) -> RecordJudge:
    match config:
        case LicenseFilter():
            return LicenseJudge(config)
        case PiiFilter():
            return PiiJudge(config)
        case LanguageFilter():
            return LanguageJudge(config)
        case QualityFilter():
            return QualityJudge(config)
        case ToxicityFilter():
            return ToxicityJudge(config, folder)
        case DecontaminationFilter():
            return DecontaminationJudge(config, folder)
