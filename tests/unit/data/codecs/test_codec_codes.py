"""Ids and codes, and the delay pattern."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhydra.data.codecs.codes import delay, to_codes, to_ids, undelay
from mmhydra.data.codecs.protocol import CodecError


@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 1024), st.integers(0, 1000))
def test_codes_come_back(num_codebooks: int, num_rows: int, size: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, size, (num_rows, num_codebooks))
    ids = to_ids(codes, size)
    assert ids.max() < num_codebooks * size
    np.testing.assert_array_equal(to_codes(ids, num_codebooks, size, num_codebooks), codes)
    rows = delay(codes)
    assert rows.shape == (num_rows + num_codebooks - 1, num_codebooks)
    np.testing.assert_array_equal(undelay(rows), codes)


def test_ids_of_a_row_stand_beside_each_other() -> None:
    assert to_ids(np.array([[1, 2], [3, 4]]), 10).tolist() == [1, 12, 3, 14]


def test_the_delay_pattern_is_late_by_the_codebook_and_repeats_the_edges() -> None:
    codes = np.array([[10, 20, 30], [11, 21, 31], [12, 22, 32]])
    assert delay(codes).tolist() == [[10, 20, 30], [11, 20, 30], [12, 21, 30], [12, 22, 31], [12, 22, 32]]


def test_a_piece_of_delayed_rows_holds_its_whole_frames() -> None:
    codes = np.arange(24).reshape(8, 3)
    np.testing.assert_array_equal(undelay(delay(codes)[2:7]), codes[2:5])
    with pytest.raises(CodecError, match="2 rows of the delay pattern hold no whole frame; it takes 3"):
        undelay(delay(codes)[:2])


def test_an_id_of_another_codebook_is_named() -> None:
    with pytest.raises(CodecError, match="id 3 at place 1 is not from 10 to 19, the range of codebook 1"):
        to_codes(np.array([1, 3]), 2, 10, 2)
    with pytest.raises(CodecError, match="3 ids are no whole number of units; a unit is 2 ids"):
        to_codes(np.array([1, 13, 1]), 2, 10, 2)
