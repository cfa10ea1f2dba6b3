"""Processes that fork after JAX has computed something: an error, and no waiting for ever."""

import multiprocessing
import warnings
from functools import partial

import numpy as np
import pytest

import weightprior as wp
from shared_fits import light_fit

X = np.linspace(-1, 1, 20)[:, None]
BNN = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
GIVEN = {"prior": wp.normal_prior(BNN)}
CALLS = {
    "fit_map": partial(wp.fit_map, BNN, X, 2 * X[:, 0], **GIVEN),
    "fit_mcmc": partial(wp.fit_mcmc, BNN, X, 2 * X[:, 0], **GIVEN),
    "cross_validate": partial(wp.cross_validate, BNN, X, 2 * X[:, 0], **GIVEN),
    "prequential_code": partial(wp.prequential_code, BNN, X, 2 * X[:, 0], **GIVEN),
    "simulation_based_calibration": partial(
        wp.simulation_based_calibration, BNN, X, fit=wp.fit_mcmc, **GIVEN
    ),
    "prior_predictive": partial(wp.prior_predictive, BNN, X, **GIVEN),
    "center_path": partial(wp.center_path, BNN, dict(GIVEN["prior"].loc), [0.5], scale=1.0),
    "matched_centers": partial(wp.matched_centers, BNN, dict(GIVEN["prior"].loc), scale=1.0),
}
pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no process forks here"
)


def answer(call, sender):
    try:
        call()
        sender.send("answered")
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")


def in_fork(call):
    """What a forked process says of a call."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=answer, args=(call, sender))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python's and JAX's own, of threads and forks
        child.start()
    try:
        return receiver.recv() if receiver.poll(120) else "nothing"
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize("name", CALLS)
def test_a_forked_process_is_told_what_to_do(name):
    wp.simulate(BNN, X, **GIVEN)
    told = in_fork(CALLS[name])
    assert told.startswith("RuntimeError: weightprior: expected a process of its own")
    assert 'get_context("spawn")' in told


def test_readers_of_a_fit_are_told_too():
    drawn = wp.prior_predictive(BNN, X, num_samples=10, **GIVEN)
    weights = {name: drawn["prior"][name].to_numpy() for name in BNN.sites}
    fit = light_fit(BNN, X, 2 * X[:, 0], weights)
    for call in (
        partial(wp.predict, BNN, fit, X),
        partial(wp.score, BNN, fit, X, 2 * X[:, 0]),
        partial(wp.diagnostics.convergence, BNN, fit, X),
    ):
        assert "expected a process of its own" in in_fork(call)
