"""Weights from files: what is there must be what the settings describe, to the last tensor."""

import json
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mmhydra.data.codecs.protocol import CodecError
from mmhydra.data.weight_files import CONFIG_IN_FOLDER, WEIGHTS_IN_FOLDER

_SHOWN = 4  # names of each kind of fault; the rest is a number

Tensors = dict[str, torch.Tensor]


def load_weights(
    module: torch.nn.Module,
    path: Path,
    *,
    rename: Callable[[str], str | None],
    config: Any,
    ignored_config: frozenset[str],
) -> None:
    """Copies the tensors of a folder or file into `module`, as float32.

    `rename` turns a name in the file into the module's, or None where it is not wanted. In a folder, config.json must
    say what `config` says, but for the `ignored_config` keys. Raises CodecError that names path, tensors and shapes.
    """
    if path.is_dir():
        _check_config(path / CONFIG_IN_FOLDER, config, ignored_config)
    found: Tensors = {}
    for name, tensor in read_tensors(path).items():
        wanted = rename(name)
        if wanted is None:
            continue
        if wanted in found:
            raise CodecError(f"weights {path}: two tensors are both {wanted}; the file mixes two ways of naming")
        found[wanted] = tensor
    _check_tensors(module.state_dict(), found, path)
    module.load_state_dict(found)


def read_tensors(path: Path) -> Tensors:
    """All tensors of a safetensors or torch file, or of a Hugging Face folder. Runs no code that is in the file."""
    if not path.exists():
        raise CodecError(
            f"weights {path}: no such file or folder. Type the path of a folder with config.json and "
            f"{WEIGHTS_IN_FOLDER[0]}, of a .safetensors or a torch file (.th, .pt, .bin), or null for untrained weights"
        )
    file = _file_in(path) if path.is_dir() else path
    try:
        content = load_file(file) if file.suffix == ".safetensors" else _load_torch(file)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        raise CodecError(
            f"weights {file}: can't be read ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            "). Is the download whole? Expected are tensors alone, in .safetensors or torch's format"
        ) from error
    tensors = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if (
        not isinstance(tensors, Mapping)
        or not tensors
        or not all(isinstance(t, torch.Tensor) for t in tensors.values())
    ):
        raise CodecError(f"weights {file}: expected are named tensors, at the top or below 'state_dict'")
    return dict(tensors)


def _load_torch(file: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickles of other protocols; what can't be read is an error of ours
        return torch.load(file, map_location="cpu", weights_only=True)


def _file_in(folder: Path) -> Path:
    for name in WEIGHTS_IN_FOLDER:
        if (folder / name).is_file():
            return folder / name
    raise CodecError(f"weights {folder}: neither {' nor '.join(WEIGHTS_IN_FOLDER)} is in the folder")


def _check_config(file: Path, config: Any, ignored: frozenset[str]) -> None:
    try:
        stated = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CodecError(f"weights {file}: can't be read as JSON ({error}); it comes with the weights") from error
    ours = json.loads(config.to_json_string(use_diff=False))
    if not isinstance(stated, dict) or stated.get("model_type") != ours["model_type"]:
        there = stated.get("model_type") if isinstance(stated, dict) else type(stated).__name__
        raise CodecError(f"weights {file}: model_type is {there!r}, the codec's network has {ours['model_type']!r}")
    declared = vars(type(config))["__annotations__"].keys() - ignored
    differing = [
        f"{key} is {stated[key]!r} there and {ours[key]!r} in the codec's settings"
        for key in sorted(declared & stated.keys())
        if stated[key] != ours[key]
    ]
    if differing:
        raise CodecError(f"weights {file}: {'; '.join(differing)}. Set the codec's fields to what the file says")


def _check_tensors(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], path: Path) -> None:
    both = sorted(expected.keys() & found.keys())
    faults = [
        _names("missing", expected.keys() - found.keys()),
        _names("unexpected", found.keys() - expected.keys()),
        _names(
            "of another shape",
            [
                f"{name} {list(found[name].shape)} instead of {list(expected[name].shape)}"
                for name in both
                if found[name].shape != expected[name].shape
            ],
        ),
        _names("with values that are no numbers", [name for name in both if not torch.isfinite(found[name]).all()]),
    ]
    if told := [fault for fault in faults if fault]:
        raise CodecError(
            f"weights {path}: {len(expected)} tensors expected, {len(found)} found; {'; '.join(told)}. Give the "
            "weights of this network, or set the codec's fields (channels, levels, codebooks) to those of the weights"
        )


def _names(what: str, names: Any) -> str:
    ordered = sorted(names)
    if not ordered:
        return ""
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return f"{len(ordered)} {what}: {', '.join(ordered[:_SHOWN])}{more}"
