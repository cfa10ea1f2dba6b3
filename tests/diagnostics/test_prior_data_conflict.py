"""A prior checked by data: exact ranks, uniform p-values, and centres that are wrong on purpose."""

import json
from functools import cache

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import shared_fits as fits
import weightprior as wp
from assertions import FALSE_ALARM, assert_estimate
from oracle import design, to_sites
from shared_fits import EXACT, FRAME, LIKELIHOODS, LINEAR, TARGET

NET = wp.BNN(wp.mlp(1, hidden=(2,)), wp.Gaussian())
ROWS = np.linspace(-1, 1, 6)[:, None]
# A plane of the same shapes as the exact fit's.
LINE, X = LINEAR, FRAME.to_numpy()
CENTRE = {"output.weight": [[3.0], [0.0]], "output.bias": [0.0]}


NUM_SAMPLES = 99


def conflict(bnn, fit, x, y, *, num_samples=NUM_SAMPLES, **options):
    # As many in most tests, so that each model compiles once.
    options = {"num_samples": num_samples, **options}
    return wp.diagnostics.prior_data_conflict(bnn, fit, x, y, **options)


def at_centre(bnn, x, y, *priors, labels=None):
    """A fit of one draw, the centre itself, for every prior."""
    prior = priors[0] if labels is None else wp.stack_priors(dict(zip(labels, priors, strict=True)))
    draws = [{n: np.asarray(v)[None, None] for n, v in part.loc.items()} for part in priors]
    return fits.light_fit(bnn, x, y, *draws, prior=prior)


@cache
def without_hidden_layers(name):
    """A linear model of this likelihood, inputs, targets, and the weights that they are drawn at.

    Its draws from the prior take the least to compile.
    """
    network, rng = LIKELIHOODS[name].network, np.random.default_rng(1)
    bnn = wp.BNN(wp.mlp(2, (), network.num_outputs), LIKELIHOODS[name].likelihood)
    centre, x = fits.random_weights(bnn, rng, ()), rng.normal(size=(8, 2))
    return bnn, x, fits.random_targets(bnn, centre, x, rng), centre


def line_fit(y, loc, scale):
    """The exact posterior mean of a line as a fit of one draw."""
    exact = fits.LinearGaussian(X, y, 0.5, [loc, 0.0, 0.0], scale)
    prior = wp.normal_prior(LINE, to_sites(exact.loc), to_sites(exact.scale))
    return fits.light_fit(LINE, X, y, to_sites(exact.mean[None, None]), prior=prior)


class TestTheNumber:
    def test_it_is_the_rank_of_the_data_among_those_of_the_prior(self):
        fit = fits.exact_fit()
        found = conflict(LINEAR, fit, FRAME, TARGET, rng_key=3)
        prior = wp.normal_prior(LINEAR, to_sites(EXACT.loc), to_sites(EXACT.scale))
        drawn = wp.prior_predictive(LINEAR, FRAME, prior=prior, num_samples=99, rng_key=3)
        centre = design(FRAME) @ EXACT.loc

        def far(y):
            return -stats.norm.logpdf(y, centre, 0.5).sum(-1)

        theirs = far(drawn["prior_predictive"]["y"].to_numpy()[0])
        p = (1 + np.sum(theirs >= far(TARGET))) / 100
        assert found["p_value"].item() == p
        np.testing.assert_allclose(found["p_value_se"], np.sqrt(p * (1 - p) / 99))
        np.testing.assert_allclose(found["discrepancy"], far(TARGET), **fits.ROUNDING)
        np.testing.assert_allclose(found["discrepancy_expected"], np.median(theirs))

    def test_of_a_linear_model_it_is_that_of_a_sum_of_chi_squares(self):
        found = conflict(LINEAR, fits.exact_fit(), FRAME, TARGET, num_samples=4000)
        d, count = design(FRAME), 200_000
        # y - D loc has the covariance D S^2 D' + noise^2, whose eigenvalues weight the squares.
        spread = np.linalg.eigvalsh((d * EXACT.scale**2) @ d.T) + 0.5**2
        squares = np.random.default_rng(1).chisquare(1, (count, len(spread))) @ spread
        expected = np.mean(squares >= np.square(TARGET - d @ EXACT.loc).sum())
        error = np.sqrt(expected * (1 - expected) / np.array([4000, count]))
        assert_estimate(found["p_value"], expected, error[0], reference_mcse=error[1])

    def test_at_zero_only_the_centre_of_the_weights_moves(self):
        noise = {"latents": {"log_noise": (0.5, 0.3)}}
        moved = wp.normal_prior(NET, 1.5, 0.4, **noise)
        zero = wp.normal_prior(NET, 0.0, 0.4, **noise)
        y = np.sin(3 * ROWS[:, 0])
        of_moved, of_zero = (
            conflict(NET, at_centre(NET, ROWS, y, p), ROWS, y) for p in (moved, zero)
        )
        assert of_moved["p_value_at_zero"] == of_zero["p_value"] == of_zero["p_value_at_zero"]
        assert of_moved["p_value"] < of_zero["p_value"]

    def test_z_scores_are_those_of_aligned_draws(self):
        draws = fits.random_weights(NET, np.random.default_rng(0), (2, 50))
        fit = fits.light_fit(NET, ROWS, ROWS[:, 0], draws)
        found = conflict(NET, fit, ROWS, ROWS[:, 0])
        aligned = wp.diagnostics.align(NET, fit)
        theirs = wp.diagnostics.contraction(NET, aligned)["distance_by_layer"]
        np.testing.assert_array_equal(found["z_score"], theirs)
        as_they_stand = wp.diagnostics.contraction(NET, fit)["distance_by_layer"]
        assert (found["z_score"] > as_they_stand).all()
        assert found["layer"].to_numpy().tolist() == ["hidden_0", "output"]

    def test_rows_that_did_not_count_do_not_count(self):
        counts = np.repeat([1.0, 0.0], 10)
        y = np.where(counts > 0, X[:, 0], 1e6)
        fit = line_fit(X[:, 0], 0.0, 1.0)
        fit["constant_data"]["row_weights"] = xr.DataArray(counts, dims="obs_id")
        found = conflict(LINE, fit, X, y)
        assert not found["conflict"]
        assert found["discrepancy"] < 100
        with pytest.raises(ValueError, match="x: expected the 20 rows that were fitted"):
            conflict(LINE, fit, X[:9], y[:9])


@pytest.mark.slow
def test_of_data_from_the_prior_every_p_value_is_as_likely():
    prior = wp.normal_prior(NET, 0.7, 0.5, latents={"log_noise": (-1.0, 0.3)})
    drawn = wp.prior_predictive(NET, ROWS, prior=prior, num_samples=200, rng_key=1)
    targets = drawn["prior_predictive"]["y"].to_numpy()[0]
    # Without a fit of each: the p-value is one of the prior alone.
    fit = at_centre(NET, ROWS, targets[0], prior)
    found = [conflict(NET, fit, ROWS, y, rng_key=2 + i) for i, y in enumerate(targets)]
    p = np.array([each["p_value"].item() for each in found])
    # Uniform on 1/100, ..., 1; spread evenly below each of them it is uniform on (0, 1).
    spread = np.random.default_rng(0).uniform(size=len(p)) / (NUM_SAMPLES + 1)
    assert stats.kstest(p - spread, "uniform").pvalue > FALSE_ALARM


class TestVerdict:
    def test_a_centre_that_is_right(self):
        found = conflict(LINE, line_fit(3 * X[:, 0], 3.0, 0.5), X, 3 * X[:, 0])
        assert not found["conflict"]
        assert found["verdict"].item().startswith("No conflict: ")

    def test_an_informative_centre_that_is_wrong(self):
        y = -0.5 * X[:, 0]
        found = conflict(LINE, line_fit(y, 3.0, 0.5), X, y)
        assert found["p_value"] == 1 / 100
        assert found["conflict"]
        assert found["z_score"].item() > 2
        said = "Conflict: 1 % of the prior's data sets lie as far from its centre; move the"
        assert found["verdict"].item().startswith(said + " centre to zero, or widen the scale")

    @pytest.mark.parametrize("centre", [0.0, -3.0])
    def test_a_centre_that_is_wrong_where_zero_would_be_too(self, centre):
        found = conflict(LINE, line_fit(9 * X[:, 0], centre, 0.3), X, 9 * X[:, 0])
        assert found["p_value"] == found["p_value_at_zero"] == 1 / 100
        advice = "; widen the scale, first that of layer 'output' ("
        assert advice in found["verdict"].item()

    def test_the_same_centre_in_a_scale_wide_enough(self):
        y = -0.5 * X[:, 0]
        assert not conflict(LINE, line_fit(y, 3.0, 3.0), X, y)["conflict"]

    def test_one_layer_far_out_where_the_others_hide_it(self):
        prior = wp.normal_prior(NET, 0.0, {"hidden_0": 0.01, "output": 5.0})
        draws = {n: np.zeros((1, 1, *site.shape)) for n, site in NET.sites.items()}
        draws["hidden_0.weight"] += 0.05
        y = ROWS[:, 0]
        found = conflict(NET, fits.light_fit(NET, ROWS, y, draws, prior=prior), ROWS, y)
        assert not found["conflict"]
        assert "but widen the scale of layer 'hidden_0' (3.5 prior" in found["verdict"].item()


class TestClasses:
    @pytest.mark.parametrize("name", ["bernoulli, two outputs", "categorical"])
    def test_a_centre_that_calls_them_equal_cannot_be_contradicted(self, name):
        bnn, x, y, _ = without_hidden_layers(name)
        found = conflict(bnn, at_centre(bnn, x, y, wp.normal_prior(bnn)), x, y)
        assert np.isnan(found["p_value"])
        assert not found["conflict"]
        assert found["verdict"].item().startswith("Not checked: ")

    def test_one_that_is_sure_can(self):
        bnn, x, _, weights = without_hidden_layers("bernoulli, two outputs")
        centre = {site: 8.0 * w for site, w in weights.items()}
        prior, outputs = wp.normal_prior(bnn, centre, 0.5), fits.outputs(bnn, centre, x)
        for y, wrong in ((outputs > 0, False), (outputs < 0, True)):
            found = conflict(bnn, at_centre(bnn, x, y, prior), x, y)
            assert found["conflict"].item() == wrong
            assert ("move the centre to zero" in found["verdict"].item()) == wrong


@pytest.mark.parametrize("name", ["heteroscedastic", "bernoulli, two outputs", "categorical"])
def test_every_likelihood(name):
    bnn, x, y, centre = without_hidden_layers(name)
    found = conflict(bnn, at_centre(bnn, x, y, wp.normal_prior(bnn, centre, 0.5)), x, y)
    # The targets are drawn at the centre itself.
    assert 0.05 < found["p_value"] <= 1
    assert np.isfinite(found["discrepancy"])


def test_counts_of_rates_that_overflow_are_far():
    bnn, x, y, _ = without_hidden_layers("poisson")
    prior = wp.normal_prior(bnn, 0.0, 300.0)
    found = conflict(bnn, at_centre(bnn, x, y, prior), x, y)
    assert found["p_value"] > 0.5


@cache
def stack_of_fits():
    y = -0.5 * X[:, 0]
    priors = [wp.normal_prior(LINE, CENTRE, scale) for scale in (0.5, 3.0)]
    return at_centre(LINE, X, y, *priors, labels=("narrow", "wide")), y


def test_a_stack_is_checked_part_by_part_with_common_random_numbers():
    fit, y = stack_of_fits()
    found = conflict(LINE, fit, X, y)
    assert found["conflict"].to_numpy().tolist() == [True, False]
    assert found["z_score"].dims == ("prior", "layer")
    for label, part in wp.unstack_fit(fit).items():
        alone = conflict(LINE, part, X, y)
        xr.testing.assert_identical(found.sel(prior=label, drop=True), alone)


def test_precision_changes_nothing(precision):
    found = conflict(LINEAR, fits.exact_fit(), FRAME, TARGET)
    # Of 99 data sets, drawn in double precision in either case.
    assert found["p_value"].item() == pytest.approx(0.95, abs=0.051)
    assert found["discrepancy"].dtype == np.float64


class TestWrongInput:
    @pytest.mark.parametrize("scale", [np.inf, {"weight": 1.0, "bias": np.inf}])
    def test_a_flat_prior(self, scale):
        prior = wp.normal_prior(LINE, 0.0, scale)
        with pytest.raises(ValueError, match="prior: expected finite scales"):
            conflict(LINE, at_centre(LINE, X, X[:, 0], prior), X, X[:, 0])

    def test_a_stack_with_a_flat_part(self):
        priors = (wp.normal_prior(LINE), wp.normal_prior(LINE, 0.0, np.inf))
        fit = at_centre(LINE, X, X[:, 0], *priors, labels=(0, 1))
        with pytest.raises(ValueError, match="prior: expected finite scales"):
            conflict(LINE, fit, X, X[:, 0])

    def test_a_prior_that_was_learned(self):
        fit = fits.exact_fit().copy()
        fit.attrs["prior"] = json.dumps({"components": {}})
        with pytest.raises(ValueError, match="fit: expected one with a NormalPrior"):
            conflict(LINEAR, fit, FRAME, TARGET)

    def test_a_fit_of_another_model(self):
        with pytest.raises(ValueError, match="fit: expected"):
            conflict(NET, fits.exact_fit(), ROWS, ROWS[:, 0])

    def test_data(self):
        fit = fits.exact_fit()
        with pytest.raises(ValueError, match="x: expected finite numbers"):
            conflict(LINEAR, fit, FRAME.where(FRAME > 0), TARGET)
        with pytest.raises(ValueError, match="y: expected finite numbers"):
            conflict(LINEAR, fit, FRAME, np.where(TARGET > 0, TARGET, np.nan))
        with pytest.raises(ValueError, match="y: expected shape"):
            conflict(LINEAR, fit, FRAME, TARGET[:, None])

    def test_options(self):
        with pytest.raises(ValueError, match="num_samples: expected at least 1"):
            conflict(LINEAR, fits.exact_fit(), FRAME, TARGET, num_samples=0)
        with pytest.raises(TypeError, match="rng_key: expected"):
            conflict(LINEAR, fits.exact_fit(), FRAME, TARGET, rng_key="one")
