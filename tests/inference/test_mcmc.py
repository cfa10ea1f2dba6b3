import re
from functools import cache, partial

import arviz_stats
import jax
import numpy as np
import pytest
import xarray as xr
from arviz_stats.base import array_stats

import oracle
import references
import weightprior as wp
from assertions import assert_estimate, assert_mean, assert_sd
from problems import (
    CENTRE,
    LINEAR,
    LINEAR_PRIORS,
    NET,
    START,
    assert_a_row_counted_twice_is_there_twice,
    assert_moving_the_prior_moves_the_weights,
    exact,
    fit,
    of_reference,
)
from shared_fits import FRAME, REGRESSION, TARGET, drawn, mean, prior_of, sites
from weightprior.inference._chains import chains as _chains
from weightprior.inference._starts import starts_of_chains

KERNELS = ("hmc", "nuts")
BRIEF = {"num_samples": 40, "num_chains": 2, "init": START}

both_kernels = pytest.mark.parametrize("kernel", KERNELS)
all_kernels = pytest.mark.parametrize(
    "kernel", ["hmc", *(pytest.param(name, marks=pytest.mark.slow) for name in ("nuts", "mclmc"))]
)


# The linear model, whose posterior is known.


@cache
def linear_fit(kernel, prior, precision):
    """A fit that begins at a draw in double precision, at a place that compiles sooner in single.

    NUTS, for which the search is the same, always begins there.
    """
    init = None if (kernel, precision) == ("hmc", "float64") else START
    with jax.enable_x64(precision == "float64"):
        return fit(kernel, LINEAR, LINEAR.prior(**LINEAR_PRIORS[prior]), init=init)


@both_kernels
@pytest.mark.parametrize("name", LINEAR_PRIORS)
def test_without_hidden_layer_the_posterior_is_the_closed_form(kernel, name, precision):
    found = linear_fit(kernel, name, precision)
    draws = oracle.from_sites(found["posterior"])
    posterior = exact(LINEAR.prior(**LINEAR_PRIORS[name]))
    assert draws.dtype == precision
    assert draws.shape == (4, 1000, 4)
    assert_mean(draws, posterior.mean, num_comparisons=8)
    assert_sd(draws, posterior.sd, num_comparisons=8)


@pytest.mark.parametrize("name", LINEAR_PRIORS)
def test_leave_one_out_is_the_closed_form(name):
    found = linear_fit("hmc", name, "float32")
    loo = arviz_stats.loo(found, pointwise=True)
    assert loo.pareto_k.max() < 0.7
    # Leaving row i out divides by the mean of 1 / p(y_i | weights): the error of a log of a mean.
    inverse = np.exp(-found["log_likelihood"]["y"].to_numpy())
    mcse = array_stats.mcse(inverse, chain_axis=0, draw_axis=1, method="mean")
    expected = exact(LINEAR.prior(**LINEAR_PRIORS[name])).loo
    assert_estimate(loo.elpd_i.to_numpy(), expected, mcse / inverse.mean((0, 1)))


@all_kernels
def test_moving_the_prior_moves_the_weights(kernel):
    assert_moving_the_prior_moves_the_weights(kernel)


@all_kernels
def test_a_row_counted_twice_is_there_twice(kernel):
    assert_a_row_counted_twice_is_there_twice(kernel)


# Networks, whose posteriors FBM has sampled.


def anywhere(bnn):
    """A start, which compiles sooner than the search for one."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(0.0, 0.3, site.shape) for name, site in bnn.sites.items()}


# Single weights, of which the shifted case has moments, mix more slowly than outputs.
REFERENCES = [
    pytest.param(
        *(name, kernel, 10_000 if name == "neal1d_shifted" else 4000, None),
        marks=pytest.mark.slow,
        id=f"{name}-{kernel}",
    )
    for name in references.NAMES
    for kernel in (*KERNELS, "mclmc")  # whose bias is to stay below what can be told
] + [pytest.param("sk_diab1d", "hmc", 1000, anywhere, id="sk_diab1d")]
REFERENCES += [pytest.param("sk_iris", "hmc", 2000, None, id="sk_iris", marks=pytest.mark.slow)]


@pytest.mark.parametrize(("name", "kernel", "num_samples", "init"), REFERENCES)
@pytest.mark.filterwarnings("ignore:fit_mcmc.*diverged")  # judged by the moments
def test_posteriors_are_those_of_fbm(name, kernel, num_samples, init):
    (problem, prior), reference = of_reference(name), references.load(name)
    found = fit(kernel, problem, prior, num_samples=num_samples, init=init and init(problem.bnn))
    predicted = mean(problem.bnn, sites(found), reference.test_x)
    kind = "f" if reference.prob_mean is None else "prob"
    theirs = {m: getattr(reference, f"{kind}_{m}") for m in references.MOMENTS}
    cases = {"output": (predicted, theirs)} | {
        key: (functional(found, key), moments) for key, moments in reference.functionals.items()
    }
    total = 2 * sum(np.size(moments["mean"]) for _, moments in cases.values())
    for label, (draws, moments) in cases.items():
        for check, moment in ((assert_mean, "mean"), (assert_sd, "sd")):
            check(
                draws,
                moments[moment],
                reference_mcse=moments[f"mcse_{moment}"],
                num_comparisons=total,
                label=f"{label}, {moment}",
            )


def functional(found, key):
    """Draws of one of the scalars that FBM's files have moments of."""
    if key == "log_likelihood":
        return found["log_likelihood"]["y"].sum("obs_id").to_numpy()
    if key == "log_prior":
        return sum(found["log_prior"].data_vars.values()).to_numpy()
    if name := re.fullmatch(r"mean_square\.(.*)", key):
        draws = found["posterior"][name[1]].to_numpy()
        return (draws.reshape(*draws.shape[:2], -1) ** 2).mean(-1)
    name, index = re.fullmatch(r"(.*)\[(.*)\]", key).groups()
    return found["posterior"][name].to_numpy()[:, :, *map(int, index.split(","))]


# Tuning.


@pytest.mark.parametrize("target", [0.8, 0.95])
def test_acceptance_comes_near_its_target(target):
    found = fit(
        "hmc", LINEAR, LINEAR.prior(), target_accept_prob=target, num_warmup=2000, init=START
    )
    # Dual averaging comes from above and closes in with the length of the warm-up.
    assert abs(found["sample_stats"]["acceptance_rate"].mean() - target) < 0.05


@both_kernels
@pytest.mark.filterwarnings("ignore:fit_mcmc. Not converged")  # nor is it asked for
def test_without_warm_up_no_step_size_changes(kernel):
    options = {"num_warmup": 0, "num_chains": 1, "num_samples": 50, "init": START}
    found = fit(kernel, LINEAR, LINEAR.prior(scale=0.1), **options)
    assert found["posterior"].sizes["chain"] == 1
    assert found["posterior"].sizes["draw"] == 50
    step_size = found["sample_stats"]["step_size"]
    assert step_size.max() == step_size.min() > 0


def test_divergences_are_counted_and_said(monkeypatch):
    # Steps as they begin, far above the limit of stability.
    monkeypatch.setattr(_chains, "_with_first_steps", _chains.evaluate)
    untuned = {"num_warmup": 0, "num_samples": 100}
    with pytest.warns(UserWarning, match="diverged.*raise target_accept_prob") as caught:
        found = wp.fit_mcmc(*LINEAR, prior=LINEAR.prior(scale=10.0), init=earlier_fit(), **untuned)
    count = int(found["sample_stats"]["diverging"].sum())
    assert count > 0
    assert f"{count} of 400 transitions" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_a_hidden_layer_without_a_prior_has_no_posterior_and_that_is_said(monkeypatch):
    """And before it costs time."""

    def begin(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_chains, "begin", begin)
    scale = {"weight": 1.0, "hidden_0.bias": 1.0, "output.bias": 1.0}
    with (
        pytest.warns(UserWarning, match="improper: the prior is flat on 'hidden_0.bias'"),
        pytest.raises(KeyboardInterrupt),
    ):
        fit("hmc", NET, NET.prior(scale=scale | {"hidden_0.bias": np.inf}))
    # That of the output is met by the data.
    with pytest.raises(KeyboardInterrupt):
        fit("hmc", NET, NET.prior(scale=scale | {"output.bias": np.inf}))


# Starts.


def test_chains_start_at_the_best_restarts_of_a_map():
    made = drawn("map")
    starts = starts_of_chains(REGRESSION, made, prior_of(REGRESSION, "single"), 2)
    for name, site in REGRESSION.sites.items():
        found = np.stack([start[name] for start in starts])
        np.testing.assert_array_equal(found, made["restarts"][name][:2])
        assert found.shape == (2, *site.shape)
        assert len(np.unique(found, axis=0)) == 2


def earlier_fit():
    return linear_fit("hmc", "around 0", "float32")


def test_chains_start_where_those_of_another_fit_ended():
    starts = starts_of_chains(LINEAR.bnn, earlier_fit(), LINEAR.prior(), 4)
    for name in LINEAR.bnn.sites:
        found = np.stack([start[name] for start in starts])
        np.testing.assert_array_equal(found, earlier_fit()["posterior"][name][:, -1])


def test_every_part_of_a_stacked_prior_has_starts_of_its_own():
    both, stack = drawn("map", "strings"), prior_of(REGRESSION, "strings")
    own, shared = (starts_of_chains(REGRESSION, init, stack, 3) for init in (both, drawn("map")))
    for name in REGRESSION.sites:
        expected = both["restarts"][name].transpose("prior", "restart", ...).to_numpy()
        found = np.stack([start[name] for start in own])
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)
        np.testing.assert_array_equal(shared[0][name], shared[3][name])


@both_kernels
def test_a_run_goes_on_from_its_start(kernel):
    once = {"num_samples": 5, "num_chains": 1}
    last = {name: earlier_fit()["posterior"][name].to_numpy()[0, -1] for name in LINEAR.bnn.sites}
    from_fit, from_weights, from_elsewhere = (
        fit(kernel, LINEAR, LINEAR.prior(), init=init, **once)["posterior"].dataset
        for init in (earlier_fit(), last, START)
    )
    xr.testing.assert_identical(from_fit, from_weights)
    assert not from_fit.equals(from_elsewhere)


@pytest.mark.parametrize(
    ("init", "bnn", "error", "message"),
    [
        (partial(drawn, "map"), REGRESSION, ValueError, "init: .*num_chains=4.*got a fit with 3"),
        (partial(drawn, "map"), NET.bnn, ValueError, "sites and shapes"),
        (
            lambda: {"output.bias": np.zeros(1)},
            NET.bnn,
            ValueError,
            "init: .*architecture",
        ),
        (lambda: "map", NET.bnn, TypeError, "init: expected a dict of arrays, a fit"),
    ],
    ids=["too few chains", "another model", "a site missing", "no fit"],
)
def test_a_start_that_cannot_be_is_an_error(init, bnn, error, message):
    with pytest.raises(error, match=message):
        wp.fit_mcmc(bnn, FRAME, TARGET, prior=wp.normal_prior(bnn), init=init(), num_chains=4)


def test_a_fit_of_other_priors_is_no_start():
    three = wp.stack_priors(dict.fromkeys(range(3), prior_of(REGRESSION, "single")))
    with pytest.raises(ValueError, match=r"init: .*as many as are fitted, 3; got one of 2"):
        wp.fit_mcmc(REGRESSION, FRAME, TARGET, prior=three, init=drawn("map", "strings"))


# Interrupts, errors and options.


@both_kernels
def test_an_interrupt_ends_the_run(kernel, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_chains, "_report", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(kernel, LINEAR, LINEAR.prior(), **BRIEF)


@pytest.mark.filterwarnings("ignore:y. mean")  # which tells of it first
@both_kernels
def test_data_that_overflow_are_an_error(kernel):
    overflowing = LINEAR._replace(y=1e30 * LINEAR.y)
    with pytest.raises(FloatingPointError, match="Standardise x and y"):
        fit(kernel, overflowing, LINEAR.prior(), init=START)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"kernel": "gibbs"}, ValueError),
        ({"num_warmup": -1}, ValueError),
        ({"num_samples": 0}, ValueError),
        ({"num_chains": 2.5}, TypeError),
        ({"thinning": 0}, ValueError),
        ({"target_accept_prob": 1.0}, ValueError),
    ],
)
def test_an_option_that_cannot_be_is_named(options, error):
    with pytest.raises(error, match=next(iter(options))):
        wp.fit_mcmc(*LINEAR, prior=LINEAR.prior(loc=CENTRE), **options)
