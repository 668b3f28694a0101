"""From a command line to the config of a dataset build."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import OmegaConf
from pydantic import BaseModel, ValidationError

from mmhydra.compose.command_line import Parsed, parse
from mmhydra.compose.composing import compose
from mmhydra.compose.loader import known_groups, open_loader, repository
from mmhydra.compose.messages import named, resolved
from mmhydra.compose.origins import provenance
from mmhydra.compose.request import LazyProvenance
from mmhydra.config.base import sections_in
from mmhydra.config.crawl import Crawl
from mmhydra.config.dataset import BuildConfig
from mmhydra.config.problems import ConfigError, Problem
from mmhydra.config.typed import no_such_choice, problems_of
from mmhydra.errors import UserError

BUILD_CONFIG_NAME = "build"


def compose_build(overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> tuple[BuildConfig, LazyProvenance]:
    """Composes conf/build.yaml with overrides, and types the result; and where its values come from.

    Raises ConfigError with everything that is wrong, or UserError.
    """
    parsed = parse(overrides)
    texts = parsed.texts
    loader = open_loader(config_dirs)
    origins = LazyProvenance(lambda: provenance(texts, config_dirs, BUILD_CONFIG_NAME))
    with named(texts, origins, lambda: known_groups(config_dirs)):
        _require_choices(parsed, repository(loader, texts))
        composed = loader.load_configuration(BUILD_CONFIG_NAME, texts, RunMode.RUN)
    composed = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    return _typed(resolved(composed, origins), origins), origins


def build_configs(overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> list[BuildConfig]:
    """One config a dataset: `data=` names those of a mixture, `dataset=` one recipe. Raises UserError."""
    of_run = [text for text in overrides if text.partition("=")[0].split(".")[0].lstrip("+~") == "data"]
    if not of_run:
        return [compose_build(overrides, config_dirs)[0]]
    rest = [text for text in overrides if text not in of_run]
    if named := [text for text in rest if text.partition("=")[0] == "dataset"]:
        raise UserError(f"{named[0]} and {of_run[0]} both say what to build; leave one of them out")
    data = compose(of_run, config_dirs).config.data
    configs = []
    for dataset in data.datasets:
        recipe = dataset
        given: dict[str, float] = {}
        if data.builder is not None:
            recipe = data.builder.recipe
            given = {f"dataset.{key}": value for key, value in data.builder.recipe_values.items()}
        require_recipe(recipe, config_dirs)
        keys = {text.partition("=")[0] for text in rest}
        own = [f"{key}={value}" for key, value in given.items() if key not in keys]
        configs.append(compose_build([f"dataset={recipe}", f"dataset.name={dataset}", *own, *rest], config_dirs)[0])
    return configs


def compose_crawl(template: str, config_dirs: Sequence[Path] = ()) -> Crawl:
    """The values of a file of the `crawl` group. Raises UserError."""
    loader = open_loader(config_dirs)
    legal = loader.get_group_options("crawl")
    if template not in legal:
        raise UserError(no_such_choice("crawl", template, legal))
    with named([], None):
        composed = loader.load_configuration(f"crawl/{template}", [], RunMode.RUN)
    try:
        return Crawl.model_validate(resolved(composed.crawl, None))
    except ValidationError as error:
        raise ConfigError(list(problems_of(error))) from error


def _require_choices(parsed: Parsed, files: Any) -> None:
    problems = [problem for override in parsed.overrides for problem in _unknown(override, files)]
    if problems:
        raise ConfigError(problems)


def _unknown(override: Override, files: Any) -> list[Problem]:
    """A choice that its group does not have, or several values where one is wanted."""
    key, text = override.key_or_group, override.input_line or ""
    if override.is_sweep_override():
        return [Problem((key,), f"{text} names several values, a build takes one", rule="sweep")]
    if not files.group_exists(key):
        return _stray(override)
    if override.is_delete():
        return []
    choice = override.value()
    if isinstance(choice, str) and not files.config_exists(f"{key}/{choice}"):
        return [Problem((key,), no_such_choice(key, choice, files.get_group_options(key, ObjectType.CONFIG)))]
    return []


def _stray(override: Override) -> list[Problem]:
    """A key that no build has. Told here: elsewhere what is legal would be the keys of a run."""
    key = override.key_or_group
    if override.is_add() or override.is_force_add() or key.partition(".")[0] == "hydra":
        return []
    loc = key.split(".")
    sections: list[type[BaseModel]] = [BuildConfig]
    for depth, part in enumerate(loc):
        if not sections:  # below this any key may stand
            break
        if not part.isdigit():
            fields = [section.model_fields[part] for section in sections if part in section.model_fields]
            if not fields:
                return [Problem((key,), _no_such_key(loc[: depth + 1]), rule="schema")]
            sections = [inside for field in fields for inside in sections_in(field.annotation)]
    return []


def _typed(tree: dict[str, Any], origins: LazyProvenance) -> BuildConfig:
    try:
        return BuildConfig.model_validate(tree)
    except ValidationError as error:
        unknown = [fault for fault in error.errors() if fault["type"] == "extra_forbidden"]
        problems = [Problem((_dotted(fault["loc"]),), _no_such_key(fault["loc"]), rule="schema") for fault in unknown]
        known = {problem.keys for problem in problems}
        problems += [problem for problem in problems_of(error) if problem.keys not in known]
        raise ConfigError(problems, origins) from error


def _dotted(loc: Sequence[Any]) -> str:
    return ".".join(str(part) for part in loc if "[" not in str(part))


def _no_such_key(loc: Sequence[Any]) -> str:
    """Names the keys that stand where this one does."""
    sections: list[type[BaseModel]] = [BuildConfig]
    for part in loc[:-1]:
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        if fields:  # numbers of lists and names of union arms are no fields
            sections = [inside for field in fields for inside in sections_in(field.annotation)]
    legal = list(dict.fromkeys(name for section in sections for name in section.model_fields))
    near = get_close_matches(str(loc[-1]), legal, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"no such key{meant} (legal: {', '.join(legal)})"


def recipes(config_dirs: Sequence[Path] = ()) -> list[str]:
    """The choices of the `dataset` group: what can be built."""
    return open_loader(config_dirs).get_group_options("dataset")


def require_recipe(name: str, config_dirs: Sequence[Path] = ()) -> None:
    """Raises UserError if no file of the `dataset` group has that name."""
    legal = recipes(config_dirs)
    if name not in legal:
        raise UserError(
            f"dataset {name} has no recipe: there is no dataset/{name}.yaml; recipes are {', '.join(legal)}. Write one "
            "in a folder of your own and give that with --config-dir, or copy the finished dataset to the data folder"
        )
