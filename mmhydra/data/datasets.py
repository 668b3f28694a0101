"""The dataset versions that a `data` section names: found below the data folder, or built there."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mmhydra.config.data import Data
from mmhydra.config.tokens import Tokens
from mmhydra.data.demo import build_demo
from mmhydra.data.manifest import Manifest, load_manifest
from mmhydra.errors import UserError

HELDOUT = "heldout"
TRAIN = "train"


class DataError(UserError):
    """The data that a run asks for is not there, or is not what the config says."""


def prepare(data: Data, tokens: Tokens, folder: Path, on_progress: Callable[[str], None]) -> dict[str, Manifest]:
    """The manifests of all dataset versions by name; the demo is built if it is not there.

    Raises DataError that lists everything that is missing or does not fit the vocabulary.
    """
    if data.builder is not None:
        for dataset in data.datasets:
            build_demo(
                folder / dataset,
                vocab_size=tokens.used_size,
                corpus_mb=data.builder.corpus_mb,
                heldout_fraction=data.builder.heldout_fraction,
                shard_mb=data.builder.shard_mb,
                on_progress=on_progress,
            )
    return load(data, tokens, folder)


def load(data: Data, tokens: Tokens, folder: Path) -> dict[str, Manifest]:
    """The manifests of all dataset versions by name. Raises DataError, see `prepare`."""
    manifests, faults = {}, []
    for dataset in data.datasets:
        if not (folder / dataset / "manifest.json").is_file():
            faults.append(f"dataset {dataset} is not there: {folder / dataset / 'manifest.json'} does not exist")
            continue
        manifests[dataset] = load_manifest(folder / dataset)
        faults.extend(_faults(data, tokens, dataset, manifests[dataset]))
    vocabularies = {manifest.vocabulary.digest for manifest in manifests.values()}
    if len(vocabularies) > 1:
        each = ", ".join(f"{name} {manifest.vocabulary.digest[:12]}" for name, manifest in manifests.items())
        faults.append(f"its datasets were made with different vocabularies: {each}")
    if faults:
        cure = f"put the datasets below {folder}, or point paths.data (or MMHYDRA_DATA) to where they are"
        raise DataError("\n".join([f"data={data.name} can't be read:", *(f"  {fault}" for fault in faults), cure]))
    return manifests


def _faults(data: Data, tokens: Tokens, dataset: str, manifest: Manifest) -> list[str]:
    faults = []
    if manifest.vocabulary.size != tokens.used_size:
        faults.append(
            f"dataset {dataset} has a vocabulary of {manifest.vocabulary.size} ids, tokens={tokens.name} has "
            f"{tokens.used_size}"
        )
    known = {source.name for source in manifest.sources}
    for source in data.sources:
        if source.dataset == dataset and source.name not in known:
            faults.append(f"dataset {dataset} has no source {source.name}; it has {', '.join(sorted(known))}")
    return faults


def digests(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """Manifest digests by dataset, for identity and stamps."""
    return {dataset: manifest.digest for dataset, manifest in sorted(manifests.items())}
