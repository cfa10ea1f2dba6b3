"""Laplace's approximation: exact where the posterior is normal, refused where meaningless."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

import oracle
import weightprior as wp
from assertions import assert_mean, assert_sd
from problems import (
    CENTRE,
    LINEAR,
    NET,
    assert_a_row_counted_twice_is_there_twice,
    assert_moving_the_prior_moves_the_weights,
    exact,
)
from weightprior.inference._optima import optima
from weightprior.inference.laplace import _check_curvature

PRIORS = {
    "around 0": LINEAR.prior(scale=0.7),
    "around a centre per weight": LINEAR.prior(loc=CENTRE, scale={"weight": 0.3, "bias": 2.0}),
}
STACK = wp.stack_priors(PRIORS)
STACK_OF_NET = wp.stack_priors({"wide": NET.prior(), "narrow": NET.prior(scale=0.5)})


def fit(problem, prior, **options):
    return wp.fit_laplace(problem.bnn, problem.x, problem.y, prior=prior, **options)


@pytest.fixture(scope="module")
def linear():
    return fit(LINEAR, STACK, num_samples=4000)


@pytest.mark.parametrize("curvature", ["ggn", "hessian"])
def test_of_a_linear_model_it_is_exact(curvature, linear):
    same = curvature == "ggn"  # the default
    found = linear if same else fit(LINEAR, STACK, curvature=curvature, num_samples=4000)
    assert found.attrs["exact"] == 1
    evidence = wp.log_evidence(found)
    expected = [exact(prior).log_evidence for prior in PRIORS.values()]
    np.testing.assert_allclose(evidence["log_evidence"], expected, rtol=1e-10)
    assert evidence["reliable"].all()
    for label, part in wp.unstack_fit(found).items():
        draws, known = oracle.from_sites(part["posterior"]), exact(PRIORS[label])
        assert draws.shape == (1, 4000, 4)
        assert_mean(draws, known.mean, num_comparisons=32, label=label)
        assert_sd(draws, known.sd, num_comparisons=32, label=label)
        # Its density is the posterior's, at every draw.
        log_q, lp = (part["sample_stats"][name].to_numpy() for name in ("log_q", "lp"))
        # But for the gradient left at the MAP: 1e-6 per sd at most, and draws five sds away.
        np.testing.assert_allclose(lp - log_q, known.log_evidence, rtol=0, atol=4 * 5e-6)


def test_a_known_noise_of_each_output_meets_the_closed_form_of_each():
    noises, y = (0.4, 1.5), np.stack([LINEAR.y, LINEAR.y[::-1]], axis=1)
    bnn = wp.BNN(wp.mlp(3, hidden=(), num_outputs=2), wp.Gaussian(noises))
    found = wp.fit_laplace(bnn, LINEAR.x, y, prior=wp.normal_prior(bnn, scale=0.7))
    known = [
        oracle.LinearGaussian(LINEAR.x, y[:, i], noise, 0.0, 0.7) for i, noise in enumerate(noises)
    ]
    evidence = sum(one.log_evidence for one in known)
    np.testing.assert_allclose(wp.log_evidence(found)["log_evidence"], evidence, rtol=1e-10)
    for i, one in enumerate(known):
        draws = oracle.from_sites(found["posterior"].dataset.isel(output=[i]))
        assert_mean(draws, one.mean, num_comparisons=16)
        assert_sd(draws, one.sd, num_comparisons=16)


def test_moving_the_prior_moves_the_weights():
    assert_moving_the_prior_moves_the_weights("laplace")


def test_a_row_counted_twice_is_there_twice():
    assert_a_row_counted_twice_is_there_twice("laplace")


@pytest.mark.parametrize("structure", ["full", "diagonal"])
def test_without_data_it_is_the_prior(structure):
    """Of a network, too: that is shown among all methods."""
    vague = LINEAR._replace(bnn=wp.BNN(LINEAR.bnn.network, wp.Gaussian(noise=1e8)))
    prior = vague.prior(loc={"weight": -3.0, "bias": 5.0}, scale={"weight": 2.0, "bias": 0.01})
    found = fit(vague, prior, structure=structure, num_samples=4000)
    nothing = stats.norm.logpdf(vague.y, 0.0, 1e8).sum()
    np.testing.assert_allclose(wp.log_evidence(found)["log_evidence"], nothing, rtol=1e-9)
    for name in vague.bnn.sites:
        draws = found["posterior"][name].to_numpy()
        assert_mean(draws, prior.loc[name], num_comparisons=52, label=name)
        assert_sd(draws, prior.scale[name], num_comparisons=52, label=name)


def test_the_diagonal_keeps_the_curvature_of_each_weight():
    prior = PRIORS["around 0"]
    found = fit(LINEAR, prior, structure="diagonal", num_samples=4000)
    assert found.attrs["exact"] == 0
    precision = np.linalg.inv(exact(prior).covariance)
    draws = oracle.from_sites(found["posterior"])
    assert_sd(draws, 1 / np.sqrt(np.diag(precision)))
    _, log_determinant = np.linalg.slogdet(precision)
    loss = 0.5 * (log_determinant - np.log(np.diag(precision)).sum())
    evidence = wp.log_evidence(found)["log_evidence"]
    np.testing.assert_allclose(evidence, exact(prior).log_evidence + loss, rtol=1e-10)


def test_the_last_layer_is_a_linear_model_on_the_units_below():
    prior = NET.prior(loc=0.1, scale=0.8)
    found = fit(NET, prior, structure="last_layer", num_samples=4000)
    mode = {name: found["restarts"][name].to_numpy()[0] for name in NET.bnn.sites}
    below = [name for name in NET.bnn.sites if name.startswith("hidden")]
    for name in below:
        assert np.ptp(found["posterior"][name].to_numpy(), axis=1).max() == 0
    units = np.tanh(NET.x @ mode["hidden_0.weight"] + mode["hidden_0.bias"])
    known = oracle.LinearGaussian(units, NET.y, 0.5, 0.1, 0.8)
    np.testing.assert_allclose(
        wp.log_evidence(found)["log_evidence"], known.log_evidence, rtol=1e-10
    )
    draws = oracle.from_sites(found["posterior"])
    assert_mean(draws, known.mean, num_comparisons=8)
    assert_sd(draws, known.sd, num_comparisons=8)


def test_the_hessian_is_that_of_the_density():
    """Laplace's evidence, from JAX's Hessian in the weights' own units."""
    prior = NET.prior(loc=0.1, scale={"weight": 0.8, "bias": 2.0})
    found = fit(NET, prior, curvature="hessian")
    with jax.enable_x64(True):
        mode = {n: jnp.asarray(found["restarts"][n].to_numpy()[0]) for n in NET.bnn.sites}
        flat, unravel = ravel_pytree(mode)

        def log_joint(vector):
            return NET.bnn.log_joint(unravel(vector), NET.x, NET.y, prior)

        value, hessian = jax.jit(lambda v: (log_joint(v), jax.hessian(log_joint)(v)))(flat)
    _, log_determinant = np.linalg.slogdet(-np.asarray(hessian))
    expected = float(value) + 0.5 * (flat.size * np.log(2 * np.pi) - log_determinant)
    verdict = wp.log_evidence(found)
    np.testing.assert_allclose(verdict["log_evidence"], expected, rtol=1e-9)
    assert not verdict["reliable"]
    # Three tanh units around a centre that is not zero: exchanged, not mirrored.
    np.testing.assert_allclose(found["laplace"]["log_num_symmetries"], np.log(6))


@pytest.fixture(scope="module")
def net():
    return fit(NET, STACK_OF_NET, num_samples=2000)


def test_draws_have_the_density_that_they_are_said_to_have(net):
    found = wp.unstack_fit(net)["wide"]
    log_q = found["sample_stats"]["log_q"].to_numpy()[0]
    at_the_mode = (found["laplace"]["log_joint"] - found["laplace"]["log_evidence"]).item()
    # Of a normal distribution of d dimensions: minus half of a chi-squared one.
    assert stats.kstest(2 * (at_the_mode - log_q), "chi2", (13,)).pvalue > 1e-6


def test_around_a_fit_it_takes_no_further_step(net):
    found = fit(NET, STACK_OF_NET, init=net, num_restarts=1, max_iterations=1, num_samples=2000)
    assert (found["restarts"]["num_iterations"] == 0).all()
    # Weights are rounded once more between their units and those of the prior.
    evidence = net["laplace"]["log_evidence"]
    np.testing.assert_allclose(found["laplace"]["log_evidence"], evidence, rtol=1e-12)


def test_weights_of_ones_own_choose_the_mode(net):
    """A search from draws would take the best one."""
    restarts = wp.unstack_fit(net)["wide"]["restarts"]
    second = {name: restarts[name].to_numpy()[1] for name in NET.bnn.sites}
    found = fit(NET, NET.prior(), init=second, num_restarts=1, max_iterations=1, num_samples=2000)
    ended = found["restarts"]["output.weight"].to_numpy()[0]
    np.testing.assert_allclose(ended, second["output.weight"], rtol=1e-12)
    assert json.loads(found.attrs["options"])["init"] == "weights"


def test_predictions_are_those_of_the_tangent(net):
    found = wp.unstack_fit(net)["wide"]
    mode = {n: found["restarts"][n].to_numpy()[0] for n in NET.bnn.sites}
    draws = {n: found["posterior"][n].to_numpy()[0] for n in NET.bnn.sites}
    with jax.enable_x64(True):

        def outputs(w):
            return NET.bnn.network.apply(w, NET.x)[:, 0]

        value, slopes = jax.jit(lambda w: (outputs(w), jax.jacobian(outputs)(w)))(mode)
    value = np.asarray(value)
    for name, slope in slopes.items():
        moved = (draws[name] - mode[name]).reshape(2000, -1)
        value = value + moved @ np.asarray(slope).reshape(len(NET.x), -1).T
    predicted = wp.predict(NET.bnn, found, NET.x)["mean"].to_numpy()[0]
    np.testing.assert_allclose(predicted, value, rtol=1e-9, atol=1e-12)
    scored = stats.norm.logpdf(NET.y, value, 0.5)
    np.testing.assert_allclose(found["log_likelihood"]["y"].to_numpy()[0], scored, rtol=1e-9)
    elpd = np.log(np.exp(scored).mean(axis=0))
    np.testing.assert_allclose(wp.score(NET.bnn, found, NET.x, NET.y)["elpd_i"], elpd, rtol=1e-9)
    exact_ones = fit(NET, NET.prior(), curvature="hessian")
    assert wp.predict(NET.bnn, exact_ones, NET.x)["mean"].shape == (1, 1000, 15)


def test_compare_has_a_row_for_it(net):
    table = wp.compare(NET.bnn, {"Laplace": net}, NET.x, NET.y)
    assert table.index.tolist() == ["Laplace[wide]", "Laplace[narrow]"]
    assert np.isfinite(table["lpd_test"]).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prior": NET.prior(scale={"weight": 1.0, "bias": np.inf})}, ValueError, "flat prior"),
        ({"max_iterations": 1}, ValueError, "gradient"),
        ({"curvature": "fisher"}, ValueError, "curvature"),
        ({"structure": "kron"}, ValueError, "structure"),
        ({"num_samples": 0}, ValueError, "num_samples"),
    ],
)
def test_bad_input_is_refused(options, error, message):
    given = {"prior": NET.prior()} | options
    with pytest.raises(error, match=message):
        wp.fit_laplace(NET.bnn, NET.x, NET.y, **given)


@pytest.mark.parametrize(("curvature", "advice"), [("hessian", "ggn"), ("ggn", "hessian")])
def test_a_saddle_is_refused(curvature, advice):
    message = rf"'{curvature}' under prior 'a' has 1 eigenvalues .* least -0.5: .*='{advice}'"
    with pytest.raises(ValueError, match=message):
        _check_curvature("a", np.array([-0.5, 1.0, 2.0]), curvature)


def test_a_converged_fit_is_not_searched_again(monkeypatch):
    """Nor with many rows: single precision would take its start away from the optimum."""
    monkeypatch.setattr(optima, "_LARGE", 0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = np.sin(x[:, 0]) + 0.3 * rng.normal(size=200)
    bnn = wp.BNN(wp.mlp(3, hidden=(4,)), wp.Gaussian())
    prior = wp.normal_prior(bnn)
    found = wp.fit_map(bnn, x, y, prior=prior, num_restarts=2)
    again = wp.fit_laplace(bnn, x, y, prior=prior, init=found, num_restarts=1, num_samples=10)
    assert found["restarts"]["num_iterations"].to_numpy().min() > 0
    assert again["restarts"]["num_iterations"].item() == 0
