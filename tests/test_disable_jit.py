"""With JIT disabled, as who debugs code of his own has it, all functions do what they always do."""

import os
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

import weightprior as wp
from shared_fits import FRAME, REGRESSION, TARGET, drawn
from weightprior.inference import _batch


def doubled(static, shared, item):
    return jax.lax.fori_loop(0, static, lambda _, a: a + item, shared)


@pytest.mark.parametrize("vectorise", [False, True], ids=["threads", "vmap"])
def test_tasks_run_compiled(vectorise):
    with jax.disable_jit():
        found = _batch.run(doubled, 3, np.ones(2), [np.ones(2), np.zeros(2)], vectorise=vectorise)
        assert jax.config.jax_disable_jit
    np.testing.assert_array_equal(found, [[4.0, 4.0], [1.0, 1.0]])


def test_readers_return_the_same():
    fit = drawn("hmc")
    expected = wp.score(REGRESSION, fit, FRAME, TARGET)
    with jax.disable_jit():
        found = wp.score(REGRESSION, fit, FRAME, TARGET)
    np.testing.assert_array_equal(found["elpd_i"], expected["elpd_i"])


PROGRAM = """
    import warnings

    import jax
    import numpy as np

    import weightprior as wp

    assert jax.config.jax_disable_jit
    warnings.filterwarnings("ignore", category=UserWarning, message="fit_|predict|score|compare")
    x = np.linspace(-1, 1, 20)[:, None]
    y = np.sin(2 * x[:, 0]) + 0.3 * np.random.default_rng(0).normal(size=20)
    bnn = wp.BNN(wp.mlp(1, (3,)), wp.Gaussian(noise=0.3))
    prior = wp.normal_prior(bnn)
    brief = {"num_warmup": 20, "num_samples": 25, "progress_bar": False}
    fits = {
        "map": wp.fit_map(bnn, x, y, prior=prior),
        "laplace": wp.fit_laplace(bnn, x, y, prior=prior),
        "vi": wp.fit_vi(bnn, x, y, prior=prior, num_steps=20),
        "ensemble": wp.fit_ensemble(bnn, x, y, prior=prior, num_members=2),
    }
    ladder = {"num_temperatures": 4, "num_samples": 30, "num_chains": 4}
    stack = wp.stack_priors({"a": prior, "b": wp.normal_prior(bnn, scale=0.5)})
    fits["tempered"] = wp.fit_tempered(bnn, x, y, prior=stack, **ladder)
    for kernel in ("hmc", "nuts", "mclmc"):
        fits[kernel] = wp.fit_mcmc(bnn, x, y, prior=prior, kernel=kernel, **brief)
    fit = fits["hmc"]
    learned = wp.hierarchical_prior(bnn)
    wp.fit_mcmc(bnn, x, y, prior=learned, **brief)
    wp.fit_mcmc(bnn, x, y, prior=prior, init=fit, num_samples=5, progress_bar=False)
    for some in fits.values():
        wp.predict(bnn, some, x)
    wp.predict(bnn, fit, x, quantiles=[0.1])
    wp.score(bnn, fit, x, y)
    wp.compare(bnn, {"hmc": fit, "map": fits["map"]}, x, y)
    wp.prior_predictive(bnn, x, prior=prior)
    wp.prior_predictive(bnn, x, prior=learned)
    wp.simulate(bnn, x, prior=prior)
    wp.prior_summary(bnn, prior)
    wp.matched_centers(bnn, fit, scale=1.0)
    wp.center_path(bnn, fit, [0.0, 1.0], scale=1.0)
    wp.posterior_as_prior(bnn, fit)
    wp.cross_validate(bnn, x, y, prior=stack, num_folds=2)
    wp.prequential_code(bnn, x, y, prior=prior, blocks=np.arange(20) // 10)
    wp.two_part_code(bnn, fits["map"])
    wp.log_evidence(fits["tempered"])
    wp.code_length(fits["laplace"])
    wp.compare_priors(bnn, fits["tempered"])
    wp.simulation_based_calibration(
        bnn, x, prior=prior, fit=wp.fit_laplace, num_simulations=20, num_draws=9
    )
    weights = {name: values[0, 0].to_numpy() for name, values in fit["posterior"].items()}
    bnn.log_joint(weights, x, y, prior)
    bnn.outputs(weights, x)
    told = wp.diagnostics
    told.convergence(bnn, fit, x)
    told.align(bnn, fit)
    told.contraction(bnn, fit)
    told.saturation(bnn, fit, x)
    told.nonlinearity(bnn, fit, x)
    told.unit_ablation(bnn, fit, x, y)
    told.effective_parameters(bnn, fit, x, y)
    told.prior_sensitivity(bnn, fit, x)
    told.prior_data_conflict(bnn, fit, x, y, num_samples=50)
    print("all of them")
"""


@pytest.mark.slow
def test_every_function_works_in_a_process_without_jit():
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    environment = os.environ | {"JAX_DISABLE_JIT": "1"}
    ran = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert ran.stdout == "all of them\n", ran.stderr
