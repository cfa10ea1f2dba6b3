"""A column that is added to the outputs: for what is exact, as if taken from the targets."""

from dataclasses import replace
from functools import cache

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import weightprior as wp
from problems import BRIEF, FITTERS, HALF_THE_DIGITS
from shared_fits import ROUNDING, made_fit, random_weights
from weightprior.fits.task import Task
from weightprior.inference._coordinates.collapsed import CollapsedOutput, collapsible_sites
from weightprior.model import density
from weightprior.model.linearised import linearised

RNG = np.random.default_rng(0)
NAMES = ["age", "log_exposure", "dose"]
X = RNG.normal(size=(15, 3))
OFFSET, INPUTS = X[:, 1], X[:, [0, 2]]
Y = np.sin(2 * INPUTS[:, 0]) + OFFSET + 0.5 * RNG.normal(size=15)


def models(hidden=(3,), likelihood=None):
    """A model with an offset, and the one for targets less the offset."""
    likelihood = likelihood or wp.Gaussian(noise=0.5)
    return (
        wp.BNN(wp.mlp(NAMES, hidden, offset="log_exposure"), likelihood),
        wp.BNN(wp.mlp(2, hidden), likelihood),
    )


@cache
def fit(hidden=(3,)):
    """Draws that are known."""
    bnn, _ = models(hidden)
    return made_fit(bnn, pd.DataFrame(X, columns=NAMES), Y, random_weights(bnn, RNG, (2, 50)))


def draw(bnn, lead=()):
    return {name: jnp.asarray(w) for name, w in random_weights(bnn, RNG, lead).items()}


class TestTheNetwork:
    @pytest.mark.parametrize("offset", ["log_exposure", 1, np.int64(1)])
    def test_is_told_of_a_column_by_its_name_or_index(self, offset):
        network = wp.mlp(NAMES, (3,), offset=offset)
        assert network == wp.mlp(NAMES, (3,), offset="log_exposure")
        assert network.feature_names == tuple(NAMES)
        assert network.sites == wp.mlp(["age", "dose"], (3,)).sites

    @pytest.mark.parametrize("offset", [0, 1, 2])
    @pytest.mark.parametrize("hidden", [(), (3,)])
    def test_adds_the_column_to_every_output(self, hidden, offset):
        with jax.enable_x64(True):
            own = wp.mlp(3, hidden, 2, offset=offset)
            plain = wp.mlp(2, hidden, 2)
            weights = {n: jnp.asarray(RNG.normal(size=s.shape)) for n, s in own.sites.items()}
            inputs = np.delete(X, offset, axis=1)
            expected = plain.apply(weights, inputs) + X[:, offset, None]
            np.testing.assert_allclose(own.apply(weights, X), expected, **ROUNDING)
            head = own.head
            multiplied = head.inputs(weights, X) @ weights[head.weight] + weights[head.bias]
            np.testing.assert_allclose(multiplied + X[:, offset, None], expected, **ROUNDING)
            for layer, units in own.hidden_units(weights, X).items():
                theirs = plain.hidden_units(weights, inputs)[layer]
                np.testing.assert_array_equal(units.post, theirs.post)
            if hidden:
                without = plain.apply_without(weights, inputs, "hidden_0", 1) + X[:, offset, None]
                ours = own.apply_without(weights, X, "hidden_0", 1)
                np.testing.assert_allclose(ours, without, **ROUNDING)

    def test_keeps_it_where_it_is_linearised(self):
        bnn, plain = models()
        with jax.enable_x64(True):
            center, weights = draw(bnn), draw(bnn)
            ours = linearised(bnn, center)
            theirs = density.outputs(linearised(plain, center), weights, INPUTS)
            expected = theirs + OFFSET[:, None]
            np.testing.assert_allclose(density.outputs(ours, weights, X), expected, **ROUNDING)
            assert ours.network.offset == 1

    @pytest.mark.parametrize(
        ("num_features", "offset", "error", "message"),
        [
            (NAMES, "exposure", ValueError, "offset: expected names among 'age'.*got 'exposure'"),
            (3, "exposure", ValueError, "offset: expected none, since there are no names; got"),
            (3, 3, ValueError, "offset: expected the index of a column, at most 2; got 3"),
            (3, -1, ValueError, "offset: expected at least 0; got -1"),
            (3, True, TypeError, "offset: expected a whole number; got True"),
            (3, 1.0, TypeError, "offset: expected a whole number; got 1.0"),
            (1, 0, ValueError, "offset: expected a column beside .*num_features=1. Count the off"),
            (["a"], "a", ValueError, "offset: expected a column beside at least one input"),
        ],
    )
    def test_is_not_told_of_what_is_no_column(self, num_features, offset, error, message):
        with pytest.raises(error, match=f"^{message}"):
            wp.mlp(num_features, offset=offset)

    @pytest.mark.parametrize(
        ("likelihood", "num_outputs", "reason"),
        [
            (wp.Categorical(3), 3, "added to all logits, it changes no probability"),
            (wp.HeteroscedasticGaussian(), 2, "log standard deviation as well"),
        ],
    )
    def test_has_none_where_it_makes_no_sense(self, likelihood, num_outputs, reason):
        network = wp.mlp(3, (), num_outputs, offset=0)
        with pytest.raises(ValueError, match=f"^network: expected none with an offset.*{reason}"):
            wp.BNN(network, likelihood)
        wp.BNN(replace(network, offset=None), likelihood)


class TestANetworkOfOnesOwn:
    def make(self, index):
        class Line:
            sites = {"slope": wp.Site((2, 1), ("feature", "output"), 2, "weight", "slope")}  # noqa: RUF012
            num_outputs = 1
            feature_names = (0, 1, 2)
            offset = index

            def apply(self, weights, x):
                x = jnp.asarray(x, weights["slope"].dtype)
                return x[:, [0, 2]] @ weights["slope"] + x[:, 1:2]

        return wp.BNN(Line(), wp.Gaussian(noise=0.5))

    def test_may_have_an_offset(self):
        bnn = self.make(1)
        given = made_fit(bnn, X, Y, random_weights(bnn, RNG, (1, 4)))
        assert given["constant_data"]["x"].dims == ("obs_id", "column")
        assert given["posterior"]["feature"].to_numpy().tolist() == [0, 2]
        found = wp.diagnostics.nonlinearity(bnn, given, X)
        slope = np.linalg.norm(given["posterior"]["slope"].to_numpy(), axis=(2, 3))
        np.testing.assert_allclose(found["lipschitz"], slope, **ROUNDING)

    @pytest.mark.parametrize("index", [0.5, 3, -1, "log_exposure"])
    def test_is_told_where_its_offset_is_no_column(self, index):
        with pytest.raises(TypeError, match=r"^network: expected for its `offset` the index of a"):
            self.make(index)


class TestWhatIsExact:
    @pytest.mark.parametrize(
        "hidden", [(3,), *(pytest.param(h, marks=pytest.mark.slow) for h in ((), (40,)))]
    )
    def test_the_density_with_the_output_layer_integrated_out(self, hidden):
        own, plain = models(hidden)
        with jax.enable_x64(True):
            position = None
            found = []
            for bnn, x, y in ((own, X, Y), (plain, INPUTS, Y - OFFSET)):
                prior = wp.normal_prior(bnn, loc=0.3, scale=0.8)
                sites = collapsible_sites(bnn, prior)
                space = CollapsedOutput(bnn, x, y, Task(prior, np.ones(15)), float, sites)
                if position is None:
                    position = jnp.asarray(RNG.normal(size=space.size))
                value, slope = jax.jit(jax.value_and_grad(space.log_density))(position)
                drawn = jax.jit(space.complete)(jnp.linspace(-1, 1, space.num_free), position)
                found.append((value, slope, drawn))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **ROUNDING), *found)

    @pytest.mark.slow
    @pytest.mark.parametrize("structure", ["full", "last_layer"])
    def test_laplaces_approximation_and_its_evidence(self, structure):
        own, plain = models()
        fits = []
        with jax.enable_x64(True):
            for bnn, x, y in ((own, X, Y), (plain, INPUTS, Y - OFFSET)):
                options = {"prior": wp.normal_prior(bnn), "structure": structure, "tolerance": 1e-9}
                fits.append(wp.fit_laplace(bnn, x, y, num_samples=50, num_restarts=1, **options))
        ours, theirs = fits
        for name in own.sites:
            np.testing.assert_allclose(
                ours["posterior"][name], theirs["posterior"][name], **HALF_THE_DIGITS
            )
            np.testing.assert_allclose(
                ours["restarts"][name][0], theirs["restarts"][name][0], **HALF_THE_DIGITS
            )
        np.testing.assert_allclose(
            ours["evidence"]["log_evidence"], theirs["evidence"]["log_evidence"], **ROUNDING
        )
        np.testing.assert_allclose(
            ours["log_likelihood"]["y"], theirs["log_likelihood"]["y"], **HALF_THE_DIGITS
        )
        # Predictions are of the linearised network, at rows with offsets of their own.
        means = (
            wp.predict(bnn, one, x)["mean"].to_numpy()
            for bnn, one, x in ((own, ours, X + 1), (plain, theirs, INPUTS + 1))
        )
        np.testing.assert_allclose(next(means), next(means) + OFFSET + 1, **HALF_THE_DIGITS)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:fit_vi. far from the posterior")
    @pytest.mark.parametrize("method", FITTERS)
    def test_every_fit(self, method):
        own, plain = models((), wp.Gaussian(noise=0.5))
        fits = []
        with jax.enable_x64(True):
            for bnn, x, y in ((own, X, Y), (plain, INPUTS, Y - OFFSET)):
                fits.append(FITTERS[method](bnn, x, y, prior=wp.normal_prior(bnn), **BRIEF[method]))
        for name in own.sites:
            ours, theirs = (one["posterior"][name] for one in fits)
            np.testing.assert_allclose(ours, theirs, **HALF_THE_DIGITS)


class TestAFit:
    def test_names_inputs_apart_from_columns(self, tmp_path):
        given = fit()
        assert given["posterior"]["feature"].to_numpy().tolist() == ["age", "dose"]
        assert given["constant_data"]["x"].dims == ("obs_id", "column")
        assert given["constant_data"]["column"].to_numpy().tolist() == NAMES
        assert given["constant_data"]["prior_loc.hidden_0.weight"].dims == ("feature", "hidden_0")
        given.to_netcdf(tmp_path / "fit.nc")
        again = az.from_netcdf(tmp_path / "fit.nc")
        for group in given.children:
            xr.testing.assert_identical(again[group].to_dataset(), given[group].to_dataset())

    def test_names_them_by_the_frame_where_the_network_has_no_names(self):
        bnn = wp.BNN(wp.mlp(3, (3,), offset=1), wp.Gaussian(noise=0.5))
        frame = pd.DataFrame(X, columns=NAMES)
        given = made_fit(bnn, frame, Y, random_weights(bnn, RNG, (1, 2)))
        assert given["posterior"]["feature"].to_numpy().tolist() == ["age", "dose"]
        with pytest.raises(ValueError, match=r"Reorder them: x\[\['age', 'log_exposure', 'dose'"):
            wp.predict(bnn, given, frame[["log_exposure", "age", "dose"]])

    def test_is_of_its_offset_alone(self):
        other = wp.BNN(wp.mlp(NAMES, (3,), offset="dose"), wp.Gaussian(noise=0.5))
        with pytest.raises(ValueError, match="fit: expected one of this model"):
            wp.predict(other, fit(), X)

    def test_has_diagnoses_of_what_the_network_makes_of_its_inputs(self):
        bnn, plain = models()
        weights = {name: fit()["posterior"][name].to_numpy() for name in bnn.sites}
        theirs = made_fit(plain, INPUTS, Y - OFFSET, weights)
        kept = X.copy()
        for diagnose in (
            lambda bnn, fit, x, y: wp.diagnostics.nonlinearity(bnn, fit, x),
            lambda bnn, fit, x, y: wp.diagnostics.saturation(bnn, fit, x),
            lambda bnn, fit, x, y: wp.diagnostics.unit_ablation(bnn, fit, x, y, num_draws=3),
            lambda bnn, fit, x, y: wp.diagnostics.effective_parameters(bnn, fit, x, y),
            lambda bnn, fit, x, y: wp.score(bnn, fit, x, y).drop_vars(["crps", "r2"]),
        ):
            expected = diagnose(plain, theirs, INPUTS, Y - OFFSET)
            found = diagnose(bnn, fit(), kept, Y)
            xr.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
        np.testing.assert_array_equal(kept, X)

    def test_is_a_reference_and_a_prior(self):
        bnn, _ = models()
        prior = wp.normal_prior(bnn, loc=fit())
        assert prior.loc["hidden_0.weight"].shape == (2, 3)
        moved = wp.posterior_as_prior(bnn, fit().isel(chain=[0]))
        assert moved.scale["hidden_0.weight"].shape == (2, 3)
        drawn = wp.prior_predictive(bnn, X, prior=prior, num_samples=2)
        assert drawn["constant_data"]["x"].dims == ("obs_id", "column")
