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
from mmhydra.errors import UserError
from mmhydra.files import read_object, write_json
from mmhydra.launch.search.trials import Composer
from mmhydra.launch.sweeps.freezing import SweepOrigin
from mmhydra.sweep.record import SweepDirectory
from mmhydra.sweep.study.space import Choice

_FILE = "setting.json"
JOURNAL = "journal.log"
_VERSION = 1
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
        write_json(sweep.search / _FILE, {"schema_version": _VERSION, **asdict(self)})


def surroundings() -> dict[str, str]:
    """The variables that conf/ is made of. The folders have values always: a driver's would follow from its own place.

    No others: an environment can hold secrets.
    """
    given = {name: os.environ[name] for name in _READ_BY_CONF if name in os.environ}
    folders = {"MMHYDRA_DATA": paths.folder("MMHYDRA_DATA", "data")}
    return {**given, **folders, "MMHYDRA_OUTPUTS": paths.folder("MMHYDRA_OUTPUTS", "outputs")}


def is_search(sweep: SweepDirectory) -> bool:
    """Whether a sweep is a search."""
    return (sweep.search / _FILE).is_file()


def read_setting(sweep: SweepDirectory) -> Setting:
    """The setting of a search. Raises UserError."""
    file = sweep.search / _FILE
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

    Returns if they are that already. From then on editing code or YAML changes nothing.
    """
    if Path(mmhydra.__file__).is_relative_to(origin.snapshot.path):
        return
    environment = {"MMHYDRA_DATA": paths.folder("MMHYDRA_DATA", "data"), "MMHYDRA_OUTPUTS": str(sweep.outputs)}
    if is_search(sweep):
        setting = read_setting(sweep)
        environment = dict(setting.environment)
        if Path(setting.folder).is_dir():
            os.chdir(setting.folder)
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ.update(environment)
    os.environ.update(origin.snapshot.variables(os.environ))
    os.execv(sys.executable, [sys.executable, "-m", "mmhydra.drive", *arguments])
