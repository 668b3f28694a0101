"""The `model` group as torchtitan's Llama3Model: a config of layers, initialisers, RoPE and converters."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torchtitan.components.quantization.float8 import Float8Linear, Float8LinearConverter
from torchtitan.distributed.pipeline_parallel import pipeline_llm
from torchtitan.models.common import ComplexRoPE, Embedding, Linear, RMSNorm
from torchtitan.models.common.attention import FlexAttention
from torchtitan.models.common.config_utils import make_ffn_config, make_gqa_config
from torchtitan.models.common.param_init import depth_scaled_std, skip_param_init
from torchtitan.models.llama3 import Llama3Model, parallelize_llama
from torchtitan.models.llama3.model import Llama3TransformerBlock
from torchtitan.protocols.model_spec import ModelSpec
from torchtitan.protocols.module import Module

from mmhydra.config.model import Model
from mmhydra.config.precision import Precision
from mmhydra.titan import cpu
from mmhydra.titan.attention import DocumentAttention, document_mask

_INIT_STD = 0.02  # GPT-2's; torchtitan's Llama uses the same
_NORM_INIT = {"weight": nn.init.ones_}
_LINEAR_INIT = {"weight": partial(nn.init.trunc_normal_, std=_INIT_STD)}


class CpuModel(Llama3Model):
    """Llama3Model with boolean document masks and contiguous stage boundaries."""

    @dataclass(kw_only=True, slots=True)
    class Config(Llama3Model.Config):
        """The fields of Llama3Model.Config."""

    def get_attention_masks(self, positions: torch.Tensor) -> Any:
        """Shape (B, 1, L, L) from positions (B, L)."""
        return document_mask(positions)

    def forward(self, tokens: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One pipeline stage: token ids (B, L) on the first, activations (B, L, D) on the others."""
        boundary = tokens if not tokens.is_floating_point() else cpu.Contiguous.apply(tokens)
        out = super().forward(boundary, *args, **kwargs)
        return cpu.Contiguous.apply(out) if self.lm_head is None else out


def model_spec(model: Model, precision: Precision, *, vocab_size: int, max_seq_len: int, compile: bool) -> ModelSpec:
    """The model for torchtitan's Trainer. `vocab_size` counts padded ids, `max_seq_len` tokens."""
    on_cpu = cpu.is_active()
    config = _decoder(model, vocab_size, max_seq_len, on_cpu)
    if precision.float8_recipe is not None:
        converter = Float8LinearConverter.Config(
            recipe_name=precision.float8_recipe,
            emulate=precision.float8_emulate,
            filter_fqns=["lm_head"],  # the loss is sensitive to it; torchtitan's float8.md leaves it out too
            model_compile_enabled=compile,
        )
        config = converter.build().convert(config)
    return ModelSpec(
        name="mmhydra",
        flavor=model.name,
        model=config,
        parallelize_fn=_parallelize_on_cpu if on_cpu else parallelize_llama,
        pipelining_fn=pipeline_llm,
        post_optimizer_build_fn=None,
        state_dict_adapter=None,
    )


def linear_types(parts: list[nn.Module]) -> dict[str, int]:
    """How many linear layers of each class a rank holds: what shows whether float8 is on, as a loss can't."""
    linears = (module for part in parts for module in part.modules() if isinstance(module, nn.Linear))
    # FSDP2 and torchtitan derive classes of their own (FSDPFloat8Linear); the base that computes is what counts.
    names = ("Float8Linear" if isinstance(linear, Float8Linear) else "Linear" for linear in linears)
    return dict(sorted(Counter(names).items()))


def _parallelize_on_cpu(model: Any, **kwargs: Any) -> nn.Module:
    parallel = parallelize_llama(model, **kwargs)
    cpu.reduce_by_sum(parallel)
    return parallel


def _decoder(model: Model, vocab_size: int, max_seq_len: int, on_cpu: bool) -> Llama3Model.Config:
    attention = DocumentAttention.Config() if on_cpu else FlexAttention.Config()
    rope = ComplexRoPE.Config(dim=model.head_dim, max_seq_len=max_seq_len, theta=model.rope_theta, scaling="none")
    embedding_init: dict[str, Callable[..., Any]] = {"weight": partial(nn.init.normal_, std=1.0)}
    return (CpuModel if on_cpu else Llama3Model).Config(
        dim=model.dim,
        vocab_size=vocab_size,
        enable_weight_tying=model.tie_embeddings,
        tok_embeddings=Embedding.Config(
            num_embeddings=vocab_size,
            embedding_dim=model.dim,
            param_init={"weight": skip_param_init} if model.tie_embeddings else embedding_init,
        ),
        norm=_norm(model),
        lm_head=Linear.Config(in_features=model.dim, out_features=vocab_size, param_init=_head_init(model.dim)),
        layers=[_layer(model, index, rope, attention) for index in range(model.num_layers)],
    )


def _layer(model: Model, index: int, rope: ComplexRoPE.Config, attention: Module.Config) -> Any:
    # Residual branches start smaller the deeper they are, so that the stream's variance stays bounded.
    depth_init = {"weight": partial(nn.init.trunc_normal_, std=depth_scaled_std(_INIT_STD, index))}
    return Llama3TransformerBlock.Config(
        attention_norm=_norm(model),
        ffn_norm=_norm(model),
        attention=make_gqa_config(
            dim=model.dim,
            n_heads=model.num_heads,
            n_kv_heads=model.num_kv_heads,
            wqkv_param_init=_LINEAR_INIT,
            wo_param_init=depth_init,
            inner_attention=attention,
            fuse_qkv=True,
            rope=rope,
        ),
        feed_forward=make_ffn_config(
            dim=model.dim, hidden_dim=model.ffn_dim, w1_param_init=_LINEAR_INIT, w2w3_param_init=depth_init
        ),
    )


def _norm(model: Model) -> RMSNorm.Config:
    return RMSNorm.Config(normalized_shape=model.dim, eps=model.norm_eps, param_init=_NORM_INIT)


def _head_init(dim: int) -> dict[str, Callable[..., Any]]:
    std = dim**-0.5
    return {"weight": partial(nn.init.trunc_normal_, std=std, a=-3 * std, b=3 * std)}
