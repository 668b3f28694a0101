"""Rules of the mesh: model, sequence, batch and layers are cut into equal parts."""

from collections.abc import Iterator

from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.rules.legal import divisors
from mmhydra.config.schema import RunConfig


def tp_shards(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Tensor parallelism cuts heads, kv heads, the feed-forward and the vocabulary into equal parts."""
    model, tp = config.model, config.parallel.tp
    sizes = {
        "model.num_heads": model.num_heads,
        "model.num_kv_heads": model.num_kv_heads,
        "model.ffn_dim": model.ffn_dim,
        "tokens.pad_multiple": config.tokens.vocab_size,
    }
    for key, size in sizes.items():
        if size % tp:
            what = "the padded vocabulary" if key.startswith("tokens") else key
            yield Problem(
                (key, "parallel.tp"), f"{what} is {size}, which tp={tp} does not divide; legal tp: {divisors(size)}"
            )


def sequence(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Sequence parallelism cuts the sequence into equal parts."""
    seq_len, tp = config.training.seq_len, config.parallel.tp
    if config.parallel.sequence_parallel and seq_len % tp:
        yield Problem(
            ("training.seq_len", "parallel.tp", "parallel.sequence_parallel"),
            f"sequence parallelism splits seq_len {seq_len} over tp={tp}; legal tp: {divisors(seq_len)}",
        )


def replicas(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """HSDP replicas divide the data-parallel ranks."""
    if config.dp % config.parallel.dp_replicate:
        yield Problem(
            ("parallel.dp_replicate", "parallel.dp"),
            f"{config.parallel.dp_replicate} replicas do not divide dp={config.dp}; legal: {divisors(config.dp)}",
        )


def fsdp_rows(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """FSDP cuts the rows of the q, k and v projections, and has none to give to some ranks of a tiny model."""
    model, dp = config.model, config.dp
    rows = (model.num_heads + 2 * model.num_kv_heads) * model.head_dim // config.parallel.tp
    if dp % config.parallel.dp_replicate == 0 and dp // config.parallel.dp_replicate > rows > 0:
        yield Problem(
            ("parallel.dp", "parallel.dp_replicate", "parallel.tp", "model.dim"),
            f"{rows} rows of the q, k and v projections on each tensor-parallel rank can't be sharded over "
            f"{dp // config.parallel.dp_replicate} data-parallel ranks; type parallel.dp={rows}, or a larger model",
        )


def batch(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """The global batch is a whole number of microbatches on each data-parallel rank."""
    training, dp = config.training, config.dp
    if training.global_batch_size % (dp * config.microbatch_size):
        legal = [size for size in divisors(training.global_batch_size) if training.global_batch_size % (dp * size) == 0]
        cure = f"legal microbatch sizes: {legal}" if legal else f"legal dp: {divisors(training.global_batch_size)}"
        yield Problem(
            ("training.global_batch_size", "training.microbatch_size", "parallel.dp"),
            f"{training.global_batch_size} sequences are no multiple of dp {dp} x microbatch "
            f"{config.microbatch_size}; {cure}",
        )


def stages(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Every pipeline stage has something to do; tied embeddings would live on two of them."""
    pp, layers = config.parallel.pp, config.model.num_layers
    if pp == 1:
        return
    # torchtitan counts the embedding and the head as a layer each and spreads layers + 2.
    keys = ("model.num_layers", "parallel.pp", "parallel.schedule")
    number = _num_stages(config)
    if layers + 2 < number:
        legal = [degree for degree in range(1, pp) if layers + 2 >= number // pp * degree]
        yield Problem(
            keys,
            f"{layers} layers, embedding and head are too few for {number} pipeline stages; at least {number - 2} "
            f"layers are needed; legal pp: {legal}",
        )
    elif layers + 2 < 2 * number:
        yield Problem(
            keys,
            f"{layers} layers over {number} pipeline stages leave the first or the last without a layer",
            is_note=True,
        )
    if config.model.tie_embeddings:
        yield Problem(
            ("model.tie_embeddings", "parallel.pp"),
            "tied embeddings live on the first and the last stage; type model.tie_embeddings=false, or parallel.pp=1",
        )


def _num_stages(config: RunConfig) -> int:
    return config.parallel.pp * (2 if config.parallel.schedule == "Interleaved1F1B" else 1)


def microbatches(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """The pipeline schedule gets as many microbatches as it needs, in whole rounds."""
    pp, schedule, number = config.parallel.pp, config.parallel.schedule, config.num_microbatches
    if pp == 1 or config.training.global_batch_size % (config.dp * config.microbatch_size):
        return
    keys = ("parallel.schedule", "parallel.pp", "training.microbatch_size", "training.global_batch_size", "parallel.dp")
    if number < pp:
        yield Problem(
            keys,
            f"{schedule} over {pp} ranks needs at least {pp} microbatches to keep all of them busy, there are "
            f"{number}; lower training.microbatch_size or raise training.global_batch_size",
            is_note=schedule != "1F1B",  # which can't run then; the others idle
        )
    elif schedule == "Interleaved1F1B" and number % (number // pp):
        yield Problem(
            keys,
            f"Interleaved1F1B takes microbatches in equal rounds of at least {pp}, {number} can't be cut so; "
            "type parallel.schedule=1F1B, or another training.microbatch_size",
        )
