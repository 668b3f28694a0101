"""The points of a sweep, each composed, checked, named and in its frozen text, before the first of them starts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from mmhydra.compose import Request, known_clusters
from mmhydra.compose.many import Compiler, NotStock, new_seed, recheck
from mmhydra.config import secrets
from mmhydra.config.cluster import Cluster
from mmhydra.config.facts import Facts, TokenCount
from mmhydra.config.frozen import config_sha256, flatten, to_yaml
from mmhydra.config.schema import RunConfig
from mmhydra.config.shared import OfObjects
from mmhydra.data.datasets import load, token_counts
from mmhydra.data.shards.manifest import Manifest
from mmhydra.launch.naming import name_run, require_starts
from mmhydra.launch.verify import (
    data_at_hand,
    refuse_secret_options,
    refuse_secret_overrides,
    refuse_secrets,
    say_on_stderr,
    verify,
)
from mmhydra.run.directory import RunDirectory
from mmhydra.run.identity import Identity, identity_fields
from mmhydra.sweep.planned import Planned


@dataclass(frozen=True)
class Point:
    """A run that may start. `text` is what will be frozen as its config.yaml.

    `identity` is None while datasets that it needs are not at hand (`missing`). Points of the same `key` are one run:
    its folder, its name, and what makes its numbers as far as that is known. `planned` is what it was before it was
    composed, and `parent` the point of an earlier stage that it comes after; `more_parents` as in `Planned`.
    """

    request: Request
    text: bytes
    sha256: str
    missing: tuple[str, ...]
    identity: Identity | None
    key: tuple[str, str, str]
    planned: Planned = field(default_factory=lambda: Planned(()))
    parent: "Point | None" = None
    more_parents: tuple["Point", ...] = ()

    @property
    def parents(self) -> tuple["Point", ...]:
        """All points whose child it is."""
        return (*(() if self.parent is None else (self.parent,)), *self.more_parents)

    @property
    def config(self) -> RunConfig:
        """What will be frozen."""
        return self.request.config

    @property
    def run(self) -> RunDirectory:
        """Where the run is or will be; a place that stands for it while its data is not at hand."""
        outputs, name, run_id = self.key
        return self.request.run or RunDirectory(Path(outputs) / name / run_id)

    @property
    def run_id(self) -> str | None:
        """None while its data is not at hand."""
        return self.key[-1] if self.identity is not None else None


class _Data(NamedTuple):
    missing: tuple[str, ...]
    manifests: dict[str, Manifest] | None  # None: they are there, and don't fit
    counts: Mapping[tuple[str, str], TokenCount]


class PointCompiler:
    """Makes points of one sweep one after another, as a single run is made, but for work that is alike.

    The files of conf/ and of the user's folders, the environment, the clusters and the data below paths.data are taken
    as they are when they are first read.
    """

    def __init__(self, config_dirs: Sequence[Path] = (), say: Callable[[str], None] = say_on_stderr) -> None:
        self.compiler = Compiler(config_dirs)
        self._say = say  # notes and warnings of points
        self._config_dirs = tuple(config_dirs)
        self._data: OfObjects[_Data] = OfObjects()
        self._identities: OfObjects[dict[str, Any]] = OfObjects()
        self._clean: OfObjects[bool] = OfObjects()
        self._clean_texts: set[str] = set()
        self._clusters: dict[tuple[Path, ...], dict[str, Cluster]] = {}

    def point(self, overrides: Sequence[str], parent: Point | None = None) -> Point:
        """One point. Raises UserError, as for a run of its own; says its notes.

        `parent` is the point whose checkpoint the overrides name, if that is still to be written.
        """
        if not all(map(self._is_clean_text, overrides)):
            refuse_secret_overrides(overrides)
        request = self.compiler.compose(overrides)
        verify(request, self._facts, self._refuse_secrets, self._say)
        config = request.config
        text = self.compiler.sections.to_yaml(config)
        data = self._data_of(config)
        identity: Identity | None = None
        if request.run is not None:  # a run that goes on is the one it was; its start looks whether it still can
            identity = request.run.read_identity()
            run_id = identity.run_id
        elif data.missing:
            require_starts(config)
            run_id = self._provisional(config)
        else:
            manifests = data.manifests
            if manifests is None:  # tells what does not fit
                manifests = load(config.data, config.tokens, Path(config.paths.data))
            identity = _named(config, manifests, self._fields, parent)
            run_id = identity.run_id
        key = config.paths.outputs, config.name, run_id
        return Point(request, text, config_sha256(text), data.missing, identity, key, parent=parent)

    def recheck(self, points: Sequence[Point], *, share: float = 0.01, seed: int | None = None) -> None:
        """Composes a random share of points, at least one, the stock way, and writes and names them so.

        Raises NotStock that names the point, the fields and the seed that chose it if anything differs.
        """
        seed = new_seed() if seed is None else seed
        requests = [point.request for point in points]
        for index, stock in recheck(requests, self._config_dirs, share=share, seed=seed):
            point = points[index]
            config = stock.config
            told = f"point {index + 1} ({' '.join(point.request.overrides)}), rechecked with seed {seed}"
            if point.text != to_yaml(config):
                raise NotStock(f"{told}: its frozen text is not that of its config")
            if point.identity is not None and stock.run is None:
                manifests = load(config.data, config.tokens, Path(config.paths.data))
                if point.identity != _named(config, manifests, None, point.parent):
                    raise NotStock(f"{told}: its identity is not that of its config")

    def _provisional(self, config: RunConfig) -> str:
        """Stands for the run id while the data is not there: the checkpoints by their paths, the data by its names."""
        document = {
            "config": identity_fields(config, self._fields),
            "starts": [config.checkpoint.init_from, config.checkpoint.extend_from],
        }
        return Identity(document).run_id

    def _fields(self, section: BaseModel) -> dict[str, Any]:
        return self._identities.get(lambda: identity_fields(section), section)

    def _facts(self, request: Request) -> Facts:
        folders = request.config_dirs
        if folders not in self._clusters:
            self._clusters[folders] = known_clusters(folders)
        return Facts(self._clusters[folders], self._data_of(request.config).counts)

    def _data_of(self, config: RunConfig) -> _Data:
        data, tokens, paths = config.data, config.tokens, config.paths

        def read() -> _Data:
            missing, manifests = data_at_hand(data, tokens, Path(paths.data))
            return _Data(tuple(missing), manifests, token_counts(manifests or {}))

        return self._data.get(read, data, tokens, paths)

    def _refuse_secrets(self, request: Request) -> None:
        """See `refuse_secrets`, which looks again and tells the places where a section has something."""
        config = request.config
        refuse_secret_options(request)
        for name in RunConfig.model_fields:
            value = getattr(config, name)
            if isinstance(value, BaseModel):
                is_clean = self._clean.get(partial(_is_clean, name, value), value)
            else:
                is_clean = self._is_clean_text(value)
            if not is_clean:
                refuse_secrets(request)
                return

    def _is_clean_text(self, text: str) -> bool:
        if text not in self._clean_texts:
            if text.startswith(secrets.PREFIX) or any(secrets.find_in_values({"": text})):
                return False
            self._clean_texts.add(text)
        return True


def _named(
    config: RunConfig,
    manifests: Mapping[str, Manifest],
    of_section: Callable[[BaseModel], dict[str, Any]] | None,
    parent: Point | None,
) -> Identity:
    return name_run(config, manifests, of_section, None if parent is None else parent.config)


def _is_clean(name: str, section: BaseModel) -> bool:
    """Whether nothing in a section is a secret, or names one where only a tracker may."""
    texts = {key: value for key, value in flatten(section.model_dump()).items() if isinstance(value, str)}
    names_one = name != "track" and any(value.startswith(secrets.PREFIX) for value in texts.values())
    return not names_one and not any(secrets.find_in_values(texts))
