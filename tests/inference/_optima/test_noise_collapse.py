"""The distance of a learned noise from zero, over few rows and over blocks of many."""

import jax
import numpy as np
import pytest

import weightprior as wp
from weightprior.fits.task import Task
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.inference._optima.collapse import measure
from weightprior.model.blocks import divided, rows_at_once

NETWORK = wp.mlp(2, hidden=(64,), num_outputs=2)


@pytest.mark.parametrize(("num_rows", "num_devices"), [(50, 1), (20_002, 1), (20_002, 2)])
@pytest.mark.parametrize("likelihood", [wp.Gaussian(), wp.HeteroscedasticGaussian()])
def test_it_is_the_formula_over_all_rows_that_count(likelihood, num_rows, num_devices):
    bnn = wp.BNN(NETWORK, likelihood)
    # The last block begins early, and shares rows with the one before it.
    assert (rows_at_once(NETWORK, num_rows) < num_rows) == (num_rows > 50)
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(num_rows, 2)), rng.normal(size=(num_rows, 2))
    targets = targets[:, : likelihood.num_targets(2)]
    counts = rng.integers(0, 3, num_rows).astype(float)
    task = Task(wp.normal_prior(bnn), counts)
    with jax.enable_x64(True), divided(num_devices):
        of = Standardised(bnn, x, np.squeeze(targets), task, np.float64)
        weights = of.weights(0.3 * rng.normal(size=of.size))
        # A function of its own, or JAX would take the program of the other number of devices.
        program = jax.jit(lambda *given: measure(*given))
        found = program(of.bnn, weights, of.x, of.y, of.row_weights)
        output = of.bnn.network.apply(weights, of.x)
        given = likelihood.learned_scale(output, weights), likelihood.mean(output, weights)
    scale, mean = (np.asarray(a).reshape(targets.shape) for a in given)
    center = np.average(targets, axis=0, weights=counts)
    sd = np.sqrt(np.average((targets - center) ** 2, axis=0, weights=counts))
    relative = (scale / sd)[counts > 0].min(axis=0)
    misfit = np.average(((targets - mean) / scale) ** 2, axis=0, weights=counts)
    which = relative.argmin()
    np.testing.assert_allclose(found.relative_noise, relative[which], rtol=1e-10)
    np.testing.assert_allclose(found.misfit, misfit[which], rtol=1e-10)
