"""Fixtures that several test modules share."""

from pathlib import Path

import jax
import pytest

from weightprior.fits import programs as _programs

# It runs where PyTorch is, which is not here.
collect_ignore = ["references/make_torch.py"]

# Every compiled program takes some of the memory maps that a process may have, 65,530 on Linux. A
# slow test may need as many as all of a module's fast ones.
_MANY_MAPS, _MANY_BEFORE_A_SLOW_TEST = 50_000, 20_000


def _make_room(many):
    """Forget compiled programs before a process runs out of memory maps."""
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > many:
        jax.clear_caches()
        _programs.clear_programs()


@pytest.fixture(scope="module", autouse=True)
def _room_after_a_module():
    yield
    _make_room(_MANY_MAPS)


@pytest.fixture(autouse=True)
def _room_for_a_slow_test(request):
    # Maps take time to count.
    if request.node.get_closest_marker("slow"):
        _make_room(_MANY_BEFORE_A_SLOW_TEST)


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
