"""Is a recipe sound, what identifies it, and which files go in."""

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from mmhydra.config.codecs import codec_problems
from mmhydra.config.dataset import Recipe
from mmhydra.config.filters import chain_problems
from mmhydra.config.problems import ConfigError, Problem
from mmhydra.config.templates import modalities, template_problems
from mmhydra.config.tokens import Tokens
from mmhydra.data.build.outside import outside_digests
from mmhydra.data.build.plan import Context, name_of
from mmhydra.data.records.batches import RecordFileError, list_files
from mmhydra.data.vocabulary import Vocabulary
from mmhydra.files import sha256_of_file

BUILDER_VERSION = 3  # raise it when the same recipe and records would give other shards
_MIN_CHUNK_MB = 0.001
# Packages that a byte of the shards may hang on.
_PACKAGES = (
    "numpy",
    "tokenizers",
    "torch",
    "transformers",
    "pillow",
    "soundfile",
    "soxr",
    "av",
    "pyarrow",
    "py3langid",
    "phonenumbers",
    "python-stdnum",
    "regex",
    "datasketch",
)


def require_sound(recipe: Recipe, tokens: Tokens) -> None:
    """Raises ConfigError that lists all that is wrong with a recipe, VocabularyError for a layout that is none."""
    Vocabulary.of(tokens)
    if problems := list(_problems(recipe, tokens)):
        raise ConfigError(problems)


def _problems(recipe: Recipe, tokens: Tokens) -> Iterator[Problem]:
    for text in codec_problems(recipe.codecs, tokens):
        yield Problem(("dataset.codecs",), text)
    for text in chain_problems(recipe.filters):
        yield Problem(("dataset.filters",), text)
    names = [source.name for source in recipe.sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield Problem(("dataset.sources",), f"{', '.join(twice)}: named twice; give each source a name of its own")
    if recipe.generate is None and recipe.records_dir is None:
        yield Problem(("dataset.records_dir",), "null; type dataset.records_dir=FOLDER, the folder of the record files")
    there = {name for name in ("image", "audio", "video") if getattr(recipe.codecs, name) is not None}
    for number, source in enumerate(recipe.sources):
        for place, template in enumerate(source.templates):
            key = f"dataset.sources.{number}.templates.{place}"
            for text in template_problems(template, tokens):
                yield Problem((key,), text)
            for modality in sorted({*modalities(template)} - there - {"text"}):
                cure = f"choose one, as in +codec@dataset.codecs.{modality}={modality}_demo"
                yield Problem((key,), f"template {template.name} needs a codec for {modality}, there is none; {cure}")
    for unit, what in _units(recipe):
        if short := [seq_len for seq_len in recipe.seq_lens if seq_len < unit]:
            yield Problem(
                ("dataset.seq_lens",),
                f"{', '.join(map(str, short))}: {what} needs {unit} positions, and is never cut; type {unit} or more",
            )
    if recipe.chunk_mb < _MIN_CHUNK_MB:
        yield Problem(("dataset.chunk_mb",), f"{recipe.chunk_mb:g} MB; a chunk has at least {_MIN_CHUNK_MB:g} MB")
    if recipe.chunk_mb > recipe.shard_mb:
        yield Problem(
            ("dataset.chunk_mb", "dataset.shard_mb"),
            f"a chunk of {recipe.chunk_mb:g} MB is larger than a shard of {recipe.shard_mb:g} MB; legal: a chunk of "
            f"{_MIN_CHUNK_MB:g} MB to that of a shard",
        )


def _units(recipe: Recipe) -> Iterator[tuple[int, str]]:
    """Positions that what is never cut needs at least, for the codecs that a template takes."""
    taken = {name for source in recipe.sources for template in source.templates for name in modalities(template)}
    codecs = recipe.codecs
    if codecs.image is not None and "image" in taken:
        yield codecs.image.tokens_per_image + 2, "an image with its marks"
    if codecs.audio is not None and "audio" in taken:
        yield codecs.audio.num_codebooks + 1, "a frame of sound with its mark"
    if codecs.video is not None and "video" in taken:
        yield codecs.video.tokens_per_step + 1, "a step of a video with its mark"


def settings_of(recipe: Recipe, tokens: Tokens) -> dict[str, JsonValue]:
    """What makes two builds the same: recipe, vocabulary, hashes of weights and text tokenizer, and the versions of the
    builder and what it builds with.

    Folders are left out: the same records elsewhere make the same dataset. Raises BuildError for weights or a tokenizer
    that can't be read.
    """
    document: dict[str, Any] = recipe.model_dump(mode="json")
    del document["name"], document["records_dir"]
    document["limits"]["roots"] = [Path(folder).name for folder in document["limits"]["roots"]]
    for source in document["sources"]:
        source["records"] = [_anywhere(pattern) for pattern in source["records"]]
    for entry in document["filters"]:
        if entry.get("words_file"):
            entry["words_file"] = _anywhere(entry["words_file"])
        if "files" in entry:
            entry["files"] = [_anywhere(name) for name in entry["files"]]
    for codec in document["codecs"].values():
        if codec and codec.get("weights"):
            codec["weights"] = Path(codec["weights"]).name
    layout = tokens.model_dump(mode="json")
    if layout["text"] and layout["text"].get("folder"):
        layout["text"]["folder"] = Path(layout["text"]["folder"]).name
    return {
        "builder_version": BUILDER_VERSION,
        "recipe": document,
        "tokens": layout,
        "outside": {**outside_digests(recipe, tokens)},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }


def _anywhere(path: str) -> str:
    """A path below the folder of the records as it is, of another its name."""
    return Path(path).name if Path(path).is_absolute() else path


def input_files(recipe: Recipe, records: Path) -> dict[str, Path]:
    """The files of records, and those that filters read, by their names in the manifest. Raises RecordFileError."""
    paths = [path for source in recipe.sources for path in list_files(source.records, records)]
    paths += [records / name for name in recipe.filter_files]
    found: dict[str, Path] = {}
    for path in dict.fromkeys(paths):
        name = name_of(path, records)
        if found.setdefault(name, path) != path:
            raise RecordFileError(f"{found[name]} and {path} are both named {name} in a manifest; rename one of them")
    return found


def inputs(context: Context) -> list[Mapping[str, JsonValue]]:
    """The files that go in, each once, with size and hash. Media are traced by the ids that they became.

    Raises RecordFileError for one that is not there.
    """
    found: list[Mapping[str, JsonValue]] = []
    for name, path in input_files(context.recipe, context.records).items():
        try:
            found.append({"path": name, "size_bytes": path.stat().st_size, "sha256": sha256_of_file(path)})
        except OSError as error:
            raise RecordFileError(f"{path}: cannot read it ({error.strerror}); mend it, or leave it out") from error
    return found
