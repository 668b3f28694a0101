"""Rules of checkpoints: which are kept, and which one a run starts from."""

from collections.abc import Iterator

from mmhydra.config.checkpoint import awaited
from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.schema import RunConfig


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
