"""What a search was started with: written once, so that every driver of it does the same, wherever it runs.

The code and conf/ come from the sweep's origin, the study from its study.yaml; here is the rest.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import mmhydra
from mmhydra import paths
from mmhydra.config import secrets
from mmhydra.errors import UserError
from mmhydra.files import read_object, write_json
from mmhydra.launch.search.trials import Composer
from mmhydra.launch.sweeps.freezing import SweepOrigin
from mmhydra.sweep.record import SETTING, SweepDirectory
from mmhydra.sweep.study.space import Choice

JOURNAL = "journal.log"
_VERSION = 1
_FROZEN = "MMHYDRA_FROZEN"  # of a process that was started over: the code that it is to run
_READ_BY_CONF = ("MMHYDRA_CACHE", "MMHYDRA_CLUSTER", "MMHYDRA_REMOTE", "MMHYDRA_WEIGHTS", "SLURM_CONF")


@dataclass(frozen=True)
class Setting:
    """`typed` stood beside the study. `probe` are values whose config had `probe_sha256` then."""

    typed: tuple[str, ...]
    probe: Mapping[str, Choice]
    probe_sha256: str
    folder: str  # where the command was typed: relative paths start there
    environment: Mapping[str, str]

    def write(self, sweep: SweepDirectory) -> None:
        """For whoever holds the sweep's lease."""
        sweep.search.mkdir(parents=True, exist_ok=True)
        write_json(sweep.search / SETTING, {"schema_version": _VERSION, **asdict(self)})


def surroundings() -> dict[str, str]:
    """The variables that conf/ is made of. The folders have values always: a driver's would follow from its own place.

    No others: an environment can hold secrets. Raises SecretError for one in these.
    """
    given = {name: os.environ[name] for name in _READ_BY_CONF if name in os.environ}
    folders = {"MMHYDRA_DATA": paths.folder("MMHYDRA_DATA", "data")}
    found = {**given, **folders, "MMHYDRA_OUTPUTS": paths.folder("MMHYDRA_OUTPUTS", "outputs")}
    secrets.refuse(secrets.find_in_values({f"${name}": value for name, value in found.items()}))
    return found


def read_setting(sweep: SweepDirectory) -> Setting:
    """The setting of a search. Raises UserError."""
    file = sweep.search / SETTING
    document = read_object(file)
    version = document.pop("schema_version", None)
    try:
        if version != _VERSION:
            raise ValueError(f"it has version {version}, this code reads version {_VERSION}")
        return Setting(**{**document, "typed": tuple(document["typed"])})
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{file} can't be read: {error}; it says what the search was started with") from error


def require_same(setting: Setting, composer: Composer) -> None:
    """Refuses to drive where trials would be composed in another way. Raises UserError."""
    found = composer(0, setting.probe).recorded.config_sha256
    if found != setting.probe_sha256:
        raise UserError(
            f"trials are not composed here as they were when the search began: the config of its first corner has "
            f"SHA-256 {found[:12]}, recorded is {setting.probe_sha256[:12]}. Variables of the shell that conf/ reads "
            "are not what they were, or the code is another; drive it from the shell that it was started in"
        )


def use_frozen_code(sweep: SweepDirectory, origin: SweepOrigin, arguments: Sequence[str]) -> None:
    """Starts this process over as `python -m mmhydra.drive`, with the code and the surroundings of the sweep.

    Returns if they are that already. From then on editing code or YAML changes nothing. Raises UserError where Python
    takes another mmhydra all the same.
    """
    snapshot, imported = origin.snapshot, Path(mmhydra.__file__)
    was_for = os.environ.pop(_FROZEN, None)
    if imported.resolve().is_relative_to(snapshot.path.resolve()):
        return
    if was_for == snapshot.sha256:
        raise UserError(
            f"Python imports mmhydra from {imported.parent}, though PYTHONPATH begins with {snapshot.path}, the code "
            "that the sweep started with. See what puts the other folder first (sitecustomize, a .pth file, an import "
            "hook), or whether .. comes after a link in that path; then type this again"
        )
    environment = {"MMHYDRA_DATA": paths.folder("MMHYDRA_DATA", "data"), "MMHYDRA_OUTPUTS": str(sweep.outputs)}
    if sweep.is_search:
        setting = read_setting(sweep)
        environment = dict(setting.environment)
        if Path(setting.folder).is_dir():
            os.chdir(setting.folder)
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ.update(environment)
    os.environ.update({**snapshot.variables(os.environ), _FROZEN: snapshot.sha256})
    os.execv(sys.executable, [sys.executable, "-m", "mmhydra.drive", *arguments])
