"""Sentences and lists that the card and the report share."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mmhydra.data.report.totals import chain, untrained
from mmhydra.data.shards.manifest import Manifest

_LIMITS = (
    "Licenses are what the records' metadata says; nobody has looked them up. Languages are what the language filter "
    "was sure of, and else what the metadata says.",
    "PII, toxicity and language are found by patterns, word lists and statistics: some is missed, some is found that "
    "is none. Counts of PII are of the records that its filter looked at: those that it or a later one refused are "
    "among them, those that were refused before are not.",
    "Deduplication by MinHash looks at text alone: the same picture or sound with other words stays.",
    "Decoded examples show what the ids keep of the original, not the original.",
)
_SHIPPED_WORDS = (
    "The toxicity filter used the word list that comes with mmhydra. It is short and mild: about twenty English words "
    "and phrases, and one to three each in German, French, Spanish and Chinese. Other languages pass it unseen."
)


@dataclass(frozen=True)
class IdRange:
    """One range of the vocabulary's ids."""

    name: str
    modality: str
    start: int
    size: int

    @property
    def last(self) -> int:
        """The last id."""
        return self.start + self.size - 1


def id_ranges(manifest: Manifest) -> list[IdRange]:
    """The ranges that the layout declares; empty for a layout that has no such list."""
    entries = manifest.vocabulary.layout.get("ranges")
    return list(_ranges(entries)) if isinstance(entries, list) else []


def _ranges(entries: Sequence[object]) -> Iterator[IdRange]:
    place = 0
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("size"), int):
            continue
        # Without a start of its own a range follows the one before it.
        start = entry["start"] if isinstance(entry.get("start"), int) else place
        yield IdRange(str(entry.get("name", "")), str(entry.get("modality", "")), start, entry["size"])
        place = start + entry["size"]


def limits(manifest: Manifest) -> list[str]:
    """What a reader must not take the numbers for."""
    shipped = any(entry["kind"] == "toxicity" and entry.get("words_file", "") is None for entry in chain(manifest))
    return [*_LIMITS, *([_SHIPPED_WORDS] if shipped else [])]


def commands(manifest: Manifest) -> str:
    """What to type in the dataset's folder to check it, and to look at a document."""
    shard = shlex.quote(manifest.shards[0].path) if manifest.shards else "SHARD"
    return f"python -m mmhydra.data verify .\npython -m mmhydra.data show {shard} KEY"


def warning(manifest: Manifest) -> str | None:
    """What has to be said first about codecs without trained weights; None if there are none."""
    names = untrained(manifest)
    if not names:
        return None
    return (
        f"The codecs of {', '.join(names)} have seeded random weights. Their ids exercise the machinery and carry "
        "next to no meaning: train nothing on them that is to be used."
    )
