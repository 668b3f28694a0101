"""Media as ids, and back: what of a build needs codecs, and so torch. A build of text alone never imports this."""

import mmhydra.data.build.quiet  # noqa: F401, I001  before torch

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mmhydra.data.build.plan import ENCODE, BuildError, Context
from mmhydra.data.build.reasons import NOT_ENCODED
from mmhydra.data.codecs import Codec, CodecError, build_codec, info_of, save_signal
from mmhydra.data.records.media import LoadedRecord
from mmhydra.data.templates import EncodedMedia, Signal, Unrenderable
from mmhydra.files import read_object, write_json
from mmhydra.paths import short

_MAX_EXAMPLE_MEDIA = 8


class MediaEncoder:
    """The codecs of a recipe."""

    def __init__(self, context: Context) -> None:
        # One thread: sums are then the same however many processes share the machine.
        torch.set_num_threads(1)
        declared = context.recipe.codecs
        sections = {"image": declared.image, "audio": declared.audio, "video": declared.video}
        self._codecs: dict[str, Codec] = {name: build_codec(value) for name, value in sections.items() if value}
        self._units = {name: codec.unit for name, codec in self._codecs.items()}
        self._step_s = {name: codec.step_s for name, codec in self._codecs.items()}
        self._describe(context)

    def _describe(self, context: Context) -> None:
        """Leaves what the manifest says of each codec, once. Raises BuildError where another codec has been at work."""
        for modality, codec in self._codecs.items():
            path = context.work / ENCODE / f"codec-{modality}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            before = read_object(path).get("digest", codec.digest)
            if before != codec.digest:
                raise BuildError(
                    f"documents of this build were encoded by the {modality} codec {before}, and it is {codec.digest} "
                    "now: its weights have changed, or, untrained, another torch or processor has drawn others. To "
                    f"start anew with this one: rm -r {short(context.building)}"
                )
            write_json(path, info_of(codec).model_dump(mode="json"))

    def encode(self, loaded: LoadedRecord, needed: Sequence[str]) -> EncodedMedia:
        """The ids of what a template takes; the rest is not worth encoding. Raises Unrenderable."""
        codecs = self._codecs
        clips = {name: clip for name, clip in loaded.clips.items() if name in needed}
        try:
            return EncodedMedia(
                image=[codecs["image"].encode(picture) for picture in loaded.images if "image" in needed],
                audio=[codecs["audio"].encode(sound) for sound in loaded.sounds if "audio" in needed],
                video={name: codecs["video"].encode(clip) for name, clip in clips.items()},
                units=self._units,
                step_s=self._step_s,
            )
        except CodecError as error:
            raise Unrenderable(NOT_ENCODED, str(error)) from error

    def decode(self, signals: Sequence[Signal]) -> Iterator[dict[str, Any]]:
        """The first few signals of a document as files in JSON, for a person to look at and listen to."""
        with TemporaryDirectory() as folder:
            for number, signal in enumerate(signals[:_MAX_EXAMPLE_MEDIA]):
                codec = self._codecs[signal.modality]
                path = save_signal(Path(folder) / str(number), codec.modality, codec.decode(signal.ids))[0]
                yield {
                    "modality": signal.modality,
                    "suffix": path.suffix,
                    "content": base64.b64encode(path.read_bytes()).decode("ascii"),
                    "note": " ".join(filter(None, [signal.name, f"{len(signal.ids)} ids decoded;", codec.note])),
                }
