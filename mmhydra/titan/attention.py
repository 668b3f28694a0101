"""Attention on CPU with the document mask: FlexAttention has no backward there, and varlen needs CUDA.

Legend: B batch, L sequence, N heads, H head size.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torchtitan.models.common.attention import VarlenAttention
from torchtitan.protocols.module import Module


def document_mask(positions_BL: torch.Tensor) -> torch.Tensor:
    """True where a token may look: itself and earlier tokens of its own document. Shape (B, 1, L, L).

    A document begins where the position is 0.
    """
    document_BL = (positions_BL == 0).cumsum(1)
    same_BLL = document_BL[:, :, None] == document_BL[:, None, :]
    return torch.tril(same_BLL)[:, None]


class DocumentAttention(VarlenAttention):
    """Scaled dot product attention under a boolean mask.

    A VarlenAttention by name alone: torchtitan builds document masks for Flex and Varlen configs only.
    """

    @dataclass(kw_only=True, slots=True)
    class Config(VarlenAttention.Config):
        """Takes no settings of its own."""

    def __init__(self, config: Config) -> None:
        Module.__init__(self)  # VarlenAttention's own would load CUDA kernels

    def forward(
        self,
        q_BLNH: torch.Tensor,
        k_BLNH: torch.Tensor,
        v_BLNH: torch.Tensor,
        *,
        attention_masks: Any,
        scale: float | None = None,
        enable_gqa: bool = False,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Returns (B, L, N, H). `attention_masks` is `document_mask` of the batch's positions."""
        out_BNLH = F.scaled_dot_product_attention(
            q_BLNH.transpose(1, 2),
            k_BLNH.transpose(1, 2),
            v_BLNH.transpose(1, 2),
            attn_mask=attention_masks,
            scale=scale,
            enable_gqa=enable_gqa,
        )
        return out_BNLH.transpose(1, 2)
