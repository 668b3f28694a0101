"""From a section of the config, or from a manifest, to a codec."""

from pathlib import Path

from pydantic import ValidationError

from mmhydra.config.codecs import AudioCodec, ImageCodec, VideoCodec
from mmhydra.data.codecs.audio import EncodecAudioCodec
from mmhydra.data.codecs.identity import CodecSettings
from mmhydra.data.codecs.image import JanusImageCodec
from mmhydra.data.codecs.protocol import Codec, CodecError
from mmhydra.data.codecs.video import Emu3VideoCodec
from mmhydra.data.shards.manifest import CodecInfo
from mmhydra.data.weight_files import WEIGHTS_VARIABLE, find_weights

_SECTIONS: dict[str, type[CodecSettings]] = {
    "JanusVQVAE": ImageCodec,
    "EncodecModel": AudioCodec,
    "Emu3VQVAE": VideoCodec,
}
_MODALITIES: dict[type[CodecSettings], str] = {ImageCodec: "image", AudioCodec: "audio", VideoCodec: "video"}


def build_codec(settings: CodecSettings) -> Codec:
    """The codec that settings describe, on the CPU in float32. Raises CodecError if its weights can't be used."""
    if isinstance(settings, ImageCodec):
        return JanusImageCodec(settings)
    if isinstance(settings, AudioCodec):
        return EncodecAudioCodec(settings)
    return Emu3VideoCodec(settings)


def info_of(codec: Codec) -> CodecInfo:
    """What a manifest keeps of a codec."""
    return CodecInfo(settings=codec.settings, digest=codec.digest, trained=codec.trained, note=codec.note)


def codec_from_info(info: CodecInfo, weights_folder: Path | None = None) -> Codec:
    """The codec that made the ids of a dataset. Raises CodecError if it can't be made again, or is another one.

    Trained weights are looked for by their name in `weights_folder`, then in that of $MMHYDRA_WEIGHTS.
    """
    network = info.settings.get("network")
    section = _SECTIONS.get(network) if isinstance(network, str) else None
    if section is None:
        raise CodecError(f"the manifest names the codec network {network!r}; this version has {', '.join(_SECTIONS)}")
    try:
        settings = section.model_validate(info.settings)
    except ValidationError as error:
        raise CodecError(f"the manifest's codec settings can't be used by this version: {error}") from error
    if settings.weights is not None:
        path = _weights(settings.weights, _MODALITIES[section], weights_folder)
        settings = settings.model_copy(update={"weights": str(path)})
    codec = build_codec(settings)
    if codec.digest != info.digest:
        cause = (
            f"the weights {settings.weights} are others, or have changed since"
            if settings.weights is not None
            else "random weights are drawn anew, and another torch or processor may draw others"
        )
        raise CodecError(
            f"the {codec.modality} codec has digest {codec.digest[:12]}, the dataset was made with {info.digest[:12]}: "
            f"{cause}. Its ids can't be decoded with it; build the dataset again"
        )
    return codec


def _weights(name: str, modality: str, folder: Path | None) -> Path:
    found = find_weights(name, modality, folder)
    if found is None:
        where = f" in {folder}" if folder is not None else ""
        raise CodecError(
            f"the {modality} codec was made with weights named {name}, which are not there{where}: type --weights "
            f"FOLDER, or set {WEIGHTS_VARIABLE}, to the folder that holds {name} or {modality}/{name}"
        )
    return found
