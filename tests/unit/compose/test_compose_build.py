"""conf/build.yaml and a command line become the config of a build, or one readable message."""

import pytest

from mmhydra import paths
from mmhydra.compose.building import build_configs, compose_crawl
from mmhydra.data.build.recipe import require_sound
from mmhydra.errors import UserError

RECIPES = sorted(path.stem for path in (paths.config_dir() / "dataset").glob("*.yaml"))
CRAWLS = sorted(path.stem for path in (paths.config_dir() / "crawl").glob("*.yaml"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_composes_and_is_sound(name, tmp_path):
    folder = [] if name != "starter" else [f"dataset.records_dir={tmp_path}"]
    (config,) = build_configs([f"dataset={name}", *folder])
    assert config.dataset.name == name
    require_sound(config.dataset, config.tokens)


def test_recipes_that_are_to_be_copied_have_shards_and_chunks_of_the_usual_size():
    (config,) = build_configs(["dataset=starter"])
    assert 100 <= config.dataset.shard_mb <= 500
    assert 4 <= config.dataset.chunk_mb <= 64


@pytest.mark.parametrize("name", CRAWLS)
def test_every_crawl_composes(name):
    assert compose_crawl(name).output


def test_the_mixture_of_a_run_names_its_recipe_and_sizes():
    (config,) = build_configs(["data=demo", "data.builder.media=7", "build.processes=3"])
    assert (config.dataset.name, config.dataset.generate.media, config.build.processes) == ("demo-v2", 7, 3)


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        (["data=demo", "dataset=testset"], "both say what to build"),
        (["data=mix_v0.2"], "dataset-v0.1 has no recipe"),
        (["dataset=demo_v2"], "did you mean dataset=demo-v2?"),
        (["dataset=demo-v2", "dataset.shard_mbb=1"], "did you mean"),
        (["dataset=demo-v2", "dataset.shard_mb=x"], "valid number"),
        (["dataset=demo-v2", "dataset.shard_mb=1,2"], "a build takes one"),
    ],
)
def test_what_is_wrong_is_told(overrides, fragment):
    with pytest.raises(UserError, match=fragment.replace("?", r"\?")):
        build_configs(overrides)


def test_sequences_that_can_not_hold_an_image_are_refused_before_anything_is_encoded():
    (config,) = build_configs(["dataset=demo-v2", "dataset.seq_lens=[16,65,128]"])
    with pytest.raises(
        UserError, match=r"dataset.seq_lens: 16, 65: an image with its marks needs 66 positions"
    ) as caught:
        require_sound(config.dataset, config.tokens)
    assert "16: a step of a video with its mark needs 17 positions" in str(caught.value)
