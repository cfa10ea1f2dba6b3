"""Searches in rounds, of functions whose optimum and curvature are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightprior as wp
from weightprior.inference import _batch
from weightprior.inference._optima import descent
from weightprior.inference._optima.search import _PLAIN_STEPS, MANY_WEIGHTS, Search, plain_steps

SIZE, PLAIN_STEPS = 200, _PLAIN_STEPS
# So different that L-BFGS alone takes thousands of steps.
NARROW = np.geomspace(1e-6, 1e6, SIZE)
USUAL = {
    "curvatures": NARROW,
    "quartic": 1.0,
    "of_two": 0.0,
    "diagonal": np.ones(SIZE),
    "of_quartic": 0.0,
    "log_noise": 0.0,
}
# Rows that no bowl looks at: so many that matrices are cheap beside steps.
LINEAR = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian())
X, Y = np.linspace(-1, 1, 10 * SIZE)[:, None], np.linspace(-1, 1, 10 * SIZE)


class Bowl:
    """A bowl around one in place of a model's density, and the diagonal of a matrix."""

    size = SIZE

    def __init__(self, bnn, x, y, task, dtype):
        self.bnn, self.x, self.y, self.dtype = bnn, x, y, dtype
        self.row_weights = jnp.ones(len(y), dtype)
        self.of = {name: jnp.asarray(value, dtype) for name, value in task.items()}

    def begin(self, start):
        return jnp.zeros(SIZE, self.dtype)

    def weights(self, position):
        zeros = {name: jnp.zeros(site.shape, self.dtype) for name, site in self.bnn.sites.items()}
        return {**zeros, "log_noise": self.of["log_noise"]}

    def log_density(self, z):
        bowl = 0.5 * jnp.sum(self.of["curvatures"] * (z - 1) ** 2)
        bowl += self.of["quartic"] * jnp.sum((z - 1) ** 4) + self.of["of_two"] * jnp.sum(z[:2] ** 2)
        return -bowl

    def precision(self, z):
        return jnp.diag(self.of["diagonal"] + self.of["of_quartic"] * (z - 1) ** 2)


def search(*bowls, max_iterations=2000, vectorise=False, dtype=np.float64, near=None):
    """Where searches end."""
    begin = descent.begin if near is None else descent.begin_near
    given = (jax.random.key(0), np.uint32(0)) if near is None else near
    with jax.enable_x64(True):
        items = [(jax.tree.map(np.float64, {**USUAL, **bowl}), given) for bowl in bowls]
        shared = LINEAR, X, Y, np.float64(1e-8), np.int64(max_iterations)
        options = {"renew": descent.precondition, "vectorise": vectorise}
        return _batch.run_steps(begin, descent.move, (Bowl, dtype), shared, items, **options)


EXACT = {"diagonal": NARROW, "of_quartic": 12.0}


@pytest.mark.parametrize("vectorise", [False, True], ids=["threads", "vmap"])
def test_a_matrix_shortens_a_narrow_valley(vectorise):
    [alone, helped] = search({}, EXACT, vectorise=vectorise)
    assert alone["gradient_norm"] > 1e-8
    assert alone["num_iterations"] == 2000
    assert helped["gradient_norm"] <= 1e-8
    assert helped["num_iterations"] < PLAIN_STEPS + 200
    # The least curvature is 1e-6, and the gradient at most 1e-8.
    np.testing.assert_allclose(helped["position"], 1.0, rtol=0, atol=1.01e-2)


def test_a_search_that_needs_no_matrix_compiles_none(monkeypatch):
    def never(*args):
        raise AssertionError

    monkeypatch.setattr(descent, "inverse", never)
    bowl = {"curvatures": np.linspace(1.0, 3.0, SIZE), "quartic": 0.0}
    [found] = search(bowl)
    assert found["gradient_norm"] <= 1e-8


def test_a_search_without_hope_ends_with_its_round():
    [found] = search({"log_noise": -30.0})
    assert found["num_iterations"] <= PLAIN_STEPS
    assert found["gradient_norm"] > 1e-8


@pytest.mark.parametrize("max_iterations", [7, PLAIN_STEPS + 10])
def test_what_it_reports_is_the_function_there(max_iterations):
    [found] = search({}, max_iterations=max_iterations)
    with jax.enable_x64(True):
        bowl = Bowl(LINEAR, X, Y, USUAL, np.float64)
        value, gradient = jax.value_and_grad(bowl.log_density)(found["position"])
    assert found["num_iterations"] == max_iterations
    # In another place of a program, sums may come in another order.
    np.testing.assert_allclose(found["lp"], value, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found["gradient_norm"], np.abs(gradient).max(), rtol=1e-6)


@pytest.mark.parametrize("diagonal", [np.nan, -1.0, 0.0], ids=["nan", "negative", "singular"])
def test_a_matrix_that_cannot_be_used_is_not(diagonal):
    bowl = {"curvatures": np.full(SIZE, 2.0), "quartic": 0.0, "of_two": 1.0}
    near = np.zeros(SIZE), np.int32(PLAIN_STEPS)
    [found] = search({**bowl, "diagonal": np.full(SIZE, diagonal)}, near=near)
    assert found["gradient_norm"] <= 1e-8


def test_steps_that_led_near_count():
    near = np.full(SIZE, 2.0), np.int32(PLAIN_STEPS)
    [found] = search(EXACT, near=near)
    assert found["gradient_norm"] <= 1e-8
    assert PLAIN_STEPS < found["num_iterations"] < PLAIN_STEPS + 200


def test_single_precision_comes_near_the_same_place():
    bowl = {"curvatures": np.linspace(1.0, 3.0, SIZE), "quartic": 0.0}
    [found] = search(bowl, dtype=np.float32)
    assert found["position"].dtype == "float32"
    np.testing.assert_allclose(found["position"], 1.0, rtol=1e-5)


def test_nan_ends_a_search_at_its_start():
    [found] = search({"quartic": np.nan})
    assert found["lp"] == -np.inf
    assert np.isnan(found["gradient_norm"])
    np.testing.assert_array_equal(found["position"], np.zeros(SIZE))
    assert found["num_iterations"] == 0


def test_single_precision_ends_where_a_valley_begins():
    search = Search("fit_map", 5000, 1e-6)
    assert search.rough(10_000, 400).max_iterations == plain_steps(10_000, 400)
    # Where no matrix fits into memory, steps in single precision are the cheapest there are.
    assert search.rough(10_000, MANY_WEIGHTS + 1).max_iterations == 3750
    assert Search("fit_map", 100, 1e-6).rough(10_000, 400).max_iterations == 75


@pytest.mark.slow
def test_a_valley_of_many_rows_is_left_to_the_matrix():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10_000, 10))
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] / 2 + 0.3 * rng.normal(size=10_000)
    bnn = wp.BNN(wp.mlp(10, hidden=(32,)), wp.Gaussian())
    fit = wp.fit_map(bnn, x, y, prior=wp.normal_prior(bnn), num_restarts=1, log_likelihood=False)
    assert fit["restarts"]["converged"].all()
    # With 3,750 steps in single precision first it took 4,596.
    assert fit["restarts"]["num_iterations"].item() < 3750
