"""The `precision` group: number formats, with torchao float8 as torchtitan 0.3.0 offers it."""

from typing import Annotated, Literal

from mmhydra.config.base import LABEL, Name, NotIdentity, Section


class Precision(Section):
    """Parameters are stored in float32; `param_dtype` is what they are computed in."""

    name: Annotated[Name, NotIdentity(LABEL)]
    param_dtype: Literal["float32", "bfloat16"]
    float8_recipe: Literal["rowwise", "rowwise_with_gw_hp"] | None
    float8_emulate: bool  # arithmetic of float8 on hardware without it; eager mode only

    @property
    def compute_format(self) -> Literal["fp32", "bf16", "float8"]:
        """The format whose peak FLOP/s the cluster section holds."""
        if self.float8_recipe is not None:
            return "float8"
        return "fp32" if self.param_dtype == "float32" else "bf16"
