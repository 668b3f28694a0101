"""Cross-field rules: every one is evaluated, every failure is reported, none needs torch.

A rule yields what is wrong, which values are legal and what to type. It agrees with torchtitan or is stricter, never
laxer; tests/titan builds torchtitan's own trainer beside it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.rules.checkpoint import awaits, retention, start
from mmhydra.config.rules.data import sources, token_budget, validation, vocabulary
from mmhydra.config.rules.machines import cluster_size, cuda_graphs, tp_in_node, world_size
from mmhydra.config.rules.model import heads
from mmhydra.config.rules.parallel import batch, fsdp_rows, microbatches, replicas, sequence, stages, tp_shards
from mmhydra.config.rules.paths import folders
from mmhydra.config.rules.precision import float8
from mmhydra.config.rules.schedule import shares
from mmhydra.config.rules.slurm import slurm_cpus, slurm_dependency, slurm_paths, slurm_section, slurm_texts, slurm_time
from mmhydra.config.rules.slurm_node_lists import slurm_nodes
from mmhydra.config.rules.slurm_sbatch import slurm_memory, slurm_options
from mmhydra.config.rules.slurm_script import slurm_container, slurm_environment, slurm_setup, slurm_srun
from mmhydra.config.rules.training import intervals, length, rate, warmup
from mmhydra.config.schema import RunConfig

Rule = Callable[[RunConfig, Facts], Iterator[Problem]]

# What sbatch, srun or the batch script would refuse, ignore, or take for something else.
SLURM_RULES: tuple[Rule, ...] = (
    slurm_section,
    slurm_time,
    slurm_nodes,
    slurm_dependency,
    slurm_texts,
    slurm_environment,
    slurm_setup,
    slurm_srun,
    slurm_options,
    slurm_memory,
    slurm_container,
    slurm_paths,
    slurm_cpus,
)

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
    sources,
    shares,
    token_budget,
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
