"""Fixtures that several test modules share."""

import jax
import pytest


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    """Run the test in both precisions; the name of the one in use."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def strict():
    """Let JAX neither mix dtypes nor broadcast ranks silently."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
