"""`python -m mmhydra.data build|verify|show|vocab|crawl`: datasets from records to shards, and back."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mmhydra.compose import compose
from mmhydra.compose.building import build_configs, compose_crawl
from mmhydra.config.tokens import Tokens
from mmhydra.data.build.driver import build_dataset
from mmhydra.data.build.progress import Display, show_built
from mmhydra.data.records.crawl import render
from mmhydra.data.shards.manifest import Shard, load_manifest
from mmhydra.data.verify import verify
from mmhydra.data.vocabulary import table
from mmhydra.errors import ExitCode, UserError, refuse

_WIDTH = 120  # characters


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0; 2 for what is wrong with the command line, records, or a dataset; 1 for a build to be repeated."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        code: int = options.run(options, console)
    except UserError as error:
        return refuse(error)
    except OSError as error:  # a place to write that is none
        return refuse(UserError(f"{error.filename or 'the output'}: {error.strerror or error}"))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 128 + 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mmhydra.data", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)

    def verb(name: str, run: object, text: str) -> argparse.ArgumentParser:
        command = verbs.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    def overrides(command: argparse.ArgumentParser, example: str) -> None:
        command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=f"as for mmhydra.train: {example}")
        command.add_argument("--config-dir", "-cd", type=Path, help="a folder of your own groups")

    build = verb("build", _build, "builds the datasets of a mixture (data=demo), or one (dataset=NAME)")
    overrides(build, "data=demo, dataset=demo-v2 dataset.shard_mb=100 build.processes=8")
    build.add_argument("--tokens-from-stdin", action="store_true", help=argparse.SUPPRESS)
    verify = verb("verify", _verify, "hashes whole shards, and makes their indexes again")
    verify.add_argument("folder", type=Path, help="a dataset's folder, such as data/demo-v2")
    show = verb("show", _show, "decodes one sample: text, and pictures, sounds, video as files")
    show.add_argument("shard", type=Path, help="a shard's tar")
    show.add_argument("key", help="the sample's key (nine digits) or the record's unique_id")
    show.add_argument("--out", type=Path, help="the folder for PNG, WAV and frames (default: ./shown)")
    show.add_argument("--weights", type=Path, help="the folder of a trained codec's weights (or $MMHYDRA_WEIGHTS)")
    vocab = verb("vocab", _vocab, "prints the unified vocabulary")
    overrides(vocab, "tokens=qwen_full")
    crawl = verb("crawl", _crawl, "prints the yt-dlp command of a crawl template; it is never run")
    crawl.add_argument("template", help="a file of the crawl group, such as youtube")
    crawl.add_argument("ids", nargs="+", help="video ids or URLs")
    crawl.add_argument("--config-dir", "-cd", type=Path, help="a folder of your own groups")
    return parser


def _folders(options: argparse.Namespace) -> tuple[Path, ...]:
    return (options.config_dir,) if options.config_dir else ()


def _build(options: argparse.Namespace, console: Console) -> int:
    tokens = Tokens.model_validate_json(sys.stdin.read()) if options.tokens_from_stdin else None
    for config in build_configs(options.overrides, _folders(options)):
        if tokens is not None:
            config = config.model_copy(update={"tokens": tokens})
        with Display(console) as display:
            manifest = build_dataset(config, display.line, display.progress)
        if tokens is None:  # a run that needs the dataset goes on to say more
            show_built(console, config, manifest)
    return ExitCode.DONE


def _verify(options: argparse.Namespace, console: Console) -> int:
    manifest = load_manifest(options.folder)
    done = 0

    def count(shard: Shard) -> None:
        nonlocal done
        done += 1
        display.progress("hashing shards", done, len(manifest.shards))

    with Display(console) as display:
        faults = verify(options.folder, manifest, num_processes=len(os.sched_getaffinity(0)), on_progress=count)
    if faults:
        raise UserError("\n".join([f"{options.folder} is damaged:", *(f"  {fault}" for fault in faults)]))
    size_mb = sum(shard.size_bytes for shard in manifest.shards) / 1e6
    documents = sum(shard.num_documents for shard in manifest.shards)
    console.print(
        f"{options.folder} is whole: {len(manifest.shards)} shards, {size_mb:,.1f} MB, {documents:,} documents, "
        f"manifest {manifest.digest}",
        markup=False,
    )
    return ExitCode.DONE


def _show(options: argparse.Namespace, console: Console) -> int:
    # Here, not above: codecs take seconds to import, and only this verb needs them in this process.
    from mmhydra.data.show import show_sample

    show_sample(console, options.shard, options.key, options.out or Path("shown"), options.weights)
    return ExitCode.DONE


def _vocab(options: argparse.Namespace, console: Console) -> int:
    tokens = compose(options.overrides, _folders(options)).config.tokens
    # In a file nothing is cut off.
    wide = console if console.is_terminal else Console(highlight=False, width=_WIDTH)
    wide.print(table(tokens), soft_wrap=False)
    return ExitCode.DONE


def _crawl(options: argparse.Namespace, _: Console) -> int:
    crawl = compose_crawl(options.template, _folders(options))
    print(render(crawl, options.ids), end="")
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
