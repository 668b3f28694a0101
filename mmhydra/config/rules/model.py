"""Rules of the model by itself, on any mesh."""

from collections.abc import Iterator

from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.rules.legal import divisors
from mmhydra.config.schema import RunConfig

_LEAST_HEAD = 16  # torch/_inductor/kernel/flex/flex_attention.py: the embedding dimension


def heads(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """dim = heads x an even size; kv heads divide the heads."""
    model = config.model
    if model.dim % model.num_heads:
        yield Problem(
            ("model.dim", "model.num_heads"),
            f"dim {model.dim} is no multiple of {model.num_heads} heads; legal: {divisors(model.dim)}",
        )
    elif model.head_dim % 2:
        yield Problem(
            ("model.dim", "model.num_heads"),
            f"dim {model.dim} over {model.num_heads} heads makes heads of {model.head_dim}; RoPE turns pairs, so "
            "the size of a head has to be even",
        )
    elif config.cluster.device == "cuda" and model.head_dim < _LEAST_HEAD:
        yield Problem(
            ("model.dim", "model.num_heads", "cluster.device"),
            f"dim {model.dim} over {model.num_heads} heads makes heads of {model.head_dim}; flex attention on GPUs "
            f"takes {_LEAST_HEAD} and more; type model.num_heads={max(1, model.dim // _LEAST_HEAD)}",
        )
    if model.num_heads % model.num_kv_heads:
        yield Problem(
            ("model.num_heads", "model.num_kv_heads"),
            f"{model.num_heads} heads are no multiple of {model.num_kv_heads} kv heads; "
            f"legal: {divisors(model.num_heads)}",
        )
