"""`python -m mmhydra.track replay ATTEMPT_DIR --aim REPO`: feed an attempt's metrics to a sink afterwards."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmhydra.errors import ExitCode
from mmhydra.track.replay import replay
from mmhydra.track.sink import TrackError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`; returns the exit code: 2 if the user can mend it, 1 if a sink failed."""
    args = _parser().parse_args(argv)
    settings: dict[str, dict[str, Any]] = {}
    if args.aim is not None:
        settings["aim"] = {"repo": args.aim, "force_resume": args.force}
    if args.tensorboard is not None:
        settings["tensorboard"] = {"logdir": args.tensorboard}
    try:
        if not settings:
            raise TrackError("name a sink: --aim REPO or --tensorboard DIR")
        num_delivered = replay(args.attempt_dir, settings)
    except (TrackError, OSError) as exc:
        print(f"mmhydra.track: {exc}", file=sys.stderr)
        return ExitCode.CONFIG
    except Exception as exc:
        print(f"mmhydra.track: the sink failed: {type(exc).__name__}: {exc}", file=sys.stderr)
        return ExitCode.FAILED
    for name, count in num_delivered.items():
        print(f"{name}: {count} records delivered")
    return ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mmhydra.track", description="Metrics of finished attempts.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("replay", help="feed an attempt's metrics.jsonl to a sink; safe to repeat")
    command.add_argument("attempt_dir", type=Path, metavar="ATTEMPT_DIR", help=".../<run id>/attempts/NNNN")
    command.add_argument("--aim", metavar="REPO", help="Aim repository on a local disk")
    command.add_argument("--tensorboard", metavar="DIR", help="folder of event files")
    command.add_argument("--force", action="store_true", help="take over an Aim run whose writer was killed elsewhere")
    return parser


if __name__ == "__main__":
    sys.exit(main())
