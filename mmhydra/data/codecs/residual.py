"""Residual vector quantization, by the class that transformers has for EnCodec."""

import torch
from transformers.models.encodec.configuration_encodec import EncodecConfig
from transformers.models.encodec.modeling_encodec import EncodecResidualVectorQuantizer

from mmhydra.data.codecs.untrained import codes_like


def residual_quantizer(num_codebooks: int, codebook_size: int, dim: int) -> EncodecResidualVectorQuantizer:
    """A quantizer of vectors [B, dim, n] to codes [K, B, n]; all its codebooks are zero."""
    # EnCodec counts codebooks in kbps: at 1000 frames a second, bits of a frame are kbps.
    bits = (codebook_size - 1).bit_length()
    config = EncodecConfig(
        target_bandwidths=[float(num_codebooks * bits)],
        sampling_rate=1000,
        upsampling_ratios=[1],
        codebook_size=codebook_size,
        codebook_dim=dim,
    )
    quantizer = EncodecResidualVectorQuantizer(config)
    assert len(quantizer.layers) == num_codebooks
    return quantizer


def fill_codebooks(quantizer: EncodecResidualVectorQuantizer, latents: torch.Tensor) -> None:
    """Random codes for untrained use, each codebook like what reaches it from latents [B, D, n]."""
    residual = latents
    for layer in quantizer.layers:
        vectors = residual.transpose(1, 2).flatten(0, 1)  # [B * n, D]
        layer.codebook.embed.copy_(codes_like(vectors, quantizer.codebook_size))
        layer.codebook.embed_avg.copy_(layer.codebook.embed)
        residual = residual - layer.decode(layer.encode(residual))
