"""Blocks of rows, put one behind the other."""

import numpy as np

from weightprior import _data
from weightprior.evaluation._blocks import collect


def test_blocks_are_concatenated_without_what_the_last_has_too_much():
    whole = {"mean": np.arange(14.0).reshape(7, 2), "rank": np.arange(7)}
    padded = np.minimum(np.arange(9), 6)
    blocks = ({name: array[rows] for name, array in whole.items()} for rows in np.split(padded, 3))
    found = collect(blocks, 7)
    assert found.keys() == whole.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_a_plain_table_is_read_without_a_copy_and_others_are_converted():
    x, features = np.ones((3, 2)), ("a", "b")
    assert _data.readable(x, features) is x
    for other in (
        x.astype(np.float32),
        x.tolist(),
        np.asfortranarray(x).view(type("Own", (np.ndarray,), {})),
    ):
        found = _data.readable(other, features)
        assert found is not other
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, x)
