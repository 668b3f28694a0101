"""Sounds as ids, by transformers' EncodecModel."""

import re
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from transformers.models.encodec.configuration_encodec import EncodecConfig
from transformers.models.encodec.modeling_encodec import EncodecModel

from mmhydra.config.codecs import AudioCodec
from mmhydra.data.codecs.codes import delay, to_codes, to_ids, undelay
from mmhydra.data.codecs.identity import as_json, digest_of, note_of
from mmhydra.data.codecs.protocol import CodecError, Ids, Modality
from mmhydra.data.codecs.residual import fill_codebooks
from mmhydra.data.codecs.untrained import random_sound, seeded
from mmhydra.data.codecs.weights import load_weights
from mmhydra.data.records.media import Sound

# Of the bandwidths that a file was trained for we take the one that `num_codebooks` makes; the other fields of
# config.json that are left out say how longer sounds are cut, which we do.
_NOT_OURS = frozenset({"model_type", "target_bandwidths", "chunk_length_s", "overlap"})

# The names of the original files (facebookresearch/encodec), as transformers names the same tensors.
_RENAMINGS = (
    (re.compile(r"^(encoder|decoder)\.model\."), r"\1.layers."),
    (re.compile(r"\.(conv|convtr)\.\1\."), ".conv."),
    (re.compile(r"^quantizer\.vq\.layers\."), "quantizer.layers."),
    (re.compile(r"\._codebook\."), ".codebook."),
    (re.compile(r"\.weight_g$"), ".parametrizations.weight.original0"),
    (re.compile(r"\.weight_v$"), ".parametrizations.weight.original1"),
)
_CODEBOOK = re.compile(r"^quantizer\.layers\.(\d+)\.")


class EncodecAudioCodec:
    """A Sound becomes rows of K ids; ids become a mono Sound, samples float32 [1, n], as long as its frames."""

    modality: Modality = "audio"

    def __init__(self, settings: AudioCodec) -> None:
        self._settings = settings
        self.settings = as_json(settings)
        self.num_codebooks = self.unit = settings.num_codebooks
        self.codebook_size = settings.codebook_size
        self.step_s = 1 / settings.frames_per_second
        self.trained = settings.weights is not None
        self.note = note_of(settings)
        self.model = _load(settings) if settings.weights is not None else _untrained(settings)
        self.digest = digest_of(settings, self.model.state_dict())

    @property
    def tokens_per_second(self) -> float:
        """Ids of one second; with the delay pattern, num_codebooks - 1 rows more for the whole sound."""
        return self._settings.tokens_per_second

    def encode(self, signal: Sound) -> Ids:
        """Ids [rows * K] of a sound of any rate and number of channels. Raises CodecError if it holds no sound."""
        samples = self._resampled(signal)
        chunk = self._settings.chunk_frames * self._settings.hop
        pieces = [self._encode_chunk(samples[start : start + chunk]) for start in range(0, len(samples), chunk)]
        codes = np.concatenate(pieces)
        return to_ids(delay(codes) if self._settings.pattern == "delay" else codes, self.codebook_size)

    def decode(self, ids: Ids) -> Sound:
        """The sound of ids [rows * K], chunk by chunk as it was encoded. Raises CodecError for other ids."""
        rows = to_codes(ids, self.num_codebooks, self.codebook_size, self.unit)
        codes = undelay(rows) if self._settings.pattern == "delay" else rows
        step = self._settings.chunk_frames
        pieces = [self._decode_chunk(codes[start : start + step]) for start in range(0, len(codes), step)]
        return Sound(np.concatenate(pieces, axis=1), self._settings.sample_rate_hz)

    def _resampled(self, sound: Sound) -> NDArray[np.float32]:
        """Mono samples [n] at the codec's rate."""
        samples = np.asarray(sound.samples, dtype=np.float32)
        if samples.ndim != 2 or samples.size == 0 or sound.rate_hz <= 0:
            raise CodecError(
                f"a sound is samples [channels, n] at a rate, not {list(samples.shape)} at {sound.rate_hz} Hz"
            )
        if not np.isfinite(samples).all():
            raise CodecError("the sound has samples that are no numbers")
        mono = samples.mean(axis=0)
        if sound.rate_hz != self._settings.sample_rate_hz:
            mono = soxr.resample(mono, sound.rate_hz, self._settings.sample_rate_hz, quality="HQ")
        if len(mono) == 0:
            raise CodecError(f"a sound of {samples.shape[1]} samples is shorter than one at the codec's rate")
        return np.ascontiguousarray(mono, dtype=np.float32)

    def _encode_chunk(self, samples: NDArray[np.float32]) -> Ids:
        with torch.inference_mode():
            values = torch.from_numpy(samples)[None, None]
            codes, _, _ = self.model.encode(values, None, self.model.config.target_bandwidths[-1], return_dict=False)
        found: Ids = codes[0, 0].T.numpy()  # from [1, 1, K, frames]
        return found

    def _decode_chunk(self, codes: Ids) -> NDArray[np.float32]:
        with torch.inference_mode():
            values = torch.from_numpy(np.ascontiguousarray(codes.T))[None, None]
            output = self.model.decode(values, [None], return_dict=False)[0]
        samples: NDArray[np.float32] = output[0].numpy()
        return samples


def rename(name: str, num_codebooks: int) -> str | None:
    """The name of transformers for a tensor of an original file; None for a codebook that is not used."""
    for pattern, replacement in _RENAMINGS:
        name = pattern.sub(replacement, name)
    codebook = _CODEBOOK.match(name)
    return None if codebook and int(codebook[1]) >= num_codebooks else name


def _network(settings: AudioCodec) -> EncodecModel:
    config = EncodecConfig(
        # Rounded up a little: the number of codebooks is computed from it, rounded down.
        target_bandwidths=[settings.bandwidth_kbps * (1 + 1e-9)],
        sampling_rate=settings.sample_rate_hz,
        hidden_size=settings.hidden_size,
        num_filters=settings.num_filters,
        num_residual_layers=settings.num_residual_layers,
        upsampling_ratios=list(settings.upsampling_ratios),
        num_lstm_layers=settings.num_lstm_layers,
        codebook_size=settings.codebook_size,
    )
    assert config.num_quantizers == settings.num_codebooks
    return EncodecModel(config).eval().requires_grad_(False)


def _load(settings: AudioCodec) -> EncodecModel:
    assert settings.weights is not None
    with seeded(settings.seed):
        model = _network(settings)
    load_weights(
        model,
        Path(settings.weights),
        rename=lambda name: rename(name, settings.num_codebooks),
        config=model.config,
        ignored_config=_NOT_OURS,
    )
    return model


def _untrained(settings: AudioCodec) -> EncodecModel:
    with seeded(settings.seed), torch.inference_mode(False), torch.no_grad():
        model = _network(settings)
        latents = model.encoder(random_sound(4 * settings.sample_rate_hz, settings.sample_rate_hz))  # [1, D, frames]
        fill_codebooks(model.quantizer, latents)
    return model
