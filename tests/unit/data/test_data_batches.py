import numpy as np
import pytest
import yaml

from mmhydra.config.data import Data, Source
from mmhydra.config.tokens import Tokens
from mmhydra.data.datasets import DataError, load, token_counts
from mmhydra.data.shards.manifest import ManifestError, write_manifest
from mmhydra.data.stream.batches import RankBatches, open_split
from mmhydra.paths import config_dir


@pytest.fixture
def data():
    """What a run reads: source "web" of the dataset "made"."""
    sources = [Source(name="web", dataset="made", modality="text", weight=1.0)]
    return Data.model_construct(name="letters", sources=sources, shuffle=True)


@pytest.fixture
def made(make_dataset):
    draw = np.random.default_rng(0)
    return make_dataset([draw.integers(1, 100, size).tolist() for size in draw.integers(1, 40, 60)], max_bytes=20_000)


@pytest.fixture
def tokens():
    """The vocabulary of the demo."""
    return Tokens.model_validate(yaml.safe_load((config_dir() / "tokens" / "demo.yaml").read_text()))


def with_layout(made, tokens):
    vocabulary = made.manifest.vocabulary.model_copy(
        update={"layout": tokens.layout, "layout_digest": tokens.layout_digest}
    )
    write_manifest(made.folder, made.manifest.model_copy(update={"vocabulary": vocabulary}))


def test_ranks_together_give_the_samples_of_the_stream(data, made):
    split = open_split(data, made.folder.parent, "train", seq_len=16, seed=3)
    alone = RankBatches(split, global_batch_size=4, dp_degree=1, dp_rank=0, per_yield=4)
    ranks = [RankBatches(split, global_batch_size=4, dp_degree=2, dp_rank=rank, per_yield=1) for rank in (0, 1)]
    for step in range(3):
        batch = alone.next()
        parts = [[rank.next() for _ in range(2)] for rank in ranks]
        for name in ("input_BL", "labels_BL", "positions_BL"):
            together = np.concatenate([getattr(part, name) for own in parts for part in own])
            np.testing.assert_array_equal(together, getattr(batch, name))
            assert together.shape == (4, 16)
        np.testing.assert_array_equal(batch.input_BL[1], split.stream.sample(4 * step + 1).input_L)
        assert {rank.sample for rank in (alone, *ranks)} == {4 * step + 4}


def test_a_sample_knows_its_documents_and_its_shard(data, made):
    split = open_split(data, made.folder.parent, "train", seq_len=16, seed=3)
    shards = split.sequences["web"].shards
    for n in range(12):
        first, *_ = split.describe(n)
        assert split.shard_of(n) == f"made/{first.shard}"
        assert split.stream.sample(n).input_L[0] == shards.ids(first.document, first.offset, 1)[0]


def test_the_seed_orders_training_alone(data, made):
    first, second = (open_split(data, made.folder.parent, "train", seq_len=16, seed=seed) for seed in (1, 2))
    assert [first.describe(n) for n in range(9)] != [second.describe(n) for n in range(9)]
    with pytest.raises(ManifestError, match="web/heldout"):
        open_split(data, made.folder.parent, "heldout", seq_len=16, seed=1)


def test_a_dataset_of_another_layout_is_refused_with_both(data, made, tokens):
    with_layout(made, tokens)
    load(data, tokens.model_copy(update={"name": "same"}), made.folder.parent)
    load(data, tokens.model_copy(update={"pad_multiple": 3 * tokens.vocab_size}), made.folder.parent)
    other = tokens.model_copy(update={"name": "other", "special": ["<|endoftext|>", "<|other|>"]})
    with pytest.raises(DataError) as caught:
        load(data, other, made.folder.parent)
    for text in (
        "dataset made has a vocabulary of other ids than tokens=other",
        f"there    100 ids, layout {tokens.layout_digest[:12]}: ",
        f"; padded to {tokens.vocab_size}\n",
        f"declared {tokens.used_size} ids, layout {other.layout_digest[:12]}: ",
        "type tokens=demo, or build the dataset with tokens=other",
    ):
        assert text in str(caught.value)


def test_a_layout_that_cannot_be_read_is_refused_too(data, made, tokens):
    with pytest.raises(DataError, match="of ranges that this version does not know"):
        load(data, tokens, made.folder.parent)


def test_counts_for_the_rules(made):
    manifest = made.manifest.model_copy(
        update={"sources": (made.manifest.sources[0].model_copy(update={"largest_unit": 258}),)}
    )
    total = sum(shard.num_tokens for shard in manifest.shards)
    assert token_counts({"made": manifest}) == {("made", "web"): (total, 0, 258)}
