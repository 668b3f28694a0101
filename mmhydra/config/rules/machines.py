"""Rules of machines: how many there are, what shares a node, what their devices can."""

from collections.abc import Iterator

from mmhydra.config.cluster import Cluster
from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.rules.legal import divisors
from mmhydra.config.schema import RunConfig


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
