from functools import cache, partial, partialmethod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import oracle
import weightprior as wp
from problems import (
    LINEAR,
    LINEAR_PRIORS,
    NET,
    assert_a_row_counted_twice_is_there_twice,
    assert_moving_the_prior_moves_the_weights,
    exact,
    fit,
)
from references import FOLDERS
from shared_fits import ROUNDING
from weightprior.fits.problem import Problem
from weightprior.inference._optima.optima import _best_first
from weightprior.inference._optima.search import Search
from weightprior.inference._starts import starts_of_restarts

# What only tests run, once or twice, takes longer to optimise than to run.
UNOPTIMISED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
compiled = partial(jax.jit, compiler_options=UNOPTIMISED)
TOLERANCE = 1e-8  # of `fit("map", ...)`
PRIOR = NET.prior(loc=0.3, scale={"weight": 0.8, "bias": 1.5})


@pytest.fixture
def unoptimised(monkeypatch):
    """Compile fits of shapes that no other test has without optimising them."""
    compiled = partialmethod(jax.stages.Lowered.compile, compiler_options=UNOPTIMISED)
    monkeypatch.setattr(jax.stages.Lowered, "compile", compiled)


def unit_of(prior):
    """Units of the linear problem's weights; the only flat site there is the bias."""
    scale = oracle.from_sites(prior.scale)
    return np.where(np.isinf(scale), 1.0, scale)


@pytest.mark.parametrize("name", LINEAR_PRIORS)
def test_without_hidden_layer_the_map_is_the_closed_form(name):
    prior = LINEAR.prior(**LINEAR_PRIORS[name])
    found = oracle.from_sites(fit("map", LINEAR, prior)["posterior"])[0, 0]
    # What a gradient of that size per unit leaves: covariance times gradient.
    bound = np.abs(exact(prior).covariance) @ (TOLERANCE / unit_of(prior))
    assert np.all(np.abs(found - exact(prior).map) <= bound)


def test_moving_the_prior_moves_the_weights():
    assert_moving_the_prior_moves_the_weights("map")


def test_a_row_counted_twice_is_there_twice():
    assert_a_row_counted_twice_is_there_twice("map")


# L2 regularisation written by hand.


def tanh_net(w, x):
    hidden = jnp.tanh(x @ w["hidden_0.weight"] + w["hidden_0.bias"])
    return hidden @ w["output.weight"] + w["output.bias"]


def penalty(w, prior):
    return sum(jnp.sum((w[k] - prior.loc[k]) ** 2 / (2 * prior.scale[k] ** 2)) for k in w)


LOSSES = {
    "squared error": (
        wp.Gaussian(noise=0.3),
        lambda f, y: jnp.sum((f[:, 0] - y) ** 2) / (2 * 0.3**2),
        np.linspace(-1.0, 1.0, 9),
    ),
    "binary cross-entropy": (
        wp.Bernoulli(),
        lambda f, y: jnp.sum(jnp.log1p(jnp.exp(f[:, 0])) - y * f[:, 0]),
        np.arange(9.0) % 2,
    ),
    "softmax cross-entropy": (
        wp.Categorical(3),
        lambda f, y: -jnp.sum(jnp.log(jax.nn.softmax(f))[jnp.arange(9), y.astype(int)]),
        np.arange(9.0) % 3,
    ),
    "exponential rate": (
        wp.Poisson(),
        lambda f, y: jnp.sum(jnp.exp(f[:, 0]) - y * f[:, 0]),
        np.arange(9.0),
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_of_the_density_is_that_of_loss_plus_penalty(loss):
    likelihood, function, y = LOSSES[loss]
    outputs = 3 if loss.startswith("softmax") else 1
    bnn = wp.BNN(wp.mlp(2, hidden=(4,), num_outputs=outputs), likelihood)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(9, 2))
    loc, weights = ({k: rng.normal(size=s.shape) for k, s in bnn.sites.items()} for _ in range(2))
    prior = wp.normal_prior(bnn, loc=loc, scale={"weight": 0.7, "bias": 2.0})
    with jax.enable_x64(True):
        weights = jax.tree.map(jnp.asarray, weights)
        ours = jax.grad(lambda w: -bnn.log_joint(w, x, y, prior))
        by_hand = jax.grad(lambda w: function(tanh_net(w, x), y) + penalty(w, prior))
        found, expected = compiled(lambda w: (ours(w), by_hand(w)))(weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **ROUNDING), found, expected)


# Scikit-learn: biases are free, and weights have the scale noise / sqrt(alpha).


@pytest.mark.usefixtures("unoptimised")
def test_logistic_regression_of_scikit_learn_is_the_map():
    """Of three classes, where a constant added to all intercepts changes nothing."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    y = np.digitize(LINEAR.y, np.quantile(LINEAR.y, [1 / 3, 2 / 3]))
    model = linear_model.LogisticRegression(C=0.8, solver="newton-cholesky", tol=1e-12)
    model.fit(LINEAR.x, y)
    bnn = wp.BNN(wp.mlp(3, hidden=(), num_outputs=3), wp.Categorical(3))
    prior = wp.normal_prior(bnn, scale={"weight": np.sqrt(0.8), "bias": np.inf})
    found = wp.fit_map(bnn, LINEAR.x, y, prior=prior, num_restarts=1)["posterior"]
    weight, bias = (found[name].to_numpy()[0, 0] for name in bnn.sites)
    # Both gradients are below 1e-6, and so are the errors up to the curvature.
    np.testing.assert_allclose(weight, model.coef_.T, atol=1e-5)
    ours, theirs = (b - b.mean() for b in (bias, model.intercept_))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize(
    "name", ["sk_neal1d_small", pytest.param("sk_neal_binary", marks=pytest.mark.slow)]
)
def test_networks_of_scikit_learn_are_met_or_beaten(name):
    path = FOLDERS[-1] / "sklearn_map_reference.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not distributed with the package")
    with np.load(path) as file:
        case = {key.split("/")[1]: file[key] for key in file.files if key.startswith(f"{name}/")}
    classes = np.isnan(case["sigma"])
    noise = 1.0 if classes else float(case["sigma"])
    likelihood = wp.Bernoulli() if classes else wp.Gaussian(noise=noise)
    x, y = case["train_x"], case["train_y"]
    bnn = wp.BNN(wp.mlp(x.shape[1], hidden=case["hidden"].tolist()), likelihood)
    scale = {"weight": noise / np.sqrt(case["alpha"]), "bias": np.inf}
    prior = wp.normal_prior(bnn, scale=scale)
    theirs = dict(zip(bnn.sites, (case[key] for key in ("W0", "b0", "W1", "b1")), strict=True))
    found = wp.fit_map(bnn, x, y, prior=prior, num_restarts=16)
    with jax.enable_x64(True):
        reference = float(compiled(lambda w: bnn.log_joint(w, x, y, prior))(theirs))
    ours = float(found["sample_stats"]["lp"].item())
    assert ours >= reference
    # Theirs is the best of forty starts, stopped a little short of the optimum.
    gap = 1e-4
    assert ours == pytest.approx(reference, abs=gap)
    # So near the optimum, outputs differ by noise * sqrt(2 * gap), probabilities by half of it.
    predictions = wp.predict(bnn, found, case["test_x"])["mean"].to_numpy()[0, 0]
    np.testing.assert_allclose(predictions, case["pred"], atol=noise * np.sqrt(2 * gap))


# What a fit says about its restarts.


@cache
def net_fit(max_iterations=5000):
    return fit("map", NET, PRIOR, num_restarts=6, max_iterations=max_iterations)


def unconverged():
    with pytest.warns(UserWarning, match="did not reach tolerance"):
        return net_fit.__wrapped__(max_iterations=9)


@pytest.mark.parametrize(
    ("made", "converged"), [(net_fit, True), (unconverged, False)], ids=["converged", "cut short"]
)
def test_restarts_come_best_first_and_say_what_they_are(made, converged):
    restarts = made()["restarts"].dataset
    weights = {name: restarts[name].to_numpy() for name in NET.bnn.sites}
    assert np.all(np.diff(restarts["lp"]) <= 0)

    def evaluate(w):
        value, gradient = jax.value_and_grad(NET.bnn.log_joint)(w, NET.x, NET.y, PRIOR)
        per_unit = jax.tree.map(lambda g, s: jnp.max(jnp.abs(g * s)), gradient, PRIOR.scale)
        return value, jnp.max(jnp.stack(list(per_unit.values())))

    with jax.enable_x64(True):
        lp, norm = compiled(jax.vmap(evaluate))(weights)
    np.testing.assert_allclose(restarts["lp"], lp, **ROUNDING)
    np.testing.assert_allclose(restarts["gradient_norm"], norm, **ROUNDING)
    np.testing.assert_array_equal(restarts["converged"], np.asarray(norm) <= TOLERANCE)
    assert bool(restarts["converged"][0]) == converged
    assert np.all(restarts["num_iterations"] <= (5000 if converged else 9))


def test_the_posterior_is_the_best_restart():
    found = net_fit()
    for group in ("posterior", "sample_stats"):
        for name, values in found[group].data_vars.items():
            assert values.sizes["chain"] == values.sizes["draw"] == 1
            # The search sums the prior's terms in another order.
            exact = {"rtol": 0} if name != "lp" else ROUNDING
            np.testing.assert_allclose(values[0, 0], found["restarts"][name][0], **exact)
    assert found["restarts"]["lp"][0] == found["restarts"]["lp"].max()


def test_neighbours_of_the_map_are_less_probable():
    best = {name: net_fit()["posterior"][name].to_numpy()[0, 0] for name in NET.bnn.sites}
    rng = np.random.default_rng(0)
    near = {name: w + 0.1 * rng.normal(size=(100, *w.shape)) for name, w in best.items()}
    with jax.enable_x64(True):
        lp = compiled(jax.vmap(lambda w: NET.bnn.log_joint(w, NET.x, NET.y, PRIOR)))(near)
    assert np.all(np.asarray(lp) < net_fit()["sample_stats"]["lp"].item())


def test_precision_of_jax_changes_nothing():
    with jax.enable_x64(True):
        double = net_fit.__wrapped__()
    for group in net_fit().children:
        xr.testing.assert_identical(net_fit()[group].dataset, double[group].dataset)


def restart(lp, gradient_norm=0.0):
    numbers = {"lp": lp, "gradient_norm": gradient_norm, "num_iterations": 3}
    return {key: np.asarray(value) for key, value in numbers.items()} | {
        "weights": {"w": np.asarray([lp])}
    }


def test_broken_restarts_come_last():
    ended = [restart(np.nan), restart(1.0), restart(5.0, np.inf), restart(3.0), restart(2.0, 9.0)]
    ordered = _best_first(ended, Search("fit_map", 10, 1.0))
    np.testing.assert_array_equal(ordered["lp"], [3.0, 2.0, 1.0, np.nan, 5.0])
    np.testing.assert_array_equal(ordered["w"][:, 0], ordered["lp"])
    np.testing.assert_array_equal(ordered["converged"], [True, False, True, True, False])


# Warnings and errors.


def test_a_fit_cut_short_says_what_to_raise():
    with pytest.warns(UserWarning, match="max_iterations=3. Raise max_iterations"):
        found = fit("map", NET, PRIOR, max_iterations=3)
    assert not found["sample_stats"]["converged"].item()
    stack = wp.stack_priors({"easy": NET.prior(scale=1e-6), "hard": PRIOR})
    with pytest.warns(UserWarning, match="under prior 'hard'") as caught:
        wp.fit_map(NET.bnn, NET.x, NET.y, prior=stack, max_iterations=9)
    assert "'easy'" not in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.filterwarnings("ignore:y. mean")  # which tells of it first
def test_data_that_overflow_are_an_error():
    with pytest.raises(FloatingPointError, match="Standardise x and y"):
        fit("map", LINEAR._replace(y=1e200 * LINEAR.y), LINEAR.prior())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_restarts": 0}, ValueError),
        ({"max_iterations": 0}, ValueError),
        ({"max_iterations": 10.5}, TypeError),
        ({"tolerance": 0.0}, ValueError),
        ({"rng_key": 1.5}, TypeError),
    ],
)
def test_an_option_that_cannot_be_is_named(options, error):
    with pytest.raises(error, match=next(iter(options))):
        fit("map", LINEAR, LINEAR.prior(), **options)


def test_the_first_restart_begins_at_init_and_the_others_where_they_did():
    found, prior = fit("map", NET, NET.prior()), NET.prior()
    best = {name: found["posterior"][name].to_numpy()[0, 0] for name in NET.bnn.sites}
    again = wp.fit_map(NET.bnn, NET.x, NET.y, prior=prior, init=best, num_restarts=3)
    counts = again["restarts"]["num_iterations"].to_numpy()
    # There it has nothing to do but to see that the gradient is small.
    assert counts.min() < 20 < np.sort(counts)[1]
    drawn = fit("map", NET, NET.prior(), num_restarts=3)["restarts"]["lp"].to_numpy()
    assert all(np.isclose(drawn, lp, rtol=0, atol=1e-6).any() for lp in again["restarts"]["lp"])
    alone = wp.fit_map(NET.bnn, NET.x, NET.y, prior=prior, init=again, num_restarts=1)
    assert alone["restarts"]["lp"].item() == pytest.approx(found["restarts"]["lp"][0].item())


def test_latents_that_a_start_lacks_begin_where_priors_put_them():
    bnn = wp.BNN(LINEAR.bnn.network, wp.Gaussian())
    weights = {name: np.zeros(site.shape) for name, site in bnn.network.sites.items()}
    problem = Problem.checked(bnn, LINEAR.x, LINEAR.y, prior=wp.normal_prior(bnn))
    [start] = starts_of_restarts(problem, weights, [problem.key])
    assert {*start} == {*bnn.sites}
    assert start["log_noise"] == wp.normal_prior(bnn).loc["log_noise"]


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ({"output.bias": np.zeros(1)}, "init: expected a network of this architecture"),
        (3, "init: expected a dict of arrays, a fit, or a trained network; got int"),
        ({"output.weight": np.zeros((3, 1)), "output.bias": [np.nan]}, "init.*finite"),
    ],
    ids=["a site missing", "a number", "NaN"],
)
def test_a_start_that_cannot_be_is_an_error(init, message):
    with pytest.raises((TypeError, ValueError), match=message):
        wp.fit_map(LINEAR.bnn, LINEAR.x, LINEAR.y, prior=LINEAR.prior(), init=init)
