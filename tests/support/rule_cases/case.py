"""What the cases of all rules share."""

from typing import Any, NamedTuple

from mmhydra.compose import known_clusters


class Case(NamedTuple):
    """`wrong` and `right` are changes of the default config; `problems` the keys of each problem in order."""

    wrong: dict[str, Any]
    problems: list[tuple[str, ...]]
    texts: list[str]
    right: dict[str, Any]


BOTH = {"training.steps": None, "training.tokens": 409_600}
SECTION = known_clusters()["h100_64"].slurm.model_dump()
JOBS = {"cluster.kind": "slurm", "cluster.time_limit_min": 60, "cluster.slurm": SECTION}
SLURM = {**JOBS, "cluster.nodes": 1, "cluster.gpus_per_node": 1}
RANGE = {"name": "text", "modality": "text", "size": 1024, "start": None}

# Text alone, from two sources: the cases are about what they change.
SOURCES = [
    {"name": "stdlib_code", "dataset": "demo-v2", "modality": "text", "weight": 0.8},
    {"name": "stdlib_docs", "dataset": "demo-v2", "modality": "text", "weight": 0.2},
]
TEXT_ONLY = {
    "tokens.ranges": [{**RANGE, "size": 2048}],
    "tokens.special": ["<|endoftext|>"],
    "data.sources": SOURCES,
}
