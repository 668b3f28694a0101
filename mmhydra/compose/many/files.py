"""What many points read alike: the files of conf/ and of the user's folders, and overrides that come again."""

from typing import Any

from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult

_MAX_REMEMBERED = 50_000  # of texts: a search tries ever new values


class Files(CachingConfigRepository):
    """Hydra's repository, each file and folder of which is read once. Whoever changes a config of it makes a copy."""

    def __init__(self, delegate: IConfigRepository) -> None:
        super().__init__(delegate)
        self._groups: dict[str, bool] = {}
        self._configs: dict[str, bool] = {}
        self._options: dict[tuple[str, ObjectType | None], list[str]] = {}

    def group_exists(self, config_path: str) -> bool:
        """Whether there is such a group."""
        if config_path not in self._groups:
            self._groups[config_path] = super().group_exists(config_path)
        return self._groups[config_path]

    def config_exists(self, config_path: str) -> bool:
        """Whether there is such a file."""
        if config_path not in self._configs:
            self._configs[config_path] = super().config_exists(config_path)
        return self._configs[config_path]

    def get_group_options(self, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG) -> list[str]:
        """The choices of a group, or the groups in it."""
        key = group_name, results_filter
        if key not in self._options:
            self._options[key] = super().get_group_options(group_name, results_filter)
        return list(self._options[key])

    def load(self, config_path: str) -> ConfigResult:
        """A file that is there."""
        loaded = self.load_config(config_path)
        assert loaded is not None, f"{config_path} is in the defaults list"
        return loaded


class Overrides:
    """Hydra's parser, which reads each text once. It stands where command_line.parse wants a parser."""

    def __init__(self) -> None:
        self._parser = OverridesParser.create()
        self._known: dict[str, Override] = {}

    def parse_override(self, text: str) -> Override:
        """Raises what Hydra's own raises."""
        known = self._known.get(text)
        if known is None:
            known = self._parser.parse_override(text)
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[text] = known
        return known


def is_plain(value: Any) -> bool:
    """Whether an override's value is a scalar that stands for itself."""
    if isinstance(value, str):
        return "${" not in value and "???" not in value
    return value is None or type(value) in (int, float, bool)
