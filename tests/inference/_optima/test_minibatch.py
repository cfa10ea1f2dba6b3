"""Mini-batches: every one stands for all rows, and the exact search goes on from where they led."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
import weightprior as wp
from problems import LINEAR, exact
from weightprior.fits.task import Task
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.inference._optima import minibatch
from weightprior.inference._optima.minibatch import Batches, loss

PRIOR = LINEAR.prior(loc=0.5, scale=0.3)
BATCHES = {"batch_size": 8, "num_epochs": 200}


def fitted(**options):
    return wp.fit_map(LINEAR.bnn, LINEAR.x, LINEAR.y, prior=PRIOR, num_restarts=2, **options)


def test_batches_of_an_epoch_have_the_mean_of_all_rows_and_the_prior_once():
    """The mistake to make: a prior that counts in full with every batch counts once too often."""
    bnn, rng = wp.BNN(wp.mlp(3, hidden=(4,)), wp.Poisson()), np.random.default_rng(0)
    y, counts = rng.poisson(1.0, size=40).astype(float), rng.integers(0, 3, size=40).astype(float)
    prior, batches = wp.normal_prior(bnn, loc=0.2, scale=0.5), Batches(8, 1, 0.01)
    with jax.enable_x64(True):
        coordinates = Standardised(bnn, LINEAR.x, y, Task(prior, counts), np.float64)
        z = jnp.asarray(rng.normal(size=coordinates.size))
        slope = jax.jit(jax.grad(lambda z, *batch: loss(bnn, prior, batch, z)))
        rows = np.concatenate([*batches.windows(40, rng)]).reshape(-1, 8)
        slopes = [slope(z, LINEAR.x[i], y[i], counts[i] * 40 / 8) for i in rows]
        expected = -jax.jit(jax.grad(coordinates.log_density))(z)
    assert sorted(rows.ravel()) == list(range(40))
    np.testing.assert_allclose(np.mean(slopes, axis=0), expected, rtol=1e-9, atol=1e-9)


def test_an_epoch_ends_with_a_whole_batch():
    rows = [*Batches(16, 3, 0.01).windows(40, np.random.default_rng(0))]
    assert [len(window) for window in rows] == [48] * 3
    for window in rows:
        assert set(window) == set(range(40))


def test_chunks_of_a_table_are_read_together_and_shuffled(monkeypatch):
    monkeypatch.setattr(minibatch, "_MANY_ROWS", 20)
    batches, rng = Batches(8, 1, 0.01), np.random.default_rng(0)
    windows = [*batches.windows(100, rng, together=16)]
    assert [len(window) for window in windows] == [16] * 6 + [8]
    assert set(np.concatenate(windows)) == set(range(100))
    # Of a window's 16 rows none but neighbours in at most two chunks, in no order of theirs.
    assert max(len(np.unique(window // 16)) for window in windows) <= 2
    assert not any((np.diff(window) == 1).all() for window in windows)


def test_the_exact_search_goes_on_from_there():
    fit = fitted(**BATCHES)
    assert fit["restarts"]["converged"].all()
    for name, values in oracle.to_sites(exact(PRIOR).mean).items():
        np.testing.assert_allclose(fit["posterior"][name][0, 0], values, atol=1e-6)


def test_without_it_nothing_has_converged():
    with pytest.warns(UserWarning, match=r"after 0 iterations\..* Raise max_iterations"):
        near = fitted(**BATCHES, max_iterations=0)
    assert not near["restarts"]["converged"].any()
    # Near the optimum all the same: 4 weights, of which each costs half a nat one sd away.
    best, reached = (fit["sample_stats"]["lp"].item() for fit in (fitted(), near))
    assert 0 < best - reached < 0.5
    options = near.attrs["options"]
    assert '"batch_size": 8' in options
    assert '"num_epochs": 200' in options


def test_the_same_key_takes_the_same_batches():
    first, again, other = (fitted(**BATCHES, rng_key=key)["restarts"].dataset for key in (1, 1, 2))
    assert first.identical(again)
    assert not first.identical(other)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"batch_size": 41}, "batch_size: expected at most the 40 rows of x; got 41"),
        ({"batch_size": 0}, "batch_size: expected"),
        (
            {"batch_size": 41, "num_epochs": 3},
            "batch_size=40, or leave out batch_size and num_epoc",
        ),
        (
            {"num_epochs": 3},
            "num_epochs: expected None without batch_size; .* batch_size=40 as well",
        ),
        ({"learning_rate": 0.1}, "learning_rate: expected None without batch_size"),
        ({"batch_size": 8, "num_epochs": 0}, "num_epochs: expected"),
        ({"batch_size": 8, "learning_rate": -1.0}, "learning_rate: expected"),
        ({"max_iterations": 0}, "max_iterations: expected"),
    ],
)
def test_options_are_checked(options, told):
    with pytest.raises(ValueError, match=told):
        fitted(**options)


def test_a_descent_that_diverges_is_told_how_to_get_near():
    with pytest.raises(
        FloatingPointError, match=r"Lower learning_rate\. If .* help: standardise x"
    ):
        fitted(batch_size=8, num_epochs=5, learning_rate=1e38)
