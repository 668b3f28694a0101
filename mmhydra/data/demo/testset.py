"""A test set of a few hundred records: good ones of each modality, and at least one for every reason to refuse one.

Made on the spot, without a network. The limits and filters that the expected counts hold for stand beside it.
"""

import gzip
import json
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmhydra.config.forms import CAMERA_PARTS
from mmhydra.data.demo import testset_media as media
from mmhydra.data.records.batches import MAX_LINE_BYTES

ACCEPTED = "accepted"
TESTSET_FILES = ("*.jsonl", "*.jsonl.gz", "*.parquet")
# A section of MediaLimits.
TESTSET_LIMITS: dict[str, Any] = {
    "max_text_bytes": 20_000,
    "min_pixels": 256,
    "max_pixels": 4_000_000,
    "min_seconds": 0.1,
    "max_seconds": 10.0,
    "max_frames": 100,
    "max_decoded_mb": 8.0,
    "min_sample_rate_hz": 8000,
    "sample_rate_tolerance_hz": 0,
    "duration_tolerance_s": 0.1,
    "roots": [],
}
# Sections of Filter; files are relative to the folder of the test set.
TESTSET_FILTERS: list[dict[str, Any]] = [
    {"kind": "license", "allow": ["CC0-1.0", "CC-BY-4.0", "MIT", "PSF-2.0"]},
    {
        "kind": "language",
        "allow": ["en", "de", "fr", "zh", "python", "unknown"],
        "no_model": ["python"],
        "min_confidence": 0.6,
        "min_characters": 40,
    },
    {
        "kind": "quality",
        "min_characters": 8,
        "max_characters": 10_000,
        "max_symbol_share": 0.4,
        "min_scores": {"audio_snr_db": 10.0},
        "max_scores": {"text_perplexity": 1000.0},
    },
    {"kind": "toxicity", "words_file": None, "max_share": 0.0},
    {
        "kind": "pii",
        "find": ["email", "phone", "card", "iban", "us_ssn", "cn_resident_id", "ip_address"],
        "phone_regions": ["US", "DE", "CN"],
        "action": "reject",
    },
    {
        "kind": "decontamination",
        "files": ["evaluation/questions.jsonl"],
        "num_words": 13,
        "num_characters": 30,
        "min_words": 8,
        "min_characters": 16,
    },
    {"kind": "exact_duplicates"},
    {"kind": "near_duplicates", "num_perm": 128, "threshold": 0.7, "shingle_words": 3, "min_words": 12},
]

_QUESTIONS = (
    "Which of the seven bridges of the old town did the engineer cross twice before she noticed that it led nowhere?",
    "How many lanterns hang over the northern harbour gate?",
    "请问这座古老的石桥一共有多少个桥洞，它们分别是在哪一个朝代由什么人主持修建完成的呢？",  # noqa: RUF001
)
# Words that sentences are drawn from, by language: adjectives, nouns, verbs, and how a sentence is put together.
_WORDS: dict[str, tuple[str, str, str, str]] = {
    "en": (
        "old quiet broad narrow bright dusty gentle distant heavy early hollow patient crooked silver wooden frozen",
        "river garden baker harbour teacher window forest bridge letter village market clock valley mountain sailor "
        "library orchard painter storm lantern railway kitchen island meadow",
        "follows watches remembers crosses repairs paints describes leaves finds visits carries hears measures opens",
        "The {a} {n} {v} the {b} {m} while another {o} waits behind the {c} {p}.",
    ),
    "de": (
        "alte stille breite schmale helle staubige ferne schwere leise graue krumme junge freundliche dunkle",
        "Nachbarin Brücke Werkstatt Lehrerin Straße Wolke Küche Stadt Geschichte Zeitung Bäckerei Mauer Insel Reise "
        "Uhr Schule Wiese Kirche",
        "sieht verlässt beschreibt findet besucht hört öffnet kennt malt vergisst erreicht sucht",
        "Die {a} {n} {v} die {b} {m}, während eine andere {o} noch hinter der {c}n {p} wartet.",
    ),
    "fr": (
        "petite grande vieille longue belle jeune calme froide claire lourde étroite lointaine",
        "maison rivière fenêtre boulangère lettre montagne gare forêt horloge cuisine voisine plage école histoire "
        "barque ville",
        "regarde traverse raconte quitte trouve visite écoute ouvre peint cherche oublie rejoint",
        "La {a} {n} {v} la {b} {m} pendant que l'autre {o} attend encore derrière la {c} {p}.",
    ),
    "zh": (
        "古老的 安静的 明亮的 遥远的 沉重的 宽阔的 温暖的 狭窄的 美丽的 寒冷的 年轻的 忙碌的",
        "河流 花园 老师 村庄 窗户 森林 市场 钟楼 山谷 水手 图书馆 果园 画家 火车站 厨房 小岛",
        "看见了 离开了 描写了 找到了 拜访了 修好了 听说了 打开了 记住了 经过了",
        "{a}{n}{v}{b}{m}，而另一个{o}还在{c}{p}后面等待着。",  # noqa: RUF001
    ),
}


def write_testset(folder: Path) -> dict[str, int]:
    """Writes records, their media and an evaluation set below `folder`.

    Returns how many records are to be refused by each reason, and how many accepted (under ACCEPTED), with
    TESTSET_LIMITS and TESTSET_FILTERS, all files in the order of their names. Deterministic. Raises OSError.
    """
    writer = _Writer(folder)
    for good in (_good_texts, _good_images, _good_sounds, _good_videos):
        good(writer)
    _bad_lines(writer)
    _bad_schema(writer)
    _bad_media(writer)
    _filtered(writer)
    writer.finish()
    return dict(sorted(writer.expected.items()))


class _Writer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected: Counter[str] = Counter()
        self._random = random.Random(20)
        self._lines: dict[str, list[bytes]] = {}
        self._rows: list[dict[str, Any]] = []
        self._number = 0

    def sentences(self, count: int = 4, language: str = "en") -> str:
        """Text that was not there before, almost surely."""
        adjectives, nouns, verbs, form = _WORDS[language]
        made: list[str] = []
        for _ in range(count):
            a, b, c = self._random.sample(adjectives.split(), 3)
            n, m, o, p = self._random.sample(nouns.split(), 4)
            made.append(form.format(a=a, b=b, c=c, n=n, m=m, o=o, p=p, v=self._random.choice(verbs.split())))
        return ("" if language == "zh" else " ").join(made)

    def file(self, name: str, content: bytes) -> str:
        """A media file; returns its path as records name it."""
        path = self.folder / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"media/{name}"

    def fields(self, modalities: str, **changes: Any) -> dict[str, Any]:
        """A record with a licence and a new id; `metadata` is added to, all else replaced."""
        self._number += 1
        metadata = {"license": "CC0-1.0", **changes.pop("metadata", {})}
        return {
            "unique_id": f"testset_{self._number:04d}",
            "source": "testset",
            "source_uri": f"https://example.org/{self._number}",
            "modalities": modalities.split(),
            "metadata": {key: value for key, value in metadata.items() if value is not None},
            "processing_log": [{"stage": "made", "timestamp": "2026-01-01T00:00:00", "status": "success"}],
            **changes,
        }

    def text(self, reason: str, text: str | None = None, **changes: Any) -> None:
        """A record of text alone."""
        self.record(reason, self.fields("text", text=self.sentences() if text is None else text, **changes))

    def record(self, reason: str, fields: Mapping[str, Any], name: str = "records.jsonl") -> None:
        """One line."""
        self.line(reason, json.dumps(fields, ensure_ascii=False).encode() + b"\n", name)

    def line(self, reason: str, line: bytes, name: str = "records.jsonl") -> None:
        """One line as it is, its newline included."""
        self.expected[reason] += 1
        self._lines.setdefault(name, []).append(line)

    def row(self, reason: str, fields: dict[str, Any]) -> None:
        """One row of Parquet."""
        self.expected[reason] += 1
        self._rows.append(fields)

    def finish(self) -> None:
        """Writes the record files and the evaluation set."""
        for name, lines in self._lines.items():
            content = b"".join(lines)
            (self.folder / name).write_bytes(gzip.compress(content, 1, mtime=0) if name.endswith(".gz") else content)
        pq.write_table(pa.Table.from_pylist(self._rows), self.folder / "table.parquet", row_group_size=16)
        (self.folder / "evaluation").mkdir(exist_ok=True)
        questions = [json.dumps({"question": question}, ensure_ascii=False) + "\n" for question in _QUESTIONS]
        (self.folder / "evaluation" / "questions.jsonl").write_text("".join(questions), encoding="utf-8")


def _good_texts(w: _Writer) -> None:
    for index in range(80):
        language = ("en", "en", "de", "fr", "zh")[index % 5]
        w.text(ACCEPTED, w.sentences(4, language), metadata={"language": language})
    for _ in range(24):
        w.row(ACCEPTED, w.fields("text", text=w.sentences(5), quality_scores={"text_perplexity": 55.5}))
    for _ in range(12):
        w.record(ACCEPTED, w.fields("text", text=w.sentences()), "more.jsonl.gz")
    w.text(ACCEPTED, "def area(width, height):\n    return width * height\n", metadata={"language": "python"})
    w.text(ACCEPTED, "A short line.")
    w.record(ACCEPTED, w.fields("text", data_paths={"text": w.file("page.txt", w.sentences().encode())}))


def _good_images(w: _Writer) -> None:
    for index in range(24):
        format = ("PNG", "JPEG", "WEBP")[index % 3]
        path = w.file(f"picture_{index}.{format.lower()}", media.image_file(media.picture(index), format))
        stated = {"resolution": {"width": 48, "height": 32}}
        caption = f"A square on a gradient, number {index} of the test set."
        w.record(ACCEPTED, w.fields("text image", text=caption, data_paths={"image": path}, metadata=stated))
    for index in range(4):
        paths = [f"media/picture_{3 * index}.png", f"media/picture_{3 * index + 3}.png"]
        text = f"{w.sentences(2)} <|image|> {w.sentences(2)} <|image|>"
        w.record(ACCEPTED, w.fields("text image", text=text, data_paths={"image": paths}))


def _good_sounds(w: _Writer) -> None:
    formats = [("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)] * 3
    for index, (format, subtype) in enumerate(formats):
        content = media.sound_file(media.tone(index, 0.5, channels=1 + index % 2), format=format, subtype=subtype)
        stated: dict[str, Any] = {"sample_rate_hz": 16_000, "duration_seconds": 0.5}
        path = w.file(f"sound_{index}.{(subtype or format).lower()}", content)
        caption = f"A steady tone, number {index} of the test set."
        w.record(ACCEPTED, w.fields("text audio", text=caption, data_paths={"audio": path}, metadata=stated))


def _good_videos(w: _Writer) -> None:
    for index, (format, codec) in enumerate([("mp4", "mpeg4"), ("matroska", "mpeg4"), ("webm", "libvpx")] * 3):
        path = w.file(f"clip_{index}.{format}", media.video_file(media.frames(index, 16), 8, format, codec))
        captions = [{"start_s": 0.0, "end_s": 1.0, "text": f"Clip {index}: a square starts to move."}]
        stated: dict[str, Any] = {"duration_seconds": 2.0, "captions": captions}
        w.record(ACCEPTED, w.fields("text video", data_paths={"video": path}, metadata=stated))
    subtitles = w.file("clip_0.vtt", media.captions_file([(0, 1, "A square starts."), (1, 2, "It goes on.")]))
    for format in ("GIF", "WEBP"):
        content = media.animation_file(media.frames(50, 10), format, 100)
        paths = {"video": w.file(f"animation.{format.lower()}", content), "captions": subtitles}
        w.record(ACCEPTED, w.fields("text video", data_paths=paths, metadata={"title": format}))
    for scene in range(2):
        cameras: dict[str, list[str]] = {}
        for number, camera in enumerate(CAMERA_PARTS):
            pictures = media.frames(60 + 10 * scene + number, 4)
            names = [f"scene_{scene}/{camera}_{index}.png" for index in range(4)]
            cameras[camera] = [w.file(n, media.image_file(p)) for n, p in zip(names, pictures, strict=True)]
        text = f"A drive past gradients, scene {scene}."
        w.record(ACCEPTED, w.fields("text video", text=text, data_paths=cameras, metadata={"frame_rate": 4.0}))


def _bad_lines(w: _Writer) -> None:
    good = json.dumps(w.fields("text", text="This line would be a record.")).encode()
    w.line("not_json", b"{this is no JSON}\n")
    w.line("not_json", good[:-1] + b"\n")
    w.line("not_json", b"[" * 100_000 + b"\n")
    w.line("bad_encoding", good.replace(b"would", b"w\xffuld") + b"\n")
    w.line("bad_encoding", good.replace(b"would", b"w\\ud800uld") + b"\n")
    w.line("nul_character", good.replace(b"would", b"wo\0uld") + b"\n")
    w.line("nul_character", good.replace(b"would", b"wo\\u0000uld") + b"\n")
    w.line("not_an_object", b'["a", "list"]\n')
    w.line("not_an_object", b"17\n")
    w.line("duplicate_key", good[:-1] + b', "source": "another"}\n')
    w.line("not_finite", good[:-1] + b', "quality_scores": {"text_perplexity": NaN}}\n')
    w.line("not_finite", good[:-1] + b', "quality_scores": {"text_perplexity": 1e999}}\n')
    w.row("not_finite", w.fields("text", text=w.sentences(), quality_scores={"text_perplexity": float("nan")}))
    w.line("line_too_long", b'{"text": "' + b"a" * MAX_LINE_BYTES + b'"}\n', "long.jsonl.gz")
    w.line("truncated_line", good[: len(good) // 2], "cut.jsonl")


def _bad_schema(w: _Writer) -> None:
    wrong: list[dict[str, Any]] = [
        {"unique_id": 7},
        {"source": ""},
        {"modalities": []},
        {"colour": "red"},
        {"text": [1]},
    ]
    for changes in wrong:
        w.record("schema", {**w.fields("text", text=w.sentences()), **changes})
    for metadata in ({"sample_rate_hz": "16000"}, {"upload_date": "yesterday"}, {"duration_seconds": -1.0}):
        w.text("schema", metadata=metadata)
    w.record("schema", {key: value for key, value in w.fields("text", text="x").items() if key != "unique_id"})
    w.record("unknown_modality", w.fields("text smell", text=w.sentences()))
    w.row("unknown_modality", w.fields("touch", text=w.sentences()))
    for path in ("../outside.txt", "s3://bucket/id.txt", "", "/etc/hostname"):
        w.record("bad_path", w.fields("text", data_paths={"text": path}))
    w.text("modality_mismatch", data_paths={"image": "media/picture_0.png"})
    w.record("modality_mismatch", w.fields("text audio", text=w.sentences()))
    images = {"image": ["media/picture_0.png", "media/picture_3.png"]}
    for text in ("One <|image|> alone.", "None at all.", "<|image|><|image|><|image|>"):
        w.record("placeholder_mismatch", w.fields("text image", text=text, data_paths=images))
    named = {**images, "text": w.file("one.txt", b"In a file: <|image|>")}
    w.record("placeholder_mismatch", w.fields("text image", data_paths=named))


def _bad_media(w: _Writer) -> None:
    def one(reason: str, key: str, name: str, content: bytes, **metadata: Any) -> None:
        modality = {"captions": "text video"}.get(key, key)
        paths = {key: w.file(f"bad/{name}", content)}
        if key == "captions":
            paths["video"] = "media/clip_0.mp4"
        w.record(reason, w.fields(modality, data_paths=paths, metadata=metadata))

    png, jpeg = media.image_file(media.picture(1)), media.image_file(media.picture(2), "JPEG")
    wav = media.sound_file(media.tone(1, 0.5))
    clip = media.video_file(media.frames(1, 16), 8)
    for key in ("text", "image", "audio", "video"):
        w.record("missing_file", w.fields(key, data_paths={key: f"media/nowhere.{key}"}))
        one("empty_file", key, f"empty.{key}", b"")
    w.record("missing_file", w.fields("image", data_paths={"image": "media"}))
    one("empty_text", "text", "blank.txt", b" \n\t\n")
    w.text("empty_text", "   ")
    one("corrupt_text", "text", "latin1.txt", "Straße und Brücke".encode("latin-1"))
    one("corrupt_text", "text", "nul.txt", b"a\0b")
    one("text_too_large", "text", "large.txt", b"word " * 5000)
    one("corrupt_captions", "captions", "none.vtt", b"WEBVTT\n\nno cue here\n")
    one("corrupt_captions", "captions", "backwards.vtt", media.captions_file([(2, 1, "backwards")]))
    one("corrupt_image", "image", "cut.png", png[: len(png) // 2])
    one("corrupt_image", "image", "cut.jpg", jpeg[: len(jpeg) // 2])
    one("corrupt_image", "image", "noise.png", bytes(range(256)) * 4)
    one("corrupt_audio", "audio", "cut.wav", wav[: len(wav) // 2])
    flac = media.sound_file(media.tone(2, 0.5), format="FLAC")
    one("corrupt_audio", "audio", "cut.flac", flac[: len(flac) // 2])
    one("corrupt_audio", "audio", "noise.wav", bytes(range(256)) * 4)
    # AU: a WAV of floats would hold the time of its making.
    nan = media.sound_file(np.full((8000, 1), np.nan, np.float32), format="AU", subtype="FLOAT")
    one("corrupt_audio", "audio", "nan.au", nan)
    one("corrupt_video", "video", "cut.mp4", clip[: len(clip) // 2])
    one("corrupt_video", "video", "noise.mp4", bytes(range(256)) * 4)
    one("corrupt_video", "video", "list.m3u8", b"#EXTM3U\n#EXTINF:2,\n../clip_0.mp4\n#EXT-X-ENDLIST\n")
    one("too_few_pixels", "image", "dot.png", media.image_file(np.zeros((8, 8, 3), np.uint8)))
    one("too_many_pixels", "image", "wide.png", media.image_file(np.zeros((2000, 2500, 3), np.uint8)))
    one("too_many_pixels", "image", "bomb.png", media.huge_png(60_000, 60_000))
    one("too_short", "audio", "short.wav", media.sound_file(media.tone(3, 0.05)))
    one("too_long", "audio", "long.flac", media.sound_file(media.tone(3, 11.0), format="FLAC"))
    one("too_long", "video", "long.mp4", media.video_file(media.frames(3, 24), 2))
    one("too_many_frames", "video", "many.mp4", media.video_file(media.frames(3, 120, 32, 16), 25))
    large = w.file("bad/large.png", media.image_file(np.zeros((1000, 1000, 3), np.uint8)))
    w.record("media_too_large", w.fields("image", data_paths={"image": [large] * 3}))
    one("sample_rate_too_low", "audio", "low.wav", media.sound_file(media.tone(4, 0.5, 4000), 4000))
    one("sample_rate_mismatch", "audio", "rate.wav", wav, sample_rate_hz=44_100)
    one("duration_mismatch", "audio", "duration.wav", wav, duration_seconds=3.0)
    one("duration_mismatch", "video", "duration.mp4", clip, duration_seconds=60.0)
    one("resolution_mismatch", "image", "resolution.png", png, resolution={"width": 640, "height": 480})
    pictures = ["media/picture_0.png", "media/picture_3.png"]
    w.record("missing_frame_rate", w.fields("video", data_paths={"video": pictures}))
    mixed = {"video": [*pictures, w.file("bad/other_size.png", media.image_file(media.picture(1, 64, 64)))]}
    w.record("frame_size_mismatch", w.fields("video", data_paths=mixed, metadata={"frame_rate": 4.0}))


def _filtered(w: _Writer) -> None:
    w.text("license_missing", metadata={"license": None})
    w.text("license_unknown", metadata={"license": "ask the author"})
    for name in ("CC-BY-NC-4.0", "Standard YouTube License", "MIT AND GPL-3.0-only"):
        w.text("license_not_allowed", metadata={"license": name})
    for name in ("mit OR GPL-3.0-only", "CC BY 4.0"):
        w.text(ACCEPTED, metadata={"license": name})
    w.text(
        "language_not_allowed",
        "Il vecchio fornaio attraversa lentamente il ponte e racconta agli amici una lunga storia della sua famiglia.",
    )
    w.text("language_mismatch", metadata={"language": "de"})
    w.text("language_uncertain", "Qxv zrm plk wuzt ejq kolb nrix tavu qez mirp holz vex nuqa bried sool kwarp")
    w.text("too_few_characters", "Short.")
    w.text("too_many_characters", w.sentences(140))
    w.text("too_many_symbols", f"{w.sentences(1)} {'=-#*' * 40}")
    w.text("score_too_low", quality_scores={"audio_snr_db": 3.0})
    w.text("score_too_high", quality_scores={"text_perplexity": 5000.0})
    w.text("toxic", f"{w.sentences(2)} Shut up, you idiot.")
    w.text(ACCEPTED, f"{w.sentences(2)} The classic assistant passed a scunthorpe sign.")
    for found in (
        "Write to jane.doe@example.com today.",
        "Call +1 415 555 2671 or (415) 555-2671.",
        "The card is 4111 1111 1111 1111.",
        "Pay to DE89 3704 0044 0532 0130 00 please.",
        "Her number is 536-90-4399 since then.",
        "身份证号码是11010519491231002X。",
        "It came from 93.184.216.34 last night.",
    ):
        w.text("pii", f"{w.sentences(2)} {found}", metadata={"language": "en"})
    w.text("pii", unique_id="by-jane.doe@example.com")
    w.text("pii", source_uri="https://example.org/?user=jane.doe%40example.com")
    w.text(ACCEPTED, f"{w.sentences(2)} Version 8.2.4.45 of 2026-11-25 has 12,345,678 lines and 3.14159265358979.")
    for question in _QUESTIONS:
        w.text(
            "contaminated", f"{question} {w.sentences(2)}" if question.isascii() else question + w.sentences(3, "zh")
        )
    text = w.sentences(12)
    w.text(ACCEPTED, text)
    w.text("duplicate_exact", text)
    w.text("duplicate_near", f"  {text.upper()}\n")
    w.text("duplicate_near", f"{text} {w.sentences(1)}")
    twice = {"image": "media/picture_0.png"}
    w.record(
        "duplicate_exact",
        w.fields("text image", text="A square on a gradient, number 0 of the test set.", data_paths=twice),
    )
