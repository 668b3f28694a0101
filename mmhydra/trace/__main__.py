"""`python -m mmhydra.trace RUN`: which samples a step was made of, and at which steps a record was or will be seen."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from mmhydra import startup  # noqa: F401  (it makes the imports below cheaper)
from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.monitor.find import find
from mmhydra.monitor.pipe import ends_quietly
from mmhydra.trace.commands import find_key, list_step
from mmhydra.trace.listing import sample_at, sample_numbers
from mmhydra.trace.opening import Traced, TraceError, open_traced, run_of_step

_MANY_DOCUMENTS = 100_000


@ends_quietly
def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 2 for no such run, step, rank, sample or record, and for data that are gone or others."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        _require_sense(options)
        run = find(options.run)
        if options.step is not None:
            made_by = run_of_step(run, options.step)
            if made_by != run:
                print(
                    f"note: step {options.step} was made by the run that this one extends, {made_by.path}",
                    file=sys.stderr,
                )
            with closing(open_traced(made_by, options.data)) as traced:
                if options.show is not None:
                    _show(options, console, traced)
                else:
                    list_step(console, traced, options.step, options.dp, options.rank, as_json=options.json)
        else:
            find_key(console, run, options.data, options.find, options.dp, _say_source, as_json=options.json)
    except UserError as error:
        return refuse(error)
    except BrokenPipeError:  # whoever read the output has seen enough
        raise
    except OSError as error:  # a place to write or read that is none
        return refuse(UserError(f"{error.filename or 'the output'}: {error.strerror or error}"))
    return ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mmhydra.trace", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="any path in a run, a run id or its beginning, or a SLURM job id")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--step", type=int, metavar="N", help="list the samples of an optimizer step, counted from 1")
    what.add_argument(
        "--find", metavar="KEY", help="the steps that see a record: its unique_id, SOURCE/KEY or DATASET/SHARD:KEY"
    )
    parser.add_argument("--rank", type=int, metavar="R", help="only the samples of a data-parallel rank, from 0")
    parser.add_argument("--dp", type=int, metavar="D", help="ranks as of so many (default: as the step was made)")
    parser.add_argument("--show", type=int, metavar="K", help="decode sample K of the step: text, PNG, WAV, GIF")
    parser.add_argument("--out", type=Path, help="the folder for what --show writes (default: ./shown)")
    parser.add_argument("--weights", type=Path, help="the folder of trained codecs' weights (or $MMHYDRA_WEIGHTS)")
    parser.add_argument("--data", type=Path, help="where the datasets are now (default: paths.data of the run)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def _require_sense(options: argparse.Namespace) -> None:
    """Raises TraceError for options that would have no effect."""
    if options.find is not None and (options.show is not None or options.rank is not None):
        raise TraceError("--show and --rank choose among the samples of a step; type --step N with them")
    if options.show is not None and options.json:
        raise TraceError("--show prints text and writes files; leave out --json")
    if options.show is None and (options.out is not None or options.weights is not None):
        raise TraceError("--out and --weights are of --show K; type it too")


def _say_source(source: str, num_documents: int) -> None:
    """Says on standard error what takes its time: no index has the names of records."""
    if num_documents > _MANY_DOCUMENTS:
        print(f"looking through the {num_documents:,} documents of {source}", file=sys.stderr)


def _show(options: argparse.Namespace, console: Console, traced: Traced) -> None:
    # Here, not above: codecs take seconds to import, and only this needs them.
    from mmhydra.trace.showing import show

    dp = traced.dp_of(options.step, options.dp)
    numbers = sample_numbers(traced, options.step, dp, options.rank)
    if options.show not in numbers:
        whose = f"rank {options.rank} of step {options.step}" if options.rank is not None else f"step {options.step}"
        raise TraceError(f"--show {options.show}: the samples of {whose} are {numbers[0]} to {numbers[-1]}")
    first, _ = traced.samples_of(options.step)
    show(console, traced, sample_at(traced, first + options.show, dp), options.out or Path("shown"), options.weights)


if __name__ == "__main__":
    sys.exit(main())
