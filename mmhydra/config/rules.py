"""Cross-field rules: every one is evaluated, every failure is reported, none needs torch.

A rule yields what is wrong, which values are legal and what to type. It agrees with torchtitan or is stricter, never
laxer; tests/titan builds torchtitan's own trainer beside it.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from mmhydra.config.base import unfit_path
from mmhydra.config.checkpoint import awaited
from mmhydra.config.cluster import Cluster
from mmhydra.config.data_rules import DATA_RULES
from mmhydra.config.facts import Facts, TokenCount
from mmhydra.config.problems import Problem
from mmhydra.config.schema import RunConfig
from mmhydra.config.slurm_rules import SLURM_RULES
from mmhydra.config.stages import settled_steps
from mmhydra.config.token_rules import token_faults

Rule = Callable[[RunConfig, Facts], Iterator[Problem]]

_LEAST_HEAD = 16  # torch/_inductor/kernel/flex/flex_attention.py: the embedding dimension


def divisors(number: int, limit: int = 64) -> list[int]:
    """Divisors of a number up to a limit, for messages that name the legal values."""
    return [candidate for candidate in range(1, min(number, limit) + 1) if number % candidate == 0]


# ---------------------------------------------------------------- machines


def world_size(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """dp x tp x pp is what the cluster has."""
    cluster, parallel = config.cluster, config.parallel
    if has_room(config, cluster):
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
    size = ("cluster.max_processes",) if cluster.num_gpus is None else ("cluster.nodes", "cluster.gpus_per_node")
    yield Problem(
        ("parallel.dp", "parallel.tp", "parallel.pp", *size),
        f"parallel={parallel.name} needs {need} ({degrees}), cluster={cluster.name} has {offer}; "
        f"{_fitting(config, facts)}",
        placement=True,
    )


def tp_in_node(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Tensor parallelism talks in every layer, so its ranks share a node."""
    cluster, tp = config.cluster, config.parallel.tp
    if cluster.gpus_per_node is None or cluster.gpus_per_node % tp == 0:
        return
    yield Problem(
        ("parallel.tp", "cluster.gpus_per_node"),
        f"tp={tp} does not divide the {cluster.gpus_per_node} GPUs of a node, and tensor parallelism stays within "
        f"one; legal tp: {divisors(cluster.gpus_per_node)}; {_fitting(config, facts)}",
        placement=True,
    )


def cluster_size(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """A SLURM cluster says how large it is, `local` how many processes it takes."""
    cluster = config.cluster
    if cluster.kind == "slurm" and cluster.num_gpus is None:
        yield Problem(
            ("cluster.kind", "cluster.nodes", "cluster.gpus_per_node"),
            "a SLURM cluster needs a size; type cluster.nodes=N cluster.gpus_per_node=8",
        )
    if cluster.num_gpus is None and cluster.max_processes is None:
        yield Problem(
            ("cluster.max_processes", "cluster.nodes"),
            "nothing says how many processes the cluster takes; type cluster.max_processes=8",
        )


def has_room(config: RunConfig, cluster: Cluster) -> bool:
    """Whether a cluster has the number of devices that the config's degrees need."""
    ranks, dp = config.parallel.model_ranks, config.parallel.dp
    if cluster.num_gpus is None:
        return ranks * (1 if dp == "auto" else dp) <= (cluster.max_processes or 0)
    return cluster.num_gpus % ranks == 0 if dp == "auto" else cluster.num_gpus == ranks * dp


def _fitting(config: RunConfig, facts: Facts) -> str:
    fitting = [
        f"{name} ({cluster.num_gpus or cluster.max_processes})"
        for name, cluster in facts.clusters.items()
        if has_room(config, cluster) and (cluster.gpus_per_node or config.parallel.tp) % config.parallel.tp == 0
    ]
    return f"clusters that fit: {', '.join(fitting)}; type cluster=NAME" if fitting else "no known cluster fits"


# ---------------------------------------------------------------- length


def length(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Exactly one of steps and tokens."""
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


def warmup(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Warmup, and the decay of WSD, fit into the steps."""
    steps, optim = settled_steps(config), config.optim
    if not steps:
        return
    if optim.warmup_steps > steps:
        yield Problem(
            ("optim.warmup_steps", "training.steps", "training.tokens"),
            f"a warmup of {optim.warmup_steps} steps does not fit into {steps} steps; "
            f"type optim.warmup_steps={max(1, steps // 50)} (1-5% is usual)",
        )
    elif optim.decay_fraction is not None and optim.warmup_steps + round(optim.decay_fraction * steps) > steps:
        yield Problem(
            ("optim.warmup_steps", "optim.decay_fraction", "training.steps", "training.tokens"),
            f"a warmup of {optim.warmup_steps} steps and a decay over {optim.decay_fraction:g} of {steps} steps "
            f"overlap; type optim.decay_fraction={(1 - optim.warmup_steps / steps) / 2:.2g} or a shorter warmup",
        )


def rate(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """The learning rate falls, and only WSD has a decay of its own."""
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


def intervals(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """An interval beyond the last step means once, at the end: harmless here, a lost run on a cluster."""
    steps, checkpoint = settled_steps(config), config.checkpoint
    if not steps:
        return
    if checkpoint.enabled and checkpoint.interval > steps:
        yield Problem(
            ("checkpoint.interval", "training.steps", "training.tokens"),
            f"an interval of {checkpoint.interval} steps never comes within {steps} steps, so a failure loses all of "
            f"it; type checkpoint.interval={max(1, steps // 10)}",
            is_note=config.cluster.kind == "local",
        )
    if not checkpoint.enabled and config.cluster.kind != "local":
        yield Problem(
            ("checkpoint.enabled",), "no checkpoints: a failure or the time limit loses all of the run", is_note=True
        )
    interval = config.training.validation_interval
    if interval is not None and interval > steps:
        yield Problem(
            ("training.validation_interval", "training.steps", "training.tokens"),
            f"an interval of {interval} steps never comes within {steps} steps; only the last step is validated",
            is_note=True,
        )
    if config.track.log_interval > steps:
        yield Problem(
            ("track.log_interval", "training.steps", "training.tokens"),
            f"an interval of {config.track.log_interval} steps never comes within {steps} steps; only the last step "
            "is logged",
            is_note=True,
        )


# ---------------------------------------------------------------- model and mesh


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


def cuda_graphs(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """torchtitan's CUDA graphs know no pipeline, and CPUs know no CUDA graphs."""
    if not config.cluster.cuda_graphs:
        return
    if config.parallel.pp > 1:
        yield Problem(
            ("cluster.cuda_graphs", "parallel.pp"),
            "CUDA graphs do not support pipeline parallelism yet; type cluster.cuda_graphs=false",
        )
    if config.cluster.device == "cpu":
        yield Problem(
            ("cluster.cuda_graphs", "cluster.device"), "CUDA graphs need a GPU; type cluster.cuda_graphs=false"
        )


# ---------------------------------------------------------------- vocabulary and data


def vocabulary(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """The layout of the ids is sound, and every modality that the data holds has a range."""
    tokens = config.tokens
    for fault in token_faults(tokens):
        yield Problem(fault.keys, fault.text)
    there = {entry.modality for entry in tokens.ranges}
    for index, source in enumerate(config.data.sources):
        missing = sorted(set(source.modality.split("_")) - there)
        if missing:
            yield Problem(
                (f"data.sources.{index}.modality", "tokens.ranges"),
                f"source {source.name} holds {' and '.join(missing)}, tokens={tokens.name} has ranges for "
                f"{', '.join(sorted(there))}; type tokens=qwen_full, or another source",
            )


def validation(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Every source has a document to train on, one held out where the run validates, and fits into sequences."""
    validates = config.evaluates or (config.training.validation_interval is not None and config.training.steps != 0)
    longest = max((count.largest_unit for count in _counts(config, facts).values()), default=1)
    for source, count in _counts(config, facts).items():
        if not count.train and not config.evaluates:
            yield Problem(
                ("data.sources",),
                f"the train split of source {source} has no document; use more data, or leave the source out",
            )
        if validates and not count.heldout:
            cure = "leave the source out" if config.evaluates else "type training.validation_interval=null"
            yield Problem(
                ("data.sources", "training.steps" if config.evaluates else "training.validation_interval"),
                f"the held-out split of source {source} has no document; use more data, or {cure}",
            )
        if count.largest_unit > config.training.seq_len:
            yield Problem(
                ("training.seq_len",),
                f"source {source} has a unit of {count.largest_unit} ids that may not be parted (such as an image with "
                f"its marks), a sequence has {config.training.seq_len}; type training.seq_len={longest} or more",
            )


def _counts(config: RunConfig, facts: Facts) -> dict[str, TokenCount]:
    """What is known of the sources, by name."""
    found = {source.name: facts.tokens.get((source.dataset, source.name)) for source in config.data.sources}
    return {name: count for name, count in found.items() if count is not None}


# ---------------------------------------------------------------- checkpoints and folders


def retention(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """At least two checkpoints are kept; pinned memory needs a GPU."""
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


def start(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """A run starts from fresh weights, from weights, or from a whole state; the checkpointer loads them."""
    checkpoint = config.checkpoint
    given = {
        key: value
        for key, value in {"init_from": checkpoint.init_from, "extend_from": checkpoint.extend_from}.items()
        if value is not None
    }
    for key in given:
        if not checkpoint.enabled:
            yield Problem(
                (f"checkpoint.{key}", "checkpoint.enabled"),
                "weights are loaded by the checkpointer, which is off; type checkpoint=default",
            )
    if len(given) == 2:
        yield Problem(
            ("checkpoint.init_from", "checkpoint.extend_from"),
            "a run starts from weights alone, or goes on from a whole state; type checkpoint.init_from=null",
        )
    elif config.training.steps == 0 and checkpoint.extend_from is not None:
        yield Problem(
            ("training.steps", "checkpoint.extend_from"),
            "a run of no steps goes on with nothing. To train type training.steps=N; to measure the held-out loss of "
            f"these weights type checkpoint.init_from={checkpoint.extend_from} checkpoint.extend_from=null",
        )
    if config.training.steps == 0 and not checkpoint.enabled:
        yield Problem(
            ("training.steps", "checkpoint.enabled"),
            "a run of no steps only writes its initial weights, and checkpoints are off; type checkpoint=default",
        )


def awaits(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """A checkpoint that is not there yet is named by its place in the run that will save it."""
    checkpoint = config.checkpoint
    if not checkpoint.awaits:
        return
    given = {"init_from": checkpoint.init_from, "extend_from": checkpoint.extend_from}
    places = {f"checkpoint.{key}": path for key, path in given.items() if path is not None}
    form = "OUTPUTS/NAME/RUN_ID/checkpoints/step-NNNNNNNN"
    if not places:
        yield Problem(
            ("checkpoint.awaits",),
            f"nothing says which checkpoint the run awaits; type checkpoint.extend_from={form} (whole state) or "
            f"checkpoint.init_from={form} (weights), or checkpoint.awaits=false",
        )
    for key, path in places.items():
        if awaited(path) is None:
            yield Problem(
                ("checkpoint.awaits", key),
                f"{path} is no checkpoint that a run will save; type {key}={form}, or checkpoint.awaits=false for one "
                "that is there",
            )


def folders(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Jobs start in other folders, so every path is absolute; and short enough for a system to take it."""
    named = {
        "paths.data": config.paths.data,
        "paths.outputs": config.paths.outputs,
        "checkpoint.init_from": config.checkpoint.init_from,
        "checkpoint.extend_from": config.checkpoint.extend_from,
    }
    for key, folder in named.items():
        if folder is None:
            continue
        if fault := unfit_path(folder):
            yield Problem((key,), fault)
        elif not Path(folder).is_absolute():
            cure = f"type {key}={_absolute(folder)}"
            yield Problem((key,), f"{folder!r} is no absolute path, and jobs start in other folders; {cure}")


def _absolute(folder: str) -> Path:
    return Path(os.path.expanduser(folder)).absolute()  # unlike Path.expanduser, it lets the ~ of nobody be


RULES: tuple[Rule, ...] = (
    world_size,
    tp_in_node,
    cluster_size,
    length,
    warmup,
    rate,
    intervals,
    heads,
    tp_shards,
    sequence,
    replicas,
    fsdp_rows,
    batch,
    stages,
    microbatches,
    float8,
    cuda_graphs,
    vocabulary,
    *DATA_RULES,
    validation,
    retention,
    start,
    awaits,
    folders,
    *SLURM_RULES,
)


def check(config: RunConfig, facts: Facts) -> list[Problem]:
    """All reasons why a config can't run and all notes, in a fixed order; empty for a config without either."""
    return [replace(problem, rule=rule.__name__) for rule in RULES for problem in rule(config, facts)]
