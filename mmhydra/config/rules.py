"""Cross-field rules: every one is evaluated, every failure is reported, none needs torch.

A rule yields what is wrong and what to type. It agrees with torchtitan or is stricter, never laxer.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmhydra.config.cluster import Cluster
from mmhydra.config.schema import RunConfig


@dataclass(frozen=True)
class Problem:
    """One reason why a config can't run. `placement`: another cluster would cure it."""

    keys: tuple[str, ...]
    message: str
    placement: bool = False

    def __str__(self) -> str:
        return f"{', '.join(self.keys)}: {self.message}"


Rule = Callable[[RunConfig], Iterator[Problem]]


def divisors(number: int, limit: int = 64) -> list[int]:
    """Divisors of a number up to a limit, for messages that name the legal values."""
    return [candidate for candidate in range(1, min(number, limit) + 1) if number % candidate == 0]


def _length(config: RunConfig) -> Iterator[Problem]:
    training = config.training
    keys = ("training.steps", "training.tokens")
    if training.steps is None and training.tokens is None:
        yield Problem(keys, "the run has no length; type training.steps=N or training.tokens=N")
    elif training.steps is not None and training.tokens is not None:
        yield Problem(
            keys,
            f"both are set ({training.steps} steps, {training.tokens} tokens); "
            "add training.tokens=null to count steps, or training.steps=null to count tokens",
        )


def _warmup(config: RunConfig) -> Iterator[Problem]:
    training = config.training
    if (training.steps is None) == (training.tokens is None) or training.num_steps == 0:
        return
    if config.optim.warmup_steps > training.num_steps:
        yield Problem(
            ("optim.warmup_steps", "training.steps"),
            f"a warmup of {config.optim.warmup_steps} steps does not fit into {training.num_steps} steps; "
            f"type optim.warmup_steps={max(1, training.num_steps // 50)} (1-5% is usual)",
        )


def _schedule_of_rate(config: RunConfig) -> Iterator[Problem]:
    optim = config.optim
    if optim.min_lr > optim.lr:
        cure = f"type optim.min_lr={optim.lr / 10:g} (a tenth is usual)"
        yield Problem(("optim.min_lr", "optim.lr"), f"min_lr {optim.min_lr} is above lr {optim.lr}; {cure}")
    if (optim.schedule == "wsd") != (optim.decay_fraction is not None):
        need = (
            "needs a decay; type optim.decay_fraction=0.1"
            if optim.schedule == "wsd"
            else "has no such decay; type optim.decay_fraction=null"
        )
        yield Problem(("optim.schedule", "optim.decay_fraction"), f"the schedule {optim.schedule} {need}")


def _heads(config: RunConfig) -> Iterator[Problem]:
    model, tp = config.model, config.parallel.tp
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
    if model.num_heads % model.num_kv_heads:
        yield Problem(
            ("model.num_heads", "model.num_kv_heads"),
            f"{model.num_heads} heads are no multiple of {model.num_kv_heads} kv heads; "
            f"legal: {divisors(model.num_heads)}",
        )
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


def _sequence(config: RunConfig) -> Iterator[Problem]:
    seq_len, tp = config.training.seq_len, config.parallel.tp
    if config.parallel.sequence_parallel and seq_len % tp:
        yield Problem(
            ("training.seq_len", "parallel.tp"),
            f"sequence parallelism splits seq_len {seq_len} over tp={tp}; legal tp: {divisors(seq_len)}",
        )


def _replicas(config: RunConfig) -> Iterator[Problem]:
    if config.dp % config.parallel.dp_replicate:
        yield Problem(
            ("parallel.dp_replicate", "parallel.dp"),
            f"{config.parallel.dp_replicate} replicas do not divide dp={config.dp}; legal: {divisors(config.dp)}",
        )


def _batch(config: RunConfig) -> Iterator[Problem]:
    training, dp = config.training, config.dp
    if training.global_batch_size % (dp * config.microbatch_size):
        legal = [size for size in divisors(training.global_batch_size) if training.global_batch_size % (dp * size) == 0]
        cure = f"legal microbatch sizes: {legal}" if legal else f"legal dp: {divisors(training.global_batch_size)}"
        yield Problem(
            ("training.global_batch_size", "training.microbatch_size", "parallel.dp"),
            f"{training.global_batch_size} sequences are no multiple of dp {dp} x microbatch "
            f"{config.microbatch_size}; {cure}",
        )


def _pipeline(config: RunConfig) -> Iterator[Problem]:
    pp, layers = config.parallel.pp, config.model.num_layers
    if pp == 1:
        return
    # torchtitan gives the first and the last stage one layer less, so it spreads layers + 2.
    stages = pp * 2 if config.parallel.schedule == "Interleaved1F1B" else pp
    if layers + 2 < 2 * stages:
        yield Problem(
            ("model.num_layers", "parallel.pp"),
            f"{layers} layers are too few for {stages} pipeline stages; at least {2 * stages - 2} are needed",
        )
    if config.model.tie_embeddings:
        yield Problem(
            ("model.tie_embeddings", "parallel.pp"),
            "tied embeddings live on the first and the last stage; type model.tie_embeddings=false",
        )
    if config.num_microbatches < pp:
        yield Problem(
            ("parallel.schedule", "training.microbatch_size", "parallel.pp"),
            f"{config.parallel.schedule} over {pp} stages needs at least {pp} microbatches, there are "
            f"{config.num_microbatches}; lower training.microbatch_size or raise training.global_batch_size",
        )
    elif config.parallel.schedule == "Interleaved1F1B" and config.num_microbatches % pp:
        yield Problem(
            ("parallel.schedule", "training.microbatch_size", "parallel.pp"),
            f"Interleaved1F1B takes microbatches in rounds of {pp}, {config.num_microbatches} are no multiple of it; "
            "type parallel.schedule=1F1B, or another training.microbatch_size",
        )


def _float8(config: RunConfig) -> Iterator[Problem]:
    precision, cluster, model = config.precision, config.cluster, config.model
    if precision.float8_recipe is None:
        return
    if cluster.device == "cpu" and not precision.float8_emulate:
        yield Problem(
            ("precision.float8_emulate", "cluster.device"),
            f"precision={precision.name} needs float8 hardware, cluster={cluster.name} computes on CPUs; choose a "
            "cluster with GPUs, or to try the arithmetic here type precision=float8_emulated",
            placement=True,
        )
    if precision.float8_emulate and cluster.compile:
        yield Problem(
            ("precision.float8_emulate", "cluster.compile"),
            "emulated float8 runs in eager mode only; type cluster.compile=false",
        )
    odd = {key: size for key, size in {"dim": model.dim, "ffn_dim": model.ffn_dim}.items() if size % 16}
    if odd:
        yield Problem(
            tuple(f"model.{key}" for key in odd), f"float8 needs multiples of 16, found {odd}; use precision=bf16"
        )


def _checkpoint(config: RunConfig) -> Iterator[Problem]:
    checkpoint = config.checkpoint
    if checkpoint.keep_latest == 1:  # it may be the one that is being written
        yield Problem(
            ("checkpoint.keep_latest",), f"{checkpoint.keep_latest} is not legal; 0 keeps all, else at least 2"
        )
    if checkpoint.async_mode == "async_with_pinned_mem" and config.cluster.device == "cpu":
        yield Problem(
            ("checkpoint.async_mode", "cluster.device"),
            "pinned memory needs a GPU; type checkpoint.async_mode=async or disabled",
            placement=True,
        )


def _init_from(config: RunConfig) -> Iterator[Problem]:
    if config.checkpoint.init_from is not None and not config.checkpoint.enabled:
        yield Problem(
            ("checkpoint.init_from", "checkpoint.enabled"),
            "weights are loaded by the checkpointer, which is off; type checkpoint=default",
        )


def _seed_checkpoint(config: RunConfig) -> Iterator[Problem]:
    if config.training.steps != 0:
        return
    if not config.checkpoint.enabled:
        yield Problem(
            ("training.steps", "checkpoint.enabled"),
            "a run of no steps only writes its initial weights, and checkpoints are off; type checkpoint=default",
        )
    if config.checkpoint.init_from is not None:
        yield Problem(
            ("training.steps", "checkpoint.init_from"),
            "a run of no steps only writes fresh weights; type checkpoint.init_from=null or training.steps=N",
        )


def _stages_of_data(config: RunConfig) -> Iterator[Problem]:
    names = {source.name for source in config.data.sources}
    for stage in config.data.schedule:
        unknown = sorted(set(stage.shares) - names)
        if unknown:
            yield Problem(
                ("data.schedule",), f"stage {stage.name} names unknown sources {unknown}; legal: {sorted(names)}"
            )
        for end, when in enumerate(("start", "end")):
            total = sum(share[end] for share in stage.shares.values())
            if abs(total - 1) > 1e-6:
                yield Problem(
                    ("data.schedule",), f"the shares of stage {stage.name} at its {when} sum to {total}, not 1"
                )


def _folders(config: RunConfig) -> Iterator[Problem]:
    folders = {
        "paths.data": config.paths.data,
        "paths.outputs": config.paths.outputs,
        "checkpoint.init_from": config.checkpoint.init_from,
    }
    for key, folder in folders.items():
        if folder is not None and not Path(folder).is_absolute():
            cure = f"type {key}={Path(folder).expanduser().absolute()}"
            yield Problem((key,), f"{folder!r} is no absolute path, and jobs start in other folders; {cure}")


RULES: tuple[Rule, ...] = (
    _length,
    _warmup,
    _schedule_of_rate,
    _heads,
    _sequence,
    _replicas,
    _batch,
    _pipeline,
    _float8,
    _checkpoint,
    _init_from,
    _seed_checkpoint,
    _stages_of_data,
    _folders,
)


def fits(config: RunConfig, cluster: Cluster) -> bool:
    """Whether a cluster has the number of devices that the config's degrees need."""
    ranks = config.parallel.model_ranks
    dp = config.parallel.dp
    if cluster.num_gpus is None:
        return ranks * (1 if dp == "auto" else dp) <= (cluster.max_processes or 0)
    if (cluster.gpus_per_node or 0) % config.parallel.tp:
        return False
    return cluster.num_gpus % ranks == 0 if dp == "auto" else cluster.num_gpus == ranks * dp


def _placement(config: RunConfig, clusters: Mapping[str, Cluster]) -> Iterator[Problem]:
    cluster, parallel = config.cluster, config.parallel
    if fits(config, cluster):
        return
    ranks = parallel.model_ranks
    if parallel.dp == "auto":
        need = f"a multiple of {ranks} GPUs"
        degrees = f"tp {parallel.tp} x pp {parallel.pp}"
    else:
        need = f"exactly {ranks * parallel.dp} GPUs"
        degrees = f"dp {parallel.dp} x tp {parallel.tp} x pp {parallel.pp}; parallel.dp=auto takes all there are"
    offer = (
        f"at most {cluster.max_processes} processes"
        if cluster.num_gpus is None
        else f"{cluster.num_gpus} GPUs, {cluster.gpus_per_node} a node"
    )
    fitting = [
        f"{name} ({other.num_gpus or other.max_processes})" for name, other in clusters.items() if fits(config, other)
    ]
    cure = f"clusters that fit: {', '.join(fitting)}; type cluster=NAME" if fitting else "no known cluster fits"
    yield Problem(
        ("parallel", "cluster"),
        f"parallel={parallel.name} needs {need} ({degrees}), cluster={cluster.name} has {offer}; {cure}",
        placement=True,
    )


def check(config: RunConfig, clusters: Mapping[str, Cluster]) -> list[Problem]:
    """All reasons why a config can't run, in a fixed order; empty if it can.

    `clusters` are the known choices of the group, so that a message can name those that fit.
    """
    problems = list(_placement(config, clusters))
    for rule in RULES:
        problems.extend(rule(config))
    return problems
