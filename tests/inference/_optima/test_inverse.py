"""Inverses by halves, against NumPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightprior.inference._optima.inverse import inverse


@pytest.mark.parametrize("size", [1, 2, 203])
def test_is_the_inverse_to_rounding(size):
    rows = np.random.default_rng(size).standard_normal((2 * size, size))
    matrix = rows.T @ rows + np.eye(size)
    with jax.enable_x64(True):
        found = np.asarray(inverse(jnp.asarray(matrix)))
    # Rounding of a product of `size` numbers, times how far it is amplified.
    allowed = size * np.finfo(float).eps * np.linalg.cond(matrix)
    np.testing.assert_allclose(found @ matrix, np.eye(size), atol=allowed)
    np.testing.assert_allclose(found, found.T, atol=allowed * np.abs(found).max())


@pytest.mark.parametrize("size", [3, 150])
@pytest.mark.parametrize("wrong", [np.nan, -1.0])
def test_is_the_identity_where_there_is_none(size, wrong):
    matrix = np.eye(size)
    matrix[-1, -1] = wrong
    np.testing.assert_array_equal(inverse(jnp.asarray(matrix)), np.eye(size))
