"""The parts of a study, typed. docs/sweeps.md describes what they mean."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr
from pydantic_core import PydanticCustomError

from mmhydra.config.base import Name
from mmhydra.sweep.planned import Start
from mmhydra.sweep.study.filters import Filter, FilterFault
from mmhydra.sweep.study.space import Search
from mmhydra.sweep.study.values import Value

FIRST_SEED = 42  # that of conf/config.yaml: a run without seeds in its study is the first of one with seeds


def _seeds(value: Any) -> Any:
    """A number of seeds, or the seeds."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1000:
        return tuple(range(FIRST_SEED, FIRST_SEED + value))
    if isinstance(value, tuple) and value and len(set(value)) == len(value):
        return value
    raise PydanticCustomError("seeds", "a number of seeds (1 to 1000), or a list of different seeds, is needed")


def _filters(value: Any) -> Any:
    texts = value if isinstance(value, tuple) else (value,)
    return tuple(map(_filter, texts))


def _filter(value: Any) -> Filter:
    if not isinstance(value, str):
        raise PydanticCustomError("filter", "an expression is needed, such as optim.lr < 1e-3 or model == '1b'")
    try:
        return Filter(value)
    except FilterFault as fault:
        raise PydanticCustomError("filter", "{fault}", {"fault": str(fault)}) from fault


Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], BeforeValidator(_seeds)]
Filters = Annotated[tuple[Filter, ...], BeforeValidator(_filters)]
Text = Annotated[str, Field(pattern=r"\S")]


class _Part(BaseModel):
    """Strict, as the config of a run; unlike that it has defaults: what a study leaves out does not take place."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True
    )


class Resources(_Part):
    """Overrides for the points where `when` holds; without it for all that no rule before took."""

    when: Annotated[Filter, BeforeValidator(_filter)] | None = None
    overrides: tuple[str, ...]


class Block(_Part):
    """Points: each value of each axis with each value of each other, with each place of each zip, and so on.

    Keys are those of overrides, as they are typed. `points` is None where there is no list.
    """

    overrides: tuple[str, ...] = ()
    axes: dict[str, tuple[Value, ...]] = {}
    zip: tuple[dict[str, tuple[Value, ...]], ...] = ()
    points: tuple[dict[str, Value], ...] | None = None
    only: Filters = ()
    exclude: Filters = ()
    seeds: Seeds = ()
    resources: tuple[Resources, ...] = ()

    @property
    def factors(self) -> list[list[dict[str, Value]]]:
        """What is multiplied; each factor is a list of choices, each of which sets some keys. The last goes fastest."""
        axes = [[{key: value} for value in values] for key, values in self.axes.items()]
        zips = [
            [dict(zip(block, values, strict=True)) for values in zip(*block.values(), strict=True)]
            for block in self.zip
        ]
        return [*axes, *zips, *([list(self.points)] if self.points is not None else [])]


class Stage(Block):
    """Points that come after those of an earlier stage: one of each choice for each of its points, or the best."""

    after: str | None = None
    start: Start = "none"
    best: Annotated[int, Field(ge=1)] | None = None


class Stop(_Part):
    """What ends a sweep without a person: nothing further is submitted once one of these is met."""

    metric_below: float | None = None
    metric_above: float | None = None
    gpu_hours: Annotated[float, Field(gt=0)] | None = None


class Study(Block):
    """A study as its file says it. `name`, `path` and `text` are those of the file."""

    question: Text
    stop_rule: Text
    stop: Stop = Stop()
    metric: Text = "val_loss"  # key of a record in metrics.jsonl
    direction: Literal["minimize", "maximize"] = "minimize"
    stages: dict[Name, Stage] | None = Field(default=None, min_length=1)
    search: Search | None = None

    _path: Path = PrivateAttr(default=Path())
    _text: str = PrivateAttr(default="")

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self._path.stem

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def text(self) -> str:
        """The file as it was read."""
        return self._text

    @property
    def all_stages(self) -> dict[str | None, Stage]:
        """The stages in their order; a study without any is one of no name."""
        if self.stages is not None:
            return {name: stage for name, stage in self.stages.items()}
        names = ("axes", "zip", "points", "only", "exclude", "seeds")
        return {None: Stage.model_construct(None, **{name: getattr(self, name) for name in names})}
