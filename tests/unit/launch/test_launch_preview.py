"""What a run will be and may cost, and when a start has to be confirmed."""

import pytest

from mmhydra.compose import compose
from mmhydra.config.frozen import to_yaml
from mmhydra.config.problems import ConfigError
from mmhydra.config.secrets import SecretError
from mmhydra.launch.preview import preview, unconfirmed
from mmhydra.launch.submit import require_secrets, require_startable, submit
from mmhydra.launch.verify import verify


@pytest.fixture
def sized(default_config, change):
    """The default config on a cluster of so many devices, hours, price and limit."""

    def make(hours: float | None, limit: float | None, *, devices: int = 1, usd: float = 4.0, **leaves: object):
        dotted = {name.replace("__", "."): value for name, value in leaves.items()}
        cluster = {
            "cluster.time_limit_min": None if hours is None else round(hours * 60),
            "cluster.confirm_gpu_hours": limit,
            "cluster.usd_per_gpu_hour": usd,
            "parallel.dp": devices,
        }
        return change(default_config, {**cluster, **dotted})

    return make


# ---------------------------------------------------------------- text

EVALUATION = {"training.steps": 0, "checkpoint.init_from": "/seed", "training.validation_batches": 8}


@pytest.mark.parametrize(
    ("leaves", "text"),
    [
        ({}, "1 process, 200 steps, 409,600 tokens"),
        ({"training.steps": 1}, "1 process, 1 step, 2,048 tokens"),
        ({"training.steps": 0}, "1 process, 0 steps, 0 tokens"),
        (EVALUATION, "1 process, the held-out loss of 8 batches, 16,384 tokens"),
        ({**EVALUATION, "training.validation_batches": 1}, "1 process, the held-out loss of 1 batch, 2,048 tokens"),
        ({"parallel.dp": 2}, "2 processes, 200 steps, 409,600 tokens"),
        ({"parallel.dp": 2, "parallel.tp": 2, "parallel.pp": 2}, "8 processes, 200 steps, 409,600 tokens"),
        ({"training.steps": None, "training.tokens": 2049}, "1 process, 2 steps, 4,096 tokens"),
        ({"training.steps": 1_234_567}, "1 process, 1,234,567 steps, 2,528,393,216 tokens"),
    ],
)
def test_the_size_of_a_local_run(default_config, change, leaves, text):
    assert str(preview(change(default_config, leaves))) == text


@pytest.mark.parametrize(
    ("hours", "devices", "usd", "text"),
    [
        (48, 256, 4.0, "at the time limit of 48 h 12,288 GPU-hours, 49,152 USD"),
        (0.5, 8, 0.0, "at the time limit of 0.5 h 4 GPU-hours, 0 USD"),
        (1, 1, 2.0, "at the time limit of 1 h 1 GPU-hours, 2 USD"),
        (1 / 3, 1, 4.0, "at the time limit of 0.333 h 0.333 GPU-hours, 1.33 USD"),
        (1 / 60, 1, 0.5, "at the time limit of 0.0167 h 0.0167 GPU-hours, 0.00833 USD"),
        (None, 8, 4.0, "the cluster has no time limit, so no price is known"),
    ],
)
def test_the_price_of_a_cluster(sized, hours, devices, usd, text):
    told = str(preview(sized(hours, None, devices=devices, usd=usd)))
    processes = "1 process" if devices == 1 else f"{devices} processes"
    assert told == f"{processes}, 200 steps, 409,600 tokens; {text}"


def test_what_costs_nothing_and_has_no_limit_tells_no_price(sized):
    assert str(preview(sized(None, None, usd=0.0))) == "1 process, 200 steps, 409,600 tokens"


def test_the_numbers_of_the_mission(monkeypatch):
    monkeypatch.setenv("MMHYDRA_CLUSTER", "h100_256")
    size = preview(compose(["model=10b", "parallel=tp4pp8", "data=mix_v0.2"]).config)
    assert (size.world_size, size.limit_h, size.gpu_hours, size.usd) == (256, 48.0, 12288.0, 49152.0)


# ---------------------------------------------------------------- confirm


@pytest.mark.parametrize(
    ("hours", "limit", "asks"),
    [
        (10, 79.9, True),
        (10, 80.0, False),  # exactly at the limit
        (10, 80.1, False),
        (10, None, False),
        (None, 80.0, False),
        (None, None, False),
        (1 / 60, 0.1, True),
    ],
)
def test_above_the_limit_a_start_is_confirmed(sized, hours, limit, asks):
    config = sized(hours, limit, devices=8)
    assert bool(unconfirmed(config, confirm=False)) == asks
    assert unconfirmed(config, confirm=True) == []


def test_the_refusal_says_what_it_would_cost_and_what_to_type(sized):
    (problem,) = unconfirmed(sized(48, 1000.0, devices=256), confirm=False)
    assert problem.message == (
        "256 processes, 200 steps, 409,600 tokens; at the time limit of 48 h 12,288 GPU-hours, 49,152 USD; "
        "above 1,000 GPU-hours a start needs confirm=true"
    )
    assert problem.keys == ("cluster.confirm_gpu_hours", "cluster.time_limit_min")


def test_a_small_limit_is_told_as_it_is(sized):
    (problem,) = unconfirmed(sized(1, 0.25), confirm=False)
    assert problem.message.endswith("; above 0.25 GPU-hours a start needs confirm=true")


LOCAL = ("cluster.time_limit_min=60", "cluster.usd_per_gpu_hour=2.0")


def test_a_start_is_refused_with_the_places_of_the_limit():
    request = compose([*LOCAL, "cluster.confirm_gpu_hours=0.5"])
    with pytest.raises(ConfigError) as refusal:
        require_startable(request)
    text = str(refusal.value)
    assert "above 0.5 GPU-hours a start needs confirm=true" in text
    assert "cluster.confirm_gpu_hours=0.5 (command line)" in text
    assert "cluster.time_limit_min=60 (command line)" in text


@pytest.mark.parametrize(
    "more", [["confirm=true"], ["cluster.confirm_gpu_hours=1"], ["cluster.confirm_gpu_hours=null"]]
)
def test_a_start_that_may(more):
    given = [] if "cluster" in more[0] else ["cluster.confirm_gpu_hours=0.5"]
    require_startable(compose([*LOCAL, *given, *more]))


def test_confirm_false_is_no_confirmation():
    with pytest.raises(ConfigError, match="confirm=true"):
        require_startable(compose([*LOCAL, "cluster.confirm_gpu_hours=0.5", "confirm=false"]))


def test_the_first_of_several_starts_waits_until_all_may(monkeypatch):
    monkeypatch.setattr("mmhydra.launch.submit.plan", lambda *arguments: pytest.fail("it was started"))
    cheap, dear = compose(list(LOCAL)), compose([*LOCAL, "cluster.confirm_gpu_hours=0.5"])
    with pytest.raises(ConfigError, match="confirm=true"):
        submit([cheap, dear])


def test_all_reasons_are_told_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    request = compose(["model=10b", "parallel=tp4pp8", "data=mix_v0.2", "cluster=h100_256", "checkpoint=three_two_one"])
    with pytest.raises(ConfigError) as refusal:
        require_startable(request)
    text = str(refusal.value)
    for part in ("confirm=true", "sbatch, which is not on the PATH", "remote copies"):
        assert part in text


def test_confirm_is_no_value_of_the_run():
    plain, confirmed = compose(["tag=x"]), compose(["tag=x", "confirm=true"])
    assert to_yaml(plain.config) == to_yaml(confirmed.config)
    assert (plain.confirm, confirmed.confirm) == (False, True)
    assert [line for line in to_yaml(confirmed.config).decode().splitlines() if line.startswith("confirm")] == []


@pytest.mark.parametrize("value", ["1", "yes please", "[true]"])
def test_only_true_confirms(value):
    with pytest.raises(ConfigError, match=r"confirm: .*legal values are true and false"):
        compose([f"confirm='{value}'" if " " in value else f"confirm={value}"])


def test_a_secret_that_is_not_set_is_told_before_the_start(monkeypatch):
    monkeypatch.delenv("MMHYDRA_TEST_SECRET", raising=False)
    track = compose(["track.tensorboard={logdir: '${secret:MMHYDRA_TEST_SECRET}'}"]).config.track
    with pytest.raises(SecretError, match=r"\$MMHYDRA_TEST_SECRET is not set.*type export"):
        require_secrets(track)
    monkeypatch.setenv("MMHYDRA_TEST_SECRET", "/board")
    require_secrets(track)


@pytest.mark.parametrize(
    "name", ["secret", "key", "token", "aws_secret_access_key", "account_key", "connection_string"]
)
def test_an_option_of_a_store_that_holds_a_secret_is_refused_before_anything_is_written(name):
    typed = ["loader=object_store", "loader.store.url=s3://bucket/sets", f"+loader.store.options.{name}=x{'y' * 8}"]
    with pytest.raises(SecretError, match=rf"loader\.store\.options\.{name} .*AWS_SECRET_ACCESS_KEY") as refusal:
        verify(compose(typed))
    assert "yyyy" not in str(refusal.value)
