"""The dataset versions that a `data` section names, as found below the data folder."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from mmhydra.config.data import Data
from mmhydra.config.facts import TokenCount
from mmhydra.config.tokens import END_OF_DOCUMENT, Tokens
from mmhydra.data.shards.manifest import MANIFEST_NAME, Manifest, Vocabulary, load_manifest
from mmhydra.errors import UserError

HELDOUT = "heldout"
TRAIN = "train"


class DataError(UserError):
    """The data that a run asks for is not there, or is not what the config says."""


def absent(data: Data, folder: Path) -> list[str]:
    """Names of the dataset versions that are not below a folder."""
    return [name for name in data.datasets if not (folder / name / MANIFEST_NAME).is_file()]


def load(data: Data, tokens: Tokens, folder: Path) -> dict[str, Manifest]:
    """The manifests of all dataset versions by name.

    Raises DataError that lists everything that is missing or does not fit the vocabulary.
    """
    manifests, faults = {}, []
    for dataset in data.datasets:
        if dataset in absent(data, folder):
            faults.append(f"dataset {dataset} is not there: {folder / dataset / MANIFEST_NAME} does not exist")
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
    there = manifest.vocabulary
    if there.layout_digest != tokens.layout_digest:
        name = there.layout.get("name")
        faults.append(
            f"dataset {dataset} has a vocabulary of other ids than tokens={tokens.name}:\n"
            f"    there    {_layout(there)}\n"
            f"    declared {tokens.used_size} ids, layout {tokens.layout_digest[:12]}: {_spans(tokens)}\n"
            f"    type tokens={name}, or build the dataset with tokens={tokens.name}"
        )
    elif (found := (there.size, there.eod_id)) != (meant := (tokens.used_size, _eod_id(tokens))):
        faults.append(
            f"the manifest of dataset {dataset} contradicts itself: it says {found[0]} ids of which {found[1]} ends a "
            f"document, its layout makes them {meant[0]} and {meant[1]}; copy or build the dataset again"
        )
    known = {source.name for source in manifest.sources}
    for source in data.sources:
        if source.dataset == dataset and source.name not in known:
            faults.append(f"dataset {dataset} has no source {source.name}; it has {', '.join(sorted(known))}")
    return faults


def _eod_id(tokens: Tokens) -> int:
    special = [token for span in tokens.spans if span.modality == "special" for token in range(span.start, span.stop)]
    return special[tokens.special.index(END_OF_DOCUMENT)]


def _layout(vocabulary: Vocabulary) -> str:
    try:
        spans = _spans(Tokens.model_validate(vocabulary.layout))
    except ValidationError:
        spans = "of ranges that this version does not know"
    return f"{vocabulary.size} ids, layout {vocabulary.layout_digest[:12]}: {spans}"


def _spans(tokens: Tokens) -> str:
    ranges = ", ".join(f"{span.name} {span.start}-{span.stop - 1}" for span in tokens.spans)
    return f"{ranges}; padded to {tokens.vocab_size}"


def digests(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """Manifest digests by dataset, for identity and stamps."""
    return {dataset: manifest.digest for dataset, manifest in sorted(manifests.items())}


def token_counts(manifests: Mapping[str, Manifest]) -> dict[tuple[str, str], TokenCount]:
    """Tokens of each (dataset, source), for the rules."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    largest: dict[tuple[str, str], int] = {}
    for dataset, manifest in manifests.items():
        largest |= {(dataset, source.name): source.largest_unit for source in manifest.sources}
        for shard in manifest.shards:
            splits = counts.setdefault((dataset, shard.source), {})
            splits[shard.split] = splits.get(shard.split, 0) + shard.num_tokens
    return {key: TokenCount(found.get(TRAIN, 0), found.get(HELDOUT, 0), largest[key]) for key, found in counts.items()}
