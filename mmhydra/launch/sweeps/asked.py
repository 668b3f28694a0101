"""What one command line with -m asks for, and the points that it means."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mmhydra.config.base import Name
from mmhydra.config.typed import COMMAND_KEYS
from mmhydra.errors import UserError
from mmhydra.sweep.planned import Planned
from mmhydra.sweep.study.expand import expand
from mmhydra.sweep.study.files import Study, find_study, read_study
from mmhydra.sweep.study.overrides import split

_NAME = TypeAdapter(Name)


@dataclass(frozen=True)
class Asked:
    """A command line with -m.

    `typed` are its overrides but for `sweep=`, and `points` what Hydra's sweeper makes of them: of each combination of
    values one plain list. `command` is all that was typed behind `python -m mmhydra.train`.
    """

    study: str | None
    typed: tuple[str, ...]
    points: tuple[tuple[str, ...], ...]
    config_dirs: tuple[Path, ...] = ()
    prune: bool = False
    command: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the sweep: the same command always leads to the same folder."""
        texts = sorted(text for text in self.typed if not is_of_command(text))
        folders = [str(folder.absolute()) for folder in self.config_dirs if self.study is None]  # a study has one name
        digest = hashlib.sha256("\n".join([*texts, *folders]).encode()).hexdigest()
        if self.study is None:
            return f"multirun-{digest[:8]}"
        name = Path(self.study).stem if self.study.endswith(".yaml") else self.study
        return f"{name}-{digest[:6]}" if texts else name

    def study_file(self) -> Path | None:
        """Where the study is. Raises UserError if there is none of this name, or if it can't name a sweep."""
        if self.study is None:
            return None
        path = find_study(self.study, self.config_dirs)
        try:
            _NAME.validate_python(path.stem)
        except ValidationError as error:
            raise UserError(
                f"{path}: a sweep has the name of its study, and {path.stem!r} can't be one: names are at most 100 "
                "letters, digits, ., _ and -, and begin with a letter or digit; rename the file"
            ) from error
        return path

    def read_study(self) -> Study | None:
        """The study; None for a plain -m. Raises UserError."""
        path = self.study_file()
        return None if path is None else read_study(path, {split(text).key for text in self.typed})


def is_of_command(override: str) -> bool:
    """Whether an override is one of the keys that say what to do with a run, and not what it is."""
    return override.partition("=")[0].lstrip("+") in COMMAND_KEYS


def planned_points(asked: Asked, study: Study | None) -> list[Planned]:
    """All points of a command line, not composed. Raises UserError."""
    if study is not None:
        return expand(study, asked.points)
    return [Planned(tuple(texts), label) for texts, label in zip(asked.points, _labels(asked.points), strict=True)]


def _labels(points: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """What of each point is not the same in all: the keys that were swept."""
    pairs = [[(key, value) for key, _, value in (text.partition("=") for text in texts)] for texts in points]
    same = set(pairs[0]).intersection(*pairs) if len(pairs) > 1 else set()
    return [{key: value for key, value in each if (key, value) not in same} for each in pairs]
