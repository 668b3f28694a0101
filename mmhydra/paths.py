"""Where the project's own files are: in a checkout, or bundled in an installed wheel."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def checkout() -> Path | None:
    """The root of the checkout that this package runs from; None for an installed wheel."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "conf").is_dir() else None


def config_dir() -> Path:
    """The folder of Hydra groups: the bundled copy, else the checkout's."""
    bundled = _PACKAGE / "conf"
    return bundled if bundled.is_dir() else _PACKAGE.parent / "conf"


def sweeps_dir() -> Path:
    """The folder of studies: the bundled copy, else the checkout's."""
    bundled = _PACKAGE / "studies"
    return bundled if bundled.is_dir() else _PACKAGE.parent / "sweeps"


def folder(variable: str, default: str) -> str:
    """An absolute folder: from an environment variable, else below the checkout, else below the current folder.

    Without `..`, which not everybody reads alike: Python takes it out of PYTHONPATH, links or not.
    """
    value = os.environ.get(variable)
    path = Path(value).absolute() if value else (checkout() or Path.cwd()) / default
    return str(path.resolve() if ".." in path.parts else path)


def short(path: Path) -> str:
    """A path as one would type it here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
