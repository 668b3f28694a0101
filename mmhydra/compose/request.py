"""What one command line asks for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmhydra.config.explain import Clash, Provenance
from mmhydra.config.schema import RunConfig
from mmhydra.run.directory import RunDirectory

DryRun = Literal["config", "sbatch", "freeze"] | None


@dataclass(frozen=True)
class Request:
    """A run, and what to do with it.

    `config_dirs` are the folders of the user's own groups. `run` is the directory that `resume=` names. `origins`
    says where each value comes from.
    """

    config: RunConfig
    overrides: tuple[str, ...]
    dry_run: DryRun
    confirm: bool
    origins: "LazyProvenance"
    config_dirs: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    run: RunDirectory | None = None
    code_is_frozen: bool = False  # the code of the attempt before, whatever the checkout holds now

    @property
    def only_prints(self) -> bool:
        """Whether nothing is written."""
        return self.dry_run in ("config", "sbatch")

    @property
    def cluster_is_explicit(self) -> bool:
        """Whether the command line named the cluster, so that it must be right even in a dry run."""
        return any(override.lstrip("+").startswith("cluster=") for override in self.overrides)


class LazyProvenance:
    """Where values come from, found out at the first question: most runs never ask."""

    def __init__(self, find: Callable[[], Provenance]) -> None:
        self._find = find
        self._found: Provenance | None = None

    def provenance(self) -> Provenance:
        """The whole history."""
        if self._found is None:
            self._found = self._find()
        return self._found

    def describe(self, keys: Sequence[str]) -> list[str]:
        """See `Provenance.describe`."""
        return self.provenance().describe(keys)

    def clashes(self) -> list[Clash]:
        """See `Provenance.clashes`."""
        return self.provenance().clashes()
