"""What is counted and measured of each document."""

import numpy as np

from mmhydra.data.build.tally import Tally
from mmhydra.data.records.media import LoadedRecord
from mmhydra.data.shards.document import Document
from mmhydra.data.shards.writer import DocumentInfo
from mmhydra.data.vocabulary import Vocabulary


def measure(
    tally: Tally, split: str, info: DocumentInfo, loaded: LoadedRecord, document: Document, vocabulary: Vocabulary
) -> None:
    """Adds a document and the record that it was made of."""
    tally.count("documents", split)
    tally.count("templates", info.template)
    tally.count("languages", info.language)
    tally.count("licenses", info.license)
    names = vocabulary.modalities
    numbers = np.bincount(vocabulary.modality_of(document.ids), minlength=len(names))
    tally.count_tokens(split, {name: int(n) for name, n in zip(names, numbers, strict=True) if n})
    tally.count("loss_tokens", split, document.num_labels)
    tally.measure("document_length", [len(document.ids)])
    if loaded.text:
        tally.measure("text_length", [len(loaded.text)])
    _measure_durations(tally, loaded)


def _measure_durations(tally: Tally, loaded: LoadedRecord) -> None:
    audio_s = [sound.seconds for sound in loaded.sounds]
    video_s = [clip.seconds for clip in loaded.clips.values()]
    if audio_s:
        tally.measure("audio_duration", audio_s)
    if video_s:
        tally.measure("video_duration", video_s)
    if not (audio_s or video_s):
        return
    duration_s = max([*audio_s, *video_s])
    stated_s = loaded.record.metadata.duration_seconds
    if stated_s is not None:
        tally.measure("duration_error", [signal_s - stated_s for signal_s in (*audio_s, *video_s)])
    if audio_s and video_s:
        tally.measure("audio_less_video", [max(audio_s) - max(video_s)])
    if loaded.captions:
        tally.measure("caption_overhang", [max(caption.end_s for caption in loaded.captions) - duration_s])
    text = loaded.text or " ".join(caption.text for caption in loaded.captions)
    if text and duration_s:
        tally.measure("characters_per_second", [len(text) / duration_s])
