"""Files from outside of the records that ids hang on: weights of codecs, and a text tokenizer that is taken over."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from mmhydra.config.dataset import Recipe
from mmhydra.config.tokens import Tokens
from mmhydra.data.build.plan import BuildError
from mmhydra.data.vocabulary.huggingface import FILE_NAME
from mmhydra.data.weight_files import weight_files
from mmhydra.files import sha256_of_file

_CURES = {
    "codecs": "give a folder with config.json and model.safetensors, a file of tensors, or null for untrained weights",
    "tokens": "give the folder of a model of Hugging Face",
}


def outside_digests(recipe: Recipe, tokens: Tokens) -> dict[str, str]:
    """sha256 of what each key of recipe and vocabulary names; a key whose files are not there is left out.

    Without them a finished dataset speaks for itself; `require_outside` is for a build that needs them. Raises
    BuildError for a file that can't be read.
    """
    found = {}
    for key, _, files in _outside(recipe, tokens):
        if files:
            try:
                found[key] = _digest(files)
            except OSError as error:
                raise BuildError(f"{key}: cannot read {error.filename} ({error.strerror})") from error
    return found


def require_outside(recipe: Recipe, tokens: Tokens) -> None:
    """Raises BuildError for a key whose files are not there."""
    missing = [(key, path) for key, path, files in _outside(recipe, tokens) if not files]
    if missing:
        lines = [f"{key}: nothing to read at {path}; {_CURES[key.partition('.')[0]]}" for key, path in missing]
        raise BuildError("\n".join(lines))


def _outside(recipe: Recipe, tokens: Tokens) -> Iterator[tuple[str, Path, list[Path]]]:
    """Key, path and files of each."""
    codecs = recipe.codecs
    for modality, codec in (("image", codecs.image), ("audio", codecs.audio), ("video", codecs.video)):
        if codec is not None and codec.weights is not None:
            path = Path(codec.weights)
            yield f"codecs.{modality}.weights", path, weight_files(path)
    if tokens.text is not None and tokens.text.kind == "hf" and tokens.text.folder is not None:
        path = Path(tokens.text.folder) / FILE_NAME
        yield "tokens.text.folder", path, [path] if path.is_file() else []


def _digest(files: list[Path]) -> str:
    """Of one file its own; of several that of their names and digests."""
    if len(files) == 1:
        return sha256_of_file(files[0])
    lines = [f"{sha256_of_file(file)}  {file.name}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
