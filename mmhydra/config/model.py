"""The `model` group: the shape of a dense, llama-style decoder."""

from typing import Annotated

from mmhydra.config.base import LABEL, Name, NotIdentity, PositiveCount, PositiveFloat, Section


class Model(Section):
    """Architecture without vocabulary (which `tokens` decides) and without sequence length."""

    name: Annotated[Name, NotIdentity(LABEL)]
    num_layers: PositiveCount
    dim: PositiveCount
    num_heads: PositiveCount
    num_kv_heads: PositiveCount
    ffn_dim: PositiveCount  # hidden size of the SwiGLU feed-forward
    rope_theta: PositiveFloat
    norm_eps: PositiveFloat
    tie_embeddings: bool

    @property
    def head_dim(self) -> int:
        """Size of one attention head."""
        return self.dim // self.num_heads

    def num_parameters(self, vocab_size: int) -> int:
        """All parameters, embeddings included, as torchtitan's Llama3Model has them (no biases)."""
        attention = 2 * self.dim * self.dim + 2 * self.dim * self.num_kv_heads * self.head_dim
        layer = attention + 3 * self.dim * self.ffn_dim + 2 * self.dim
        embeddings = vocab_size * self.dim * (1 if self.tie_embeddings else 2)
        return self.num_layers * layer + embeddings + self.dim
