import pytest

from mmhydra.checkpoint.lineage import require_going_on
from mmhydra.checkpoint.stamp import CheckpointError
from mmhydra.checkpoint.verify import held

DIGESTS = {"demo-v2": "1" * 64}
FLAT = [1.0, 1.0]


@pytest.fixture
def run(make_run):
    """A run of seven sources, saved at step 30."""
    run = make_run(manifests=DIGESTS, training__steps=40)
    run.save(run.start(), 30)
    return run


@pytest.fixture
def child(change):
    """The config of a longer run with these leaves changed."""

    def make(run, **leaves):
        dotted = {name.replace("__", "."): value for name, value in leaves.items()}
        return change(run.config, {"training.steps": 80, **dotted})

    return make


def stage(name, shares, **length):
    spread = {source: share if isinstance(share, list) else [share, share] for source, share in shares.items()}
    whole = {"steps": None, "tokens": None, "fraction": None} | length
    return {"name": name, **whole, "shares": spread, "lr_multiplier": FLAT}


def shares_of(run):
    return {source.name: source.weight for source in run.config.data.sources}


def test_a_longer_run_goes_on(run, child):
    require_going_on(held(run.folder(30)), child(run), DIGESTS)


def test_a_schedule_that_begins_with_what_the_parent_did_goes_on(run, child):
    others = [stage("then", {"sounds": 1.0}, fraction=1.0)]
    for length in (30, 50):
        schedule = [stage("main", shares_of(run), steps=length), *others]
        require_going_on(held(run.folder(30)), child(run, data__schedule=schedule), DIGESTS)
    parts = [stage("one", shares_of(run), steps=10), stage("two", shares_of(run), steps=20), *others]
    require_going_on(held(run.folder(30)), child(run, data__schedule=parts), DIGESTS)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"seed__data": 7}, "  seed.data: 42 there, 7 here"),
        ({"data__shuffle": False}, "  data.shuffle: true there, false here"),
        ({"data__window_chunks": 3}, "  data.window_chunks: 8 there, 3 here"),
        ({"training__seq_len": 64}, "  training.seq_len: 128 there, 64 here"),
    ],
)
def test_another_stream_is_refused_with_the_difference(run, child, changes, line):
    with pytest.raises(CheckpointError, match="up to its step 30 this run would have read other samples") as refusal:
        require_going_on(held(run.folder(30)), child(run, **changes), DIGESTS)
    _, *lines, cure = str(refusal.value).splitlines()
    assert lines == [line]
    assert cure == f"type checkpoint.init_from={run.folder(30)} to start a run of its own from the weights alone"


def test_other_weights_are_refused(run, child):
    sources = run.config.model_dump()["data"]["sources"]
    sources[0]["weight"] = 0.01
    with pytest.raises(CheckpointError, match=r"shares in steps 1 to 30: .*stdlib_code 0\.45.* there, .*0\.0178571429"):
        require_going_on(held(run.folder(30)), child(run, data__sources=sources), DIGESTS)


def test_stages_that_end_or_begin_elsewhere_are_refused(run, child):
    short = [stage("main", shares_of(run), steps=29), stage("then", {"sounds": 1.0}, fraction=1.0)]
    with pytest.raises(
        CheckpointError, match=r"(?s)steps 1 to 29: absent there.*steps 30 to 30: absent there, sounds 1"
    ):
        require_going_on(held(run.folder(30)), child(run, data__schedule=short), DIGESTS)


def test_a_linear_stage_is_the_same_only_as_a_whole(make_run, child):
    """How shares change in the first half of a stage follows from where it ends."""
    blend = {"stdlib_code": [1.0, 0.0], "sounds": [0.0, 1.0]}
    schedule = [stage("blend", blend, steps=60), stage("rest", {"sounds": 1.0}, fraction=1.0)]
    run = make_run(manifests=DIGESTS, training__steps=70, data__schedule=schedule)
    run.save(run.start(), 30)
    require_going_on(held(run.folder(30)), child(run), DIGESTS)
    longer = [stage("blend", blend, steps=61), schedule[1]]
    with pytest.raises(CheckpointError, match=r"changing up to step 60 there, .*changing up to step 61 here"):
        require_going_on(held(run.folder(30)), child(run, data__schedule=longer), DIGESTS)


def test_another_version_of_the_data_is_refused_where_it_was_read(run, child):
    with pytest.raises(CheckpointError, match="source sounds: demo-v2 111111111111 there, demo-v2 222222222222 here"):
        require_going_on(held(run.folder(30)), child(run), {"demo-v2": "2" * 64})


def test_a_stream_of_an_older_version_is_refused(make_run, child):
    run = make_run(manifests=DIGESTS)
    run.stream_algorithm = 1
    run.save(run.start(), 10)
    with pytest.raises(
        CheckpointError, match=r"its stream is of version 1, and version 2 .* type checkpoint\.init_from="
    ):
        require_going_on(held(run.folder(10)), child(run), DIGESTS)
