"""Videos as ids, by transformers' Emu3VQVAE; more than one codebook by EnCodec's residual quantizer."""

from pathlib import Path

import numpy as np
import torch
from transformers.models.emu3.configuration_emu3 import Emu3VQVAEConfig
from transformers.models.emu3.modeling_emu3 import Emu3VQVAE

from mmhydra.config.codecs import VideoCodec
from mmhydra.data.codecs.codes import to_codes, to_ids
from mmhydra.data.codecs.identity import as_json, digest_of, note_of
from mmhydra.data.codecs.pictures import from_network, square, to_network
from mmhydra.data.codecs.protocol import CodecError, Ids, Modality
from mmhydra.data.codecs.residual import fill_codebooks, residual_quantizer
from mmhydra.data.codecs.untrained import codes_like, random_pictures, seeded
from mmhydra.data.codecs.weights import load_weights
from mmhydra.data.records.media import Clip

_NOT_OURS = frozenset({"model_type", "base_config_key", "attention_dropout"})


class Emu3VideoCodec:
    """A Clip becomes steps of side x side x K ids; ids become a Clip of R x R pixels at the codec's frame rate."""

    modality: Modality = "video"

    def __init__(self, settings: VideoCodec) -> None:
        self._settings = settings
        self.settings = as_json(settings)
        self.num_codebooks = settings.num_codebooks
        self.codebook_size = settings.codebook_size
        self.unit = settings.tokens_per_step
        self.step_s = settings.step_s
        self.trained = settings.weights is not None
        self.note = note_of(settings)
        self.model = _load(settings) if settings.weights is not None else _untrained(settings)
        self.digest = digest_of(settings, self.model.state_dict())

    @property
    def tokens_per_second(self) -> float:
        """Ids of one second of video."""
        return self._settings.tokens_per_second

    def encode(self, signal: Clip) -> Ids:
        """Ids [steps * side * side * K] of a clip of any rate and size. Raises CodecError if it is empty."""
        settings = self._settings
        chosen = sampled(len(signal.frames), signal.frame_rate, settings.frame_rate, settings.tubelet[0])
        chunk = settings.chunk_steps * settings.tubelet[0]
        pieces = []
        for start in range(0, len(chosen), chunk):
            frames = [
                square(signal.frames[place], settings.resolution, settings.resample)
                for place in chosen[start : start + chunk]
            ]
            with torch.inference_mode():
                pieces.append(_quantize(self.model, _latents(self.model, to_network(np.stack(frames))[None])).numpy())
        return to_ids(np.concatenate(pieces), self.codebook_size)

    def decode(self, ids: Ids) -> Clip:
        """The clip of ids, chunk by chunk as it was encoded. Raises CodecError for other ids."""
        codes = to_codes(ids, self.num_codebooks, self.codebook_size, self.unit)
        side = self._settings.side
        steps = torch.from_numpy(codes.reshape(-1, side, side, self.num_codebooks))
        pieces = []
        for chunk in steps.split(self._settings.chunk_steps):
            with torch.inference_mode():
                pieces.append(from_network(_decode(self.model, chunk)))
        return Clip(np.concatenate(pieces), self._settings.frame_rate)


def sampled(num_frames: int, frame_rate: float, target_rate: float, multiple: int) -> list[int]:
    """Which frames of a clip are encoded: at each instant of `target_rate` the newest, whole tubelets of `multiple`.

    The last frame repeats to fill the last tubelet. Raises CodecError for a clip without frames or without a rate.
    """
    if num_frames < 1 or not 0 < frame_rate < float("inf"):
        raise CodecError(f"a clip has frames and a frame rate, not {num_frames} frames at {frame_rate} a second")
    step = frame_rate / target_rate
    # Frames that lie exactly on an instant count as there, whatever the rounding of the rates.
    num_instants = max(1, int(np.ceil(num_frames / step - 1e-6)))
    num_instants += -num_instants % multiple
    return [min(num_frames - 1, int(instant * step + 1e-6)) for instant in range(num_instants)]


def _latents(model: Emu3VQVAE, frames: torch.Tensor) -> torch.Tensor:
    """What is quantized, [1, D, steps, h, w], of frames [1, T, 3, R, R]: the first half of Emu3VQVAE.encode."""
    return model.quant_conv(model.encoder(frames).permute(0, 2, 1, 3, 4))


def _quantize(model: Emu3VQVAE, latents: torch.Tensor) -> torch.Tensor:
    """Codes [steps * h * w, K] of latents [1, D, steps, h, w]."""
    if hasattr(model.quantize, "layers"):
        return model.quantize.encode(latents.flatten(2))[:, 0].T
    return model.quantize(latents.permute(0, 2, 1, 3, 4)).reshape(-1, 1)


def _decode(model: Emu3VQVAE, codes: torch.Tensor) -> torch.Tensor:
    """Frames [T, 3, R, R] of codes [steps, h, w, K]."""
    if not hasattr(model.quantize, "layers"):
        return model.decode(codes[None, ..., 0])[0]
    steps, height, width, num_codebooks = codes.shape
    found = model.quantize.decode(codes.reshape(1, -1, num_codebooks).permute(2, 0, 1))  # [1, D, steps * h * w]
    found = found.unflatten(2, (steps, height, width))
    # The second half of Emu3VQVAE.decode, which looks codes up in one codebook only.
    return model.decoder(model.post_quant_conv(found).transpose(1, 2), found.transpose(1, 2))


def _network(settings: VideoCodec) -> Emu3VQVAE:
    config = Emu3VQVAEConfig(
        codebook_size=settings.codebook_size,
        embed_dim=settings.latent_channels,
        latent_channels=settings.latent_channels,
        temporal_downsample_factor=settings.tubelet[0],
        base_channels=settings.base_channels,
        channel_multiplier=list(settings.channel_multiplier),
        num_res_blocks=settings.num_res_blocks,
        attn_resolutions=list(settings.attn_levels),
        hidden_size=settings.base_channels * settings.channel_multiplier[-1],
    )
    model = Emu3VQVAE(config)
    if settings.num_codebooks > 1:
        model.quantize = residual_quantizer(settings.num_codebooks, settings.codebook_size, settings.latent_channels)
    return model.eval().requires_grad_(False)


def _load(settings: VideoCodec) -> Emu3VQVAE:
    assert settings.weights is not None
    with seeded(settings.seed):
        model = _network(settings)
    load_weights(model, Path(settings.weights), rename=lambda name: name, config=model.config, ignored_config=_NOT_OURS)
    return model


def _untrained(settings: VideoCodec) -> Emu3VQVAE:
    with seeded(settings.seed), torch.inference_mode(False), torch.no_grad():
        model = _network(settings)
        latents = torch.cat([_latents(model, clip) for clip in _random_clips(settings)])
        if settings.num_codebooks > 1:
            fill_codebooks(model.quantize, latents.flatten(2))
        else:
            vectors = latents.flatten(2).transpose(1, 2).flatten(0, 1)
            model.quantize.embedding.weight.copy_(codes_like(vectors, settings.codebook_size))
    return model


def _random_clips(settings: VideoCodec) -> list[torch.Tensor]:
    """Clips [1, T, 3, R, R] of two steps each, in which one picture turns into another."""
    num_clips = max(2, 512 // (2 * settings.side**2))
    num_frames = 2 * settings.tubelet[0]
    pairs = random_pictures(2 * num_clips, settings.resolution).unflatten(0, (num_clips, 2))
    share = torch.linspace(0, 1, num_frames)[:, None, None, None]
    return [((1 - share) * first + share * second)[None] for first, second in pairs]
