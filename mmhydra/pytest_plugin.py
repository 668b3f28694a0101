"""pytest with config overrides: `pytest --override model=1b`, `run_config`, `@pytest.mark.overrides`, `config_check`.

Every pytest run of an environment that holds mmhydra loads this module, so it imports pytest alone: Hydra and the
rest come with the first test that asks for a config.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mmhydra.config.schema import RunConfig
    from mmhydra.testing import ConfigCheck

MARKER = "overrides"
_FOLDERS = pytest.StashKey[tuple[Path, ...]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares the options and the ini option."""
    group = parser.getgroup("mmhydra")
    group.addoption(
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="mmhydra_overrides",
        help="override a value or choose from a group in the fixture run_config; may be repeated, wins over markers",
    )
    group.addoption(
        "--config-dir",
        action="append",
        default=[],
        metavar="DIR",
        dest="mmhydra_config_dirs",
        help="folder of your own config groups, instead of the ini option mmhydra_config_dir; write --config-dir=DIR",
    )
    parser.addini("mmhydra_config_dir", "folders of your own config groups, relative to this file", "paths", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker. Raises UsageError for what no test could use."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(*overrides): overrides of the fixture run_config, such as 'model=1b'; the nearest marker wins",
    )
    for override in config.getoption("mmhydra_overrides"):
        if "=" not in override and not override.startswith("~"):
            raise pytest.UsageError(f"--override {override}: not of the form KEY=VALUE")
    given = config.getoption("mmhydra_config_dirs")
    here = config.invocation_params.dir
    source = "--config-dir" if given else "mmhydra_config_dir"
    folders: tuple[Path, ...] = tuple(here / folder for folder in given) or tuple(config.getini("mmhydra_config_dir"))
    for folder in folders:
        if not folder.is_dir():
            raise pytest.UsageError(f"{source} {folder}: there is no such folder")
    config.stash[_FOLDERS] = folders


def pytest_report_header(config: pytest.Config) -> str | None:
    """The overrides of this run, and the folders that the command line names."""
    options = {"--override": "mmhydra_overrides", "--config-dir": "mmhydra_config_dirs"}
    given = [f"{option} {value}" for option, name in options.items() for value in config.getoption(name)]
    return f"mmhydra: {' '.join(given)}" if given else None


@pytest.fixture
def run_config(request: pytest.FixtureRequest) -> RunConfig:
    """The config of the overrides of this test: those of its markers, then those of --override, which win.

    It is composed, not checked by the rules; `config_check.legal` does that.
    """
    from mmhydra.compose import compose
    from mmhydra.errors import UserError

    overrides = merged([*_marked(request.node), *request.config.getoption("mmhydra_overrides")])
    folders = request.config.stash[_FOLDERS]
    try:
        return compose(overrides, folders).config
    except UserError as error:
        message = str(error)
    pytest.fail(f"run_config of {' '.join(overrides)}\n{message}", pytrace=False)


@pytest.fixture(scope="session")
def config_check(pytestconfig: pytest.Config) -> ConfigCheck:
    """`.legal(*overrides)` and `.illegal(*overrides, because=...)` with the config folders of this run."""
    from mmhydra.testing import ConfigCheck

    return ConfigCheck(pytestconfig.stash[_FOLDERS])


def merged(overrides: Iterable[str]) -> list[str]:
    """Each key once, with its last value; mmhydra refuses a key that is set twice and differently."""
    last: dict[str, str] = {}
    for override in overrides:
        key = override.partition("=")[0].strip().lstrip("+~")
        last.pop(key, None)  # the order is that of the last values
        last[key] = override
    return list(last.values())


def _marked(node: pytest.Item) -> list[str]:
    """The overrides of all markers of a test: module, class, function, parameter set."""
    found: list[str] = []
    for mark in (mark for part in node.listchain() for mark in part.own_markers if mark.name == MARKER):
        if mark.kwargs or not all(isinstance(override, str) for override in mark.args):
            pytest.fail(
                f"@pytest.mark.{MARKER} takes strings, such as 'model=1b', 'optim.lr=3e-4'; "
                f"got {mark.args} {mark.kwargs or ''}",
                pytrace=False,
            )
        found += mark.args
    return found
