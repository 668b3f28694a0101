"""The data of a sweep, built or fetched once before its points are named."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mmhydra.data.prepare import prepare
from mmhydra.errors import UserError
from mmhydra.launch.points import Point
from mmhydra.launch.sweeps.compiling import name_of
from mmhydra.launch.verify import refuse_points


def with_data(
    points: Sequence[Point], compile_again: Callable[[], list[Point]], on_line: Callable[[str], None]
) -> list[Point]:
    """The points when their data is there: it is built or fetched, and looked at, once for all that share it.

    Points that had no name before are compiled again. Raises UserError for data that does not fit, of all points.
    """
    groups: dict[tuple[object, ...], list[Point]] = {}
    for point in points:
        config = point.config
        sections = id(config.data), id(config.tokens), id(config.loader)  # which points share
        groups.setdefault((*sections, config.paths.data, config.training.seq_len), []).append(point)
    prepared: dict[str, UserError | None] = {}
    faults = []
    for group in groups.values():
        config = group[0].config
        sections_text = (section.model_dump_json() for section in (config.data, config.tokens, config.loader))
        key = "\n".join([*sections_text, config.paths.data, str(config.training.seq_len)])
        if key not in prepared:
            prepared[key] = None
            try:
                prepare(
                    *(config.data, config.tokens, Path(config.paths.data), on_line),
                    store=config.loader.store,
                    seq_len=config.training.seq_len,
                    goes_on_without=config.loader.on_bad_chunk == "skip",
                )
            except UserError as error:
                prepared[key] = error
        if (fault := prepared[key]) is not None:
            faults += [(name_of(point.planned), fault) for point in group]
    if len(prepared) == 1 and faults:
        raise faults[0][1]
    refuse_points(faults, len(points))
    return compile_again() if any(point.identity is None for point in points) else list(points)
