"""What tests of all folders share: the golden option, and configs that are made without composing each time."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mmhydra.compose import compose
from mmhydra.config.schema import RunConfig
from mmhydra.config.typed import to_run_config


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew instead of comparing")


@pytest.fixture(scope="session")
def default_config() -> RunConfig:
    """The config of `python -m mmhydra.train`, with fixed folders, whatever the environment of the tests says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MMHYDRA_CLUSTER", raising=False)
        patch.setenv("MMHYDRA_DATA", "/data")
        patch.setenv("MMHYDRA_OUTPUTS", "/outputs")
        return compose([]).config


@pytest.fixture(scope="session")
def change() -> Callable[[RunConfig, Mapping[str, Any]], RunConfig]:
    """Sets leaves by dotted path: change(config, {"training.steps": 5}). A list element is named by its index."""

    def change(config: RunConfig, leaves: Mapping[str, Any]) -> RunConfig:
        tree = config.model_dump()
        for path, value in leaves.items():
            node: Any = tree
            *folders, leaf = [int(part) if part.isdigit() else part for part in path.split(".")]
            for part in folders:
                node = node[part]
            assert isinstance(node, list) or leaf in node, f"{path} is no key"
            node[leaf] = value
        return to_run_config(tree)

    return change
