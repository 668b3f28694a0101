import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from documents import documents, marked, mixed_document
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmhydra.data.datasets import DataError
from mmhydra.data.packing import sequences as module
from mmhydra.data.packing.atoms import largest_unit
from mmhydra.data.packing.pack import DOCUMENT, LENGTH, OFFSET, OPENER, first_fit, pack
from mmhydra.data.packing.sequences import IGNORE_INDEX, Batch, PackedSequences
from mmhydra.data.shards.document import NO_OPENER, text_document
from mmhydra.data.shards.index import SEGMENTS_SUFFIX
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.storage.faults import WHOLE_SHARD, BadChunk, ChunkFault

NO = IGNORE_INDEX


def packed(made, seq_len):
    shards = TokenShards(made.folder, made.manifest, "web", "train")
    return PackedSequences(shards, pack(shards, seq_len), eod_id=0)


def pieces_of(found):
    """(document, offset, length, opener) of the pieces of each sequence."""
    edges = found.pack.edges
    return [found.pack.pieces[low:high].tolist() for low, high in pairwise(edges)]


def pieces(made, seq_len):
    return pieces_of(packed(made, seq_len))


def cuts(make_dataset, document, seq_len):
    """Of one document alone: (offset, length, opener) of each piece in its order."""
    found = pieces(make_dataset([document]), seq_len)
    return sorted(tuple(piece[1:]) for sequence in found for piece in sequence)


def test_a_sequence_by_hand(make_dataset):
    speech = mixed_document(("text", 2, 1, False), ("special", 1), ("audio", 4, 2, True, 90), ("special", 1))
    made = make_dataset([[5, 6, 7], [8, 9], speech])
    found = packed(made, 7)
    # Two texts of 3 and 2 inputs share a sequence. The speech (ids 1 to 8, end) of 8 is cut between its units.
    assert [[tuple(piece)[2:] for piece in found.describe(k)] for k in range(len(found))] == [
        [(0, 0, 3, -1), (1, 0, 2, -1)],
        [(2, 0, 5, -1)],
        [(2, 5, 3, 90)],
    ]
    inputs, labels, positions = (rows.tolist() for rows in found[0])
    assert inputs == [5, 6, 7, 8, 9, 0, 0]
    assert labels == [6, 7, 0, 9, 0, NO, NO]
    assert positions == [0, 1, 2, 0, 1, 0, 1]
    inputs, labels, positions = (rows.tolist() for rows in found[1])
    assert inputs == [1, 2, 3, 4, 5, 0, 0]
    assert labels == [NO, 3, 4, 5, 6, NO, NO]  # the second id is text without loss; the last is the next piece's first
    assert positions == [0, 1, 2, 3, 4, 0, 1]
    inputs, labels, positions = (rows.tolist() for rows in found[2])
    assert inputs == [90, 6, 7, 8, 0, 0, 0]
    assert labels == [6, 7, 8, 0, NO, NO, NO]
    assert positions == [0, 1, 2, 3, 0, 1, 2]
    assert all(rows.dtype == np.int32 for rows in found[0])
    assert found.pack.padding_share == pytest.approx(1 - 14 / 21)


def test_text_is_cut_anywhere(make_dataset):
    text = mixed_document(("text", 10))
    assert cuts(make_dataset, text, 4) == [(0, 4, -1), (4, 4, -1), (8, 2, -1)]
    assert cuts(make_dataset, text, 10) == [(0, 10, -1)]
    assert cuts(make_dataset, text, 9) == [(0, 9, -1), (9, 1, -1)]


def test_an_image_stays_whole_with_its_marks(make_dataset):
    document = mixed_document(("text", 5), *marked("image", 4, 4, NO_OPENER), ("text", 3))
    # The image would begin at 5 and end at 11: it does not fit behind the text in 8 or 10, and does in 11.
    assert cuts(make_dataset, document, 8) == [(0, 5, -1), (5, 8, -1), (13, 1, -1)]
    assert cuts(make_dataset, document, 10) == [(0, 5, -1), (5, 9, -1)]
    assert cuts(make_dataset, document, 11) == [(0, 11, -1), (11, 3, -1)]


def test_two_images_between_one_mark_each(make_dataset):
    # start image end start image end: the cut is between the second and the third mark.
    document = mixed_document(*marked("image", 4, 4, NO_OPENER), *marked("image", 4, 4, NO_OPENER))
    assert cuts(make_dataset, document, 9) == [(0, 6, -1), (6, 6, -1)]
    # A single mark between them belongs to the second.
    document = mixed_document(("image", 4, 4), ("special", 1), ("image", 4, 4))
    assert cuts(make_dataset, document, 8) == [(0, 4, -1), (4, 5, -1)]


def test_all_marks_before_a_signal_stay_with_it(make_dataset):
    # camera, start, two steps of four ids, end
    document = mixed_document(("text", 4), ("special", 2), ("video", 8, 4, True, 90), ("special", 1))
    assert cuts(make_dataset, document, 7) == [(0, 4, -1), (4, 6, -1), (10, 5, 90)]
    assert cuts(make_dataset, document, 10) == [(0, 10, -1), (10, 5, 90)]


def test_openers_take_a_position(make_dataset):
    document = mixed_document(*marked("audio", 20, 2, 91))
    # 1 + 2 x 2 ids, then the opener and two units each, then the opener, one unit and the end mark.
    expected = [(0, 5, -1), (5, 4, 91), (9, 4, 91), (13, 4, 91), (17, 4, 91), (21, 1, 91)]
    found = cuts(make_dataset, document, 5)
    assert found[:-2] == expected[:-2]
    assert found[-2:] == [(17, 2, 91), (19, 3, 91)]  # the end mark belongs to the last unit


def test_what_cannot_fit_names_the_numbers(make_dataset):
    document = mixed_document(("text", 3), *marked("image", 16, 16, NO_OPENER))
    assert largest_unit(document) == 18
    made = make_dataset([[1, 2], document])
    with pytest.raises(DataError, match=r"source web has a unit of 18 ids .*has 17; type training.seq_len=18 or"):
        packed(made, 17)
    assert len(packed(made, 18)) == 2
    with pytest.raises(DataError, match="at least 1, not 0"):
        packed(made, 0)
    with pytest.raises(DataError, match="no document of two ids or more in its split train"):
        packed(make_dataset([[], []]), 8)


def test_index_outside(make_dataset):
    found = packed(make_dataset([[1, 2], [3]]), 2)
    assert len(found) == 2
    for k in (-1, 2):
        for ask in (found.__getitem__, found.describe, found.chunks_of, found.shard_of):
            with pytest.raises(IndexError, match=f"sequence {k} of web/train: has 2"):
                ask(k)


def may_cut(document, place):
    """Whether a document may be cut before the id at `place`, and the opener then: the rule in plain words."""
    kinds = np.repeat([segment.modality for segment in document.segments], [s.length for s in document.segments])
    media = np.isin(kinds, ["image", "audio", "video"])
    segment = next(s for s in document.segments if s.start <= place < s.start + s.length)
    inside = place > segment.start
    if inside and (place - segment.start) % segment.unit:
        return False, None
    opener = segment.opener if inside else NO_OPENER
    if not inside or kinds[place] == "special":
        before = after = place  # the run of marks around the cut
        while before and kinds[before - 1] == "special":
            before -= 1
        while after < len(kinds) - 1 and kinds[after] == "special":  # the last one is the end of the document
            after += 1
        leads_in = after < len(kinds) - 1 and media[after]
        leads_out = before > 0 and media[before - 1]
        closing = leads_out and (after - before >= 2 or not leads_in) and after > before
        if leads_in and place > before + closing and after > before:
            return False, None
        if closing and place == before:
            return False, None
    return True, opener


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(corpus=st.lists(documents(), min_size=1, max_size=9), data=st.data())
def test_every_pair_once_and_nothing_crosses(make_dataset, corpus, data):
    least = max(largest_unit(document) for document in corpus)
    seq_len = data.draw(st.integers(least, least + 30))
    made = make_dataset(corpus, max_bytes=data.draw(st.sampled_from([1, 4096, 10**6])))
    if not any(len(document.ids) > 1 for document in corpus):
        return
    found = packed(made, seq_len)
    seen = [np.zeros(len(document.ids) - 1, int) for document in corpus]
    for k in range(len(found)):
        sample, at = found[k], 0
        assert all(len(rows) == seq_len for rows in sample)
        for piece in found.describe(k):
            ids, opener = corpus[piece.document].ids, [piece.opener] if piece.opener >= 0 else []
            assert piece.key == f"{piece.document:09d}"
            assert piece.shard == found.shards.shard_of_document(piece.document)
            end = at + len(opener) + piece.length
            assert end <= seq_len
            stop = piece.offset + piece.length
            loss = [s.loss for s in corpus[piece.document].segments for _ in range(s.length)]
            label_places = range(piece.offset + (not opener), stop + 1)
            assert sample.input_L[at:end].tolist() == [*opener, *ids[piece.offset : stop]]
            assert sample.labels_L[at:end].tolist() == [ids[i] if loss[i] else NO for i in label_places]
            assert sample.positions_L[at:end].tolist() == list(range(end - at))
            seen[piece.document][piece.offset : stop] += 1
            if piece.offset:
                assert may_cut(corpus[piece.document], piece.offset) == (True, piece.opener)
            else:
                assert piece.opener == NO_OPENER
            at = end
        assert (sample.input_L[at:] == 0).all()
        assert (sample.labels_L[at:] == NO).all()
        assert sample.positions_L[at:].tolist() == list(range(seq_len - at))
    assert all((count == 1).all() for count in seen)
    for number, document in enumerate(corpus):  # what fits whole stays whole; no cut comes sooner than it must
        own = found.pack.pieces[found.pack.pieces[:, DOCUMENT] == number]
        own = own[np.argsort(own[:, OFFSET])]
        if 1 < len(document.ids) <= seq_len + 1:
            assert own[:, 1:].tolist() == [[0, len(document.ids) - 1, NO_OPENER]]
        for piece in own[:-1]:
            room = seq_len - (piece[OPENER] >= 0) - piece[LENGTH]
            later = piece[OFFSET] + piece[LENGTH] + np.arange(1, room + 1)
            assert not any(may_cut(document, int(place))[0] for place in later if place < len(document.ids) - 1)


def plain_sample(corpus, pieces, seq_len):
    """The rows of a sequence, position by position, in the words of its definition."""
    rows = []
    for document, offset, length, opener in pieces:
        ids = corpus[document].ids.tolist()
        loss = [segment.loss for segment in corpus[document].segments for _ in range(segment.length)]
        pairs = [(opener, offset)] if opener >= 0 else []  # input, and where its label is
        pairs += [(ids[place], place + 1) for place in range(offset, offset + length)]
        rows += [(here, ids[label] if loss[label] else NO, at) for at, (here, label) in enumerate(pairs)]
    return rows + [(0, NO, at) for at in range(seq_len - len(rows))]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(corpus=st.lists(documents(), min_size=1, max_size=12), data=st.data())
def test_sequences_are_those_of_a_slow_and_simple_reader(make_dataset, corpus, data):
    if not any(len(document.ids) > 1 for document in corpus):
        return
    least = max(largest_unit(document) for document in corpus)
    seq_len = data.draw(st.integers(least, least + 60))
    made = make_dataset(
        corpus,
        vocab_size=data.draw(st.sampled_from([100, 10**5])),
        max_bytes=data.draw(st.sampled_from([4096, 10**6])),
        chunk_bytes=data.draw(st.sampled_from([3, 16, 100, 512, 10**6])),
    )
    found = packed(made, seq_len)
    batch = Batch.empty(2, seq_len)
    for k, rows in enumerate(pieces_of(found)):
        for array in batch:
            array[:] = 77
        found.fill(k, *(array[1] for array in batch))
        assert list(zip(*(array[1].tolist() for array in batch), strict=True)) == plain_sample(corpus, rows, seq_len)
        assert all((array[0] == 77).all() for array in batch)


def test_many_short_pieces_and_many_parts_without_loss(make_dataset):
    draw = np.random.default_rng(5)
    short = [text_document(draw.integers(1, 90, draw.integers(0, 9)), 0) for _ in range(900)]
    striped = mixed_document(*(("text", int(draw.integers(1, 6)), 1, bool(loss)) for loss in draw.integers(0, 2, 400)))
    corpus = [*short[:450], striped, *short[450:]]
    for chunk_bytes in (4096, 10**6):
        found = packed(make_dataset(corpus, chunk_bytes=chunk_bytes, max_bytes=10**7), 512)
        sizes = [len(rows) for rows in pieces_of(found)]
        assert max(sizes) > 60
        for k, rows in enumerate(pieces_of(found)):
            assert list(zip(*(row.tolist() for row in found[k]), strict=True)) == plain_sample(corpus, rows, 512)


@pytest.mark.parametrize(("vocab_size", "chunk_bytes"), [(100, 1000), (10**5, 1000), (100, 1001), (10**5, 1003)])
def test_just_the_sequences_that_need_a_chunk_fail_when_it_is_damaged(make_dataset, vocab_size, chunk_bytes):
    draw = np.random.default_rng(1)
    documents = [draw.integers(1, 90, size).tolist() for size in draw.integers(1, 300, 14)]
    made = make_dataset(documents, vocab_size=vocab_size, chunk_bytes=chunk_bytes, max_bytes=9_000)
    whole = packed(made, 64)
    needed = [whole.chunks_of(k) for k in range(len(whole))]
    assert len({shard for chunks in needed for shard, _ in chunks}) > 2
    num_needed = 0
    for shard in made.manifest.shards:
        path = made.folder / shard.path
        content = path.read_bytes()
        for chunk in range(-(-len(content) // chunk_bytes)):
            place = min((chunk + 1) * chunk_bytes, len(content)) - 1
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            damaged = PackedSequences(TokenShards(made.folder, made.manifest, "web", "train"), whole.pack, 0)
            for k, chunks in enumerate(needed):
                if (shard.path, chunk) in chunks:
                    with pytest.raises(ChunkFault) as caught:
                        damaged[k]
                    bad = caught.value.bad
                    assert bad[:3] == ("made", shard.path, chunk)
                    pieces = whole.describe(k)
                    assert any(bad.first_document <= piece.document < bad.last_document for piece in pieces)
                    num_needed += 1
                else:
                    np.testing.assert_array_equal(damaged[k], whole[k])
        path.write_bytes(content)
    assert num_needed == sum(map(len, needed))


def test_a_shard_without_its_tables_hurts_only_sequences_with_a_piece_in_it(make_dataset):
    made = make_dataset([[1] * length for length in [20, 5, 9, 30, 2, 7, 11, 25] * 6], max_bytes=20_000)
    whole = packed(made, 40)
    lost = made.manifest.shards[1].path
    (made.folder / (lost + SEGMENTS_SUFFIX)).unlink()
    broken = PackedSequences(TokenShards(made.folder, made.manifest, "web", "train"), whole.pack, 0)
    shards_of = [{piece.shard for piece in broken.describe(k)} for k in range(len(broken))]
    touching = [lost in shards for shards in shards_of]
    # Some sequence begins in the shard before and has a piece in this one: its chunk group has others that do not.
    assert any(touches and broken.shard_of(k) != lost for k, touches in enumerate(touching))
    assert not all(touching)
    for k, touches in enumerate(touching):
        if not touches:
            np.testing.assert_array_equal(broken[k], whole[k])
            continue
        for ask in (broken.__getitem__, broken.chunks_of):
            with pytest.raises(ChunkFault) as caught:
                ask(k)
            assert caught.value.bad[1:3] == (lost, WHOLE_SHARD)


@pytest.mark.parametrize(("window_chunks", "num_kept"), [(1, 32), (16, 32), (18, 36)])
def test_the_plans_of_two_windows_are_kept(make_dataset, monkeypatch, window_chunks, num_kept):
    draw = np.random.default_rng(2)
    made = make_dataset([draw.integers(1, 90, size).tolist() for size in draw.integers(1, 60, 400)], max_bytes=60_000)
    whole = packed(made, 64).pack
    found = PackedSequences(TokenShards(made.folder, made.manifest, "web", "train"), whole, 0, window_chunks)
    firsts = whole.groups[:-1].tolist()
    assert len(firsts) > num_kept
    for first in firsts:
        found[first]
    made_again = []
    make = module.make_plan
    monkeypatch.setattr(module, "make_plan", lambda *arguments: made_again.append(1) or make(*arguments))
    for first in firsts[-num_kept:]:
        found[first]
    assert made_again == []
    found[firsts[-num_kept - 1]]
    assert made_again == [1]


def test_a_plan_that_failed_for_a_store_that_did_not_answer_is_made_again(make_dataset, monkeypatch):
    made = make_dataset(
        [[1] * length for length in [20, 5, 9, 30, 2, 7, 11, 25] * 6], max_bytes=20_000, chunk_bytes=10**6
    )
    whole = packed(made, 40)
    found = PackedSequences(TokenShards(made.folder, made.manifest, "web", "train"), whole.pack, 0)
    expected = [whole[k] for k in range(2)]
    make, planned = module.make_plan, []

    def first_without_answer(shards, index, first, last):
        planned.append((first, last))
        if len(planned) == 1:
            raise ChunkFault(BadChunk("made", "shards/x.tar", WHOLE_SHARD, "no answer", 0, 9), "x", passing=True)
        return make(shards, index, first, last)

    monkeypatch.setattr(module, "make_plan", first_without_answer)
    for k in (0, 1, 0):
        np.testing.assert_array_equal(found[k], expected[k])
    group = tuple(whole.pack.groups[:2].tolist())
    assert group[1] > 1
    assert planned == [group, (0, 1), group]  # the sequence alone needs less of the store


def test_threads_read_what_one_reads(make_dataset):
    draw = np.random.default_rng(2)
    made = make_dataset([draw.integers(1, 90, size).tolist() for size in draw.integers(1, 60, 400)], max_bytes=60_000)
    found = packed(made, 64)
    assert len(found.pack.totals) > 40  # chunk groups: more than plans are kept for
    order = draw.permutation(np.repeat(np.arange(len(found)), 4)).tolist()
    with ThreadPoolExecutor(4) as pool:
        samples = list(pool.map(found.__getitem__, order))
    alone = packed(made, 64)
    expected = [alone[k] for k in range(len(alone))]
    for k, sample in zip(order, samples, strict=True):
        np.testing.assert_array_equal(sample, expected[k])


def plain_first_fit(needs, seq_len, max_open):
    """The same in a few plain lines, without the shortcut for pieces that stay alone."""
    least, bins, out = min(needs), [], []
    for number, need in enumerate(needs):
        if need > seq_len - least:
            out.append(number)
            continue
        place = next((place for place, (_, room) in enumerate(bins) if need <= room), None)
        if place is None:
            bins = bins[1:] if len(bins) == max_open else bins
            bins.append([number, seq_len])
            place = len(bins) - 1
        bins[place][1] -= need
        out.append(bins[place][0])
        bins = [entry for entry in bins if entry[1] >= least]
    return out


@settings(deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=80), st.integers(1, 5))
def test_first_fit_is_first_fit(needs, max_open):
    found = first_fit(np.array(needs), 20, max_open)
    assert found.tolist() == plain_first_fit(needs, 20, max_open)
    assert np.bincount(found, weights=needs).max() <= 20


def test_sequences_follow_the_documents(make_dataset):
    lengths = np.random.default_rng(0).integers(1, 60, 600)
    made = make_dataset([[1] * length for length in lengths], max_bytes=40_000)
    found = packed(made, 64)
    firsts = [min(piece[DOCUMENT] for piece in sequence) for sequence in pieces(made, 64)]
    assert firsts == sorted(firsts)
    spans = [
        max(p[DOCUMENT] for p in sequence) - first for sequence, first in zip(pieces(made, 64), firsts, strict=True)
    ]
    assert max(spans) < 300  # MAX_OPEN sequences of few documents each
    assert found.pack.padding_share < 0.08
    shards = [found.shard_of(k) for k in range(len(found))]
    assert shards == sorted(shards)
    assert len(set(shards)) > 5


@pytest.mark.parametrize("num_documents", [2, 160])
def test_a_sequence_of_8192_takes_well_under_a_millisecond(make_dataset, num_documents):
    length = 8192 // num_documents
    made = make_dataset([[1] * length] * (num_documents * 8), max_bytes=10**9, chunk_bytes=10**6)
    found = packed(made, 8192)
    assert len(found) == 8
    for k in range(8):
        found[k]
    times = []
    for k in [*range(8)] * 5:
        began = time.perf_counter()
        found[k]
        times.append(time.perf_counter() - began)
    assert np.median(times) < 1e-3
