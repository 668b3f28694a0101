from fractions import Fraction

import pytest
from documents import documents
from fake_packs import fake_source
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmhydra.config.tokens import MODALITIES
from mmhydra.data.packing.pack import pack
from mmhydra.data.packing.sequences import PackedSequences
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.stream.ledger import ledger
from mmhydra.data.stream.mixture import Mixture
from mmhydra.data.stream.order import EpochOrder, SourceOrder
from mmhydra.data.stream.stream import Stream, StreamSource

SIZES = {"a": (90, 110, 100, 200, 500), "b": (299, 1), "c": (3, 4)}


def make_stream(sources):
    names = [source.name for source in sources]
    shares = {name: Fraction(1, 1 + number) for number, name in enumerate(names)}
    mixture = Mixture.constant(
        {name: share / sum(shares.values()) for name, share in shares.items()},
        {name: Fraction(9) for name in names},
        3,
        True,
    )
    return Stream(sources, mixture, 3, True, 2)


def fake_stream():
    return make_stream([StreamSource(name, fake_source(groups)) for name, groups in SIZES.items()])


@pytest.fixture(scope="module")
def first_samples():
    """The first 9000 samples of the fake stream: (source, epoch, sequence) each."""
    stream = fake_stream()
    return [stream.locate(n) for n in range(9000)]


def one_by_one(samples, stream, tokens_of, without):
    """(samples, tokens by modality of each source), padding, and (samples, tokens) left out."""
    found = {name: (0, dict.fromkeys(MODALITIES, 0)) for name in stream.names}
    padding, skipped = 0, (0, 0)
    for n, (source, _, sequence) in enumerate(samples):
        drawn, tokens = found[source]
        here = tokens_of(source, sequence)
        if without.get(source, {}).get(sequence, n + 1) <= n:
            found[source] = (drawn + 1, tokens)
            skipped = (skipped[0] + 1, skipped[1] + sum(here.values()))
        else:
            found[source] = (drawn + 1, {modality: tokens[modality] + here[modality] for modality in MODALITIES})
            padding += stream.seq_len - sum(here.values())
    return found, padding, skipped


def same(found, expected, stream):
    counts, padding, skipped = expected
    assert found.samples == {name: drawn for name, (drawn, _) in counts.items()}
    assert found.tokens == {name: tokens for name, (_, tokens) in counts.items()}
    assert (found.padding, found.skipped_samples, found.skipped_tokens) == (padding, *skipped)
    for name, epochs in found.epochs.items():
        assert epochs == found.samples[name] / stream.orders[name].size
    assert found.num_tokens == sum(found.by_source.values()) == sum(found.by_modality.values())
    assert found.num_samples * found.seq_len == found.num_tokens + padding + skipped[0] * found.seq_len


WITHOUT = st.fixed_dictionaries(
    {
        name: st.dictionaries(st.integers(0, sum(groups) - 1), st.integers(0, 10**4), max_size=6)
        for name, groups in SIZES.items()
    }
)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 9000), WITHOUT)
def test_it_is_what_counting_sample_by_sample_gives(first_samples, n, without):
    stream = fake_stream()

    def tokens_of(source, sequence):
        return dict(zip(MODALITIES, stream.orders[source].pack.counts[sequence].tolist(), strict=True))

    same(ledger(stream, n, without), one_by_one(first_samples[:n], stream, tokens_of, without), stream)


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(documents(), min_size=8, max_size=20), st.integers(0, 200), st.data())
def test_it_is_what_the_pieces_and_segments_say(make_dataset, found, n, data):
    sequences = {}
    for name, some in (("one", found[::2]), ("two", found[1::2])):
        made = make_dataset([*some, [1, 2, 3]], max_bytes=4096, name=name)
        shards = TokenShards(made.folder, made.manifest, "web", "train")
        sequences[name] = PackedSequences(shards, pack(shards, 24), eod_id=0)
    stream = make_stream([StreamSource(name, sequences[name]) for name in sequences])

    def tokens_of(source, sequence):
        """Each input of each piece, id by id."""
        tokens = dict.fromkeys(MODALITIES, 0)
        for piece in sequences[source].describe(sequence):
            what = [s.modality for s in sequences[source].shards.segments(piece.document) for _ in range(s.length)]
            for modality in what[piece.offset : piece.offset + piece.length]:
                tokens[modality] += 1
            tokens["special"] += piece.opener >= 0
        return tokens

    without = {"one": {data.draw(st.integers(0, len(sequences["one"]) - 1)): data.draw(st.integers(0, 300))}}
    samples = [stream.locate(number) for number in range(n)]
    same(ledger(stream, n, without), one_by_one(samples, stream, tokens_of, without), stream)


def test_padding_is_what_the_samples_show(make_dataset):
    made = make_dataset([[1] * length for length in (3, 9, 30, 2, 14, 1)] * 4)
    shards = TokenShards(made.folder, made.manifest, "web", "train")
    sequences = PackedSequences(shards, pack(shards, 16), eod_id=0)
    stream = make_stream([StreamSource("one", sequences)])
    n = 3 * len(sequences) + 5
    # Ids of the documents are 1 and padding is 0; the end of a document is never an input.
    padding = sum(int((sequences[stream.locate(k).sequence].input_L == 0).sum()) for k in range(n))
    found = ledger(stream, n)
    assert found.padding == padding
    assert found.by_modality == {**dict.fromkeys(MODALITIES, 0), "text": n * 16 - padding}


def test_nothing_seen_yet_and_numbers_below_zero():
    stream = fake_stream()
    found = ledger(stream, 0)
    assert (found.num_tokens, found.padding, found.skipped_samples) == (0, 0, 0)
    assert set(found.samples.values()) == {0}
    assert found.epochs == {"a": 0, "b": 0, "c": 0}
    with pytest.raises(IndexError, match="from 0"):
        ledger(stream, -1)


def test_far_away_it_is_exact_and_replays_nothing(monkeypatch):
    stream, n = fake_stream(), 10**12 + 12345
    located = []
    real = SourceOrder.locate

    def locate(order, counts):
        located.append(len(counts))
        return real(order, counts)

    monkeypatch.setattr(SourceOrder, "locate", locate)
    without = {"a": {17: 10**11, 18: 10**13}, "c": {2: 0}}
    before, after = ledger(stream, n, without), ledger(stream, n + 3000, without)
    assert sum(located) < 50_000
    assert before.samples == stream.counts(n)
    # From there on it is again sample by sample.
    for name in stream.names:
        for number, modality in enumerate(MODALITIES):
            expected = sum(
                int(stream.orders[name].pack.counts[ref.sequence, number])
                for ref in map(stream.locate, range(n, n + 3000))
                if ref.source == name and (name, ref.sequence) not in {("a", 17), ("c", 2)}
            )
            assert after.tokens[name][modality] - before.tokens[name][modality] == expected
    # Sequence 17 came once in each whole epoch since it was left out, sequence 2 of c in every one.
    epochs = [stream.counts(m)["a"] / 1000 for m in (10**11, n)]
    assert abs(before.skipped_samples - (epochs[1] - epochs[0]) - before.epochs["c"]) <= 3
    with pytest.raises(KeyError):
        ledger(stream, n, {"nowhere": {1: 2}})


def test_of_a_large_source_few_rows_are_read(monkeypatch):
    source = fake_source((50,) * 20_000)
    stream = make_stream([StreamSource("a", source)])
    n = 2_345_678
    expected = source.pack.counts[stream.locate_many(0, n).sequence].sum()
    read = []
    real = EpochOrder.sequence
    monkeypatch.setattr(EpochOrder, "sequence", lambda order, places: read.append(len(places)) or real(order, places))
    assert ledger(make_stream([StreamSource("a", source)]), n).num_tokens == expected
    assert sum(read) < 10_000
