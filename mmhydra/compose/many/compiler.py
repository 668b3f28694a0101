"""Many command lines over the same folders: each gives what `compose` gives, and work that is alike is done once."""

import random
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import OmegaConf

from mmhydra.compose.command_line import Parsed, parse, require_known
from mmhydra.compose.composing import compose, to_request
from mmhydra.compose.loader import CONFIG_NAME, open_loader
from mmhydra.compose.many.base import Base, Bases
from mmhydra.compose.many.files import Files, Overrides, is_plain
from mmhydra.compose.many.interpolations import is_ordinary
from mmhydra.compose.origins import layer_of, provenance
from mmhydra.compose.request import LazyProvenance, Request
from mmhydra.config.explain import Provenance
from mmhydra.config.frozen import flatten
from mmhydra.config.shared import SharedSections
from mmhydra.errors import UserError

_OWN_COMPOSITION = ("hydra", "resume", "extend", "defaults")  # keys that change more than values
_WORDS = re.compile(r"[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*")  # a key without numbers and brackets
_KEY = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+|\[[\w-]+\])*")
_FIELDS = ("overrides", "dry_run", "confirm", "config_dirs", "warnings", "run", "code_is_frozen")


class NotStock(AssertionError):
    """A point that was composed the fast way is not what stock composition makes of it: a mistake of ours."""


@dataclass
class Tiers:
    """How many points went which way."""

    values: int = 0  # other values of existing scalars
    overrides: int = 0  # anything else that Hydra can apply to a combination
    stock: int = 0


@dataclass(frozen=True)
class _Combination:
    groups: tuple[str, ...]
    base: Base
    files: LazyProvenance


class Compiler:
    """Composes points one after another. Not for several threads.

    A point comes about in one of three ways. The choices of groups are composed once for each combination of them.
    Where a point gives existing scalars other values, these are put into the plain values of its combination, and what
    interpolates them is resolved again. Any other override of values is applied by Hydra to copies of the keys that it
    touches. What is left, and every point with a fault, is composed the stock way.

    Files and the environment are taken as they are when they are first read. Points share sections of their configs,
    which are frozen; lists inside of them must not be changed.
    """

    def __init__(self, config_dirs: Sequence[Path] = ()) -> None:
        self.sections = SharedSections()
        self.tiers = Tiers()
        self._config_dirs = tuple(config_dirs)
        self._overrides = Overrides()
        self._combinations: dict[tuple[str, ...], _Combination | None] = {}
        self._legal: set[str] = set()
        self._files: Files | None = None
        with suppress(Exception):  # folders that can't be used: stock composition tells why
            loader = open_loader(self._config_dirs)
            files = Files(loader.repository)
            self._bases = Bases(loader, files, has_own_folders=bool(config_dirs))
            if config_dirs:
                shipped = open_loader(())
                of_conf = Bases(shipped, Files(shipped.repository), has_own_folders=False)
                # MMHYDRA_CLUSTER may name a cluster that only the user's folders have.
                local = self._overrides.parse_override("cluster=local")
                self._bases.shipped_hydra = of_conf.hydra_files([local])
            # A search path in conf/config.yaml would bring files that are not among these.
            if OmegaConf.select(files.load(CONFIG_NAME).config, "hydra.searchpath") is None:
                self._files = files

    def compose(self, overrides: Sequence[str]) -> Request:
        """What `mmhydra.compose.compose` gives. Raises what it raises."""
        parsed = parse(overrides, self._overrides)
        found = self._values(parsed) if self._files is not None else None
        if found is None:
            self.tiers.stock += 1
            return compose(overrides, self._config_dirs)
        tree, origins = found
        return to_request(tree, parsed, origins, self._config_dirs, self.sections.to_run_config)

    def _values(self, parsed: Parsed) -> tuple[dict[str, Any], LazyProvenance] | None:
        """The plain values of a point and where they come from; None if only stock composition can tell."""
        files = self._files
        assert files is not None
        groups: list[Override] = []
        values: list[Override] = []
        for override in parsed.overrides:
            if not self._is_legal(override, files):
                return None
            # As hydra._internal.defaults_list.Overrides tells them apart.
            is_choice = files.group_exists(override.key_or_group) and not isinstance(override.value(), dict)
            (groups if is_choice else values).append(override)
        combination = self._combination(groups)
        if combination is None:
            return None
        try:
            tree = None
            if all(
                override.type is OverrideType.CHANGE
                and is_plain(override.value())
                and _WORDS.fullmatch(override.key_or_group)
                for override in values
            ):
                tree = self._bases.with_values(combination.base, values)
            if tree is not None:
                self.tiers.values += 1
            else:
                tree = self._bases.with_overrides(combination.base, values)
                self.tiers.overrides += 1
        except Exception:
            return None
        below = combination.files
        return tree, LazyProvenance(lambda: Provenance([*below.provenance().layers, *map(layer_of, values)]))

    def _is_legal(self, override: Override, files: Files) -> bool:
        """Whether an override is one that stock composition lets pass, and that changes values or choices alone."""
        text = override.input_line or ""
        if text not in self._legal:
            key = override.key_or_group
            if (
                override.is_sweep_override()
                or key.replace("/", ".").partition(".")[0] in _OWN_COMPOSITION
                or not _KEY.fullmatch(key.replace("/", "."))
                or not is_ordinary(text)
            ):
                return False
            try:
                require_known([override], files, sweeping=False)
            except Exception:
                return False
            self._legal.add(text)
        return True

    def _combination(self, groups: Sequence[Override]) -> _Combination | None:
        texts = tuple(override.input_line or "" for override in groups)
        if texts not in self._combinations:
            made = None
            with suppress(Exception):
                base = self._bases.make(groups)
                folders = self._config_dirs
                made = _Combination(texts, base, LazyProvenance(lambda: provenance(texts, folders)))
            self._combinations[texts] = made
        return self._combinations[texts]


def new_seed() -> int:
    """Chooses which points are rechecked: others each time, so that in the end all are."""
    return random.SystemRandom().randrange(2**32)


def recheck(
    requests: Sequence[Request], config_dirs: Sequence[Path] = (), *, share: float = 0.01, seed: int | None = None
) -> list[tuple[int, Request]]:
    """Composes a random share of points, at least one, the stock way too. Returns the numbers of those, and what came.

    Raises NotStock that names the point, the fields and the seed that chose it if anything differs.
    """
    if not requests:
        return []
    seed = new_seed() if seed is None else seed
    number = min(len(requests), max(1, round(share * len(requests))))
    again = []
    for index in sorted(random.Random(seed).sample(range(len(requests)), number)):
        request = requests[index]
        point = f"point {index + 1} ({' '.join(request.overrides)}), rechecked with seed {seed},"
        try:
            stock = compose(request.overrides, config_dirs)
        except UserError as error:
            raise NotStock(f"{point}: stock composition refuses it: {error}") from error
        if lines := unlike(request, stock):
            raise NotStock("\n".join([f"{point} is not what stock composition makes of it:", *lines]))
        again.append((index, stock))
    return again


def unlike(request: Request, stock: Request) -> list[str]:
    """A line for each field in which a request differs from one of stock composition; texts compare types too."""
    here, there = (flatten(one.config.model_dump()) for one in (request, stock))
    lines = [
        f"  {key}: {here.get(key, 'absent')!r}, stock {there.get(key, 'absent')!r}"
        for key in dict.fromkeys([*there, *here])
        if repr(here.get(key, "absent")) != repr(there.get(key, "absent"))
    ]
    if not lines and list(here) != list(there):
        lines.append("  the order of the keys")
    lines += [
        f"  {name}: {getattr(request, name)!r}, stock {getattr(stock, name)!r}"
        for name in _FIELDS
        if getattr(request, name) != getattr(stock, name)
    ]
    return lines
