"""Rules of number formats."""

from collections.abc import Iterator

from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.schema import RunConfig


def float8(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Float8 needs its hardware, multiples of 16 on every rank, and the compiler to be fast."""
    precision, cluster, model = config.precision, config.cluster, config.model
    if precision.float8_recipe is None:
        if precision.float8_emulate:
            yield Problem(
                ("precision.float8_emulate", "precision.float8_recipe"),
                "there is nothing to emulate without a recipe; type precision=float8_emulated",
            )
        return
    if cluster.device == "cpu" and not precision.float8_emulate:
        yield Problem(
            ("precision.float8_recipe", "precision.float8_emulate", "cluster.device"),
            f"precision={precision.name} needs float8 hardware, cluster={cluster.name} computes on CPUs; choose a "
            "cluster with GPUs, or to try the arithmetic here type precision=float8_emulated",
            placement=True,
        )
    if precision.float8_emulate and cluster.compile:
        yield Problem(
            ("precision.float8_emulate", "cluster.compile"),
            "emulated float8 runs in eager mode only; type cluster.compile=false",
        )
    if cluster.device == "cuda" and not cluster.compile and not precision.float8_emulate:
        yield Problem(
            ("cluster.compile", "precision.float8_recipe"),
            "float8 without torch.compile scales in separate kernels and is slower than bf16; type "
            "cluster.compile=true, or precision=bf16",
            is_note=True,
        )
    odd = {key: size for key, size in {"dim": model.dim, "ffn_dim": model.ffn_dim}.items() if size % 16}
    if odd:
        yield Problem(
            tuple(f"model.{key}" for key in odd),
            f"float8 needs multiples of 16, found {odd}, and torchtitan would leave these layers out without a word; "
            "use precision=bf16",
        )
        return
    tp = config.parallel.tp
    fused = (model.num_heads + 2 * model.num_kv_heads) * model.head_dim  # rows of the q, k and v projections
    uneven = {
        name: size // tp
        for name, size in {"dim": model.dim, "ffn_dim": model.ffn_dim, "q, k and v": fused}.items()
        if size % tp == 0 and size // tp % 16
    }
    if uneven:
        yield Problem(
            ("model.dim", "model.ffn_dim", "model.num_kv_heads", "parallel.tp"),
            f"float8 needs multiples of 16 on each rank, tp={tp} leaves {uneven}; lower parallel.tp, or use "
            "precision=bf16",
        )
    tokens = config.microbatch_size * config.training.seq_len
    if precision.float8_recipe == "rowwise" and not precision.float8_emulate and tokens % 16:
        yield Problem(
            ("training.seq_len", "training.microbatch_size", "precision.float8_recipe"),
            f"float8 weight gradients sum over the {tokens} tokens of a microbatch, which have to be a multiple of 16; "
            "type precision=float8_rowwise_gw_hp, or another training.seq_len",
        )
