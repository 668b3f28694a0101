"""Configs that have sections in common: each section is typed, written and searched once."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from mmhydra.config.problems import Origins
from mmhydra.config.schema import RunConfig
from mmhydra.config.typed import to_run_config

Made = TypeVar("Made")
_MAX_KEPT = 20_000  # results of a kind; a search makes ever new sections


class OfObjects(Generic[Made]):
    """What was made of objects that nobody changes, found by the objects themselves."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, ...], tuple[tuple[object, ...], Made]] = {}

    def get(self, make: Callable[[], Made], *of: object) -> Made:
        """Calls `make` for objects that are new together."""
        key = tuple(map(id, of))  # which are nobody else's while the objects are kept
        found = self._made.get(key)
        if found is None:
            if len(self._made) >= _MAX_KEPT:
                self._made.clear()
            found = self._made[key] = (of, make())
        return found[1]


class SharedSections:
    """Types configs and writes their frozen text as `to_run_config` and `to_yaml` do. Keeps what it is given."""

    def __init__(self) -> None:
        self._sections = {
            name: field.annotation
            for name, field in RunConfig.model_fields.items()
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        }
        self._of_trees: OfObjects[BaseModel] = OfObjects()
        self._of_values: dict[tuple[str, str], BaseModel] = {}
        self._texts: OfObjects[str] = OfObjects()

    def to_run_config(self, tree: Mapping[Any, Any], origins: Origins | None = None) -> RunConfig:
        """Types a composed tree. Sections of it must not be changed afterwards. Raises ConfigError."""
        typed: dict[Any, Any] = dict(tree)
        try:
            for name, model in self._sections.items():
                if isinstance(typed.get(name), dict):
                    typed[name] = self._section(name, model, typed[name])
            return RunConfig.model_validate(typed)
        except ValidationError:
            return to_run_config(tree, origins)  # all faults at once

    def _section(self, name: str, model: type[BaseModel], values: dict[Any, Any]) -> BaseModel:
        return self._of_trees.get(lambda: self._of_equal(name, model, values), values)

    def _of_equal(self, name: str, model: type[BaseModel], values: dict[Any, Any]) -> BaseModel:
        key = name, repr(values)  # not the values: 1, 1.0 and True are equal
        if key not in self._of_values:
            if len(self._of_values) >= _MAX_KEPT:
                self._of_values.clear()
            self._of_values[key] = model.model_validate(values)
        return self._of_values[key]

    def to_yaml(self, config: RunConfig) -> bytes:
        """See frozen.to_yaml: the text of a mapping is that of its keys, one after another."""
        texts = []
        for name in RunConfig.model_fields:
            value = getattr(config, name)
            if isinstance(value, BaseModel):
                texts.append(self._texts.get(partial(_section_text, name, value), value))
            else:
                texts.append(_text(name, value))
        return "".join(texts).encode()


def _section_text(name: str, section: BaseModel) -> str:
    return _text(name, section.model_dump())


def _text(name: str, value: Any) -> str:
    """As frozen.to_yaml writes it."""
    text: str = yaml.dump({name: value}, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=1000)
    return text
