"""How a build begins: what an earlier start left is kept if it is of the same build, and records are made."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from mmhydra.config.dataset import DemoRecords, Recipe
from mmhydra.data.build.plan import BuildError, Context
from mmhydra.data.build.pool import wait_for_orphans
from mmhydra.data.build.recipe import input_files
from mmhydra.data.demo.records import DemoSettings, write_records
from mmhydra.data.demo.testset import write_testset
from mmhydra.data.records.batches import RecordFileError
from mmhydra.data.shards.manifest import Manifest, ManifestError, load_manifest
from mmhydra.files import read_object, sha256_of_file, sync, write_json
from mmhydra.paths import short

_SETTINGS, _RECORDS, _INPUTS = "build.json", "records.json", "inputs.json"  # each says that a step is done


def finished(context: Context, settings: Mapping[str, JsonValue]) -> Manifest | None:
    """The manifest of a build that was killed between its last file and its folder's new name."""
    try:
        manifest = load_manifest(context.building)
    except ManifestError:
        return None
    made_by = {key: value for key, value in manifest.builder.items() if key != "inputs"}
    return manifest if made_by == settings and manifest.dataset == context.recipe.name else None


def start(context: Context, settings: Mapping[str, JsonValue], on_line: Callable[[str], None]) -> None:
    """Leaves a folder to go on in: with what an earlier start of the same build left, or empty; and the records."""
    wait_for_orphans(context.work)
    if read_object(context.work / _SETTINGS) == settings:
        if (context.work / _INPUTS).is_file():
            on_line("going on with a build that was stopped")
        _remove_halves(context.building)
    else:
        if any(context.building.iterdir()):
            on_line(f"{short(context.building)} is left of another build: starting anew")
            _empty(context.building)
        context.work.mkdir()
        write_json(context.work / _SETTINGS, settings)
    if context.recipe.generate is not None and not (context.work / _RECORDS).is_file():
        _make_records(context, on_line)
        write_json(context.work / _RECORDS, {})


def require_same_inputs(context: Context, files: Sequence[Mapping[str, JsonValue]]) -> None:
    """Raises BuildError if the files that go in are not those that the build was started with."""
    mark = context.work / _INPUTS
    there = read_object(mark).get("files")
    if there is None:
        write_json(mark, {"files": list(files)})
    elif there != list(files):
        before = {file["path"]: file for file in there}
        now = {str(file["path"]): file for file in files}
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        raise BuildError(
            f"files have changed since this build was started: {', '.join(changed[:10])}. To start it anew with what "
            f"is there now: rm -r {short(context.building)}"
        )


def require_same_records(recipe: Recipe, folder: Path, manifest: Manifest) -> None:
    """Raises BuildError if record files that are there are not those of a finished dataset.

    They are read again, for their hashes. Where there are none any more, the dataset speaks for itself.
    """
    listed = manifest.builder.get("inputs")
    if recipe.generate is not None or recipe.records_dir is None or not isinstance(listed, list):
        return
    try:
        paths = input_files(recipe, Path(recipe.records_dir).absolute())
        made_of = {str(file["path"]): file for file in listed if isinstance(file, dict)}
        there = {name: path for name, path in paths.items() if path.exists()}  # a filter's file may be away
        differing = {name for name, path in there.items() if _differs(path, made_of.get(name))}
        changed = sorted(differing | made_of.keys() - paths.keys())
    except (RecordFileError, OSError):
        return
    if changed:
        raise BuildError(
            f"{short(folder)} was made by this recipe of other files: {', '.join(changed[:10])} differ. Runs may refer "
            f"to it, so it is kept: give the new dataset another name (dataset.name=NAME), or rm -r {short(folder)}"
        )


def _differs(path: Path, listed: Mapping[str, JsonValue] | None) -> bool:
    """Whether a file is not what a manifest lists; one of another size need not be read for that."""
    return listed is None or path.stat().st_size != listed["size_bytes"] or sha256_of_file(path) != listed["sha256"]


def _make_records(context: Context, on_line: Callable[[str], None]) -> None:
    generate = context.recipe.generate
    if context.records.exists():
        shutil.rmtree(context.records)  # what a killed start had written of them
    context.records.mkdir()
    if isinstance(generate, DemoRecords):
        write_records(context.records, DemoSettings(generate.corpus_mb, generate.media), on_line)
    else:
        write_testset(context.records)
    for path in context.records.rglob("*"):
        sync(path)


def _remove_halves(folder: Path) -> None:
    """Files that a killed process was writing: they have no name of their own yet."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
