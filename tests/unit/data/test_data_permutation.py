import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhydra.data.stream.permutation import derive_key, derive_keys, permute, unpermute


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_permute_is_a_bijection(size, key):
    images = permute(np.arange(size), size, key)
    np.testing.assert_array_equal(np.sort(images), np.arange(size))
    np.testing.assert_array_equal(unpermute(images, size, key), np.arange(size))


@settings(deadline=None)
@given(st.integers(1, 2**62), st.integers(0, 2**64 - 1), st.data())
def test_permute_is_the_same_for_integers_and_arrays(size, key, data):
    index = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5))
    images = [permute(i, size, key) for i in index]
    assert all(0 <= image < size for image in images)
    assert permute(np.array(index), size, key).tolist() == images
    assert [unpermute(image, size, key) for image in images] == index
    assert unpermute(np.array(images), size, key).tolist() == index


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2**50), st.integers(0, 2**64 - 1)), max_size=6), st.data())
def test_each_index_may_have_its_own_size_and_key(cases, data):
    sizes, keys = [size for size, _ in cases], [key for _, key in cases]
    index = [data.draw(st.integers(0, size - 1)) for size in sizes]
    arrays = np.array(index, np.int64), np.array(sizes, np.int64), np.array(keys, np.uint64)
    images = permute(*arrays)
    assert images.tolist() == [permute(*case) for case in zip(index, sizes, keys, strict=True)]
    assert unpermute(images, *arrays[1:]).tolist() == index


@pytest.mark.parametrize("root", [1, 2, 3, 1000, 2**20 - 1, 2**25 + 1, 2**26 - 1])
def test_sizes_beside_squares_are_the_same_for_integers_and_arrays(root):
    for size in {max(1, root**2 - 1), root**2, root**2 + 1}:
        index = np.array([0, size // 2, size - 1])
        many = permute(index, np.full(3, size), np.full(3, 9, np.uint64))
        assert many.tolist() == permute(index, size, 9).tolist() == [permute(i, size, 9) for i in index.tolist()]


def test_permute_shapes_and_bounds():
    assert permute(np.arange(6).reshape(2, 3), 6, 1).shape == (2, 3)
    assert permute(np.array([], dtype=np.int64), 6, 1).shape == (0,)
    for index in (-1, 6, np.array([0, 6]), np.array([-1])):
        for function in (permute, unpermute):
            with pytest.raises(IndexError, match="not in"):
                function(index, 6, 1)
    with pytest.raises(IndexError):
        permute(0, 0, 1)
    with pytest.raises(IndexError, match=r"not in \[0, the sizes, 3 to 9\)"):
        permute(np.array([3, 3]), np.array([9, 3]), np.array([1, 1], np.uint64))


@pytest.mark.parametrize("size", [2, 3, 5, 6, 12])
def test_permute_is_even_over_keys(size):
    """Every index goes everywhere equally often: chi-square over the whole table, 6 standard deviations."""
    trials = 4000
    table = np.zeros((size, size))
    for key in range(trials):
        table[np.arange(size), permute(np.arange(size), size, derive_key(key, "test"))] += 1
    expected = trials / size
    chi2 = ((table - expected) ** 2 / expected).sum()
    freedom = (size - 1) ** 2
    assert chi2 < freedom + 6 * np.sqrt(2 * freedom)


def test_permute_leaves_no_order():
    size = 10_000
    images = permute(np.arange(size), size, 3)
    limit = 5 / np.sqrt(size)
    assert abs(np.corrcoef(np.arange(size), images)[0, 1]) < limit
    for lag in (1, 2, 64, 100):
        assert abs(np.corrcoef(images[:-lag], images[lag:])[0, 1]) < limit
    assert abs(np.corrcoef(images, permute(np.arange(size), size, 4))[0, 1]) < limit


def test_keys_differ_by_part_and_place():
    keys = {derive_key(*parts) for parts in [(1, 2), (2, 1), (1,), (1, "2"), (1, 2, 0), (0, 1, 2), ("a", 1), ("b", 1)]}
    assert len(keys) == 8


def test_many_keys_are_the_keys_one_by_one():
    parts = np.array([0, 1, 5, 2**40, -1])
    for before in (("a",), (3, "b")):
        keys = derive_keys(derive_key(*before), parts).tolist()
        assert keys == [derive_key(*before, part) for part in parts.tolist()]
    befores = np.array([derive_key(part) for part in range(5)], np.uint64)
    assert derive_keys(befores, parts).tolist() == [derive_key(n, part) for n, part in enumerate(parts.tolist())]


def test_permute_is_pinned():
    # Runs resume by n alone: these may change only together with stream.ALGORITHM.
    assert permute(np.arange(5), 1000, derive_key(7, "source", "web", 2)).tolist() == [648, 695, 935, 951, 716]
