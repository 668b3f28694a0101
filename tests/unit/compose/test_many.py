"""The compiler of many points: which way each takes, what they share, and that a mistake would be found."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
from override_lists import LAB

from mmhydra.compose import Request, compose
from mmhydra.compose.many import Compiler, NotStock, recheck, unlike
from mmhydra.compose.many.interpolations import Interpolation, affected, is_ordinary, reads
from mmhydra.config.frozen import to_yaml
from mmhydra.config.problems import ConfigError
from mmhydra.errors import UserError


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory):
    """The same for all tests here: a compiler takes the environment as it is at its first point."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MMHYDRA_CLUSTER", raising=False)
        patch.setenv("MMHYDRA_DATA", str(folder / "data"))
        patch.setenv("MMHYDRA_OUTPUTS", str(folder / "outputs"))
        yield


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler()


def way(compiler: Compiler, overrides: Sequence[str]) -> str:
    """Which counter a point moves."""
    before = dict(vars(compiler.tiers))
    compiler.compose(overrides)
    (moved,) = (name for name, number in vars(compiler.tiers).items() if number != before[name])
    return moved


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "values"),
        (["optim.lr=1e-3", "training.steps=7", "tag=x", "dry_run=config"], "values"),
        (["model=100m", "experiment=p0_demo", "track=[jsonl,aim]", "track.aim.repo=/a"], "values"),
        (["name=plain"], "values"),
        (["model.dim=256"], "values"),
        (["++optim.lr=1e-3"], "overrides"),
        (["cluster=h100_64", "+cluster.slurm.environment.A=b"], "overrides"),
        (["data.sources.0.weight=0.5"], "overrides"),
        (["track={log_interval: 3}"], "stock"),
        (["tag='${name}/${seed.data}'"], "overrides"),
        (["checkpoint.remote={url: a, every_hours: 1.0}"], "overrides"),
        (["hydra.searchpath=[]"], "stock"),
        (["resume=null"], "stock"),
    ],
)
def test_the_way_of_a_point(compiler, overrides, expected):
    try:
        assert way(compiler, overrides) == expected
    except UserError:
        assert expected == "stock"
        return
    assert unlike(compiler.compose(overrides), compose(overrides)) == []


def test_a_point_leaves_nothing_behind_for_the_next(compiler):
    before = to_yaml(compiler.compose([]).config)
    for overrides in (
        ["model.name=other", "optim.lr=0.5"],
        ["++model.dim=64", "tag='${model.name}'"],
        ["data.sources.0.weight=3", "~tokens.codebooks.image"],
        ["training.seq_len=${nope}"],
        ["optim.lr=abc"],
        ["paths.outputs=/elsewhere"],
    ):
        with suppress(ConfigError):
            compiler.compose(overrides)
        assert to_yaml(compiler.compose([]).config) == before


def test_only_what_interpolates_a_changed_value_follows_it(compiler):
    config = compiler.compose(["model.name=other", "cluster=slurm_dev", "paths.outputs=/out"]).config
    assert config.name == "other"
    assert config.cluster.slurm.slurm_conf == "/out/.slurm-dev/slurm.conf"
    assert compiler.compose(["model.name=other", "name=own"]).config.name == "own"


@pytest.mark.parametrize("text", ["1.0", "1", "true", "-0.0", "0.0", "'1'", "0"])
def test_equal_numbers_of_other_types_are_not_mistaken_for_each_other(compiler, text):
    overrides = [f"optim.weight_decay={text}"]
    assert result(compiler.compose, overrides) == result(compose, overrides)


def result(way: Callable[[Sequence[str]], Request], overrides: Sequence[str]) -> bytes | str:
    try:
        return to_yaml(way(overrides).config)
    except ConfigError as error:
        return str(error)


def test_points_share_sections_and_frozen_text(compiler):
    one, other = (compiler.compose(["model=100m", f"seed.data={seed}"]).config for seed in (1, 2))
    assert one.model is other.model
    assert one.seed != other.seed
    for config in (one, other):
        assert compiler.sections.to_yaml(config) == to_yaml(config)


def test_folders_of_the_user_take_the_fast_way_unless_they_speak_of_hydra(lab):
    folders = [lab(LAB)]
    compiler = Compiler(folders)
    for overrides in (["experiment=lab", "optim.lr=3e-4"], ["model=wide", "model.num_heads=64"], ["cluster=mine"]):
        assert way(compiler, overrides) == "values"
        assert unlike(compiler.compose(overrides), compose(overrides, folders)) == []
    assert way(compiler, ["optim=blank", "optim.weight_decay=0.2"]) == "overrides"  # which is missing before
    for choice in ("of_hydra", "environment", "env_var"):
        with pytest.raises(UserError) as stock:
            compose([f"experiment={choice}"], folders)
        before = compiler.tiers.stock
        with pytest.raises(UserError) as here:
            compiler.compose([f"experiment={choice}"])
        assert str(here.value) == str(stock.value)
        assert compiler.tiers.stock == before + 1


def test_a_folder_that_is_not_there_is_told_as_ever(tmp_path):
    folders = [tmp_path / "nowhere"]
    with pytest.raises(UserError, match="there is no such folder"):
        Compiler(folders).compose([])


def test_a_refusal_names_the_places_as_stock_composition_does(compiler):
    overrides = ["model=1b", "optim.lr=fast", "training.steps=-1"]
    with pytest.raises(ConfigError) as stock:
        compose(overrides)
    with pytest.raises(ConfigError) as here:
        compiler.compose(overrides)
    assert str(here.value) == str(stock.value)
    assert "optim.lr=fast (command line)" in str(here.value)


def test_recheck_composes_at_least_one_point_and_finds_a_difference(compiler):
    requests = [compiler.compose([f"seed.data={seed}"]) for seed in range(5)]
    assert len(recheck(requests)) == 1
    assert len(recheck(requests, share=0.5, seed=3)) == 2
    assert recheck([]) == []
    drawn = {recheck(requests)[0][0] for _ in range(40)}
    assert len(drawn) > 1, "which ones is drawn anew each time"
    assert len({index for index, _ in (recheck(requests, seed=3)[0] for _ in range(3))}) == 1
    wrong = compiler.compose(["optim.lr=0.5"])
    object.__setattr__(requests[2], "config", wrong.config)
    with pytest.raises(
        NotStock, match=r"point 3 \(seed.data=2\), rechecked with seed \d+[\s\S]*optim.lr: 0.5, stock 0.003"
    ):
        recheck(requests, share=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${a.b}", (("a", "b"),)),
        ("x-${a}/${b.c}", (("a",), ("b", "c"))),
        ("${oc.env:HOME,${a}}", (("a",),)),
        ("${secret:KEY}", ()),
        ("${.a}", None),
        ("${a.${b}}", None),
        ("${oc.select:a}", None),
        ("${a[0]}", None),
        ("${", None),
    ],
)
def test_what_an_interpolation_reads(text, expected):
    assert reads(text) == expected


def test_what_reads_more_than_keys_is_left_to_hydra():
    assert is_ordinary("${a}${oc.env:X}${mmhydra.folder:A,b}${oc.select:a.b,1}")
    assert not any(map(is_ordinary, ("${hydra:job.name}", "${hydra.job.name}", "${eval:1}", "${oc.env:${eval:1}}")))


def test_changes_reach_through_chains_sections_and_elements():
    first, second = Interpolation(("b",), (("a", "x"),)), Interpolation(("c", "d"), (("b",),))
    any_key, other = Interpolation(("e",), None), Interpolation(("f",), (("g",),))
    everything = [second, first, any_key, other]
    assert set(affected([("a",)], everything)) == {first, second, any_key}
    assert set(affected([("a", "x", "y")], everything)) == {first, second, any_key}
    assert set(affected([("b",)], everything)) == {second, any_key}
    assert set(affected([("z",)], everything)) == {any_key}
