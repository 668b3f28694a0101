"""The memory of a training step counted on paper, beside which benchmarks/gpu.py puts the peaks that it measures."""

from typing import Any

GIB = 1024**3


def count_memory(config: Any, num_parameters: int) -> dict[str, int]:
    """Bytes in the loss of a microbatch that is not a step's first, counted on paper, with nothing recomputed.

    Parameters, gradients and AdamW's two moments are float32. A block keeps its input, queries, keys, values, the
    output of attention, the sum after it and both halves of the gated layer, in bfloat16. The logits and their gradient
    are bfloat16, as a compiled loss needs no more. `also` is what a first look at measured peaks suggested: the
    head's weight in bfloat16, and what a block multiplies with weights, kept although it follows from the rest.
    """
    model, tokens = config.model, config.microbatch_size * config.training.seq_len
    kv_dim = model.num_kv_heads * model.head_dim
    kept = 4 * model.dim + 2 * kv_dim + 2 * model.ffn_dim
    products_of = 2 * model.dim + model.ffn_dim  # two normed inputs, and the product of the halves
    return {
        "parameters": 4 * num_parameters,
        "gradients": 4 * num_parameters,
        "optimizer": 8 * num_parameters,
        "activations": model.num_layers * tokens * kept * 2,
        "logits": 2 * 2 * tokens * config.tokens.vocab_size,
        "also": model.num_layers * tokens * products_of * 2 + 2 * model.dim * config.tokens.vocab_size,
    }
