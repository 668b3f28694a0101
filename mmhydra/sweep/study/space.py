"""The `search:` block of a study: which values are tried, by which sampler, and which trials are ended early."""

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from mmhydra.sweep.study.values import quoted

_MAX_CORNERS = 64  # compiled before the first trial is asked for

Choice = bool | int | float | str | None


class _Block(BaseModel):
    """Strict, as all of a study; unlike a run's config it has defaults, which docs/sweeps.md shows."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


def _number(value: Any) -> Any:
    """YAML reads 1e-4 as text, people mean a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _whole(value: Any) -> Any:
    number = _number(value)
    return int(number) if isinstance(number, float) and number.is_integer() else number


Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[int, BeforeValidator(_whole), Field(ge=1)]


class Dimension(_Block):
    """One key of the space: a range from `low` to `high`, both included, or a list of choices."""

    low: Number | None = None
    high: Number | None = None
    log: bool = False
    step: Number | None = None
    is_int: bool = Field(default=False, alias="int")
    choices: tuple[Choice, ...] | None = Field(default=None, min_length=1, strict=False)

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "Dimension":
        if self.choices is not None:
            if {"low", "high", "log", "step", "is_int"} & self.model_fields_set:
                raise _fault("choices stand alone; low, high, log, step and int belong to a range")
            if len(set(map(override_value, self.choices))) < len(self.choices):
                raise _fault("a choice stands twice in choices")
            return self
        if self.low is None or self.high is None:
            raise _fault("type either low and high (with log, step, int), or choices: [...]")
        if self.low > self.high:
            raise _fault(f"low {self.low:g} is above high {self.high:g}")
        if self.log and self.low <= 0:
            raise _fault(f"log needs a low above 0, it is {self.low:g}")
        if self.log and self.step is not None:
            raise _fault("log and step exclude each other; type choices: [...] for a few values of a rate")
        if self.step is not None and not 0 < self.step <= max(self.high - self.low, self.step if self.is_int else 0):
            raise _fault(f"step {self.step:g} is not between 0 and high - low = {self.high - self.low:g}")
        if self.is_int and not all(number.is_integer() for number in (self.low, self.high, self.step or 1.0)):
            raise _fault("int: true needs whole numbers for low, high and step")
        if self.step is not None and not math.isclose(steps := (self.high - self.low) / self.step, round(steps)):
            last = self.low + math.floor(steps) * self.step
            raise _fault(f"high {self.high:g} is no multiple of step {self.step:g} from low; type {last:g}")
        return self

    @property
    def num_values(self) -> int | None:
        """How many values there are; None for a range without steps."""
        if self.choices is not None:
            return len(self.choices)
        low, high = self._ends
        step = self._step
        return None if step is None else math.floor((high - low) / step + 1e-9) + 1

    @property
    def values(self) -> list[Choice] | None:
        """All values, if they can be counted."""
        if self.choices is not None:
            return list(self.choices)
        count, step = self.num_values, self._step
        if count is None or step is None:
            return None
        numbers = [self._ends[0] + number * step for number in range(count)]
        return [int(number) for number in numbers] if self.is_int else list(numbers)

    @property
    def corners(self) -> list[Choice]:
        """The values between which all others lie: both ends, or each choice."""
        if self.choices is not None:
            return list(self.choices)
        low, high = self._ends
        ends = [low, high] if low < high else [low]
        return [int(end) for end in ends] if self.is_int else list(ends)

    @property
    def _step(self) -> float | None:
        return None if self.log else self.step or (1.0 if self.is_int else None)

    @property
    def _ends(self) -> tuple[float, float]:
        assert self.low is not None, "a range"
        assert self.high is not None, "a range"
        return self.low, self.high


class Sampler(_Block):
    """Who proposes values. The same seed proposes the same first trials."""

    kind: Literal["tpe", "random", "qmc", "grid"] = "tpe"
    seed: int = Field(default=0, ge=0, lt=2**32)


class Halving(_Block):
    """Asynchronous successive halving: of the trials at `min_steps`, `min_steps * factor`, ... steps the best 1 of
    `factor` go on, the others are ended. Nobody waits for the others of a rung."""

    min_steps: Positive
    factor: Annotated[int, BeforeValidator(_whole), Field(ge=2)] = 3


class Driver(_Block):
    """Where the process lives that proposes, starts and ends trials. It needs no GPU.

    `cluster` (a choice of the group) says which SLURM takes it as a job; null: that of the trials.
    """

    where: Literal["here", "job"] = "here"
    cluster: str | None = None
    partition: str | None = None
    time_limit_min: Positive | None = None

    @model_validator(mode="after")
    def _has_a_job(self) -> "Driver":
        named = [name for name in ("cluster", "partition", "time_limit_min") if getattr(self, name) is not None]
        if self.where == "here" and named:
            raise _fault(f"{', '.join(named)}: a driver that runs here has none; type where: job")
        return self


class Search(_Block):
    """A search: `num_trials` trials in all, at most `concurrency` of them under way.

    A key of `space` is an override's key as it is typed. `attempts`: so often a trial that failed is started again
    before it counts as failed.
    """

    space: dict[str, Dimension] = Field(min_length=1)
    num_trials: Positive
    concurrency: Positive = 1
    sampler: Sampler = Sampler()
    halving: Halving | None = None
    attempts: Annotated[int, BeforeValidator(_whole), Field(ge=0)] = 2
    driver: Driver = Driver()

    @model_validator(mode="after")
    def _is_finite(self) -> "Search":
        endless = [key for key, dimension in self.space.items() if dimension.num_values is None]
        if self.sampler.kind == "grid" and endless:
            raise _fault(f"sampler grid can't count the values of {', '.join(endless)}; type step or choices there")
        return self

    @property
    def num_runs(self) -> int:
        """How many runs there will be at most: trials of equal values share one, and a grid is tried once."""
        counts = [dimension.num_values for dimension in self.space.values()]
        known = [count for count in counts if count is not None]
        return min(self.num_trials, math.prod(known)) if len(known) == len(counts) else self.num_trials


def _fault(told: str) -> PydanticCustomError:
    return PydanticCustomError("search", "{told}", {"told": told})


def override_value(value: Choice) -> str:
    """A value as the right side of an override, with enough digits that Hydra reads the very same number."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) else repr(value)


def texts(values: Mapping[str, Choice]) -> dict[str, str]:
    """The right sides of the overrides of a trial, in the order of the space."""
    return {key: override_value(value) for key, value in values.items()}


def corners(search: Search) -> Iterator[dict[str, Choice]]:
    """Points of the space that show whether its trials can be composed: all corners where they are few.

    Else each corner value of each key once, together with the first values of the other keys.
    """
    ends = {key: dimension.corners for key, dimension in search.space.items()}
    if math.prod(map(len, ends.values())) <= _MAX_CORNERS:
        yield from (dict(zip(ends, values, strict=True)) for values in product(*ends.values()))
        return
    first = {key: values[0] for key, values in ends.items()}
    yield first
    for key, values in ends.items():
        yield from (first | {key: value} for value in values[1:])
