"""The `codec` group: how pictures, sounds and videos become ids. Networks are named as in `transformers`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mmhydra.config.base import Count, Folder, PositiveCount, PositiveFloat, Section
from mmhydra.config.tokens import Modality, Tokens

UNTRAINED = "untrained: plumbing only"  # what a codec with `weights: null` is called wherever it is named
_GROUPS = 32  # groups of every GroupNorm in the networks of `transformers`; channels divide by it
_SAMPLING_RATES_HZ = (8000, 192_000)

PositiveCounts = Annotated[list[PositiveCount], Field(min_length=1, max_length=8)]
Resample = Literal["bilinear", "bicubic", "lanczos"]  # pillow's filters


class ImageCodec(Section):
    """A VQGAN with the layout of LlamaGen's VQ-8 and VQ-16 (arXiv 2406.06525). One picture is one square of ids.

    The picture is cut to its largest centred square, then resized to `resolution` pixels.
    """

    network: Literal["JanusVQVAE"]
    resolution: PositiveCount  # pixels on a side
    patch: PositiveCount  # pixels on a side of what one id stands for
    resample: Resample
    codebook_size: PositiveCount
    embed_dim: PositiveCount
    latent_channels: PositiveCount
    base_channels: PositiveCount
    channel_multiplier: PositiveCounts  # one level each; every level but the last halves the sides
    num_res_blocks: Count  # for each level
    weights: Folder | None  # null: seeded random weights, for plumbing only
    seed: Count  # of the random weights

    @property
    def num_codebooks(self) -> int:
        """Always 1: a VQGAN has no residual stages."""
        return 1

    @property
    def side(self) -> int:
        """Ids on a side of the square."""
        return self.resolution // self.patch

    @property
    def tokens_per_image(self) -> int:
        """Ids of one picture."""
        return self.side**2

    @model_validator(mode="after")
    def _possible(self) -> Self:
        _check_levels(self.channel_multiplier, self.patch, "patch", self.base_channels, self.num_res_blocks)
        if self.resolution % self.patch:
            raise ValueError(f"resolution {self.resolution} is no multiple of patch {self.patch}")
        return self


class AudioCodec(Section):
    """EnCodec (arXiv 2210.13438). Channels are mixed to one, soxr (HQ) resamples to `sample_rate_hz`.

    Each stretch of `chunk_s` seconds is encoded by itself; the last frame of a sound is padded by the network.
    Ids are frame-major: frame 0 codebook 0 to K-1, then frame 1. With `pattern: delay` the row for step s holds
    codebook k of frame s - k: MusicGen's delay pattern (arXiv 2306.05284), but where that leads outside the first and
    the last frame repeat, and there is no pad token.
    """

    network: Literal["EncodecModel"]
    sample_rate_hz: Annotated[int, Field(ge=_SAMPLING_RATES_HZ[0], le=_SAMPLING_RATES_HZ[1])]
    num_codebooks: Annotated[int, Field(ge=1, le=32)]
    codebook_size: PositiveCount
    pattern: Literal["flat", "delay"]
    chunk_s: PositiveFloat
    hidden_size: PositiveCount
    num_filters: PositiveCount
    num_residual_layers: PositiveCount
    upsampling_ratios: PositiveCounts  # their product is the number of samples in a frame
    num_lstm_layers: PositiveCount
    weights: Folder | None
    seed: Count

    @property
    def hop(self) -> int:
        """Samples in one frame."""
        hop = 1
        for ratio in self.upsampling_ratios:
            hop *= ratio
        return hop

    @property
    def frames_per_second(self) -> int:
        """Rows of `num_codebooks` ids that stand for one second."""
        return self.sample_rate_hz // self.hop

    @property
    def tokens_per_second(self) -> float:
        """Ids of one second of sound."""
        return float(self.frames_per_second * self.num_codebooks)

    @property
    def bandwidth_kbps(self) -> float:
        """What the ids of one second would weigh as bits, in 1000 bits."""
        return self.tokens_per_second * (self.codebook_size.bit_length() - 1) / 1000

    @property
    def chunk_frames(self) -> int:
        """Frames of one stretch."""
        return round(self.chunk_s * self.frames_per_second)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.codebook_size < 2 or self.codebook_size & (self.codebook_size - 1):
            raise ValueError(f"codebook_size {self.codebook_size} is no power of two, which EnCodec needs")
        if self.sample_rate_hz % self.hop:
            raise ValueError(
                f"sample_rate_hz {self.sample_rate_hz} is no multiple of {self.hop}, the product of "
                f"upsampling_ratios {self.upsampling_ratios}: a second would hold no whole number of frames"
            )
        frames = self.chunk_s * self.frames_per_second
        if self.chunk_frames < 1 or abs(frames - self.chunk_frames) > 1e-6:
            raise ValueError(
                f"chunk_s {self.chunk_s} is {frames:g} frames at {self.frames_per_second} frames a second; "
                f"type a whole number of frames, such as {max(1, self.chunk_frames) / self.frames_per_second:g}"
            )
        if self.num_filters % 2:
            raise ValueError(f"num_filters {self.num_filters} is odd: the residual blocks halve it")
        return self


class VideoCodec(Section):
    """Emu3's VQ-VAE over tubelets (arXiv 2409.18869); more than one codebook quantizes the residual of the one before.

    Frames are taken at `frame_rate`, the newest one at each instant, then cropped and resized like pictures. A clip
    that ends inside a tubelet repeats its last frame. Each stretch of `chunk_steps` tubelets is encoded by itself.
    Ids of one step: row by row, at each place codebook 0 to K-1.
    """

    network: Literal["Emu3VQVAE"]
    resolution: PositiveCount
    frame_rate: PositiveFloat  # frames a second that are encoded, whatever the clip has
    tubelet: Annotated[list[PositiveCount], Field(min_length=3, max_length=3)]  # frames, pixels down, pixels across
    resample: Resample
    chunk_steps: PositiveCount
    num_codebooks: Annotated[int, Field(ge=1, le=4)]
    codebook_size: Annotated[int, Field(ge=2)]
    latent_channels: PositiveCount
    base_channels: PositiveCount
    channel_multiplier: PositiveCounts
    num_res_blocks: Count
    attn_levels: list[Count]  # levels, from 0, that attend between their places
    weights: Folder | None
    seed: Count

    @property
    def side(self) -> int:
        """Ids on a side of one step, for each codebook."""
        return self.resolution // self.tubelet[1]

    @property
    def tokens_per_step(self) -> int:
        """Ids of one tubelet step."""
        return self.side**2 * self.num_codebooks

    @property
    def step_s(self) -> float:
        """Seconds of video in one tubelet step."""
        return self.tubelet[0] / self.frame_rate

    @property
    def tokens_per_second(self) -> float:
        """Ids of one second of video."""
        return self.tokens_per_step / self.step_s

    @model_validator(mode="after")
    def _possible(self) -> Self:
        frames, down, across = self.tubelet
        if frames < 2 or frames & (frames - 1):
            raise ValueError(f"tubelet {self.tubelet}: {frames} frames; the network halves time: 2, 4, 8, ...")
        if down != across:
            raise ValueError(f"tubelet {self.tubelet}: {down} x {across} pixels; the network makes squares only")
        _check_levels(self.channel_multiplier, down, "tubelet", self.base_channels, self.num_res_blocks)
        if self.resolution % down:
            raise ValueError(f"resolution {self.resolution} is no multiple of the tubelet's {down} pixels")
        for level in self.attn_levels:  # all attention blocks share the width of the last level
            if level >= len(self.channel_multiplier) or self.channel_multiplier[level] != self.channel_multiplier[-1]:
                raise ValueError(
                    f"attn_levels {self.attn_levels}: level {level} is not as wide as the last; "
                    f"channel_multiplier is {self.channel_multiplier}, levels count from 0"
                )
        return self


class Codecs(Section):
    """The codec of each modality; null where a dataset has none of it."""

    image: ImageCodec | None
    audio: AudioCodec | None
    video: VideoCodec | None


def codec_problems(codecs: Codecs, tokens: Tokens) -> list[str]:
    """Why the ids of `codecs` do not fit into the ranges of `tokens`; empty if they do."""
    problems = []
    declared: list[tuple[Modality, ImageCodec | AudioCodec | VideoCodec | None]] = [
        ("image", codecs.image),
        ("audio", codecs.audio),
        ("video", codecs.video),
    ]
    for modality, codec in declared:
        if codec is None:
            continue
        needed = codec.num_codebooks * codec.codebook_size
        there = sum(entry.size for entry in tokens.ranges if entry.modality == modality)
        if needed > there:
            problems.append(
                f"the {modality} codec has {codec.num_codebooks} x {codec.codebook_size} = {needed} ids, the "
                f"vocabulary {tokens.name} {f'only {there}' if there else 'none'} for {modality}: add to tokens.ranges "
                f"{{name: {modality}, modality: {modality}, size: {needed}}}, or choose a codec with fewer ids"
            )
            continue
        declared_books = getattr(tokens.codebooks, modality)
        each = there // declared_books
        if codec.num_codebooks > 1 and codec.codebook_size != each:
            problems.append(
                f"the {modality} codec has {codec.num_codebooks} codebooks of {codec.codebook_size}, the vocabulary "
                f"{tokens.name} {declared_books} of {each}: an id would mean another code. Choose a codec with "
                f"codebook_size={each}, or another vocabulary"
            )
    return problems


def _check_levels(multiplier: list[int], patch: int, name: str, base_channels: int, num_res_blocks: int) -> None:
    """What the two convolutional networks have in common. Raises ValueError."""
    if patch != 2 ** (len(multiplier) - 1):
        raise ValueError(
            f"{name} of {patch} pixels, but {len(multiplier)} levels in channel_multiplier make "
            f"{2 ** (len(multiplier) - 1)}: every level but the last halves the sides"
        )
    if base_channels % _GROUPS:
        raise ValueError(f"base_channels {base_channels} is no multiple of {_GROUPS}, the groups of the norms")
    if num_res_blocks == 0 and set(multiplier) != {1}:
        raise ValueError(f"num_res_blocks 0 leaves nothing that could widen the levels as {multiplier}; all must be 1")
