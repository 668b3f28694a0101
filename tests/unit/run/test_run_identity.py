"""What makes the numbers changes the run id; what does not, does not."""

import random
import re
from typing import Any

import pytest

from mmhydra.compose import compose
from mmhydra.config.base import NotIdentity
from mmhydra.config.frozen import flatten, to_yaml
from mmhydra.config.schema import RunConfig
from mmhydra.errors import UserError
from mmhydra.run.identity import excluded_fields, identify

# Sections and lists that the default config leaves empty, so that their leaves are tried too.
FULL = {
    "data.schedule": [
        {
            "name": "warm",
            "fraction": 0.5,
            "shares": {"stdlib_code": [0.5, 0.5], "stdlib_docs": [0.5, 0.5]},
            "lr_multiplier": [0.1, 1.0],
        }
    ],
    "checkpoint.remote": {"url": "s3://bucket", "every_hours": 24.0},
    "cluster.slurm": {
        **compose(["cluster=slurm_dev"]).config.cluster.slurm.model_dump(),
        "additional_parameters": {"nice": 100},
        "environment": {"NCCL_DEBUG": "INFO"},
    },
    "loader.store": {"url": "s3://bucket", "cache_dir": "/cache", "cache_gb": 1.0, "options": {"anon": True}},
    "track.aim": {"repo": "/aim"},
    "track.prometheus": {"host": "127.0.0.1", "port": 9464},
    "track.tensorboard": {"logdir": "/board"},
}
# Other values to try, by type; the first that the schema takes is used.
WORDS = """
other image video float32 bfloat16 rowwise wsd cosine GPipe full always skip cpu cuda local slurm refuse previous async
hf qwen skip s3://other
""".split()  # noqa: SIM905


INDEX = re.compile(r"\.\d+")  # of an element of a list


def run_id(config: RunConfig) -> str:
    return identify(config, {}, None).run_id


def others(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value + 0.25, value / 2]
    return [*(word for word in WORDS if word != value), 1, 0.5, True, ["more"]]


def changed(change: Any, config: RunConfig, leaf: str) -> RunConfig:
    value = flatten(config.model_dump())[leaf]
    for other in others(value):
        try:
            return change(config, {leaf: other})
        except UserError:
            continue
    raise AssertionError(f"no other value found for {leaf}={value!r}; add one to WORDS")


def test_the_id_depends_on_each_leaf_that_is_not_excluded_and_on_no_other(default_config, change):
    config = change(default_config, FULL)
    excluded = tuple(f"{name}." for name in excluded_fields(RunConfig))
    depends, expected = {}, {}
    for leaf in flatten(config.model_dump()):
        other = changed(change, config, leaf)
        assert other != config, leaf
        depends[leaf] = run_id(other) != run_id(config)
        expected[leaf] = not f"{INDEX.sub('.*', leaf)}.".startswith(excluded)
    assert depends == expected
    assert {True, False} == set(expected.values())


def test_the_inferred_degree_is_no_identity(default_config, change):
    ids = {run_id(change(default_config, {"parallel.dp": dp})) for dp in (1, 2, 8, "auto")}
    assert len(ids) == 1


def test_a_mark_inside_a_list_or_an_optional_section_is_not_missed():
    """`excluded_fields` looks into lists and optional sections, so that no mark misses the reviewed list."""

    def marks(annotation: Any, seen: list[str]) -> None:
        for part in getattr(annotation, "__args__", ()):
            marks(part, seen)
        for name, field in getattr(annotation, "model_fields", {}).items():
            if any(isinstance(mark, NotIdentity) for mark in field.metadata):
                seen.append(f"{annotation.__name__}.{name}")
            else:
                marks(field.annotation, seen)

    seen: list[str] = []
    marks(RunConfig, seen)
    assert len(seen) == len(excluded_fields(RunConfig))


def test_data_and_initial_weights_are_identity(default_config):
    ids = {
        identify(default_config, manifests, init).run_id
        for manifests in ({}, {"demo-v1": "a"}, {"demo-v1": "b"}, {"demo-v2": "a"})
        for init in (None, "c")
    }
    assert len(ids) == 8


def test_an_awaited_checkpoint_is_identity_by_its_run_and_step(default_config):
    awaited = [{"run": run_id, "step": step} for run_id in ("a" * 12, "b" * 12) for step in (1, 2)]
    starts = [*((one, None) for one in awaited), *((None, one) for one in awaited), (None, None), ("c", None)]
    assert len({identify(default_config, {}, *start).run_id for start in starts}) == len(starts)


def test_how_much_an_evaluation_measures_is_identity(default_config, change):
    """For a run with steps, validation trains nothing."""
    for leaves, num_ids in (
        ({}, 1),
        ({"training.steps": 0}, 1),
        ({"training.steps": 0, "checkpoint.init_from": "/a"}, 2),
    ):
        configs = [change(default_config, {**leaves, "training.validation_batches": number}) for number in (2, 3)]
        assert len({identify(config, {}, "c").run_id for config in configs}) == num_ids


def test_the_order_of_manifests_does_not_matter(default_config):
    one = identify(default_config, {"a": "1", "b": "2"}, None)
    other = identify(default_config, {"b": "2", "a": "1"}, None)
    assert one == other
    assert one.run_id == other.run_id


def test_the_order_of_overrides_does_not_matter():
    overrides = ["model=100m", "parallel=tp2", "data=mix_v0.2", "optim.lr=1e-3", "tag=x", "seed.data=7"]
    expected = compose(overrides).config
    shuffled = random.Random(0)
    for _ in range(4):
        shuffled.shuffle(overrides)
        config = compose(overrides).config
        assert to_yaml(config) == to_yaml(expected)
        assert run_id(config) == run_id(expected)


@pytest.mark.parametrize(
    ("one", "other"), [("optim.lr=1", "optim.lr=1.0"), ("training.steps=1e3", "training.steps=1000")]
)
def test_another_spelling_of_a_number_is_the_same_run(one, other):
    assert run_id(compose([one]).config) == run_id(compose([other]).config)


def test_the_id_is_twelve_hex_digits(default_config):
    assert len(run_id(default_config)) == 12
    assert int(run_id(default_config), 16) >= 0
