"""A manifest with all that data card and governance report show, written by hand, and media to embed."""

import copy
import io
import itertools
import wave
from typing import Any

import numpy as np
from PIL import Image

from mmhydra.data.report import totals
from mmhydra.data.report.examples import Example, MediaExample
from mmhydra.data.shards.manifest import Manifest
from mmhydra.data.shards.statistics import HISTOGRAMS

# What a record could say to get out of its place in a page or a card.
EVIL = (
    '\'"></pre></table><script>document.title="owned"</script><img src=x onerror=alert(1)>'
    "|`*[a](javascript:b)\n# not a heading"
)

CHAIN = ("license", "pii", "language", "toxicity", "decontamination", "exact_duplicates", "near_duplicates")


def digest(letter: str) -> str:
    return letter * 64


def histogram(name: str, counts: dict[int, int]) -> dict[str, Any]:
    """Counts by the number of the bin."""
    unit, edges = HISTOGRAMS[name]
    return {"unit": unit, "edges": edges, "counts": [counts.get(i, 0) for i in range(len(edges) - 1)]}


def chain(
    records: int, broken: int, refused: dict[str, int], *, redacted: int = 0, repeated: int = 0, not_rendered: int = 0
) -> dict[str, Any]:
    """Statistics of records that go through CHAIN; ids that are there twice are found before the duplicates."""
    left, counts = records - broken, {}
    for name in CHAIN:
        if name == "exact_duplicates":
            left -= repeated
        counts[name] = {"seen": left, "rejected": refused.get(name, 0), "changed": redacted if name == "pii" else 0}
        left -= refused.get(name, 0)
    return {"records": records, "accepted": left - not_rendered, "filters": counts}


def _text(name: str, what: str, language: str, size: int) -> dict[str, Any]:
    refused = {"language": 4, "toxicity": 2, "decontamination": 1, "exact_duplicates": 1, "near_duplicates": 5}
    return {
        "name": name,
        "description": what,
        "modality": "text",
        "statistics": {
            **chain(274, 3, refused, redacted=31),
            "rejected": {
                "corrupt_text": 2, "too_long": 1, "language_not_allowed": 4, "toxicity": 2, "duplicate_exact": 1,
                "duplicate_near": 5, "contaminated": 1,
            },
            "documents": {"train": 245, "heldout": 13},
            "tokens": {"train": {"text": size, "special": 245}, "heldout": {"text": size // 19, "special": 13}},
            "loss_tokens": {"train": size, "heldout": size // 19},
            "templates": {"text": 258},
            "languages": {language: 258},
            "licenses": {"PSF-2.0": 258},
            "pii": {"email": 27, "phone": 4},
            "histograms": {
                "document_length": histogram("document_length", {9: 8, 10: 41, 11: 96, 12: 74, 13: 30, 14: 8, 15: 1}),
                "text_length": histogram("text_length", {10: 6, 11: 22, 12: 70, 13: 91, 14: 48, 15: 16, 16: 5}),
            },
        },
    }  # fmt: skip


def _pictures() -> dict[str, Any]:
    refused = {"license": 3, "language": 2, "toxicity": 1, "exact_duplicates": 2}
    return {
        "name": "pictures",
        "description": "flat shapes, drawn with a caption that says exactly what is there",
        "modality": "image",
        "largest_unit": 258,
        "statistics": {
            **chain(98, 2, refused, redacted=4, repeated=2),
            "rejected": {"corrupt_image": 2, "license_not_allowed": 3, "language_not_allowed": 2, "toxicity": 1,
                         "duplicate_exact": 2, "duplicate_id": 2},
            "documents": {"train": 82, "heldout": 4},
            "tokens": {"train": {"text": 2_100, "image": 20_992, "special": 246},
                       "heldout": {"text": 104, "image": 1_024, "special": 12}},
            "loss_tokens": {"train": 13_000, "heldout": 640},
            "templates": {"image_then_text": 51, "text_then_image": 35},
            "languages": {"en": 44, "zh": 11, "de": 11, "fr": 10, "es": 10},
            "licenses": {"CC0-1.0": 80, "CC-BY-4.0": 6},
            "pii": {"email": 2, "phone": 2},
            "histograms": {
                "document_length": histogram("document_length", {8: 86}),
                "text_length": histogram("text_length", {5: 20, 6: 40, 7: 26}),
            },
        },
    }  # fmt: skip


def _sounds() -> dict[str, Any]:
    return {
        "name": "sounds",
        "description": "tones, chords, sweeps, noise and rhythms, each with what it is",
        "modality": "audio",
        "largest_unit": 8,
        "statistics": {
            **chain(48, 1, {"exact_duplicates": 1}),
            "rejected": {"sample_rate_mismatch": 1, "duplicate_exact": 1},
            "documents": {"train": 44, "heldout": 2},
            "tokens": {"train": {"text": 1_200, "audio": 52_800, "special": 132},
                       "heldout": {"text": 50, "audio": 2_400, "special": 6}},
            "loss_tokens": {"train": 1_244, "heldout": 52},
            "templates": {"audio_then_text": 46},
            "languages": {"en": 42, "zh": 2, "de": 1, "es": 1},
            "licenses": {"CC0-1.0": 46},
            "histograms": {
                "document_length": histogram("document_length", {9: 12, 10: 34}),
                "text_length": histogram("text_length", {5: 12, 6: 34}),
                "audio_duration": histogram("audio_duration", {2: 20, 3: 26}),
                "duration_error": histogram("duration_error", {6: 45, 7: 1}),
                "characters_per_second": histogram("characters_per_second", {5: 4, 6: 14, 7: 11, 8: 15, 9: 2}),
            },
        },
    }  # fmt: skip


def _clips() -> dict[str, Any]:
    return {
        "name": "clips",
        "description": "a shape moves and changes, with captions at their times",
        "modality": "video",
        "largest_unit": 36,
        "statistics": {
            **chain(31, 1, {}, redacted=1, not_rendered=1),
            "rejected": {"corrupt_video": 1, "camera_mismatch": 1},
            "documents": {"train": 27, "heldout": 2},
            "tokens": {"train": {"text": 2_400, "video": 30_000, "special": 108},
                       "heldout": {"text": 160, "video": 2_000, "special": 8}},
            "loss_tokens": {"train": 2_427, "heldout": 162},
            "templates": {"video_captions": 23, "six_cameras": 6},
            "languages": {"en": 29},
            "licenses": {"CC0-1.0": 29},
            "pii": {"card": 1},
            "histograms": {
                "document_length": histogram("document_length", {10: 20, 11: 9}),
                "text_length": histogram("text_length", {6: 9, 7: 20}),
                "video_duration": histogram("video_duration", {2: 12, 3: 17}),
                "duration_error": histogram("duration_error", {4: 1, 6: 26, 8: 2}),
                "audio_less_video": histogram("audio_less_video", {5: 1, 6: 5}),
                "caption_overhang": histogram("caption_overhang", {5: 3, 6: 24, 8: 2}),
                "characters_per_second": histogram("characters_per_second", {6: 2, 7: 6, 8: 12, 9: 9}),
            },
        },
    }  # fmt: skip


def manifest_document() -> dict[str, Any]:
    """The manifest as JSON."""
    sources = [
        _text("stdlib_code", "source files of the Python standard library", "python", 1_350_000),
        _text("stdlib_docs", "docstrings of the Python standard library", "en", 310_000),
        _pictures(),
        _sounds(),
        _clips(),
    ]
    shards = [
        {
            "path": f"shards/{source['name']}-{split}-00000.tar",
            "source": source["name"],
            "split": split,
            "sha256": digest("a"),
            "size_bytes": 4 * sum(tokens.values()) + 10240,
            "num_documents": source["statistics"]["documents"][split],
            "num_tokens": sum(tokens.values()),
            "chunk_bytes": 1 << 22,
            "sidecars_xxh3": "0" * 32,
        }
        for source in sources
        for split, tokens in source["statistics"]["tokens"].items()
    ]
    return {
        "schema_version": 2,
        "dataset": "demo-v2",
        "builder": {
            "version": 2,
            "recipe": {"corpus_mb": 6.0, "media": 96, "filters": [{"kind": name} for name in CHAIN]},
            "packages": {"pillow": "13.0.0"},
        },
        "vocabulary": {
            "size": 3648,
            "digest": digest("1"),
            "layout_digest": digest("2"),
            "layout": {
                "name": "demo",
                "pad_multiple": 64,
                "special": ["<|endoftext|>"],
                "ranges": [
                    {"name": "text", "modality": "text", "size": 2048, "start": None, "codebooks": 1},
                    {"name": "special", "modality": "special", "size": 64, "start": None, "codebooks": 1},
                    {"name": "image", "modality": "image", "size": 512, "start": None, "codebooks": 1},
                    {"name": "audio", "modality": "audio", "size": 512, "start": 2624, "codebooks": 2},
                    {"name": "video", "modality": "video", "size": 512, "start": 3136, "codebooks": 1},
                ],
            },
            "eod_id": 2048,
            "tokenizer_file": "tokenizer.json",
            "tokenizer_sha256": digest("3"),
        },
        "sources": sources,
        "shards": shards,
        "unigram_entropy_nats": 5.9,
        "codecs": {
            "video": {"settings": {"kind": "emu3", "size": 64}, "digest": digest("c"), "trained": False,
                      "note": "untrained: plumbing only"},
            "image": {"settings": {"kind": "vqgan", "codes": 512}, "digest": digest("d"), "trained": False,
                      "note": "untrained: plumbing only"},
            "audio": {"settings": {"kind": "encodec", "rate_hz": 24000}, "digest": digest("e"), "trained": True,
                      "note": "weights from encodec_24khz-d7cc33bc.th"},
        },
    }  # fmt: skip


def assert_funnel_adds_up(stages: list[totals.Stage], manifest: Manifest) -> None:
    """Each stage sees what the one before left, and what is known of both ends and of the filters stands there."""
    statistics = [source.statistics for source in manifest.sources]
    assert stages[0].seen == sum(s.records for s in statistics)
    assert all(before.kept == after.seen for before, after in itertools.pairwise(stages))
    assert stages[-1].kept == sum(s.accepted for s in statistics)
    assert sum(stage.rejected for stage in stages) == sum(map(totals.num_rejected, statistics))
    by_name = {stage.name: stage for stage in stages}
    for name, counts in totals.filter_counts(manifest).items():
        assert (by_name[name].seen, by_name[name].rejected) == (counts.seen, counts.rejected)


def png(color: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(file, format="PNG")
    return file.getvalue()


def moving_gif() -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGB", (64, 64), (40 * k, 80, 200)) for k in range(5)]
    frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:], duration=120, loop=0)
    return file.getvalue()


def wav() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes((8000 * np.sin(np.arange(8000) * 0.17)).astype("<i2").tobytes())
    return file.getvalue()


def minimal_document() -> dict[str, Any]:
    """The least that a manifest can say."""
    return {
        "dataset": "empty",
        "builder": {},
        "vocabulary": {
            "size": 1,
            "digest": digest("1"),
            "layout_digest": digest("2"),
            "layout": {},
            "eod_id": 0,
            "tokenizer_file": "t",
            "tokenizer_sha256": digest("3"),
        },
        "sources": [{"name": "s", "description": "", "modality": "text"}],
        "shards": [],
        "unigram_entropy_nats": 0.0,
        "codecs": {},
    }


def _evil(value: Any) -> Any:
    """Strings, and keys that are names of things and no fields of the schema, with EVIL at their end."""
    if isinstance(value, str):
        return value + EVIL
    if isinstance(value, list):
        return [_evil(one) for one in value]
    if isinstance(value, dict):
        return {key + EVIL: _evil(one) for key, one in value.items()}
    return value


def evil_document(document: dict[str, Any]) -> dict[str, Any]:
    """The document with EVIL in every name and note that is free text."""
    made = copy.deepcopy(document)
    made |= {"dataset": _evil(made["dataset"]), "builder": _evil(made["builder"])}
    made["vocabulary"]["tokenizer_file"] += EVIL
    for one in made["vocabulary"]["layout"]["ranges"]:
        one |= {"name": _evil(one["name"]), "modality": _evil(one["modality"])}
    for source in made["sources"]:
        source |= {key: _evil(source[key]) for key in ("name", "description", "modality")}
        statistics = source["statistics"]
        for key in ("rejected", "documents", "loss_tokens", "templates", "languages", "licenses", "pii", "tokens"):
            statistics[key] = _evil(statistics.get(key, {}))
        for key in ("filters", "histograms"):
            statistics[key] = {name + EVIL: one for name, one in statistics[key].items()}
        for one in statistics["histograms"].values():
            one["unit"] += EVIL
    for shard in made["shards"]:
        shard |= {key: _evil(shard[key]) for key in ("path", "source", "split")}
    made["codecs"] = {
        name + EVIL: codec | {"settings": _evil(codec["settings"]), "note": _evil(codec["note"])}
        for name, codec in made["codecs"].items()
    }
    return made


def evil_examples() -> list[Example]:
    """Examples with EVIL in every text, and media that are none."""
    media = [MediaExample(EVIL, png((1, 2, 3)), EVIL), MediaExample("image", EVIL.encode(), EVIL)]
    return [Example(EVIL, EVIL, EVIL + "\n```\n# not a heading\n````", media)]
