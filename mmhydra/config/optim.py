"""The `optim` group: AdamW and its learning rate schedule."""

from typing import Annotated, Literal

from pydantic import Field

from mmhydra.config.base import LABEL, Count, Fraction, Name, NotIdentity, PositiveFloat, Section

Beta = Annotated[float, Field(ge=0, lt=1)]


class Optim(Section):
    """Linear warmup, then cosine decay over the rest, or warmup-stable-decay (WSD, arXiv 2404.06395)."""

    name: Annotated[Name, NotIdentity(LABEL)]
    lr: PositiveFloat
    min_lr: Annotated[float, Field(ge=0)]
    warmup_steps: Count
    schedule: Literal["cosine", "wsd"]
    decay_fraction: Fraction | None  # share of all steps that decays; WSD only
    beta1: Beta
    beta2: Beta
    eps: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0)]
    clip_norm: PositiveFloat  # global L2 norm
