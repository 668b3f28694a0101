"""The dataset versions of a run, built where they can be, and their pack indexes."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import JsonValue

from mmhydra.config.data import Data
from mmhydra.config.loader import Store
from mmhydra.config.tokens import Tokens
from mmhydra.data.dataset_folder import ready_in
from mmhydra.data.datasets import load
from mmhydra.data.mirror import is_remote, mirror
from mmhydra.data.packing.kept import discard_damaged
from mmhydra.data.shards.manifest import Manifest
from mmhydra.data.shards.reader import check_sizes, size_faults
from mmhydra.errors import ExitCode, UserError
from mmhydra.paths import short

_FROM_STDIN = "--tokens-from-stdin"


class BuildFailed(UserError):
    """The builder, a process of its own, said what is wrong."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(exit_code) if exit_code in list(ExitCode) else ExitCode.FAILED


def prepare(
    data: Data,
    tokens: Tokens,
    folder: Path,
    on_line: Callable[[str], None],
    *,
    store: Store | None = None,
    seq_len: int | None = None,
    goes_on_without: bool = False,
) -> dict[str, Manifest]:
    """The manifests of all dataset versions by name; the demo is built if it is not there.

    Of dataset versions in `store` the small files are fetched, and pack indexes for `seq_len`. Of local ones the sizes
    of the shards are looked at: better now than after a job has waited for its turn. A run that `goes_on_without` bad
    chunks (`loader.on_bad_chunk=skip`) is told of them, any other is refused. Large pack indexes for `seq_len`
    are hashed, as ranks won't do it, and removed where they are damaged: the first start makes them again.

    Raises DataError that lists everything that is missing or does not fit the vocabulary, ShardError for a shard that
    is missing or cut off, BuildFailed where the demo can't be built.
    """
    if store is not None:
        mirror(data, folder, store, seq_len, on_line)
    local = [name for name in data.datasets if not is_remote(folder / name, store)]
    for dataset in local if data.builder is not None else ():
        if ready_in(folder / dataset, _settings(data)) is None:
            _build(data, tokens, folder, dataset, on_line)
    manifests = load(data, tokens, folder)
    for dataset in local:
        sources = [source.name for source in data.sources if source.dataset == dataset]
        if goes_on_without:
            for fault in size_faults(folder / dataset, manifests[dataset], sources):
                on_line(f"note: {fault}: samples that need it are left out (loader.on_bad_chunk=skip)")
        else:
            check_sizes(folder / dataset, manifests[dataset], sources)
    if seq_len is not None:
        for source in data.sources:
            for name in discard_damaged(folder / source.dataset, manifests[source.dataset], source.name, seq_len):
                on_line(
                    f"the pack index {source.dataset}/{name} was damaged and is removed; it is made again when used"
                )
    return manifests


def _settings(data: Data) -> dict[str, JsonValue]:
    """The part of the recipe that `data.builder` decides."""
    assert data.builder is not None
    return {"recipe": {**data.builder.recipe_values}}


def _build(data: Data, tokens: Tokens, folder: Path, dataset: str, on_line: Callable[[str], None]) -> None:
    """In a process of its own, since codecs need torch, and this one is to stay without."""
    builder = data.builder
    assert builder is not None
    command = [
        *(sys.executable, "-m", "mmhydra.data", "build", _FROM_STDIN),
        f"dataset={builder.recipe}",
        f"dataset.name={dataset}",
        *(f"dataset.{key}={value}" for key, value in builder.recipe_values.items()),
        f"paths.data={json.dumps(str(folder))}",
    ]
    on_line(f"the dataset {dataset} is not in {short(folder)} yet: building it")
    # What it prints goes where this process prints; what it says last, if it fails, is ours to say.
    builder_process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _, told = builder_process.communicate(json.dumps(tokens.model_dump(mode="json")))
    if builder_process.returncode:
        raise BuildFailed(_last_words(told, builder_process.returncode), builder_process.returncode)
    sys.stderr.write(told)


def _last_words(told: str, code: int) -> str:
    """The error that a builder ended with, without what came before it; all that it said if there is none."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"the builder was ended by {name}, for want of memory perhaps; the same command goes on from there"
    _, error, message = f"\n{told}".rpartition("\nerror: ")
    return (message if error else told).strip() or f"the builder ended with {code}"
