"""Pictures as ids, by transformers' JanusVQVAE: a VQGAN with the layout of LlamaGen's VQ-16."""

from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize
from transformers.models.janus.configuration_janus import JanusVQVAEConfig
from transformers.models.janus.modeling_janus import JanusVQVAE

from mmhydra.config.codecs import ImageCodec
from mmhydra.data.codecs.codes import to_codes, to_ids
from mmhydra.data.codecs.identity import as_json, digest_of, note_of
from mmhydra.data.codecs.pictures import from_network, square, to_network
from mmhydra.data.codecs.protocol import CodecError, Ids, Modality
from mmhydra.data.codecs.untrained import codes_like, random_pictures, seeded
from mmhydra.data.codecs.weights import load_weights
from mmhydra.data.records.media import Picture

# Fields of config.json that shape nothing between picture and ids: the language model's side of Janus, the size of
# the pictures that it was trained on, and how weights are drawn.
_NOT_OURS = frozenset(
    {
        "model_type",
        "base_config_key",
        "num_patches",
        "projection_dim",
        "num_hidden_layers",
        "hidden_act",
        "image_token_embed_dim",
        "initializer_range",
        "dropout",
    }
)


class JanusImageCodec:
    """A picture [H, W, 3] becomes side x side ids, row by row; ids become a picture [R, R, 3]."""

    modality: Modality = "image"
    num_codebooks = 1
    step_s = 0.0

    def __init__(self, settings: ImageCodec) -> None:
        self._settings = settings
        self.settings = as_json(settings)
        self.codebook_size = settings.codebook_size
        self.unit = settings.tokens_per_image
        self.trained = settings.weights is not None
        self.note = note_of(settings)
        self.model = _load(settings) if settings.weights is not None else _untrained(settings)
        self.digest = digest_of(settings, self.model.state_dict())
        with torch.no_grad():
            # transformers normalises codes when it decodes but not when it encodes, where LlamaGen does both. With
            # codes of length 1 the nearest one is the one of the nearest direction, so both ways agree.
            self.model.quantize.embedding.weight.copy_(normalize(self.model.quantize.embedding.weight, dim=-1))

    @property
    def tokens_per_image(self) -> int:
        """Ids of one picture."""
        return self._settings.tokens_per_image

    def encode(self, signal: Picture) -> Ids:
        """Ids [side * side] of a picture, uint8 [H, W, 3]. Raises CodecError if it is none."""
        fitted = square(signal, self._settings.resolution, self._settings.resample)
        with torch.inference_mode():
            codes = self.model.encode(to_network(fitted[None])).image_tokens
        return to_ids(codes.numpy()[:, None], self.codebook_size)

    def decode(self, ids: Ids) -> Picture:
        """The picture, uint8 [R, R, 3], of ids [side * side]. Raises CodecError for other ids."""
        codes = to_codes(ids, 1, self.codebook_size, self.unit)
        if len(codes) != self.unit:
            raise CodecError(f"{len(codes)} ids are more than one picture of {self.unit}")
        with torch.inference_mode():
            output = self.model.decode(torch.from_numpy(codes.reshape(1, -1)))
        return np.ascontiguousarray(from_network(output)[0])


def _network(settings: ImageCodec) -> JanusVQVAE:
    return JanusVQVAE(_config(settings)).eval().requires_grad_(False)


def _config(settings: ImageCodec) -> JanusVQVAEConfig:
    return JanusVQVAEConfig(
        embed_dim=settings.embed_dim,
        num_embeddings=settings.codebook_size,
        latent_channels=settings.latent_channels,
        base_channels=settings.base_channels,
        channel_multiplier=list(settings.channel_multiplier),
        num_res_blocks=settings.num_res_blocks,
        num_patches=settings.side,
    )


def _load(settings: ImageCodec) -> JanusVQVAE:
    assert settings.weights is not None
    with seeded(settings.seed):  # the weights that are drawn here are overwritten; the caller's generator stays
        model = _network(settings)
    load_weights(model, Path(settings.weights), rename=lambda name: name, config=model.config, ignored_config=_NOT_OURS)
    return model


def _untrained(settings: ImageCodec) -> JanusVQVAE:
    with seeded(settings.seed), torch.inference_mode(False), torch.no_grad():
        model = _network(settings)
        pictures = random_pictures(max(2, 512 // settings.tokens_per_image), settings.resolution)
        latents = [model.quant_conv(model.encoder(picture[None])) for picture in pictures]  # [1, D, side, side]
        found = torch.cat([latent[0].flatten(1).T for latent in latents])
        model.quantize.embedding.weight.copy_(codes_like(normalize(found, dim=-1), settings.codebook_size))
    return model
