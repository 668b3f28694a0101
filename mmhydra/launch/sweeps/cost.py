"""What the points of a sweep may cost together, before any of them starts."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mmhydra.errors import UserError
from mmhydra.launch.points import Point
from mmhydra.launch.preview import preview
from mmhydra.launch.sweeps.recording import Key, key_of, numbered
from mmhydra.monitor.words import count
from mmhydra.sweep.state.parents import at_most


@dataclass(frozen=True)
class Cost:
    """Points of one cluster, their GPU-hours at its time limit and the price of those; None where it has no limit."""

    cluster: str
    num_points: int
    gpu_hours: float | None
    usd: float | None
    confirm_gpu_hours: float | None
    is_confirmed: bool

    @property
    def needs_confirmation(self) -> bool:
        """Whether it is more than the cluster lets pass without a word."""
        limit = self.confirm_gpu_hours
        return not self.is_confirmed and limit is not None and self.gpu_hours is not None and self.gpu_hours > limit

    def __str__(self) -> str:
        points = count(self.num_points, "point")
        if self.gpu_hours is None:
            return f"{self.cluster}: {points}; the cluster has no time limit, so no price is known"
        return f"{self.cluster}: {points}, at most {self.gpu_hours:,.6g} GPU-hours, {self.usd or 0.0:,.6g} USD"


def costs(points: Sequence[Point]) -> list[Cost]:
    """The costs of points by cluster, in the order in which clusters come up."""
    by_cluster: dict[str, list[Point]] = {}
    for point in points:
        by_cluster.setdefault(point.config.cluster.name, []).append(point)
    return [_cost(cluster, members) for cluster, members in by_cluster.items()]


def _cost(cluster: str, points: Sequence[Point]) -> Cost:
    previews = [preview(point.config) for point in points]
    known = [each for each in previews if each.gpu_hours is not None]
    limits = [limit for point in points if (limit := point.config.cluster.confirm_gpu_hours) is not None]
    return Cost(
        cluster,
        len(points),
        sum(each.gpu_hours or 0.0 for each in known) if known else None,
        sum(each.usd or 0.0 for each in known) if known else None,
        min(limits, default=None),
        all(point.request.confirm for point in points),
    )


def most(points: Sequence[Point], starting: Collection[Key]) -> list[Point]:
    """Of points that would start, those that can start at most: a stage goes on with its dearest so many parents.

    `points` are all of the sweep, parents before their children.
    """
    recorded = numbered(points, ())
    hours = {key_of(each): each.gpu_hours or 0.0 for each in recorded if key_of(each) in starting}
    remaining = at_most(recorded, hours)
    return [point for point in points if key_of(point) in starting and key_of(point) in remaining]


def lines(found: Sequence[Cost]) -> list[str]:
    """A line for each cluster, and the sum."""
    told = [str(cost) for cost in found]
    priced = [cost for cost in found if cost.gpu_hours is not None]
    if len(priced) > 1:
        hours, usd = sum(cost.gpu_hours or 0.0 for cost in priced), sum(cost.usd or 0.0 for cost in priced)
        told.append(f"in all at most {hours:,.6g} GPU-hours, {usd:,.6g} USD")
    return told


def limits(found: Sequence[Cost]) -> list[str]:
    """A line with the limits of the clusters whose costs need a confirmation that was not typed; none if none do."""
    above = [cost for cost in found if cost.needs_confirmation]
    told = ", ".join(f"{cost.cluster} {cost.confirm_gpu_hours:,.6g}" for cost in above)
    return [f"above these GPU-hours (cluster.confirm_gpu_hours) a start needs confirm=true: {told}"] if above else []


def require_confirmed(found: Sequence[Cost]) -> None:
    """Raises UserError with all costs if those of a cluster need a confirmation that was not typed."""
    if told := limits(found):
        head = "the sweep may cost more than its cluster lets pass without a word:"
        raise UserError("\n".join([head, *(f"  {line}" for line in lines(found)), *told]))
