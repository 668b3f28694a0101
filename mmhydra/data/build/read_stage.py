"""Stage `read`: a batch of raw records becomes candidates and rejects."""

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmhydra.config.templates import takes
from mmhydra.data.build.lines import texts_of, write_lines
from mmhydra.data.build.plan import READ, Batch, Context, reject, unforeseen, write_counts
from mmhydra.data.build.reasons import TEMPLATE_MISMATCH, known
from mmhydra.data.build.tally import Tally
from mmhydra.data.filters.chain import Chain, Judged
from mmhydra.data.records.batches import RawRecord, read
from mmhydra.data.records.load import load
from mmhydra.data.records.media import LoadedRecord
from mmhydra.data.records.parse import parse
from mmhydra.data.records.reasons import BadRecord
from mmhydra.data.templates import fitting_templates
from mmhydra.errors import UserError
from mmhydra.files import write_atomic


def open_stage(context: Context) -> Callable[[Batch], dict[str, Any]]:
    """What a process of the pool does with a batch; returns its counts."""
    chain = Chain.of(context.recipe.filters, context.records)
    return lambda batch: _Reader(context, chain, batch).read()


class _Reader:
    """One batch."""

    def __init__(self, context: Context, chain: Chain, batch: Batch) -> None:
        self._context, self._chain, self._batch = context, chain, batch
        self._path = Path(batch.ref.path)
        paths = [str(self._path), *context.recipe.filter_files]
        self._names = {path: context.name_of(Path(path)) for path in paths if Path(path).is_absolute()}
        self._templates = context.source(batch.source).templates
        self._tally = Tally()
        self._candidates = _Candidates()
        self._rejects: list[dict[str, str]] = []

    def read(self) -> dict[str, Any]:
        """Leaves candidates, rejects and counts in the work folder."""
        context, batch = self._context, self._batch
        write_lines(batch.file(context, READ, ".jsonl"), self._lines())
        self._candidates.write(context, batch)
        write_lines(batch.file(context, READ, ".rejects.jsonl"), self._rejects)
        counts = self._tally.to_json() | {"text_bytes": self._candidates.text_bytes}
        write_counts(batch.file(context, READ, ".json"), counts)
        return counts

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The lines of the candidates. They may be most of the records' bytes, so each is written at once."""
        for raw in read(self._batch.ref):
            self._tally.records += 1
            if line := self._judge(raw):
                yield line

    def _judge(self, raw: RawRecord) -> dict[str, Any] | None:
        try:
            return self._judged(raw)
        except UserError:
            raise
        except Exception as error:
            raise unforeseen(self._short(raw.place), error) from error

    def _judged(self, raw: RawRecord) -> dict[str, Any] | None:
        unique_id = ""
        try:
            record = parse(raw)
            unique_id = record.unique_id
            loaded = load(record, self._path.parent, self._context.recipe.limits)
        except BadRecord as error:
            self._reject(raw, unique_id, error.reason, error.detail)
            return None
        if fault := self._mismatch(loaded):
            self._reject(raw, unique_id, TEMPLATE_MISMATCH, fault)
            return None
        judged = self._chain.judge(loaded)
        self._count(judged)
        if judged.reason is not None:
            self._reject(raw, judged.loaded.record.unique_id, judged.reason, judged.detail)
            return None
        return self._candidates.add(self._short(raw.place), judged)

    def _mismatch(self, loaded: LoadedRecord) -> str | None:
        """Why no template of the source can hold a record."""
        parts = parts_of(loaded)
        if fitting_templates(self._templates, parts):
            return None
        return f"the record has {', '.join(sorted(parts))}; templates take " + "; ".join(
            f"{template.name}: {', '.join(takes(template))}" for template in self._templates
        )

    def _reject(self, raw: RawRecord, unique_id: str, reason: str, detail: str) -> None:
        self._tally.count("rejected", known(reason))
        self._rejects.append(reject(self._short(raw.place), unique_id, reason, self._short(detail)))

    def _short(self, text: str) -> str:
        """Without the folder of the records: reject files are part of a dataset, which may be built anywhere."""
        for path, name in self._names.items():
            text = text.replace(path, name)
        return text

    def _count(self, judged: Judged) -> None:
        for name in judged.passed:
            self._tally.count_filter(name, seen=1, changed=int(name in judged.changed_by))
        if judged.rejected_by is not None:
            self._tally.count_filter(judged.rejected_by, seen=1, rejected=1)
        for kind, number in judged.pii.items():
            self._tally.count("pii", kind, number)


def parts_of(loaded: LoadedRecord) -> set[str]:
    """What of a record a template may take."""
    there = {
        "text": bool(loaded.text) and not loaded.is_interleaved,
        "interleaved": loaded.is_interleaved,
        "captions": bool(loaded.captions),
        "image": bool(loaded.images),
        "audio": bool(loaded.sounds),
    }
    return {name for name, is_there in there.items() if is_there} | {*loaded.clips}


class _Candidates:
    """Records that passed all filters which look at one record alone."""

    def __init__(self) -> None:
        self.text_bytes = 0
        self._keys: list[bytes] = []
        self._signatures: list[Any] = []
        self._splits: list[int] = []
        self._ids: list[bytes] = []

    def add(self, place: str, judged: Judged) -> dict[str, Any]:
        """Keeps what tells a record from others; returns its line, the record as the filters left it."""
        loaded = judged.loaded
        record = loaded.record
        group = record.metadata.split_group or record.unique_id
        line = {
            "place": place,
            "language": judged.language or "unknown",
            "license": judged.license or "unknown",
            "text": loaded.text,
            "captions": [caption.model_dump(mode="json") for caption in loaded.captions],
            "record": record.model_dump(mode="json", exclude_none=True),
        }
        self.text_bytes += sum(len(text.encode()) for text in texts_of(line))
        self._keys.append(judged.exact_key or bytes(16))
        self._signatures.append(judged.signature)
        self._splits.append(int.from_bytes(hashlib.sha256(group.encode()).digest()[-8:], "big"))
        self._ids.append(hashlib.sha256(record.unique_id.encode()).digest()[:16])
        return line

    def write(self, context: Context, batch: Batch) -> None:
        """Arrays for the verdicts."""
        signatures = [signature for signature in self._signatures if signature is not None]
        arrays = {
            "keys": np.frombuffer(b"".join(self._keys), np.uint8).reshape(-1, 16),
            "ids": np.frombuffer(b"".join(self._ids), np.uint8).reshape(-1, 16),
            "splits": np.array(self._splits, np.uint64),
            "is_signed": np.array([signature is not None for signature in self._signatures], bool),
            "signatures": np.stack(signatures) if signatures else np.zeros((0, 0), np.uint32),
        }
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        path = batch.file(context, READ, ".npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())
