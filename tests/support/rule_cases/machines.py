"""Cases of the rules in mmhydra/config/rules/machines.py."""

from rule_cases.case import JOBS, SLURM, Case

WORLD = ("parallel.dp", "parallel.tp", "parallel.pp", "cluster.max_processes")
GPUS_64 = {"cluster.nodes": 8, "cluster.gpus_per_node": 8, "cluster.max_processes": None}

CASES = {
    "a cluster without a size": Case(
        JOBS,
        [("cluster.kind", "cluster.nodes", "cluster.gpus_per_node")],
        ["type cluster.nodes=N"],
        SLURM,
    ),
    "no limit to processes": Case(
        {"cluster.max_processes": None},
        [WORLD, ("cluster.max_processes", "cluster.nodes")],
        ["type cluster.max_processes=8"],
        {"cluster.max_processes": 1},
    ),
    "CUDA graphs of a pipeline": Case(
        {"cluster.device": "cuda", "cluster.cuda_graphs": True, "parallel.pp": 2},
        [("cluster.cuda_graphs", "parallel.pp")],
        ["type cluster.cuda_graphs=false"],
        {"cluster.device": "cuda", "cluster.cuda_graphs": True},
    ),
    "CUDA graphs of a CPU": Case(
        {"cluster.cuda_graphs": True},
        [("cluster.cuda_graphs", "cluster.device")],
        ["need a GPU"],
        {"cluster.cuda_graphs": False},
    ),
    "too many processes": Case(
        {"parallel.dp": 9, "training.global_batch_size": 18},
        [WORLD],
        ["exactly 9 GPUs", "cluster=local has at most 8 processes", "parallel.dp=auto", "no known cluster fits"],
        {"parallel.dp": 8},
    ),
    "not the whole cluster": Case(
        {**GPUS_64, "parallel.dp": 8},
        [("parallel.dp", "parallel.tp", "parallel.pp", "cluster.nodes", "cluster.gpus_per_node")],
        ["exactly 8 GPUs", "has 64 GPUs, 8 a node", "clusters that fit: local (8), slurm_dev (8); type cluster=NAME"],
        {**GPUS_64, "parallel.dp": 64, "training.global_batch_size": 64},
    ),
    "tp across nodes": Case(
        {**GPUS_64, "cluster.nodes": 4, "cluster.gpus_per_node": 2, "parallel.tp": 4, "parallel.dp": "auto"},
        [("parallel.tp", "cluster.gpus_per_node")],
        ["tp=4 does not divide the 2 GPUs of a node", "legal tp: [1, 2]", "slurm_dev (8)"],
        {**GPUS_64, "cluster.nodes": 4, "cluster.gpus_per_node": 4, "parallel.tp": 4, "parallel.dp": "auto"},
    ),
}
