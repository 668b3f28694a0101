"""One sample of a shard, decoded so that a person can read, look and listen."""

import mmhydra.data.build.quiet  # noqa: F401, I001  before torch

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmhydra.data.codecs import Codec, codec_from_info, save_signal
from mmhydra.data.shards.document import Document
from mmhydra.data.shards.manifest import Manifest, load_manifest
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.templates import Part, describe, signals, to_text
from mmhydra.data.vocabulary import Vocabulary, load_tokenizer
from mmhydra.errors import UserError
from mmhydra.paths import short

_MAX_CHARS = 20_000


def show_sample(console: Console, shard: Path, key: str, out: Path, weights: Path | None = None) -> None:
    """Prints a sample's text and what is known of it, and writes its media below `out` as PNG, WAV and GIF.

    `key` is the nine digits of its name in the tar, or the record's unique_id. `weights` is the folder of the weights
    that a manifest names, if not $MMHYDRA_WEIGHTS. Raises UserError for a shard that belongs to no dataset or is
    damaged, for a key that it does not have, and for weights that are not there or are others.
    """
    folder, manifest = _dataset(shard)
    entry = next((e for e in manifest.shards if (folder / e.path).absolute() == shard.absolute()), None)
    if entry is None:
        legal = ", ".join(e.path for e in manifest.shards[:10])
        raise UserError(f"{shard} is no shard of {folder}; it has {legal}")
    shards = TokenShards(folder, manifest, entry.source, entry.split)
    number = _number(shards, entry.path, key)
    info = shards.info(number)
    document = Document(shards.ids(number), shards.segments(number))
    decoder = Decoder(console, folder, manifest, out, weights)
    console.print(_facts(info, document, shards.key(number)), soft_wrap=False)
    decoder.show(document, shards.key(number))


class Decoder:
    """Prints documents of a dataset as text, and writes their media below `out`. Codecs are made when first needed."""

    def __init__(self, console: Console, folder: Path, manifest: Manifest, out: Path, weights: Path | None) -> None:
        self._console, self._manifest, self._out, self._weights = console, manifest, out, weights
        self._vocabulary = Vocabulary.of_layout(manifest.vocabulary.layout)
        self._tokenizer = load_tokenizer(folder / manifest.vocabulary.tokenizer_file)
        self._codecs: dict[str, Codec] = {}

    def show(self, document: Document, name: str) -> None:
        """Prints a document, or what a sequence holds of it; files begin with `name`.

        Raises UserError for ids that are not in the vocabulary, and for a codec that can't be made again.
        """
        parts = describe(document, self._vocabulary, self._tokenizer)
        _print_text(self._console, parts)
        for place, signal in enumerate(signals(parts)):
            codec = self._codec(signal.modality)
            self._out.mkdir(parents=True, exist_ok=True)
            stem = "-".join([name, f"{place:02d}", signal.name or signal.modality])
            files = save_signal(self._out / stem, codec.modality, codec.decode(signal.ids))
            told = f"{signal.modality} {len(signal.ids)} ids -> {', '.join(short(path) for path in files)}"
            self._console.print(f"{told}{'' if codec.trained else f' ({codec.note})'}", markup=False)

    def _codec(self, modality: str) -> Codec:
        if modality not in self._codecs:
            self._codecs[modality] = codec_from_info(_codec_info(self._manifest, modality), self._weights)
        return self._codecs[modality]


def _print_text(console: Console, parts: Sequence[Part]) -> None:
    """The decoded text as it is: no line is broken or filled up, and what a terminal would obey is spelt out."""
    legend = " (dim: no loss)" if console.is_terminal else ""
    console.print(f"decoded text{legend}:", style="bold")
    left = _MAX_CHARS
    for part in parts:
        told = to_text([part], _MAX_CHARS) if part.modality not in ("text", "special") else part.text
        shown = "".join(character if _is_plain(character) else ascii(character)[1:-1] for character in told[:left])
        is_dim = console.is_terminal and not part.loss
        console.file.write(f"\x1b[2m{shown}\x1b[22m" if is_dim else shown)
        left -= len(told)
        if left <= 0:
            console.file.write(f"\n[cut off after {_MAX_CHARS:,} characters]")
            break
    console.file.write("\n")


def _is_plain(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) != "Cc"


def _dataset(shard: Path) -> tuple[Path, Manifest]:
    if not shard.is_file():
        raise UserError(f"{shard}: there is no such shard; give the path of a dataset's tar (NAME/shards/*.tar)")
    folder = shard.absolute().parent.parent
    return folder, load_manifest(folder)


def _codec_info(manifest: Manifest, modality: str) -> Any:
    if modality not in manifest.codecs:
        raise UserError(f"the manifest of {manifest.dataset} names no codec for {modality}: its ids can't be decoded")
    return manifest.codecs[modality]


def _number(shards: TokenShards, path: str, key: str) -> int:
    """The document with a key, or with a record's unique_id in this shard."""
    if key.isascii() and key.isdigit() and len(key) == 9:
        found = shards.find(key)
        if (other := shards.shard_of_document(found)) != path:
            raise UserError(f"{path} has no sample {key}: it is in {other}")
        return found
    here = [n for n in range(shards.num_documents) if shards.shard_of_document(n) == path]
    for number in here:
        if shards.info(number)["unique_id"] == key:
            return number
    raise UserError(
        f"{path} has no sample {key}; its keys are {shards.key(here[0])} to {shards.key(here[-1])}, or give the "
        "unique_id of one of its records"
    )


def _facts(info: dict[str, Any], document: Document, key: str) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    rows = {
        "sample": f"{key}, record {info['unique_id']}",
        "source": f"{info['source']}, {info['source_uri'] or 'no address'}",
        "license": info["license"],
        "language": info["language"],
        "template": info["template"],
        "tokens": f"{len(document.ids):,}, of which {document.num_labels:,} are labels",
        "record": info["record"].get("place", ""),
    }
    metadata = info["record"].get("metadata", {})
    rows |= {name: metadata[name] for name in ("title", "description", "upload_date") if name in metadata}
    for name, value in rows.items():
        table.add_row(name, Text(str(value)))
    return table
