"""Fixtures that several test modules share."""

from pathlib import Path

import jax
import pytest

from weightprior.inference import _programs

# Every compiled program takes some of the memory maps that a process may have, 65,530 on Linux.
_MANY_MAPS = 50_000


@pytest.fixture(scope="module", autouse=True)
def _room_for_programs():
    """Forget compiled programs, between modules, before a process runs out of memory maps."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > _MANY_MAPS:
        jax.clear_caches()
        _programs.clear_programs()


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
