"""Searches that can meet no optimum, or one that says nothing: what is said, and what helps."""

import re
import warnings

import numpy as np
import pytest

import weightprior as wp

X = np.linspace(-1, 1, 20)[:, None]
FLAT = {"weight": np.inf, "bias": np.inf}
QUIET = {"progress_bar": False, "log_likelihood": False}


def linear(likelihood, num_outputs=1):
    return wp.BNN(wp.mlp(1, (), num_outputs), likelihood)


def told(function, bnn, y, prior, x=X, **options):
    """A fit, and all that it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = function(bnn, x, y, prior=prior, **QUIET, **options)
    return fit, [str(warning.message) for warning in caught]


# Classes that are separated.


def test_separated_classes_have_no_optimum_until_the_prior_holds_them():
    bnn = linear(wp.Bernoulli())
    separated, overlapping = X[:, 0] > 0, np.arange(20) % 2
    flat = wp.normal_prior(bnn, scale=np.inf)
    fit, (message,) = told(wp.fit_map, bnn, separated, flat)
    assert "no finite optimum: the classes are separated by 0, where the prior is flat" in message
    assert not fit["restarts"]["converged"].any()
    assert not fit["sample_stats"]["converged"].any()
    # As the message says.
    for prior, y in ((wp.normal_prior(bnn), separated), (flat, overlapping)):
        fit, messages = told(wp.fit_map, bnn, y, prior)
        assert not messages
        assert fit["restarts"]["converged"].all()
    stack = wp.stack_priors({"flat": flat, "proper": wp.normal_prior(bnn)})
    fit, (message,) = told(wp.fit_map, bnn, separated, stack)
    assert "under prior 'flat'" in message
    assert fit["restarts"]["converged"].all("restart").to_numpy().tolist() == [False, True]
    fit, (message,) = told(wp.fit_ensemble, bnn, separated, flat, anchored=False)
    assert message.startswith("fit_ensemble: There is no finite optimum")
    assert not fit["sample_stats"]["converged"].any()


@pytest.mark.slow
def test_hidden_units_that_separate_classes_have_no_optimum_either():
    bnn = wp.BNN(wp.mlp(1, (3,)), wp.Bernoulli())
    y = X[:, 0] > 0.3
    flat = wp.normal_prior(bnn, scale={"hidden_0": 1.0, "output": np.inf})
    fit, (message,) = told(wp.fit_map, bnn, y, flat)
    assert "no finite optimum: the classes are separated by 'output.weight[" in message
    assert not fit["restarts"]["converged"].any()
    for anchored in (True, False):
        fit, (message,) = told(wp.fit_ensemble, bnn, y, flat, num_members=3, anchored=anchored)
        assert message.startswith("fit_ensemble: There is no finite optimum: the classes are")
        assert not fit["sample_stats"]["converged"].any()
    fit, messages = told(wp.fit_map, bnn, y, wp.normal_prior(bnn))
    assert not messages
    assert fit["restarts"]["converged"][0]


def test_chains_are_not_run_where_there_is_no_posterior():
    cases = {
        "separated by 0": (wp.Bernoulli(), 1, X[:, 0] > 0),
        "a class has no rows": (wp.Categorical(3), 3, np.arange(20) % 2),
        "all counts are 0": (wp.Poisson(), 1, np.zeros(20)),
        "all trials ended alike": (wp.Binomial(), 1, np.tile([3, 0], (20, 1))),
    }
    for reason, (likelihood, num_outputs, y) in cases.items():
        bnn = linear(likelihood, num_outputs)
        flat = wp.normal_prior(bnn, scale=np.inf)
        with pytest.raises(ValueError, match=f"prior: expected a proper posterior.*{reason}"):
            wp.fit_mcmc(bnn, X, y, prior=flat)
        # Others refuse whatever is flat.
        for function in (wp.fit_laplace, wp.fit_vi, wp.fit_tempered):
            with pytest.raises(ValueError, match="improper"):
                function(bnn, X, y, prior=flat)


LIMITS = {
    # Light tails; counts that scatter less than a Poisson law's.
    "a normal law": (wp.StudentT(), "log_df", np.sin(40 * X[:, 0])),
    "a Poisson law": (wp.NegativeBinomial(), "log_concentration", 2 + np.arange(20) % 2),
}


@pytest.mark.parametrize(
    "limit", [pytest.param("a normal law", marks=pytest.mark.slow), "a Poisson law"]
)
def test_a_latent_that_runs_off_has_no_optimum(limit):
    likelihood, name, y = LIMITS[limit]
    bnn = linear(likelihood)
    flat = wp.normal_prior(bnn, latents={name: (0.0, np.inf)})
    fit, (message,) = told(wp.fit_map, bnn, y, flat)
    assert re.search(f"There is no finite optimum: '{name}' ran to [0-9.]+, and", message)
    assert not fit["restarts"]["converged"].any()
    with pytest.raises(ValueError, match=f"an improper one: as '{name}' grows, .* {limit}"):
        wp.fit_mcmc(bnn, X, y, prior=flat)
    # As the message says.
    fit, messages = told(wp.fit_map, bnn, y, wp.normal_prior(bnn))
    assert not messages
    assert fit["restarts"]["converged"].all()


@pytest.mark.slow
@pytest.mark.parametrize("limit", LIMITS)
def test_a_latent_that_runs_off_is_told_of_members_too(limit):
    likelihood, name, y = LIMITS[limit]
    bnn = linear(likelihood)
    flat = wp.normal_prior(bnn, latents={name: (0.0, np.inf)})
    fit, (message,) = told(wp.fit_ensemble, bnn, y, flat, num_members=3)
    assert message.startswith(f"fit_ensemble: There is no finite optimum: '{name}' ran to")
    assert not fit["sample_stats"]["converged"].any()


@pytest.mark.slow
def test_a_latent_with_an_optimum_needs_no_prior_to_have_one():
    bnn = linear(wp.NegativeBinomial())
    y = np.round(np.exp(2 * np.sin(40 * np.arange(20))))
    fit, messages = told(
        wp.fit_map, bnn, y, wp.normal_prior(bnn, latents={"log_concentration": (0.0, np.inf)})
    )
    assert not messages
    assert fit["restarts"]["converged"].all()


def test_an_optimum_that_is_not_unique_is_said_to_be_that():
    bnn = wp.BNN(wp.mlp(2, ()), wp.Gaussian(noise=1.0))
    twice = np.column_stack([X, X])
    prior = wp.normal_prior(bnn, scale=FLAT)
    fit, (message,) = told(wp.fit_map, bnn, X[:, 0], prior, x=twice)
    assert "not unique: the rows do not tell apart what 0, 1 do" in message
    assert fit["restarts"]["converged"].all()
    weights = fit["restarts"]["output.weight"].to_numpy()[..., 0]
    assert np.ptp(weights[:, 0]) > 0.1
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-5)
    assert not told(wp.fit_map, bnn, X[:, 0], wp.normal_prior(bnn), x=twice)[1]


# A noise that runs to zero.


def latents_of(message):
    """What a message says to pass to `normal_prior`."""
    (found,) = re.findall(r"latents=\{'log_noise': \(([^,]+), ([^)]+)\)\}", message)
    return {"log_noise": tuple(map(float, found))}


MET = {"constant": np.full(20, 3.0), "on a line": 2 * X[:, 0] + 1, "zero": np.zeros(20)}


def assert_a_noise_that_collapses_is_named(bnn, known, y, **scales):
    """And held by what the message says, both ways."""
    fit, messages = told(wp.fit_map, bnn, y, wp.normal_prior(bnn, **scales))
    (message,) = messages
    assert "The targets are met" in message
    assert "learned noise" in message
    assert "max_iterations" not in message
    held = wp.normal_prior(bnn, latents=latents_of(message), **scales)
    for model, prior in ((bnn, held), (known, wp.normal_prior(known, **scales))):
        fit, messages = told(wp.fit_map, model, y, prior)
        assert not messages
        assert fit["restarts"]["converged"][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", MET)
def test_targets_that_a_line_meets_leave_no_noise_to_learn(name):
    bnn, known = linear(wp.Gaussian()), linear(wp.Gaussian(noise=1.0))
    assert_a_noise_that_collapses_is_named(bnn, known, MET[name])


def test_a_line_without_a_prior_meets_them_all_the_more():
    bnn = linear(wp.Gaussian())
    flat = wp.normal_prior(bnn, scale=FLAT | {"log_noise": 1.0})
    _, (message,) = told(wp.fit_map, bnn, MET["on a line"], flat)
    assert "nothing but its prior keeps the learned noise from zero" in message


@pytest.mark.parametrize("noise", [1e-1, 1e-2, 1e-3])
def test_a_small_noise_is_learned_without_a_word(noise):
    bnn = linear(wp.Gaussian())
    y = 2 * X[:, 0] + noise * np.random.default_rng(0).normal(size=20)
    fit, messages = told(wp.fit_map, bnn, y, wp.normal_prior(bnn, scale=5.0, latents={}))
    assert not messages
    assert fit["restarts"]["converged"][0]
    # Its prior draws it towards exp(-1), by less than a factor of 2.
    assert noise / 2 < fit["posterior"]["noise"].item() < 2 * noise


@pytest.mark.slow
@pytest.mark.parametrize("name", ["constant", "zero"])
@pytest.mark.parametrize("likelihood", [wp.Gaussian, wp.StudentT])
def test_a_network_meets_them_too(name, likelihood):
    network = wp.mlp(1, (5,))
    known = wp.BNN(network, likelihood(noise=0.5))
    assert_a_noise_that_collapses_is_named(wp.BNN(network, likelihood()), known, MET[name])


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [(), (5,)])
def test_a_noise_of_each_row_collapses_as_well(hidden):
    bnn = wp.BNN(wp.mlp(1, hidden, 2), wp.HeteroscedasticGaussian())
    _, (message,) = told(wp.fit_map, bnn, MET["constant"], wp.normal_prior(bnn))
    assert "learned noise runs to zero" in message
    assert "take Gaussian(noise=...)" in message
    known = wp.BNN(wp.mlp(1, hidden), wp.Gaussian(noise=1.0))
    fit, messages = told(wp.fit_map, known, MET["constant"], wp.normal_prior(known))
    assert not messages
    assert fit["restarts"]["converged"][0]


@pytest.mark.slow
def test_more_units_than_rows_end_the_search_early():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 10)), rng.normal(size=40)
    bnn = wp.BNN(wp.mlp(10, (64,)), wp.Gaussian())
    fit, (message,) = told(wp.fit_map, bnn, y, wp.normal_prior(bnn), x=x)
    assert "learned noise runs to zero" in message
    assert fit["restarts"]["num_iterations"].max() < 5000
    held = wp.normal_prior(bnn, latents=latents_of(message))
    fit, messages = told(wp.fit_map, bnn, y, held, x=x)
    assert not messages
    assert fit["restarts"]["converged"][0]


# Kinks.


def on_a_kink():
    """A model of relu units and rows whose optimum lies on a kink."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 1))
    y = np.sin(2 * x[:, 0]) + 0.3 * rng.normal(size=20)
    return wp.BNN(wp.mlp(1, (5,), activation="relu"), wp.Gaussian(noise=0.3)), x, y


@pytest.mark.slow
def test_kinks_are_answered_by_what_has_none():
    relu, x, y = on_a_kink()
    prior = wp.normal_prior(relu)
    _, (message,) = told(wp.fit_map, relu, y, prior, x=x)
    assert "lie on kinks" in message
    advice = "take smooth units, as by activation='softplus'"
    assert advice in message
    assert "max_iterations" not in message
    assert "num_restarts" not in message
    with pytest.raises(ValueError, match=rf"expected an optimum.*kinks.*{re.escape(advice)}"):
        wp.fit_laplace(relu, x, y, prior=prior, **QUIET)
    smooth = wp.BNN(wp.mlp(1, (5,), activation="softplus"), relu.likelihood)
    fit, messages = told(wp.fit_laplace, smooth, y, wp.normal_prior(smooth), x=x)
    assert not messages
    assert fit["restarts"]["converged"][0]


@pytest.mark.slow
def test_chains_of_relu_units_need_no_optimum():
    relu, x, y = on_a_kink()
    fit, messages = told(wp.fit_mcmc, relu, y, wp.normal_prior(relu), x=x, num_samples=2000)
    assert not messages
    assert np.isfinite(fit["sample_stats"]["lp"]).all()
