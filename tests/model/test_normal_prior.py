"""Priors: every way to write one, the density it has, and that its numbers compile nothing."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from scipy import stats

import weightprior as wp
from shared_fits import made_fit, random_weights
from weightprior.model import density

BNN = wp.BNN(wp.mlp(3, hidden=(4, 2)), wp.Gaussian())
SITES = list(BNN.sites)


def arrays(seed, *, positive=False):
    rng = np.random.default_rng(seed)
    drawn = {name: rng.normal(size=site.shape) for name, site in BNN.sites.items()}
    return {name: np.exp(value) if positive else value for name, value in drawn.items()}


def in_jax(weights):
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in weights.items()}


def by_site(weights, prior):
    return density.log_prior_by_site(BNN, weights, prior)


def assert_filled(values, expected):
    """Assert that every site holds the expected numbers, in its own shape and in its own place."""
    assert list(values) == SITES
    for name, site in BNN.sites.items():
        assert values[name].shape == site.shape
        np.testing.assert_array_equal(values[name], expected[name])


class TestForms:
    def test_the_default_is_a_standard_normal(self):
        prior = wp.normal_prior(BNN)
        assert_filled(prior.loc, dict.fromkeys(SITES, 0.0) | {"log_noise": -1.0})
        assert_filled(prior.scale, dict.fromkeys(SITES, 1.0))
        assert prior.labels is None

    def test_a_number_is_for_every_weight_and_bias(self):
        prior = wp.normal_prior(BNN, loc=0.5, scale=2, latents={"log_noise": (-2.0, 0.3)})
        assert_filled(prior.loc, dict.fromkeys(SITES, 0.5) | {"log_noise": -2.0})
        assert_filled(prior.scale, dict.fromkeys(SITES, 2.0) | {"log_noise": 0.3})

    @pytest.mark.parametrize("part", ["loc", "scale"])
    def test_the_most_specific_name_wins(self, part):
        value = {"output.bias": 5.0, "bias": 3.0, "hidden_0": 2.0, "output": 4.0, "weight": 1.0}
        expected = {
            "hidden_0.weight": 2.0,
            "hidden_0.bias": 2.0,
            "hidden_1.weight": 1.0,
            "hidden_1.bias": 3.0,
            "output.weight": 4.0,
            "output.bias": 5.0,
            "log_noise": -1.0 if part == "loc" else 1.0,
        }
        for order in (dict, lambda items: dict(reversed(items))):
            prior = wp.normal_prior(BNN, **{part: order(list(value.items()))})
            assert_filled(getattr(prior, part), expected)

    def test_a_dict_may_name_the_noise(self):
        loc = {"weight": 0.0, "bias": 0.0, "log_noise": -3.0}
        prior = wp.normal_prior(BNN, loc=loc, latents={"log_noise": (-2.0, 0.3)})
        assert prior.loc["log_noise"] == -3.0
        assert prior.scale["log_noise"] == 0.3

    def test_a_full_dict_of_arrays_is_taken_as_it_is(self):
        loc, scale = arrays(0), arrays(1, positive=True)
        prior = wp.normal_prior(BNN, loc=in_jax(loc), scale=scale)
        assert_filled(prior.loc, {name: value.astype(np.float32) for name, value in loc.items()})
        assert_filled(prior.scale, scale)

    def test_a_prior_does_not_share_memory_with_what_it_was_made_of(self):
        loc = arrays(0)
        prior = wp.normal_prior(BNN, loc=loc)
        loc["hidden_0.bias"][0] = 100.0
        assert prior.loc["hidden_0.bias"][0] != 100.0

    def test_an_array_for_one_site_goes_with_a_number_for_the_rest(self):
        bias = np.array([1.0, 2.0])
        prior = wp.normal_prior(BNN, loc={"hidden_1.bias": bias, "weight": 0.0, "bias": 7.0})
        np.testing.assert_array_equal(prior.loc["hidden_1.bias"], bias)
        np.testing.assert_array_equal(prior.loc["hidden_0.bias"], 7.0)

    def test_a_known_noise_has_no_prior(self):
        bnn = wp.BNN(wp.mlp(2, hidden=()), wp.Gaussian(noise=0.1))
        assert list(wp.normal_prior(bnn).loc) == ["output.weight", "output.bias"]

    def test_a_scale_of_infinity_is_flat(self):
        prior = wp.normal_prior(BNN, scale={"weight": 1.0, "bias": np.inf})
        flat = [name for name in SITES if np.all(np.isinf(prior.scale[name]))]
        assert flat == [name for name in SITES if name.endswith("bias")]

    def test_scales_by_fan_in_are_written_the_same_way(self):
        scales = wp.fan_in_scale(BNN, gain=3.0)
        assert scales == {
            "hidden_0.weight": 3 / 3**0.5,
            "hidden_0.bias": 3.0,
            "hidden_1.weight": 3 / 4**0.5,
            "hidden_1.bias": 3.0,
            "output.weight": 3 / 2**0.5,
            "output.bias": 3.0,
        }
        assert_filled(wp.normal_prior(BNN, scale=scales).scale, scales | {"log_noise": 1.0})


@dataclass(frozen=True)
class Shifted(wp.Likelihood):
    """Normal targets with an offset of their own, and a scale for each output."""

    def latents(self, num_outputs):
        return {
            "offset": wp.Latent(prior=(0.5, 2.0)),
            "log_scale": wp.Latent((num_outputs,), ("output",), (-1.5, 0.3)),
        }

    def distribution(self, output, weights):
        return dist.Normal(output + weights["offset"], jnp.exp(weights["log_scale"])[None, :])


class TestLatents:
    TWO = wp.BNN(wp.mlp(1, hidden=(), num_outputs=2), Shifted())

    def assert_latents(self, prior, offset, log_scale):
        for i, part in enumerate((prior.loc, prior.scale)):
            np.testing.assert_array_equal(part["offset"], offset[i])
            np.testing.assert_array_equal(part["log_scale"], [log_scale[i]] * 2)

    @pytest.mark.parametrize("latents", [None, {}])
    def test_by_default_they_have_the_prior_that_the_likelihood_states(self, latents):
        prior = wp.normal_prior(self.TWO, loc=7.0, scale=7.0, latents=latents)
        self.assert_latents(prior, (0.5, 2.0), (-1.5, 0.3))

    @pytest.mark.parametrize("pair", [(3, 4), [3.0, 4.0], np.array([3.0, 4.0])])
    def test_one_that_is_named_changes_alone(self, pair):
        prior = wp.normal_prior(self.TWO, latents={"log_scale": pair})
        self.assert_latents(prior, (0.5, 2.0), (3.0, 4.0))
        np.testing.assert_array_equal(prior.loc["output.weight"], 0.0)

    def test_one_may_be_flat(self):
        prior = wp.normal_prior(self.TWO, latents={"offset": (0.0, np.inf)})
        assert prior.flat() == ["offset"]

    def test_a_centre_or_a_scale_that_names_one_wins(self):
        rest = {"weight": 0.1, "bias": 0.2}
        prior = wp.normal_prior(
            self.TWO,
            loc={**rest, "offset": 5.0},
            scale={**rest, "log_scale": np.array([6.0, 7.0])},
            latents={"offset": (3.0, 4.0), "log_scale": (8.0, 9.0)},
        )
        assert (prior.loc["offset"], prior.scale["offset"]) == (5.0, 4.0)
        np.testing.assert_array_equal(prior.loc["log_scale"], [8.0, 8.0])
        np.testing.assert_array_equal(prior.scale["log_scale"], [6.0, 7.0])

    def test_an_unknown_one_is_told_from_those_that_there_are(self):
        with pytest.raises(
            ValueError,
            match=r"^latents: expected names among 'offset', 'log_scale'; got 'log_scal'\. "
            r"Did you mean 'log_scale'\?$",
        ):
            wp.normal_prior(self.TWO, latents={"log_scal": (0.0, 1.0)})

    @pytest.mark.parametrize("name", ["weight", "output.bias", "output"])
    def test_weights_are_none_of_them(self, name):
        with pytest.raises(ValueError, match=rf"^latents: expected names.*got '{name}'"):
            wp.normal_prior(self.TWO, latents={name: (0.0, 1.0)})

    @pytest.mark.parametrize("pair", [1.0, None, (1.0,), (0.0, 1.0, 2.0), [[0.0, 1.0]], {}])
    def test_each_is_a_centre_and_a_scale(self, pair):
        with pytest.raises(
            ValueError, match=r"^latents\['offset'\]: expected \(centre, scale\); got"
        ):
            wp.normal_prior(self.TWO, latents={"offset": pair})

    @pytest.mark.parametrize("latents", [(0.0, 1.0), [("offset", (0.0, 1.0))], "offset", 1.0])
    def test_they_come_in_a_dict(self, latents):
        with pytest.raises(TypeError, match=r"^latents: expected a dict of \(centre, scale\)"):
            wp.normal_prior(self.TWO, latents=latents)

    @pytest.mark.parametrize(
        ("pair", "message"),
        [
            ((0.0, 0.0), r"^scale\['offset'\]: expected positive numbers"),
            ((0.0, -1.0), r"^scale\['offset'\]: expected positive numbers"),
            ((0.0, np.nan), r"^scale\['offset'\]: expected numbers; got NaN"),
            ((np.inf, 1.0), r"^loc\['offset'\]: expected finite numbers"),
        ],
    )
    def test_their_numbers_are_those_of_a_prior(self, pair, message):
        with pytest.raises(ValueError, match=message):
            wp.normal_prior(self.TWO, latents={"offset": pair})

    def test_a_model_without_any_says_so(self):
        bnn = wp.BNN(wp.mlp(1), wp.Gaussian(noise=1.0))
        with pytest.raises(ValueError, match=r"^latents: expected none, .*no names;"):
            wp.normal_prior(bnn, latents={"log_noise": (0, 1)})


class TestLengthScale:
    def test_it_is_the_scale_or_where_that_is_flat_one_over_the_root_of_the_fan_in(self):
        bnn = wp.BNN(wp.mlp(4, hidden=(9,)), wp.Gaussian())
        scale = {
            "hidden_0.weight": np.where(np.arange(36).reshape(4, 9) < 5, np.inf, 3.0),
            "hidden_0.bias": np.inf,
            "output.weight": np.inf,
            "output.bias": 0.2,
        }
        latents = {"log_noise": (0.0, np.inf)}
        unit = wp.normal_prior(bnn, scale=scale, latents=latents).length_scale(bnn.sites)
        expected = {
            "hidden_0.weight": np.where(np.arange(36).reshape(4, 9) < 5, 1 / 2, 3.0),
            "hidden_0.bias": np.ones(9),
            "output.weight": np.full((9, 1), 1 / 3),
            "output.bias": np.array([0.2]),
            "log_noise": np.array(1.0),
        }
        assert list(unit) == list(bnn.sites)
        for name in bnn.sites:
            np.testing.assert_allclose(unit[name], expected[name], rtol=1e-6)


class TestFitAsCentre:
    @staticmethod
    def fit(labels=None):
        rng = np.random.default_rng(0)
        parts = [random_weights(BNN, rng, (2, 5)) for _ in labels or [None]]
        prior = wp.normal_prior(BNN)
        if labels is not None:
            prior = wp.stack_priors(dict.fromkeys(labels, prior))
        return made_fit(BNN, rng.normal(size=(6, 3)), rng.normal(size=6), *parts, prior=prior)

    def test_the_posterior_mean_is_the_centre(self):
        fit = self.fit()
        prior = wp.normal_prior(BNN, loc=fit, scale=0.1)
        posterior = fit["posterior"].dataset
        assert_filled(prior.loc, {name: posterior[name].mean(("chain", "draw")) for name in SITES})
        assert_filled(prior.scale, dict.fromkeys(SITES, 0.1) | {"log_noise": 1.0})

    def test_a_stacked_fit_has_no_one_centre(self):
        with pytest.raises(ValueError, match=r"^loc: .*stacked.*unstack_fit\(fit\)\[label\]"):
            wp.normal_prior(BNN, loc=self.fit(["a", "b"]))

    def test_a_tree_without_a_posterior_is_no_fit(self):
        with pytest.raises(ValueError, match=r"^loc: .*`posterior` group"):
            wp.normal_prior(BNN, loc=xr.DataTree.from_dict({"prior": xr.Dataset()}))

    def test_a_fit_without_its_axes_says_how_to_keep_them(self):
        part = self.fit().isel(chain=0)
        with pytest.raises(ValueError, match=r"^loc: .*without 'chain'. Keep it: fit.isel\(chain="):
            wp.normal_prior(BNN, loc=part)
        wp.normal_prior(BNN, loc=self.fit().isel(chain=[0]))

    def test_a_noise_that_was_learned_may_be_known_here(self):
        known = wp.BNN(BNN.network, wp.Gaussian(noise=1.0))
        learned = wp.normal_prior(BNN, loc=self.fit())
        prior = wp.normal_prior(known, loc=self.fit())
        assert list(prior.loc) == list(known.sites)
        for name, loc in prior.loc.items():
            np.testing.assert_array_equal(loc, learned.loc[name])

    def test_a_fit_of_another_model_is_not_for_this_one(self):
        other = wp.BNN(wp.mlp(3, hidden=(4,)), wp.Gaussian())
        with pytest.raises(ValueError, match=r"^loc: .*of this architecture, for 'output.weight'"):
            wp.normal_prior(other, loc=self.fit())


class TestDensity:
    @pytest.mark.usefixtures("strict")
    def test_it_is_that_of_scipy(self, precision):
        loc, scale, weights = arrays(0), arrays(1, positive=True), arrays(2)
        prior = wp.normal_prior(BNN, loc=loc, scale=scale)
        ours = jax.jit(by_site)(in_jax(weights), prior)
        for name in SITES:
            expected = stats.norm.logpdf(weights[name], loc[name], scale[name]).sum()
            # Up to 12 terms, with standardised weights of up to about ten.
            tolerance = 500 * np.finfo(precision).eps
            np.testing.assert_allclose(ours[name], expected, rtol=tolerance, atol=tolerance)
            assert ours[name].dtype == precision
            assert ours[name].shape == ()

    @pytest.mark.usefixtures("strict")
    def test_a_flat_site_has_density_one_and_no_gradient(self, precision):
        prior = wp.normal_prior(BNN, scale={"weight": 2.0, "bias": np.inf, "output.bias": 1.0})
        weights = in_jax(arrays(2))
        terms = jax.jit(by_site)(weights, prior)
        gradient = jax.jit(jax.grad(BNN.log_prior))(weights, prior)
        for name in SITES:
            flat = name in ("hidden_0.bias", "hidden_1.bias")
            assert (terms[name] == 0) == flat
            assert np.all(gradient[name] == 0) == flat
            assert np.all(np.isfinite(gradient[name]))

    def test_a_site_may_be_flat_in_part(self):
        scale = {name: np.full(site.shape, 2.0) for name, site in BNN.sites.items()}
        scale["hidden_1.bias"] = np.array([np.inf, 0.5])
        prior = wp.normal_prior(BNN, loc=0.5, scale=scale)
        weights = in_jax(arrays(2))
        distribution = prior.distribution("hidden_1.bias", np.float32)
        density, gradient = jax.jit(jax.value_and_grad(distribution.log_prob))(
            weights["hidden_1.bias"]
        )
        w = weights["hidden_1.bias"][1]
        np.testing.assert_allclose(density, stats.norm.logpdf(w, 0.5, 0.5), rtol=1e-6)
        np.testing.assert_allclose(gradient, [0.0, (0.5 - w) / 0.25], rtol=1e-6)

    def test_a_moved_prior_is_the_same_prior_of_moved_weights(self):
        scale, weights, move = arrays(1, positive=True), arrays(2), arrays(3)
        moved = {name: weights[name] + move[name] for name in SITES}
        zero = wp.normal_prior(BNN, scale=scale, latents={"log_noise": (0.0, 1.0)})
        with jax.enable_x64(True):
            here = jax.jit(BNN.log_prior)(in_jax(moved), wp.normal_prior(BNN, move, scale))
            there = jax.jit(BNN.log_prior)(in_jax(weights), zero)
        np.testing.assert_allclose(here, there, rtol=1e-12)

    def test_draws_have_the_centre_and_the_scale(self):
        loc, scale = arrays(0), arrays(1, positive=True)
        prior = wp.normal_prior(BNN, loc=loc, scale=scale)
        drawn = prior.distribution("hidden_0.weight", np.float32).sample(jax.random.key(0), (1000,))
        standardised = (drawn - loc["hidden_0.weight"]) / scale["hidden_0.weight"]
        # Kolmogorov and Smirnov's test, on 12,000 independent standard normals.
        assert stats.kstest(np.ravel(standardised), "norm").pvalue > 1e-6

    def test_a_flat_site_cannot_be_drawn_from(self):
        prior = wp.normal_prior(BNN, scale={"weight": 1.0, "bias": np.inf})
        with pytest.raises(ValueError, match=r"^prior: expected finite scales"):
            prior.distribution("output.bias", np.float32).sample(jax.random.key(0))


class TestPytree:
    def test_new_numbers_compile_nothing(self):
        density = jax.jit(lambda *arguments: BNN.log_prior(*arguments))
        weights = in_jax(arrays(0))
        stack = wp.stack_priors({s: wp.normal_prior(BNN, scale=s) for s in (0.5, 2.0)})
        priors = [
            wp.normal_prior(BNN),
            wp.normal_prior(BNN, loc=1, scale={"weight": 3, "bias": np.inf}),
            wp.normal_prior(BNN, loc=arrays(1), scale=arrays(2, positive=True)),
            *stack.singles(),
            stack[2.0],
        ]
        assert len({density(weights, prior).item() for prior in priors}) == 5
        assert density._cache_size() == 1

    def test_it_survives_flattening(self):
        prior = wp.stack_priors({"a": wp.normal_prior(BNN), "b": wp.normal_prior(BNN, loc=1.0)})
        leaves, structure = jax.tree.flatten(prior)
        assert len(leaves) == 2 * len(SITES)
        again = jax.tree.unflatten(structure, leaves)
        assert again.labels == ("a", "b")
        np.testing.assert_array_equal(again.loc["output.bias"], prior.loc["output.bias"])


class TestStack:
    PRIORS = (wp.normal_prior(BNN), wp.normal_prior(BNN, arrays(0), arrays(1, positive=True)))

    @staticmethod
    def assert_equal(one, other):
        assert one.labels is None
        assert other.labels is None
        for part in ("loc", "scale"):
            assert_filled(getattr(one, part), getattr(other, part))

    @pytest.mark.parametrize("labels", [("zero", "moved"), (0.1, 1.0), (0, 1), (2, 0.5)])
    def test_its_parts_are_what_it_was_made_of(self, labels):
        stack = wp.stack_priors(dict(zip(labels, self.PRIORS, strict=True)))
        assert stack.labels == labels
        for name, site in BNN.sites.items():
            assert stack.loc[name].shape == stack.scale[name].shape == (2, *site.shape)
        for label, part, prior in zip(labels, stack.singles(), self.PRIORS, strict=True):
            self.assert_equal(part, prior)
            self.assert_equal(stack[label], prior)

    def test_a_single_prior_is_its_own_part(self):
        assert self.PRIORS[0].singles() == [self.PRIORS[0]]

    def test_a_stack_of_one_is_a_stack(self):
        stack = wp.stack_priors({"only": self.PRIORS[1]})
        assert stack.loc["output.bias"].shape == (1, 1)
        self.assert_equal(stack["only"], self.PRIORS[1])

    def test_mapping_over_it_is_the_loop_over_its_parts(self):
        stack = wp.stack_priors(dict(zip("ab", self.PRIORS, strict=True)))
        weights = in_jax(arrays(2))
        density = jax.jit(lambda loc, scale: BNN.log_prior(weights, wp.NormalPrior(loc, scale)))
        mapped = jax.vmap(density)(stack.loc, stack.scale)
        looped = [density(part.loc, part.scale) for part in stack.singles()]
        np.testing.assert_allclose(mapped, looped, rtol=1e-5)

    def test_only_priors_of_one_model_can_be_stacked(self):
        other = wp.normal_prior(wp.BNN(wp.mlp(3, hidden=(5, 2)), wp.Gaussian()))
        with pytest.raises(ValueError, match=r"^priors\['b'\]: .*one model only"):
            wp.stack_priors({"a": self.PRIORS[0], "b": other})

    def test_stacks_cannot_be_stacked(self):
        stack = wp.stack_priors({"a": self.PRIORS[0]})
        with pytest.raises(TypeError, match=r"^priors\['b'\]: expected a single NormalPrior"):
            wp.stack_priors({"a": self.PRIORS[0], "b": stack})

    @pytest.mark.parametrize("priors", [{}, [], None, PRIORS[0]])
    def test_it_is_made_from_a_dict_or_a_list(self, priors):
        with pytest.raises(TypeError, match=r"^priors: expected a dict"):
            wp.stack_priors(priors)

    @pytest.mark.parametrize("labels", [("a", 1), (1, "a"), (None, 1), ((1, 2), (3, 4))])
    def test_its_labels_can_be_a_coordinate(self, labels):
        with pytest.raises(TypeError, match=r"^priors: expected labels that are all"):
            wp.stack_priors(dict(zip(labels, self.PRIORS, strict=True)))

    def test_a_label_that_is_not_there(self):
        stack = wp.stack_priors(dict(zip(["zero", "moved"], self.PRIORS, strict=True)))
        with pytest.raises(ValueError, match=r"among 'zero', 'moved'.*Did you mean 'moved'\?"):
            stack["move"]
        with pytest.raises(ValueError, match=r"^prior\['zero'\]: expected a stacked prior"):
            stack.singles()[0]["zero"]
