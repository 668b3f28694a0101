"""What a run will be, and what it may cost, before it is started."""

from dataclasses import dataclass

from mmhydra.config.budget import budgets, epochs_text, planned_budgets, summary
from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.schema import RunConfig


@dataclass(frozen=True)
class Preview:
    """Size of a run; hours and price at the time limit of its cluster, None where there is no limit.

    `heldout_batches` are those of an evaluation, which takes no step; `tokens` are then theirs.
    """

    world_size: int
    steps: int
    tokens: int
    limit_h: float | None
    usd_per_gpu_hour: float
    heldout_batches: int | None = None

    @property
    def gpu_hours(self) -> float | None:
        """Devices times hours, if the run takes all of its time."""
        return None if self.limit_h is None else self.world_size * self.limit_h

    @property
    def usd(self) -> float | None:
        """The price of the GPU-hours."""
        return None if self.gpu_hours is None else self.gpu_hours * self.usd_per_gpu_hour

    def __str__(self) -> str:
        processes = "1 process" if self.world_size == 1 else f"{self.world_size:,} processes"
        steps = "1 step" if self.steps == 1 else f"{self.steps:,} steps"
        if self.heldout_batches is not None:
            batches = "1 batch" if self.heldout_batches == 1 else f"{self.heldout_batches:,} batches"
            steps = f"the held-out loss of {batches}"
        size = f"{processes}, {steps}, {self.tokens:,} tokens"
        if self.gpu_hours is None:
            return (
                size if self.usd_per_gpu_hour == 0 else f"{size}; the cluster has no time limit, so no price is known"
            )
        cost = f"{_number(self.gpu_hours)} GPU-hours, {_number(self.usd or 0.0)} USD"
        return f"{size}; at the time limit of {self.limit_h:.3g} h {cost}"


def _number(value: float) -> str:
    """Whole, but where that would hide most of it."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def preview(config: RunConfig) -> Preview:
    """The preview of a config that keeps the rules."""
    limit = config.cluster.time_limit_min
    steps = config.training.num_steps
    heldout = config.training.validation_batches if config.evaluates else None
    return Preview(
        world_size=config.world_size,
        steps=steps,
        tokens=(steps if heldout is None else heldout) * config.training.tokens_per_step,
        limit_h=None if limit is None else limit / 60,
        usd_per_gpu_hour=config.cluster.usd_per_gpu_hour,
        heldout_batches=heldout,
    )


def budget_lines(config: RunConfig, facts: Facts) -> list[str]:
    """What the run takes of each source, one a line, and whether the data at hand covers the plan of the mix.

    Empty where no manifest is at hand, and for an evaluation, which takes nothing. For a config that keeps the rules.
    """
    if config.evaluates:
        return []
    run, plan = budgets(config, facts), planned_budgets(config, facts)
    if not any(found.there for found in run):
        return []
    lines = [f"budget of {found}" for found in run]
    lines.append(summary(run))
    if plan:
        lines.append(f"the plan of {config.data.planned_tokens:,} tokens: {summary(plan)}")
    for found in plan:
        if found.is_exceeded:
            epochs = f"{epochs_text(found.epochs)} epochs, at most {found.limit:g} are allowed"
            lines.append(
                f"note: the plan needs {found.needed:,} tokens of {found.name}, {found.there:,} are there: {epochs}"
            )
    missing = [found for found in plan if found.there is None]
    if missing:
        tokens = sum(found.needed for found in missing)
        names = ", ".join(found.name for found in missing)
        lines.append(f"note: {tokens:,} tokens of the plan are not covered: the manifest of {names} is not at hand")
    return lines


def unconfirmed(config: RunConfig, *, confirm: bool) -> list[Problem]:
    """The problem of a start that costs more than the cluster lets pass without a word."""
    hours, limit = preview(config).gpu_hours, config.cluster.confirm_gpu_hours
    if confirm or hours is None or limit is None or hours <= limit:
        return []
    message = f"{preview(config)}; above {_number(limit)} GPU-hours a start needs confirm=true"
    return [Problem(("cluster.confirm_gpu_hours", "cluster.time_limit_min"), message, rule="confirm")]
