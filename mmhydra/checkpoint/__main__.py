"""`python -m mmhydra.checkpoint show|verify|diff PATH [PATH]`: explain, check, compare."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmhydra.checkpoint.compare import compare, of_checkpoint
from mmhydra.checkpoint.stamp import CheckpointError, Stamp, read_stamp
from mmhydra.checkpoint.verify import config_of, faults, resolve
from mmhydra.config.differences import differences
from mmhydra.data.datasets import digests, load
from mmhydra.errors import ExitCode, UserError


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 for a checkpoint that is damaged or can't be read."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    try:
        if options.verb == "show":
            _show(console, resolve(options.path), as_json=options.json)
        elif options.verb == "verify":
            _verify(console, resolve(options.path))
        else:
            _diff(console, resolve(options.path), resolve(options.other))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mmhydra.checkpoint", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    texts = {
        "show": "what made it: run, commit, data, tokens, mesh",
        "verify": "whether every file is as it was stamped, and the data still the same",
        "diff": "what differs between two: identity first, then the rest",
    }
    for verb, text in texts.items():
        command = verbs.add_parser(verb, help=text, description=text)
        command.add_argument("path", type=Path, help="a step-* folder, or a run directory (its newest checkpoint)")
        if verb == "diff":
            command.add_argument("other", type=Path, help="the other checkpoint or run")
        if verb == "show":
            command.add_argument("--json", action="store_true", help="the whole stamp as JSON")
    return parser


def _show(console: Console, folder: Path, *, as_json: bool) -> None:
    stamp = read_stamp(folder)
    if as_json:
        console.print(json.dumps(stamp.model_dump(mode="json"), indent=2))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _summary(stamp).items():
        table.add_row(name, value)
    console.print(folder)
    console.print(table)


def _summary(stamp: Stamp) -> dict[str, str]:
    git, mesh = stamp.git, stamp.mesh
    code = f"commit {git['commit']} on {git['branch']}" if git["commit"] else "no git commit"
    parts = {**stamp.tokens.by_source, "padding": stamp.tokens.padding, "skipped": stamp.tokens.skipped or None}
    tokens = ", ".join(f"{name} {count:,}" for name, count in parts.items() if count is not None)
    skipped = [f"{skip.place}, from sample {skip.from_sample:,} on" for skip in stamp.stream.skips]
    size_mb = sum(file.size_bytes for file in stamp.files) / 1e6
    return {
        "run": f"{stamp.run_name}/{stamp.run_id}, attempt {stamp.attempt}, step {stamp.step}",
        "saved": stamp.created,
        "config": f"sha256 {stamp.config_sha256} (config.yaml beside the stamp)",
        "code": code + (", with uncommitted changes (code.patch)" if git["dirty"] else ""),
        "mesh": f"{mesh.world_size} processes: dp {mesh.dp_replicate} x {mesh.dp_shard}, tp {mesh.tp}, pp {mesh.pp}",
        "tokens": f"{stamp.tokens.total:,} ({tokens})",
        "stream": f"next sample {stamp.stream.sample:,}, seed {stamp.stream.seed}",
        "skipped": "; ".join(skipped) or "none",
        "data": ", ".join(f"{name} {digest}" for name, digest in stamp.manifests.items()),
        "parent": f"{stamp.parent.kind} {stamp.parent.path}" if stamp.parent else "none: fresh weights",
        "exemptions": ", ".join(stamp.exemptions) or "none",
        "files": f"{len(stamp.files)}, {size_mb:,.1f} MB",
        "packages": ", ".join(f"{name} {stamp.packages.get(name)}" for name in ("torch", "torchtitan", "torchao")),
    }


def _verify(console: Console, folder: Path) -> None:
    found = faults(folder)
    note = ""
    if not found:
        data_faults, note = _data_faults(folder)
        found += data_faults
    if found:
        raise CheckpointError("\n".join([f"checkpoint {folder} is refused:", *(f"  {fault}" for fault in found)]))
    stamp = read_stamp(folder)
    console.print(f"{folder} is whole: {len(stamp.files)} files, config {stamp.config_sha256[:12]}, {note}")


def _data_faults(folder: Path) -> tuple[list[str], str]:
    """Compares the manifests with the data that is here now; data that is elsewhere is no fault."""
    stamp, config = read_stamp(folder), config_of(folder)
    data = Path(config.paths.data)
    if not all((data / dataset / "manifest.json").is_file() for dataset in config.data.datasets):
        return [], f"data not checked: not all datasets are in {data}"
    here = digests(load(config.data, config.tokens, data))
    changed = differences(stamp.manifests, here)
    lines = [f"the data in {data} is not what made it, manifest of {difference}" for difference in changed]
    return lines, "data manifests unchanged"


def _diff(console: Console, left: Path, right: Path) -> None:
    for line in compare(of_checkpoint(left), of_checkpoint(right)).text:
        console.print(line)


if __name__ == "__main__":
    sys.exit(main())
