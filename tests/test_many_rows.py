"""Many rows are summed over in blocks: the same numbers, exactly, in bounded memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightprior as wp
from shared_fits import LIKELIHOODS, random_targets, random_weights
from weightprior.fits.task import Task
from weightprior.inference._coordinates.collapsed import CollapsedOutput, collapsible_sites
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.model import blocks, density

ROWS = 43
RNG = np.random.default_rng(0)
X, COUNTS = RNG.normal(size=(ROWS, 2)), RNG.integers(0, 3, size=ROWS).astype(float)
COUNTS[-1] = 2.0  # of the block that is filled up with rows of the one before


def some(cases, fast):
    """Cases, of which only some run with the fast tests."""
    return [pytest.param(c, marks=[] if c in fast else pytest.mark.slow) for c in cases]


def position_of(coordinates):
    return jnp.asarray(np.random.default_rng(1).normal(size=coordinates.size), coordinates.dtype)


def everything_of(make):
    """Whatever a density by blocks has to get right: all derivatives, and what is drawn from it."""
    coordinates = make()
    z = position_of(coordinates)
    found = {
        "value and gradient": jax.value_and_grad(coordinates.log_density)(z),
        "less": coordinates.log_density(z, jnp.asarray(8.0, z.dtype)) + 8.0,
        "batched": jax.vmap(jax.grad(coordinates.log_density))(jnp.stack([z, z / 2])),
    }
    if coordinates.num_free:
        normals = jnp.linspace(-1, 1, coordinates.num_free, dtype=z.dtype)
        return found | {"draw": coordinates.complete(normals, z)}
    return found | {
        "curvature": coordinates.precision(z),
        "hessian": jax.hessian(coordinates.log_density)(z),
    }


def in_blocks_and_at_once(make, monkeypatch):
    # What runs once takes longer to optimise than to run.
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    jitted = [jax.jit(partial(everything_of, make), compiler_options=options) for _ in range(2)]
    at_once = jax.device_get(jitted[0]())
    monkeypatch.setattr(blocks, "_MOST_AT_ONCE", 100)
    monkeypatch.setattr(blocks, "_OF_A_BLOCK", 30)
    monkeypatch.setattr(density, "FEW_ROWS", 20)
    return at_once, jax.device_get(jitted[1]())


def assert_equal_to_rounding(found, expected, precision, factor=300):
    tolerance = factor * np.finfo(precision).eps
    for name in expected:
        pairs = zip(jax.tree.leaves(found[name]), jax.tree.leaves(expected[name]), strict=True)
        for a, b in pairs:
            largest = max(1.0, np.abs(b).max())
            np.testing.assert_allclose(a, b, tolerance, tolerance * largest, err_msg=name)


@pytest.mark.parametrize("name", some(LIKELIHOODS, ("gaussian, two outputs", "categorical")))
def test_the_density_and_its_derivatives_are_those_of_all_rows(name, precision, monkeypatch):
    bnn, rng = LIKELIHOODS[name], np.random.default_rng(2)
    y = random_targets(bnn, random_weights(bnn, rng, ()), X, rng)
    task = Task(wp.normal_prior(bnn, loc=0.2), COUNTS)
    make = partial(Standardised, bnn, X, y, task, jnp.result_type(float))
    at_once, in_blocks = in_blocks_and_at_once(make, monkeypatch)
    assert_equal_to_rounding(in_blocks, at_once, precision)


COLLAPSED = {
    "two outputs": wp.BNN(wp.mlp(2, (3,), 2), wp.Gaussian()),
    "learned noise": wp.BNN(wp.mlp(2, (3,)), wp.Gaussian()),
    "offset": wp.BNN(wp.mlp(3, (3,), offset=1), wp.Gaussian(noise=0.4)),
}


@pytest.mark.parametrize("whole", some([True, False], (True,)), ids=["layer", "bias"])
@pytest.mark.parametrize("scale", some([0.7, np.inf], (0.7,)), ids=["proper", "flat"])
@pytest.mark.parametrize("name", some(COLLAPSED, ("two outputs",)))
def test_so_is_the_density_without_the_output_layer(name, scale, whole, precision, monkeypatch):
    bnn, rng = COLLAPSED[name], np.random.default_rng(3)
    x = rng.normal(size=(ROWS, len(bnn.network.feature_names)))
    y = rng.normal(size=(ROWS, 2) if bnn.network.num_outputs == 2 else ROWS)
    scales = {"hidden_0.weight": 0.7, "weight": scale if whole else 0.7, "bias": scale}
    prior = wp.normal_prior(bnn, loc=0.2, scale=scales)
    sites = collapsible_sites(bnn, prior) if whole else ("output.bias",)
    task = Task(prior, COUNTS)
    make = partial(CollapsedOutput, bnn, x, y, task, jnp.result_type(float), sites)
    at_once, in_blocks = in_blocks_and_at_once(make, monkeypatch)
    # A flat layer's coefficients are less certain, and their rounding is so much larger.
    assert_equal_to_rounding(in_blocks, at_once, precision, 3000 if scale == np.inf else 300)


@pytest.mark.parametrize("num_rows", some([50_000, 1_000_000], (50_000,)))
@pytest.mark.parametrize("collapse", [False, True], ids=["all weights", "without output layer"])
def test_energies_are_exact_where_single_precision_would_round_them(collapse, num_rows):
    """Differences of the log density between places in the posterior, of one block and of many."""
    rng = np.random.default_rng(3)
    bnn = wp.BNN(wp.mlp(1, hidden=(2,)), wp.Gaussian())
    truth = random_weights(bnn, rng, ())
    x = rng.normal(size=(num_rows, 1)).astype(np.float32)
    y = (
        bnn.outputs(truth, x)[:, 0] + np.exp(truth["log_noise"]) * rng.normal(size=num_rows)
    ).astype(np.float32)
    prior = wp.normal_prior(bnn)

    def energies(dtype, places):
        @jax.jit
        def energy(position, level, x, y):
            return -made(x, y).log_density(position, level)

        def made(x, y):
            given = (bnn, x, y, Task(prior, jnp.ones(num_rows)), dtype)
            return (
                CollapsedOutput(*given, collapsible_sites(bnn, prior))
                if collapse
                else Standardised(*given)
            )

        with jax.enable_x64(dtype == np.float64):
            middle = np.asarray(
                made(x[:1], y[:1]).position({n: jnp.asarray(w) for n, w in truth.items()}),
                np.float32,
            )
            places = [(middle + move[: middle.size]).astype(dtype) for move in places]
            level = np.round(-np.asarray(energy(places[0], np.zeros((), dtype), x, y)))
            return [float(energy(place, level, x, y)) for place in places]

    moves = (rng.normal(size=(6, 8)) / np.sqrt(num_rows)).astype(np.float32)
    exact, found = (np.diff(energies(dtype, moves)) for dtype in (np.float64, np.float32))
    assert np.abs(exact).max() > 1.0
    assert np.abs(found - exact).max() < 0.01
