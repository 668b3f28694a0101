"""The points of a sweep: checked, named and frozen as single runs are, or refused all together in the same words."""

import pytest

from mmhydra.compose import compose
from mmhydra.compose.many import NotStock
from mmhydra.config.frozen import config_sha256, to_yaml
from mmhydra.config.secrets import SecretError
from mmhydra.errors import UserError
from mmhydra.launch.points import PointCompiler
from mmhydra.launch.sweeps.compiling import compiled
from mmhydra.launch.verify import verified
from mmhydra.run.identity import identify
from mmhydra.sweep.planned import Planned


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.delenv("MMHYDRA_CLUSTER", raising=False)
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))


def test_points_are_what_single_runs_would_be():
    lists = [[f"optim.lr={rate}", f"optim={optim}"] for rate in ("1e-3", "2e-3") for optim in ("adamw_cosine",)]
    lists = [["training.steps=3000", *overrides] for overrides in lists]
    compiler = PointCompiler()
    points = list(map(compiler.point, lists))
    compiler.recheck(points, share=1)
    for point, overrides in zip(points, lists, strict=True):
        config = compose(overrides).config
        assert point.text == to_yaml(config)
        assert point.sha256 == config_sha256(point.text)
        assert point.missing == ("demo-v2",)
        assert point.identity is None
        assert point.run_id is None
    assert len({point.key for point in points}) == 2


def test_points_that_are_one_run_have_one_key():
    lists = [["seed.data=1"], ["seed.data=1", "checkpoint.interval=50"], ["seed.data=1", "name=other"], ["seed.data=2"]]
    keys = [point.key for point in map(PointCompiler().point, lists)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_identity_of_known_sections_is_that_of_the_config():
    compiler = PointCompiler()
    for point in map(compiler.point, [["seed.data=1"], ["model=100m", "seed.data=1"], ["seed.data=2"]]):
        config = point.request.config
        assert identify(config, {"a": "b"}, None, None, compiler._fields) == identify(config, {"a": "b"}, None)


def test_all_invalid_points_are_told_as_ever(capsys):
    lists = [["seed.data=1"], ["parallel.tp=3"], ["optim.lr=x"], ["no.such.key=1"], ["optim.min_lr=1.0"]]
    with pytest.raises(UserError) as stock:
        verified(lists, ())
    told = capsys.readouterr().err
    with pytest.raises(UserError) as here:
        compiled([Planned(tuple(texts)) for texts in lists])
    assert str(here.value) == str(stock.value)
    assert capsys.readouterr().err == told
    assert str(here.value).startswith("4 of 5 points can't run, so none is started\npoint 2 (parallel.tp=3): ")


@pytest.mark.parametrize(
    "overrides",
    [
        ["tag=AKIAIOSFODNN7EXAMPLE"],  # pragma: allowlist secret
        ["tag=${secret:MY_KEY}"],
        ["cluster=h100_64", "+cluster.slurm.environment.A='${secret:MY_KEY}'"],
    ],
)
def test_secrets_are_refused_in_the_same_words(overrides):
    with pytest.raises(SecretError) as stock:
        verified([overrides], ())
    compiler = PointCompiler()
    for _ in range(2):
        with pytest.raises(SecretError) as here:
            compiler.point(overrides)
        assert str(here.value) == str(stock.value)


def test_a_wrong_text_is_found_by_the_recheck():
    compiler = PointCompiler()
    point = compiler.point(["seed.data=1"])
    object.__setattr__(point, "text", point.text + b"\n")
    with pytest.raises(NotStock, match="frozen text"):
        compiler.recheck([point])


def test_a_point_that_goes_on_with_a_run_is_that_run(make_run):
    run = make_run(100, optim__lr=0.004)
    point = PointCompiler().point([f"resume={run.directory.path}"])
    assert point.run_id == run.directory.path.name
    assert point.text == to_yaml(run.config)
