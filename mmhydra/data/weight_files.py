"""The files of a codec's weights: which they are, and where they are when a manifest names them. Imports no torch."""

import os
from pathlib import Path

WEIGHTS_IN_FOLDER = ("model.safetensors", "pytorch_model.bin")  # of a Hugging Face folder; the first that is there
CONFIG_IN_FOLDER = "config.json"
WEIGHTS_VARIABLE = "MMHYDRA_WEIGHTS"


def weight_files(path: Path) -> list[Path]:
    """The files that are read where `weights` is `path`, a file or a folder; those that are there."""
    if not path.is_dir():
        return [path] if path.is_file() else []
    tensors = [path / name for name in WEIGHTS_IN_FOLDER if (path / name).is_file()][:1]
    return [file for file in (path / CONFIG_IN_FOLDER, *tensors) if file.is_file()]


def find_weights(name: str, modality: str, folder: Path | None) -> Path | None:
    """Weights that a manifest names, in `folder` or else in that of $MMHYDRA_WEIGHTS; None where they are in neither.

    `modality` is the name of a folder inside of it, which comes first: two codecs may both have a model.safetensors.
    """
    stated = os.environ.get(WEIGHTS_VARIABLE)
    places = [place for place in (folder, Path(stated) if stated else None) if place is not None]
    found = (path for place in places for path in (place / modality / name, place / name) if path.exists())
    return next(found, None)
