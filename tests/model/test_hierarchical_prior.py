"""Priors that are learned: one density with NumPyro's, and clear words about what cannot be."""

import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.infer import Predictive
from numpyro.infer.util import log_density
from scipy import stats

import weightprior as wp
from problems import NET
from weightprior.model import density

BNN = wp.BNN(wp.mlp(2, hidden=(3,)), wp.Gaussian())
BASE = wp.normal_prior(BNN, loc={"weight": 0.3, "bias": -1.0}, scale=wp.fan_in_scale(BNN, 0.5))
GROUPS = {"below": ["hidden_0"], "above": "output.weight"}
PRIORS = {
    "by layer": wp.hierarchical_prior(BNN),
    "by kind": wp.hierarchical_prior(BNN, "kind", center=(0.5, 2.0), log_scale=(-1.0, 0.5)),
    "by site, on a base": wp.hierarchical_prior(BNN, "site", base=BASE),
    "two groups": wp.hierarchical_prior(BNN, GROUPS, base=BASE),
    "centres alone": wp.hierarchical_prior(BNN, log_scale=None),
    "scales alone": wp.hierarchical_prior(BNN, center=None),
    "Laplace": wp.hierarchical_prior(BNN, standardised={"hidden_0.weight": dist.Laplace(0.5, 1.0)}),
    "Student": wp.hierarchical_prior(
        BNN, center=None, log_scale=None, standardised={"hidden_0.bias": dist.StudentT(5.0)}
    ),
    "horseshoe": wp.hierarchical_prior(
        BNN, "site", standardised={"hidden_0.weight": dist.HalfCauchy(1.0)}
    ),
    "local scales with a variance": wp.hierarchical_prior(
        BNN, GROUPS, base=BASE, standardised={"hidden_0.weight": dist.HalfNormal(1.0)}
    ),
}
each_prior = pytest.mark.parametrize("name", PRIORS)


@cache
def drawn(name):
    """Draws of NumPyro's own; not compiled as a whole, so that all priors share their parts."""
    prior = PRIORS[name]
    with jax.enable_x64(True):
        predictive = Predictive(BNN.model, num_samples=2000, parallel=True)
        draws = predictive(jax.random.key(1), NET.x, prior=prior)
        return {site: np.asarray(draws[site]) for site in {**prior.sites, **BNN.sites}}


def assert_alike(ours, theirs):
    """Assert that two sets of draws are of one law, by ranks, which suit tails of every kind."""
    assert set(ours) == set(theirs)
    for site, values in theirs.items():
        first, other = (draws.reshape(len(values), -1)[:, 0] for draws in (values, ours[site]))
        assert stats.ks_2samp(first, other).pvalue > 1e-6, site


@each_prior
def test_it_is_the_density_that_numpyro_has_of_the_model(name):
    prior = PRIORS[name]
    draws = drawn(name)
    with jax.enable_x64(True):
        for i in range(3):
            weights = {site: values[i] for site, values in draws.items()}
            ours = BNN.log_joint(weights, NET.x, NET.y, prior)
            theirs, _ = log_density(BNN.model, (NET.x, NET.y), {"prior": prior}, weights)
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)
            by_site = density.log_prior_by_site(BNN, weights, prior)
            assert set(by_site) == {*prior.sites, *BNN.sites}


@each_prior
def test_means_and_sds_are_those_of_draws(name):
    """Of heavy tails a mean of squares tells nothing: their sd is asked for only by its sign."""
    prior = PRIORS[name]
    draws = drawn(name)
    for site in BNN.sites:
        values, loc, scale = draws[site], np.asarray(prior.loc[site]), np.asarray(prior.scale[site])
        assert loc.shape == scale.shape == BNN.sites[site].shape
        if np.isinf(scale).any():
            assert name == "horseshoe"
            assert site == "hidden_0.weight"
            continue
        errors = (values.mean(0) - loc) / (scale / np.sqrt(len(values)))
        assert np.abs(errors).max() < stats.norm.isf(1e-6 / 40)
        squares = np.square(values - loc)
        error = squares.std(0) / np.sqrt(len(values))
        assert (np.abs(squares.mean(0) - scale**2) < 6 * error).all()


@each_prior
def test_its_draws_are_those_of_numpyro(name):
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 2000)
        ours = jax.vmap(lambda key: density.draw(BNN, key, PRIORS[name], np.float64))(keys)
    assert_alike({site: np.asarray(values) for site, values in ours.items()}, drawn(name))


def test_prior_predictive_draws_what_numpyro_draws():
    """Of sites in groups and in none, and of what has a number for every weight."""
    name = "local scales with a variance"
    draws = wp.prior_predictive(BNN, NET.x, prior=PRIORS[name], num_samples=2000)["prior"]
    assert_alike({site: draws[site].to_numpy()[0] for site in drawn(name)}, drawn(name))


def test_a_width_without_a_variance_is_infinite():
    """Its mean square overflows: then there is no scale, and the mean stays where it is."""
    prior = wp.hierarchical_prior(BNN, log_scale=(0.0, 40.0))
    for name in BNN.network.sites:
        np.testing.assert_array_equal(prior.loc[name], 0.0)
        np.testing.assert_array_equal(prior.scale[name], np.inf)


def test_groups_hold_what_was_named():
    by_layer, named = PRIORS["by layer"], PRIORS["two groups"]
    assert list(by_layer.groups) == ["hidden_0", "output"]
    assert list(by_layer.groups["output"]) == ["output.weight", "output.bias"]
    assert list(PRIORS["by kind"].groups) == ["weight", "bias"]
    assert {group: list(sites) for group, sites in named.groups.items()} == {
        "below": ["hidden_0.weight", "hidden_0.bias"],
        "above": ["output.weight"],
    }
    assert list(named.sites) == [
        "center.below",
        "log_scale.below",
        "center.above",
        "log_scale.above",
    ]


def test_what_is_in_no_group_keeps_its_prior():
    draws = drawn("two groups")
    for site in ("output.bias", "log_noise"):
        alone = stats.norm(BASE.loc[site].item(), BASE.scale[site].item())
        assert stats.kstest(draws[site].ravel(), alone.cdf).pvalue > 1e-6


def test_it_describes_itself():
    told = json.loads(json.dumps(PRIORS["horseshoe"].describe()))
    assert told["standardised"] == {"hidden_0.weight": "HalfCauchy(scale=1)"}
    assert told["own_scale"] == ["hidden_0.weight"]
    assert told["center"]["output.bias"] == [0.0, 1.0]
    table = wp.prior_summary(BNN, PRIORS["by layer"])
    assert table.loc["hidden_0.weight", "scale_min"] == pytest.approx(np.sqrt(1 + np.exp(2)))


def test_a_network_can_be_simulated_from_it():
    weights, y = wp.simulate(BNN, NET.x, prior=PRIORS["by layer"])
    assert list(weights) == list(BNN.sites)
    assert y.shape == (15,)


FLAT = wp.normal_prior(BNN, scale={"weight": 1.0, "bias": np.inf})
OTHER = wp.normal_prior(wp.BNN(wp.mlp(3), wp.Gaussian()))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"groups": "layers"}, ValueError, "groups: expected one of 'layer', 'kind', 'site'"),
        ({"groups": {}}, TypeError, "groups: expected 'layer'.* not empty"),
        ({"groups": None}, TypeError, "groups: expected"),
        ({"groups": {"a": []}}, ValueError, r"groups\['a'\]: expected sites.*got none"),
        ({"groups": {"a": 3}}, TypeError, r"groups\['a'\]: expected a list.*got 3"),
        ({"groups": {"a": ["hidden_1"]}}, ValueError, r"groups\['a'\].*hidden_1"),
        ({"groups": {"a": ["log_noise"]}}, ValueError, "log_noise"),
        ({"groups": {"a": "weight", "b": "output"}}, ValueError, "output.weight' in 'a' and 'b'"),
        ({"center": 1.0}, ValueError, r"center: expected \(mean, standard deviation\)"),
        ({"center": (0, [1, 2])}, ValueError, r"center: expected \(mean, standard deviation\)"),
        ({"center": (np.nan, 1.0)}, ValueError, "center"),
        ({"log_scale": (0.0, 0.0)}, ValueError, "log_scale"),
        ({"log_scale": (0.0, np.inf)}, ValueError, "log_scale"),
        ({"base": FLAT}, ValueError, "base: expected finite scales.*hidden_0.bias"),
        ({"base": OTHER}, ValueError, "Was it made for another model"),
        ({"base": 1.0}, TypeError, "expected a NormalPrior"),
        ({"standardised": [1]}, TypeError, "^standardised: expected a dict of distributions"),
        ({"standardised": {"hidden_0.weight": 3}}, TypeError, "distribution of NumPyro's"),
        ({"standardised": {"hidden_1": dist.Laplace()}}, ValueError, "standardised.*hidden_1"),
        (
            {"standardised": {"hidden_0.weight": dist.Gumbel()}, "log_scale": (0.0, 40.0)},
            ValueError,
            "^log_scale: expected widths with a mean.*'hidden_0.weight'",
        ),
        (
            {"standardised": {"hidden_0.weight": dist.Uniform()}},
            ValueError,
            r"real line.*Uniform\(low=0, high=1\)",
        ),
        (
            {"standardised": {"hidden_0.weight": dist.Laplace(np.zeros(3))}},
            ValueError,
            "distribution of one number",
        ),
    ],
)
def test_what_cannot_be_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        wp.hierarchical_prior(BNN, **options)


@pytest.mark.parametrize(
    "call",
    [
        lambda prior: wp.cross_validate(BNN, NET.x, NET.y, prior=prior, fit=wp.fit_mcmc),
        lambda prior: wp.l2_from_prior(BNN, prior, convention="sum", noise=0.5),
        lambda prior: wp.stack_priors({"a": prior}),
        lambda prior: wp.hierarchical_prior(BNN, base=prior),
    ],
)
def test_what_needs_fixed_numbers_says_so(call):
    with pytest.raises(TypeError, match=r"expected a (single )?NormalPrior"):
        call(PRIORS["by layer"])


def test_the_mode_is_refused_and_why():
    with pytest.raises(TypeError, match=r"degenerate.*fit_mcmc.*evidence"):
        wp.fit_map(BNN, NET.x, NET.y, prior=PRIORS["by layer"])  # pyright: ignore[reportArgumentType]


def test_latents_have_to_be_given():
    weights = {name: jnp.zeros(site.shape) for name, site in BNN.sites.items()}
    with pytest.raises(ValueError, match=r"got none for 'center\.hidden_0'"):
        BNN.log_prior(weights, PRIORS["by layer"])
