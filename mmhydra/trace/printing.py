"""What trace found, for people and for programs: a table on a terminal, aligned text in a pipe, JSON lines."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmhydra.config.tokens import MODALITIES
from mmhydra.data.stream.ledger import Ledger
from mmhydra.data.stream.skips import Skips
from mmhydra.trace.finding import Found, Visit
from mmhydra.trace.listing import Piece, Sample
from mmhydra.trace.tokens import BySource, Check, StepTokens

_FLAT = (
    *("sample", "n", "rank", "source", "dataset", "epoch", "sequence", "left_out", "positions", "tokens"),
    *("shard", "key", "unique_id", "license", "source_uri"),
)


def plain(text: object) -> str:
    """A text of somebody else's in one line, with what a terminal would obey spelt out; a dash for nothing."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text or "")) or "-"


def span(first: int, length: int) -> str:
    """The numbers [first, first + length) in words that no one misreads: the first and the last."""
    return f"{first}-{first + length - 1}"


def piece_words(piece: Piece) -> str:
    """A piece in one line, and whether it is all of its document."""
    whole = piece.offset == 0 and piece.length + 1 == piece.num_ids
    cut = "whole" if whole else f"cut: tokens {span(piece.offset, piece.length)} of {piece.num_ids:,}"
    opener = ", begins with the repeated token that opens its signal" if piece.positions > piece.length else ""
    return (
        f"positions {span(piece.position, piece.positions)}, {plain(piece.record.get('unique_id') or piece.fault)}, "
        f"{piece.shard} {piece.key}, {cut}{opener}"
    )


def print_samples(console: Console, samples: Iterable[Sample]) -> None:
    """The samples of a step with their pieces."""
    if console.is_terminal:
        _print_table(console, samples)
        return
    print_aligned(console, _FLAT, [_flat(sample, piece) for sample in samples for piece in sample.pieces])


def _flat(sample: Sample, piece: Piece) -> list[str]:
    numbers = (sample.number, sample.n, sample.rank, sample.source, sample.dataset, sample.epoch, sample.sequence)
    head = (*numbers, "yes" if sample.is_skipped else "no")
    where = (span(piece.position, piece.positions), span(piece.offset, piece.length), piece.shard, piece.key)
    if piece.fault:
        return [*map(str, (*head, *where)), plain(f"unreadable: {piece.fault}"), "-", "-"]
    named = (plain(piece.record.get(name)) for name in ("unique_id", "license", "source_uri"))
    return [*map(str, (*head, *where)), *named]


def _print_table(console: Console, samples: Iterable[Sample]) -> None:
    table = Table(box=SIMPLE, pad_edge=False, show_edge=False)
    table.add_column("sample", no_wrap=True)
    table.add_column("source", no_wrap=True)
    table.add_column("positions", no_wrap=True)
    table.add_column("tokens", no_wrap=True)
    for name in ("document", "license", "source URI"):
        table.add_column(name, overflow="fold")
    for sample in samples:
        lines = [str(sample.number), f"n {sample.n}", f"rank {sample.rank}", *["left out"] * sample.is_skipped]
        head = "\n".join(lines)
        source = f"{sample.source}\n{sample.dataset}\nepoch {sample.epoch}"
        for piece in sample.pieces:
            record = piece.record
            named = record.get("unique_id") or f"unreadable: {piece.fault}"
            table.add_row(
                head,
                source,
                span(piece.position, piece.positions),
                span(piece.offset, piece.length),
                Text(f"{plain(named)}\n{piece.shard} {piece.key}"),
                Text(plain(record.get("license"))),
                Text(plain(record.get("source_uri"))),
            )
            head = source = ""
        table.add_section()
    console.print(table, soft_wrap=False)


def print_aligned(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns of text, two spaces apart; numbers to the right. Nothing is cut off or broken."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    right = [all(_is_number(row[column]) for row in rows) for column in range(len(header))]
    for line in lines:
        cells = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right, strict=True)
        )
        console.file.write(f"{'  '.join(cells).rstrip()}\n")


def _is_number(cell: str) -> bool:
    return not cell or cell.replace(",", "").replace(".", "").isdigit()


def print_step_tokens(console: Console, step: int, counted: StepTokens) -> None:
    """What a step feeds the model."""
    console.print(f"\ntokens of step {step}", style="bold", markup=False)
    _print_tokens(console, counted.tokens, {})
    _print_rest(console, counted.padding, counted.skipped_samples, counted.skipped_tokens)


def print_seen(console: Console, step: int, seen: Ledger) -> None:
    """The ledger: what the run has seen up to a step, with the samples of each source and the passes over it."""
    console.print(f"\nseen up to step {step}: {seen.num_samples:,} samples", style="bold", markup=False)
    passes = {name: [f"{seen.samples[name]:,}", f"{seen.epochs[name]:.3f}"] for name in seen.tokens}
    _print_tokens(console, seen.tokens, passes)
    _print_rest(console, seen.padding, seen.skipped_samples, seen.skipped_tokens)


def _print_tokens(console: Console, tokens: BySource, more: Mapping[str, Sequence[str]]) -> None:
    """Tokens by source and modality with their sums; `more` are samples and epochs of each source."""
    modalities = [name for name in MODALITIES if any(counts[name] for counts in tokens.values())]
    total: dict[str, int] = {name: sum(counts[name] for counts in tokens.values()) for name in MODALITIES}

    def row(name: str, columns: Sequence[str], counts: Mapping[str, int]) -> list[str]:
        return [name, *columns, *(f"{counts[modality]:,}" for modality in modalities), f"{sum(counts.values()):,}"]

    rows = [row(name, more.get(name, ()), counts) for name, counts in tokens.items()]
    rows.append(row("all", ("", "") if more else (), total))
    header = ["source", *(("samples", "epochs") if more else ()), *modalities, "all"]
    print_aligned(console, header, rows)


def _print_rest(console: Console, padding: int, skipped_samples: int, skipped_tokens: int) -> None:
    console.file.write(f"and {padding:,} positions of padding\n")
    if skipped_samples:
        console.file.write(f"left out: {skipped_samples:,} samples with {skipped_tokens:,} tokens\n")


def print_check(console: Console, check: Check) -> None:
    """Whether metrics.jsonl says the same."""
    console.file.write("\n")
    if not check.is_logged:
        console.print("metrics.jsonl has no record of this step", markup=False)
        return
    for name, (found, logged) in check.differing.items():
        console.print(f"metrics.jsonl differs in {name}: {logged}, the data say {found}", style="red", markup=False)
    if check.same:
        console.print(f"metrics.jsonl says the same of this step: {', '.join(check.same)}", markup=False)
    if check.fault:
        console.print(f"its labels could not be counted: {check.fault}", style="red", markup=False)


def print_skips(console: Console, skips: Skips) -> None:
    """The chunks that the run went on without."""
    for skip in skips:
        console.print(f"left out from sample {skip.from_sample} on: {skip.place} ({skip.reason})", markup=False)


def print_visits(console: Console, found: Found, visits: Sequence[Visit]) -> None:
    """Where a document is seen: one line for each of its pieces in a sample."""
    header = ("step", "sample", "rank", "n", "epoch", "tokens", "positions", "state")
    rows = [
        [
            *map(str, (visit.step, visit.number, visit.rank, visit.n, visit.epoch)),
            span(visit.offset, visit.length),
            span(visit.position, visit.length),
            visit.state,
        ]
        for visit in visits
    ]
    name = f"record {plain(found.unique_id)}" if found.unique_id is not None else "a document that can't be read"
    console.print(f"{name}: {found.source}/{found.key} in {found.shard}", style="bold", markup=False)
    if rows:
        print_aligned(console, header, rows)


def print_json(console: Console, kind: str, values: Mapping[str, Any]) -> None:
    """One JSON object a line."""
    console.file.write(f"{json.dumps({'kind': kind, **values}, ensure_ascii=False)}\n")
