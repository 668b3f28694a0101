"""From a plain tree to a RunConfig, or to every key that is unknown, missing or of a wrong type."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mmhydra.config.base import sections_in
from mmhydra.config.problems import ConfigError, Origins, Problem
from mmhydra.config.rules.slurm_sbatch import LEGAL_OPTIONS
from mmhydra.config.schema import RunConfig
from mmhydra.config.secrets import find_in_values

# Keys of the command: taken out of what Hydra composed before the config of the run is made.
COMMAND_KEYS = ("dry_run", "confirm", "resume", "extend", "code", "sweep")
_NEAR = 3  # suggestions at most
_FAR = 0.13  # less like than the best by so much is noise: `code` for `modle`
# What other trainers call it.
_SYNONYMS = {
    "learning_rate": "optim.lr",
    "wd": "optim.weight_decay",
    "max_grad_norm": "optim.clip_norm",
    "grad_clip": "optim.clip_norm",
    "max_steps": "training.steps",
    "num_steps": "training.steps",
    "train_steps": "training.steps",
    "max_tokens": "training.tokens",
    "batch_size": "training.global_batch_size",
    "sequence_length": "training.seq_len",
    "context_length": "training.seq_len",
    "gpu": "cluster.gpus_per_node",
    "gpus": "cluster.gpus_per_node",
    "num_gpus": "cluster.gpus_per_node",
    "num_nodes": "cluster.nodes",
    "layers": "model.num_layers",
    "n_layers": "model.num_layers",
    "heads": "model.num_heads",
    "n_heads": "model.num_heads",
    "hidden_size": "model.dim",
    "d_model": "model.dim",
    "tensor_parallel": "parallel.tp",
    "pipeline_parallel": "parallel.pp",
    "data_parallel": "parallel.dp",
    # hydra-submitit-launcher and sbatch
    "time": "cluster.time_limit_min",
    "timeout": "cluster.time_limit_min",
    "timeout_min": "cluster.time_limit_min",
    "time_limit": "cluster.time_limit_min",
    "walltime": "cluster.time_limit_min",
    "ntasks": "cluster.gpus_per_node",
    "tasks_per_node": "cluster.gpus_per_node",
    "ntasks_per_node": "cluster.gpus_per_node",
    "gpus_per_task": "cluster.gpus_per_node",
    "nnodes": "cluster.nodes",
    "queue": "cluster.partition",
    "mem": "cluster.slurm.mem_gb",
    "memory": "cluster.slurm.mem_gb",
    "mem_per_node": "cluster.slurm.mem_gb",
    "cpus": "cluster.slurm.cpus_per_task",
    "cpus_per_gpu": "cluster.slurm.cpus_per_task",
    "signal": "cluster.slurm.signal_delay_s",
    "signal_delay": "cluster.slurm.signal_delay_s",
    "max_num_timeout": "cluster.slurm.max_attempts_without_progress",
    "no_requeue": "cluster.slurm.requeue",
    "additional_args": "cluster.slurm.additional_parameters",
    "sbatch_args": "cluster.slurm.additional_parameters",
    "srun_args": "cluster.slurm.srun_args",
    "env": "cluster.slurm.environment",
    "env_vars": "cluster.slurm.environment",
    "env_setup": "cluster.slurm.setup",
    "modules": "cluster.slurm.setup",
    "container": "cluster.slurm.container_image",
    "image": "cluster.slurm.container_image",
    "mounts": "cluster.slurm.container_mounts",
    "nodefile": "cluster.slurm.nodelist",
    "exclude_nodes": "cluster.slurm.exclude",
    "interpreter": "cluster.slurm.python",
    "job_name": "name",
}
# Other launchers have other names for what stands in these, so likeness alone finds too little.
_LISTED = ("cluster", "cluster.slurm")
_OPTIONS = "cluster.slurm.additional_parameters"
_FILLERS = {"n", "num", "max", "min", "per"}  # words of names that say nothing of what is meant
_INT64 = 2**63


def to_run_config(tree: Mapping[Any, Any], origins: Origins | None = None) -> RunConfig:
    """Types a composed tree. Raises ConfigError that lists every key that is unknown, missing or of a wrong type."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(list(problems_of(error)), origins) from error


def problems_of(error: ValidationError) -> Iterator[Problem]:
    """One a key. Pydantic reports each arm of a union by itself, under a name that holds a bracket."""
    by_key: dict[str, list[Any]] = {}
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"] if "[" not in str(part))
        by_key.setdefault(key, []).append(fault)
    missing = [key for key, (first, *_) in by_key.items() if first["type"] == "missing"]
    for section in _LISTED:
        absent = [key for key in missing if key.rpartition(".")[0] == section]
        if len(absent) > 1:  # a file of one's own, which lacks most of them
            for key in absent:
                del by_key[key]
            yield Problem((section,), _absent(section, absent), rule="schema")
    for key, (first, *others) in by_key.items():
        yield Problem((key,), _fault(key, first, others), rule="schema")


def _absent(section: str, absent: Sequence[str]) -> str:
    names = ", ".join(key.rpartition(".")[2] for key in absent)
    return (
        f"no value for {names}; every value comes from a YAML file or the command line. In a file, defaults: [h100_64] "
        "as its first line has them all; on the command line, choose cluster=NAME that has"
    )


def _fault(key: str, first: Any, others: Sequence[Any]) -> str:
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        if "." in name:
            nested = f"{name.replace('.', ': {')}: VALUE{'}' * name.count('.')}"
            return f"a dot in a name makes no section in YAML; write {nested}"
        return no_such_key(key)
    if first["type"] == "missing":
        if key == "cluster.slurm":
            return (
                "no value; a cluster without SLURM has slurm: null, one with it a section: write defaults: [h100_64] "
                "as the first line of its file, or copy the section of conf/cluster/slurm_dev.yaml"
            )
        return "no value; every value comes from a YAML file or the command line"
    if first["type"] in ("model_type", "dict_type"):
        return f"this is a section, not a value; type one of its keys, such as {_example(key)}"
    texts = [_text(first), *(_text(other).removeprefix("Input should be ") for other in others)]
    given = first["input"]
    if any(find_in_values({key: str(given)})):
        given = "what looks like a secret"
    quoted = isinstance(given, int | float) and first["type"] == "string_type"
    cure = f"; for text, type {key}='\"{given}\"'" if quoted else ""
    return f"{' or '.join(texts)}, got {given!r}{cure}"


def _text(fault: Any) -> str:
    """Pydantic prints a bound as a float, which is another number."""
    if fault.get("ctx", {}).get("lt") == _INT64:
        return "Input should be less than 2**63"
    return str(fault["msg"])


def _example(section: str) -> str:
    inside = [key for key in known_keys() if key.startswith(f"{section}.")]
    return inside[0] if inside else f"{section}.KEY=VALUE"


def no_such_key(key: str, groups: Sequence[str] = ()) -> str:
    """The message for a key that does not exist, with the nearest that do."""
    number = next((part for part in key.split(".") if part.isdecimal()), "0")
    elements = [name.replace(".0", f".{number}", 1) for name in _element_keys()]
    section = _listed_section(key)
    near = _option_of(key) if section else []
    near = near or nearest(key, [*COMMAND_KEYS, *known_keys(), *groups, *elements])
    if section:
        legal = [name.rpartition(".")[2] for name in known_keys() if name.rpartition(".")[0] == section]
        near = [name for name in near if name not in _LISTED]
        return f"no such key{f'; {_or(near)}' if near else ''} (keys of {section}: {', '.join(legal)})"
    return f"no such key; {_or(near)}" if near else "no such key; dry_run=config prints all keys"


def _listed_section(key: str) -> str:
    """The innermost section around a wrong key whose keys a message lists; empty for those that it doesn't."""
    parts = key.split(".")[:-1]
    around = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((section for section in around if section in _LISTED), "")


def _option_of(key: str) -> list[str]:
    """Where an option of sbatch goes that has no key of its own."""
    last = key.rpartition(".")[2]
    is_option = last.replace("_", "-") in LEGAL_OPTIONS and last not in _SYNONYMS
    return [f"+{_OPTIONS}.{last}"] if is_option else []


def no_such_choice(group: str, choice: str, choices: Sequence[str]) -> str:
    """The message for a choice that a group does not have."""
    near = get_close_matches(choice, choices, _NEAR, cutoff=0.5)
    cure = f"; {_or([f'{group}={name}' for name in near])}" if near else ""
    legal = f"legal: {', '.join(sorted(choices))}" if choices else f"{group} has no file NAME.yaml"
    return f"{group}={choice}: no such choice{cure} ({legal})"


def _or(near: Sequence[str]) -> str:
    return f"did you mean {' or '.join(near)}?"


def nearest(key: str, known: Sequence[str]) -> list[str]:
    """Known keys that may have been meant by `key`: the same last word elsewhere first, then likely slips."""
    last = key.rpartition(".")[2]
    words = {name.rpartition(".")[2]: name for name in reversed(known)}
    same_word = [name for name in known if name.rpartition(".")[2] == last]
    synonym = _SYNONYMS.get(last, "")
    if not same_word and synonym in known:
        return [synonym]
    alike = get_close_matches(key, known, _NEAR)
    if len(alike) > 1 and "." not in key:
        likeness = {name: SequenceMatcher(None, name, key).ratio() for name in alike}
        alike = [name for name in alike if likeness[name] > likeness[alike[0]] - _FAR]
    if not same_word and not alike:
        alike = [words[word] for word in get_close_matches(last, list(words), 1, cutoff=0.75)]
    if not same_word and not alike:
        asked = {*last.split("_")} - _FILLERS
        alike = [name for name in known if not asked.isdisjoint(name.rpartition(".")[2].split("_"))]
    return list(dict.fromkeys([*same_word, *alike]))[:_NEAR]


@cache
def known_keys() -> tuple[str, ...]:
    """Dotted names of all sections and fields of RunConfig, elements of lists left out."""
    return tuple(name for name in _keys(RunConfig, "") if ".0." not in name)


@cache
def _element_keys() -> tuple[str, ...]:
    """Dotted names of the fields of the sections that stand in lists, in their first element."""
    return tuple(name for name in _keys(RunConfig, "") if ".0." in name)


def _keys(section: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}"
        below = f"{prefix}{name}.0." if get_origin(field.annotation) is list else f"{prefix}{name}."
        for inside in sections_in(field.annotation):
            yield from _keys(inside, below)


def is_known(key: str) -> bool:
    """Whether the schema has a key. An element of a list is named by its number, whatever numbers there are."""
    return bool(_at(key))


def takes(key: str, kind: type) -> bool:
    """Whether a key may hold a value of a kind, such as `str` or `list`."""
    return any(kind in (arm, get_origin(arm)) for annotation in _at(key) for arm in _arms(annotation))


def _at(key: str) -> list[Any]:
    """The annotations of a key; none if there is no such key."""
    found: list[Any] = [RunConfig]
    for part in key.split("."):
        found = [inside for annotation in found for arm in _arms(annotation) for inside in _below(arm, part)]
    return found


def _arms(annotation: Any) -> Iterator[Any]:
    """The types that a union or an annotated type is made of."""
    if get_origin(annotation) in (Union, UnionType):
        for arm in get_args(annotation):
            yield from _arms(arm)
    elif get_origin(annotation) is Annotated:
        yield from _arms(get_args(annotation)[0])
    else:
        yield annotation


def _below(arm: Any, part: str) -> Iterator[Any]:
    if isinstance(arm, type) and issubclass(arm, BaseModel) and part in arm.model_fields:
        yield arm.model_fields[part].annotation
    elif get_origin(arm) is list and part.isdecimal():
        yield get_args(arm)[0]
    elif get_origin(arm) is dict:
        yield get_args(arm)[1]
