import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmhydra.data.sequences import IGNORE_INDEX, FixedSequences, to_batch
from mmhydra.data.shards import TokenShards
from mmhydra.errors import UserError

DOCUMENTS = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10, 11, 12]]  # 16 ids with their ends


def sequences(made, seq_len):
    return FixedSequences(TokenShards(made.folder, made.manifest, "web", "train"), seq_len)


@pytest.mark.parametrize(("seq_len", "length"), [(1, 15), (4, 3), (5, 3), (7, 2), (8, 1), (15, 1)])
def test_sequences_share_one_id_and_skip_none(make_dataset, row, seq_len, length):
    found = sequences(make_dataset(DOCUMENTS, max_bytes=4096), seq_len)
    whole = row(DOCUMENTS)
    assert len(found) == length
    for k, sequence in enumerate(found):  # also: IndexError ends the iteration
        np.testing.assert_array_equal(sequence, whole[k * seq_len : k * seq_len + seq_len + 1])
    assert k == length - 1


def test_index_outside(make_dataset):
    found = sequences(make_dataset(DOCUMENTS), 5)
    for k in (-1, 3):
        with pytest.raises(IndexError, match=f"sequence {k} of web/train: has 3"):
            found[k]


def test_too_little_data_names_the_numbers(make_dataset):
    made = make_dataset(DOCUMENTS)
    with pytest.raises(UserError, match=r"web split train has 16 tokens, fewer than the 17 .* at most 15"):
        sequences(made, 16)
    with pytest.raises(UserError, match="at least 1, not 0"):
        sequences(made, 0)


def test_batch_by_hand():
    tokens = np.array([[0, 5, 6, 0, 7, 8, 0, 0, 9], [1, 2, 3, 4, 5, 6, 7, 8, 0]])
    inputs, labels, positions = to_batch(tokens, eod_id=0)
    no = IGNORE_INDEX
    np.testing.assert_array_equal(inputs, tokens[:, :-1])
    np.testing.assert_array_equal(labels, [[no, 6, 0, no, 8, 0, no, no], [2, 3, 4, 5, 6, 7, 8, 0]])
    np.testing.assert_array_equal(positions, [[0, 0, 1, 2, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5, 6, 7]])


@settings(deadline=None)
@given(
    hnp.arrays(
        np.int64,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12),
        elements=st.integers(0, 4),
    )
)
def test_batch_equals_the_plain_loop(tokens):
    inputs, labels, positions = to_batch(tokens, eod_id=3)
    for b in range(tokens.shape[0]):
        position = 0
        for t in range(tokens.shape[1] - 1):
            ends = tokens[b, t] == 3
            assert inputs[b, t] == tokens[b, t]
            assert positions[b, t] == position
            assert labels[b, t] == (IGNORE_INDEX if ends else tokens[b, t + 1])
            position = 0 if ends else position + 1
    assert inputs.dtype == labels.dtype == positions.dtype == np.int64
    assert inputs.flags.c_contiguous
