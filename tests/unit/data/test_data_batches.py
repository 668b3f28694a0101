"""Ranks together give the stream, whatever their number, their threads and where they were stopped."""

import errno
import random
import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import yaml

from mmhydra.config.data import Data, Source
from mmhydra.config.tokens import Tokens
from mmhydra.data.datasets import DataError, load, token_counts
from mmhydra.data.packing.sequences import IGNORE_INDEX
from mmhydra.data.shards.index import SIDECAR_SUFFIXES
from mmhydra.data.shards.manifest import ManifestError, load_manifest, write_manifest
from mmhydra.data.storage.access import Access, Policy
from mmhydra.data.storage.faults import WHOLE_SHARD, BadChunk, ChunkFault
from mmhydra.data.stream.batches import RankBatches, open_split
from mmhydra.data.stream.skips import NO_SKIPS
from mmhydra.data.vocabulary import Vocabulary
from mmhydra.errors import ExitCode
from mmhydra.paths import config_dir

G = 24  # sequences of a step: dp 1, 2, 3, 4, 8 divide it
LENGTH = 16
PARTS = ("input_BL", "labels_BL", "positions_BL")
SKIPPING = Policy("skip")


@pytest.fixture
def data():
    """What a run reads: source "web" of the dataset "made" and source "books" of "more"."""
    sources = [
        Source(name="web", dataset="made", modality="text", weight=3.0, max_epochs=None),
        Source(name="books", dataset="more", modality="text", weight=1.0, max_epochs=None),
    ]
    return Data.model_construct(name="letters", sources=sources, shuffle=True, window_chunks=2)


def texts(seed, number=80):
    draw = np.random.default_rng(seed)
    return [draw.integers(1, 100, size).tolist() for size in draw.integers(1, 60, number)]


@pytest.fixture
def made(make_dataset):
    make_dataset(texts(1, 40), max_bytes=30_000, chunk_bytes=2048, name="more", source="books")
    return make_dataset(texts(0), max_bytes=30_000, chunk_bytes=2048)


@pytest.fixture
def opened(data, made):
    """Opens the training split."""

    def open_again(policy=None, seed=3):
        access = None if policy is None else Access(policy)
        return open_split(data, made.folder.parent, "train", seq_len=LENGTH, seed=seed, access=access)

    return open_again


@pytest.fixture
def tokens():
    """The vocabulary of the demo."""
    return Tokens.model_validate(yaml.safe_load((config_dir() / "tokens" / "demo.yaml").read_text()))


class World:
    """All data-parallel ranks of a run, with the rows of a step put together."""

    def __init__(self, split, dp, workers=0, per_yield=1, size=G, **more):
        self.size, self.per_yield = size, per_yield
        self.ranks = [
            RankBatches(
                split(rank) if callable(split) else split,
                global_batch_size=size,
                dp_degree=dp,
                dp_rank=rank,
                per_yield=per_yield,
                num_workers=workers,
                prefetch=2,
                **more,
            )
            for rank in range(dp)
        ]

    def step(self):
        """Inputs, labels and positions of the next step, (G, LENGTH) each."""
        num_yields = self.size // len(self.ranks) // self.per_yield
        rows = [rank.next() for rank in self.ranks for _ in range(num_yields)]
        return tuple(np.concatenate([getattr(batch, part) for batch in rows]) for part in PARTS)

    def steps(self, number):
        return [self.step() for _ in range(number)]

    @property
    def sample(self):
        (sample,) = {rank.sample for rank in self.ranks}
        return sample

    def seek(self, sample, skips=NO_SKIPS):
        for rank in self.ranks:
            rank.seek(sample, skips)
        return self

    def close(self):
        for rank in self.ranks:
            rank.close()


def same(left, right):
    return all(np.array_equal(one, other) for one, other in zip(left, right, strict=True))


def uninterrupted(split, num_steps, size=G, skips=NO_SKIPS):
    """The steps as the stream itself has them."""
    found = []
    for step in range(num_steps):
        read = split.read(np.arange(step * size, (step + 1) * size), skips)
        assert not read.faults
        found.append(tuple(getattr(read.batch, part) for part in PARTS))
    return found


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("dp", [1, 2, 3, 4, 8])
def test_global_batches_are_the_same_at_every_number_of_ranks_and_threads(opened, dp, workers):
    split = opened()
    for size, per_yield in ((24, 1), (24, 24 // dp), (48, 2)):
        world = World(split, dp, workers, per_yield, size)
        for expected in uninterrupted(split, 3, size):
            step = world.step()
            assert step[0].shape == (size, LENGTH)
            assert {part.dtype for part in step} == {np.dtype(np.int32)}
            assert same(step, expected)
        assert world.sample == 3 * size
        world.close()


@pytest.mark.parametrize("seed", range(12))
def test_a_run_that_is_killed_and_resumed_on_other_ranks_gives_the_same_steps(opened, seed):
    """A random walk over numbers of ranks and threads, with kills at any step, before and after a save."""
    choose, split = random.Random(seed), opened()
    expected, steps, saved = uninterrupted(split, 30), {}, 0
    while len(steps) < 30:
        dp = choose.choice([1, 2, 3, 4, 8])
        world = World(opened(), dp, choose.choice([0, 1, 2, 3]), choose.choice([1, G // dp]))
        world.seek(saved)
        first = saved // G
        for step in range(first, min(30, first + choose.randrange(1, 8))):
            steps[step] = world.step()  # steps after the last save are made again
            if choose.random() < 0.5:
                saved = world.sample
        world.close()
    assert all(same(steps[step], expected[step]) for step in range(30))


def test_each_sequence_comes_once_an_epoch_across_kills(opened):
    split = opened()
    size = len(split.sequences["web"])
    last = next(n for n in range(10**6) if split.stream.counts(n)["web"] == size)
    located = split.stream.locate_many(0, last)
    web = located.sequence[located.source == split.stream.names.index("web")]
    assert sorted(web.tolist()) == list(range(size))


def test_threads_stay_at_most_so_many_yields_ahead(opened, monkeypatch):
    split, read = opened(), []
    whole = type(split).read
    monkeypatch.setattr(type(split), "read", lambda *arguments: read.append(1) or whole(*arguments))
    for prefetch, per_yield, ahead in ((3, 24, 3), (1, 24, 1), (2, 4, 6)):  # those of one step at least
        read.clear()
        batches = RankBatches(
            split,
            global_batch_size=24,
            dp_degree=1,
            dp_rank=0,
            per_yield=per_yield,
            num_workers=2,
            prefetch=prefetch,
        )
        for taken in range(1, 8):
            batches.next()
            deadline = time.monotonic() + 5
            while len(read) < taken + ahead:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(0.003)
            assert len(read) == taken + ahead
        batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch-")]


def test_a_run_resumes_at_sample_a_billion_without_what_was_before(opened, monkeypatch):
    split, number = opened(), 10**9 // G
    read = []
    whole = type(split).read
    monkeypatch.setattr(
        type(split), "read", lambda own, indices, *more: read.extend(indices) or whole(own, indices, *more)
    )
    world = World(split, 2, 0, 3).seek(number * G)
    step = world.step()
    numbers = np.arange(number * G, number * G + G)
    assert sorted(read) == numbers.tolist()
    assert same(step, tuple(getattr(split.read(numbers).batch, part) for part in PARTS))


def test_memory_stays_below_its_bound_whatever_is_read_and_the_steps_are_the_same(data, made, opened):
    expected = uninterrupted(opened(), 12)
    access = Access(memory_bytes=16_000)  # some chunks, and the tables beside one shard or another
    split = open_split(data, made.folder.parent, "train", seq_len=LENGTH, seed=3, access=access)
    world = World(split, 2, 3)
    assert all(same(step, other) for step, other in zip(world.steps(12), expected, strict=True))
    world.close()
    assert access.counters.store_reads > 40, "chunks were dropped and read again"
    assert access.memory.peak_bytes <= 16_000


def test_a_state_inside_of_a_step_or_a_batch_that_does_not_divide_is_refused(opened):
    split = opened()
    with pytest.raises(ValueError, match="start at a step, a multiple of global_batch_size = 24"):
        World(split, 8).seek(12)
    with pytest.raises(ValueError, match="must be a multiple of dp"):
        World(split, 5)


def test_a_sample_knows_its_documents_and_its_shard(opened):
    split = opened()
    for n in range(12):
        source = split.stream.locate(n).source
        first, *_ = split.describe(n)
        assert split.shard_of(n) == f"{split.datasets[source]}/{first.shard}"
        shards = split.sequences[source].shards
        row = split.read(np.array([n])).batch.input_BL[0]
        assert row[0] == shards.ids(first.document, first.offset, 1)[0]


def test_samples_are_read_in_any_order(opened):
    split = opened()
    numbers = np.array([7, 8, 9, 3, 1000, 4, 5, 0])
    read = split.read(numbers)
    for row, n in enumerate(numbers.tolist()):
        alone = split.read(np.array([n])).batch
        assert all(np.array_equal(getattr(read.batch, part)[row], getattr(alone, part)[0]) for part in PARTS)
    assert split.read(np.array([], np.int64)).batch.input_BL.shape == (0, LENGTH)


def test_the_seed_orders_training_alone(data, made, opened):
    first, second = opened(seed=1), opened(seed=2)
    assert [first.describe(n) for n in range(9)] != [second.describe(n) for n in range(9)]
    with pytest.raises(ManifestError, match="heldout"):
        open_split(data, made.folder.parent, "heldout", seq_len=16, seed=1)


# What is damaged, and how.


def shards_of(made):
    return sorted(made.folder.glob("shards/*.tar"))


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a flipped byte": lambda path: flip(path, 2048 + 100),
    "a truncated tar": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "a shard that is gone": lambda path: path.unlink(),
    "other files beside it": lambda path: flip(path.with_name(path.name + SIDECAR_SUFFIXES[1]), -1),
    "a file beside it that is gone": lambda path: path.with_name(path.name + SIDECAR_SUFFIXES[0]).unlink(),
    "an empty tar": lambda path: path.write_bytes(b""),
}


def agree_alone(bads, from_sample, skips):
    """What one rank alone agrees on."""
    return skips.with_bad(bads, from_sample)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_ends_a_run_that_does_not_skip_with_its_place(opened, made, damage, workers):
    opened()  # makes the pack index
    name = shards_of(made)[0].name
    DAMAGES[damage](shards_of(made)[0])
    world = World(opened(), 1, workers)
    with pytest.raises(ChunkFault, match="can't be used") as caught:
        world.steps(10)
    assert caught.value.bad[:2] == ("made", f"shards/{name}")
    world.close()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_skipped_is_blank_and_all_else_is_as_it_was(opened, made, damage, workers):
    split, name = opened(), shards_of(made)[0].name
    whole = uninterrupted(split, 6)
    DAMAGES[damage](shards_of(made)[0])
    world = World(opened(SKIPPING), 1, workers, 3, agree=agree_alone)
    steps = world.steps(6)
    skips = world.ranks[0].skips
    assert {skip.shard for skip in skips} == {f"shards/{name}"}
    assert ("beside" in damage) == (skips.entries[0].chunk == WHOLE_SHARD)
    blank = []
    for number, (step, as_it_was) in enumerate(zip(steps, whole, strict=True)):
        for row in range(G):
            if (step[1][row] == IGNORE_INDEX).all():
                blank.append(number * G + row)
                assert (step[0][row] == 0).all()
                assert (step[2][row] == np.arange(LENGTH)).all()
            else:
                assert all(np.array_equal(step[part][row], as_it_was[part][row]) for part in range(3))
    assert blank == [n for n in range(6 * G) if split.is_skipped(n, skips)]
    assert 0 < len(blank) < 6 * G
    counted = split.ledger(6 * G, skips)
    assert counted.skipped_samples == len(blank)
    labels = np.concatenate([step[1] for step in steps])
    assert counted.num_tokens == (labels != IGNORE_INDEX).sum()
    world.close()


def test_a_shard_that_vanishes_in_the_middle_is_skipped_from_the_step_that_misses_it(data, made, opened):
    whole = uninterrupted(opened(), 12)
    access = Access(SKIPPING, memory_bytes=16_000)  # so that not all of it is in memory by then
    split = open_split(data, made.folder.parent, "train", seq_len=LENGTH, seed=3, access=access)
    world = World(split, 2, 0, 3, agree=lambda bads, from_sample, skips: skips.with_bad(bads, from_sample))
    before = [world.ranks[0].next() for _ in range(4)]  # the first step of one rank
    assert same([before[0].input_BL], [whole[0][0][:3]])
    shards_of(made)[0].unlink()
    alone = World(split, 1, 0, 24, agree=agree_alone).seek(G)
    steps = alone.steps(11)
    skips = alone.ranks[0].skips
    assert {skip.shard for skip in skips} == {"shards/web-train-00000.tar"}
    assert all(skip.from_sample >= G for skip in skips)
    assert "cannot be opened" in skips.entries[0].reason
    for number, (step, as_it_was) in enumerate(zip(steps, whole[1:], strict=True), 1):
        for row in range(G):
            if not split.is_skipped(number * G + row, skips):
                assert same([part[row] for part in step], [part[row] for part in as_it_was])


def test_a_list_that_was_saved_gives_the_same_steps_at_another_number_of_ranks(opened, made):
    flip(shards_of(made)[0], 2048 + 100)
    first = World(opened(SKIPPING), 1, 0, 1, agree=agree_alone)
    steps = first.steps(8)
    skips = first.ranks[0].skips
    assert skips
    for dp, workers, start in ((2, 0, 0), (4, 2, 3), (8, 1, 6), (3, 3, 7)):
        again = World(opened(SKIPPING), dp, workers, 1, agree=agree_alone).seek(start * G, skips)
        assert all(same(again.step(), steps[step]) for step in range(start, 8))
        assert all(rank.skips == skips for rank in again.ranks)
        again.close()


def test_what_was_skipped_stays_skipped_when_it_is_mended(opened, made):
    broken, whole = shards_of(made)[0], shards_of(made)[0].read_bytes()
    flip(broken, 2048 + 100)
    first = World(opened(SKIPPING), 1, agree=agree_alone)
    steps = first.steps(4)
    broken.write_bytes(whole)
    again = World(opened(), 1).seek(0, first.ranks[0].skips)  # under a policy that adds none, too
    assert all(same(again.step(), step) for step in steps)


def test_only_one_rank_finds_it_and_all_leave_out_the_same(opened, made):
    """Two ranks that read the same rows, as tensor-parallel ones do, of which one has a damaged disk."""
    split = opened(SKIPPING)
    n = next(n for n in range(2 * G, 4 * G) if split.stream.locate(n).source == "web")
    shard, chunk = min(split.sequences["web"].chunks_of(split.stream.locate(n).sequence))
    documents = split.sequences["web"].shards.documents_of(shard, chunk)
    bad = BadChunk("made", shard, chunk, "other bytes", *documents)
    told = []

    def agree(bads, from_sample, skips):
        told.append(from_sample)
        return skips.with_bad([*bads, *([bad] if from_sample >= 2 * G else [])], from_sample)  # of the other rank

    world = World(split, 1, 2, 3, agree=agree)
    plain = uninterrupted(split, 4)
    steps = world.steps(4)
    skips = world.ranks[0].skips
    assert [skip.from_sample for skip in skips] == [2 * G]
    assert told == [0, G, 2 * G, 2 * G, 3 * G], "asked once a step, and once more where there was something new"
    assert all(same(steps[step], plain[step]) for step in (0, 1))
    assert all(same(one, other) for one, other in zip(steps, uninterrupted(split, 4, G, skips), strict=True))
    assert any(split.is_skipped(n, skips) for n in range(2 * G, 4 * G))
    world.close()


def test_a_step_without_any_sample_left_ends_the_run(opened, made):
    for folder in (made.folder, made.folder.with_name("more")):
        for path in folder.glob("shards/*.tar"):
            path.unlink()
    world = World(opened(SKIPPING), 1, agree=agree_alone)
    with pytest.raises(DataError, match=f"none of the {G} samples from sample 0 on can be read") as caught:
        world.step()
    assert "made/shards/" in str(caught.value)
    assert "mend the storage" in str(caught.value)


def test_a_step_that_is_lost_is_lost_for_a_rank_too_that_can_read_nothing_beside_the_shards(opened, made):
    split = opened(SKIPPING)
    bads = []
    for name, own in split.sequences.items():
        for path in {own.shards.shard_of_document(number) for number in range(own.shards.num_documents)}:
            documents = own.shards.documents_of(path, WHOLE_SHARD)
            bads.append(BadChunk(split.datasets[name], path, WHOLE_SHARD, "gone", *documents))
    of_others = World(split, 1, agree=lambda own, from_sample, skips: skips.with_bad(bads, from_sample))
    with pytest.raises(DataError, match=f"none of the {G} samples from sample 0 on can be read") as caught:
        of_others.step()
    assert ", the whole shard: gone" in str(caught.value)
    assert "chunk -1" not in str(caught.value)


def test_a_chunk_that_a_second_validation_meets_earlier_is_left_out_from_there_on(data, made):
    """It goes bad during the first one, which has used it before; each begins at sample 0 with the list so far."""
    access = Access(SKIPPING, memory_bytes=16_000)
    split = open_split(data, made.folder.parent, "train", seq_len=LENGTH, seed=3, access=access)

    def needed(numbers):
        web = [ref.sequence for ref in map(split.stream.locate, numbers) if ref.source == "web"]
        return set().union(*map(split.sequences["web"].chunks_of, web))

    shard, chunk = min(needed(range(G)) & needed(range(2 * G, 8 * G)))
    validation = World(split, 1, agree=agree_alone)
    whole = validation.steps(2)
    flip(made.folder / shard, chunk * 2048 + 100)
    validation.steps(6)
    (skip,) = found = validation.ranks[0].skips
    assert (skip.shard, skip.chunk) == (shard, chunk)
    assert 2 * G <= skip.from_sample < 8 * G
    second = World(split, 1, agree=agree_alone).seek(0, found)
    steps = second.steps(8)
    skips = second.ranks[0].skips
    assert skips.entries == (skip, replace(skip, from_sample=0))
    lost = [n for n in range(G) if split.is_skipped(n, skips)]
    assert lost
    for n in range(G):
        assert (steps[0][1][n] == IGNORE_INDEX).all() == (n in lost)
        assert n in lost or same([part[n] for part in steps[0]], [part[n] for part in whole[0]])
    third = World(split, 1, 2, agree=agree_alone).seek(0, skips)
    assert all(same(one, other) for one, other in zip(third.steps(8), steps, strict=True))
    assert third.ranks[0].skips is skips
    third.close()


class Refusing:
    """A store whose every read is refused."""

    def read(self, path, first, length):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    size = read

    def where(self, path):
        return f"s3://bucket/{path}"

    def close(self):
        pass


@pytest.mark.parametrize("workers", [0, 2])
def test_a_store_that_refuses_connections_is_nothing_to_skip(data, made, opened, tmp_path, workers):
    opened()  # makes the pack index
    for name in ("made", "more"):
        shutil.copytree(made.folder.with_name(name), tmp_path / "small" / name, ignore=shutil.ignore_patterns("shards"))
    asked = []
    access = Access(Policy("skip", retries=1, wait_s=0.001), remote=Refusing(), of_run=True)
    split = open_split(data, tmp_path / "small", "train", seq_len=LENGTH, seed=3, access=access)
    world = World(split, 1, workers, agree=lambda bads, n, skips: asked.append(n) or skips.with_bad(bads, n))
    with pytest.raises(ChunkFault, match=r"s3://bucket.*2 tries") as caught:
        world.step()
    assert caught.value.passing
    assert caught.value.exit_code == ExitCode.FAILED == 1
    assert (asked, world.ranks[0].skips) == ([], NO_SKIPS)
    world.close()


def test_a_fault_that_the_list_does_not_cover_is_never_silent(opened, made):
    flip(shards_of(made)[0], 2048 + 100)
    world = World(opened(SKIPPING), 1, agree=lambda bads, from_sample, skips: skips)
    with pytest.raises(ChunkFault, match="chunk 1"):
        world.steps(8)


# What a run declares of its data.


def with_layout(made, tokens):
    vocabulary = made.manifest.vocabulary.model_copy(
        update={
            "layout": tokens.layout,
            "layout_digest": tokens.layout_digest,
            "size": tokens.used_size,
            "eod_id": Vocabulary.of(tokens).eod_id,
        }
    )
    write_manifest(made.folder, made.manifest.model_copy(update={"vocabulary": vocabulary}))


@pytest.mark.parametrize(("field", "change"), [("eod_id", 1), ("size", 1), ("size", -1)])
def test_a_manifest_that_contradicts_its_layout_is_refused(alone, made, tokens, field, change):
    with_layout(made, tokens)
    manifest = load_manifest(made.folder)
    lie = {field: getattr(manifest.vocabulary, field) + change}
    write_manifest(made.folder, manifest.model_copy(update={"vocabulary": manifest.vocabulary.model_copy(update=lie)}))
    with pytest.raises(DataError, match="the manifest of dataset made contradicts itself: it says"):
        load(alone, tokens, made.folder.parent)


@pytest.fixture
def alone(data):
    """One source."""
    return data.model_copy(update={"sources": data.sources[:1]})


def test_a_dataset_of_another_layout_is_refused_with_both(alone, made, tokens):
    with_layout(made, tokens)
    load(alone, tokens.model_copy(update={"name": "same"}), made.folder.parent)
    load(alone, tokens.model_copy(update={"pad_multiple": 3 * tokens.vocab_size}), made.folder.parent)
    other = tokens.model_copy(update={"name": "other", "special": ["<|endoftext|>", "<|other|>"]})
    with pytest.raises(DataError) as caught:
        load(alone, other, made.folder.parent)
    for text in (
        "dataset made has a vocabulary of other ids than tokens=other",
        f"there    3648 ids, layout {tokens.layout_digest[:12]}: ",
        f"; padded to {tokens.vocab_size}\n",
        f"declared {tokens.used_size} ids, layout {other.layout_digest[:12]}: ",
        "type tokens=demo, or build the dataset with tokens=other",
    ):
        assert text in str(caught.value)


def test_a_layout_that_cannot_be_read_is_refused_too(alone, made, tokens):
    with pytest.raises(DataError, match="of ranges that this version does not know"):
        load(alone, tokens, made.folder.parent)


def test_counts_for_the_rules(made):
    manifest = made.manifest.model_copy(
        update={"sources": (made.manifest.sources[0].model_copy(update={"largest_unit": 258}),)}
    )
    total = sum(shard.num_tokens for shard in manifest.shards)
    assert token_counts({"made": manifest}) == {("made", "web"): (total, 0, 258)}
