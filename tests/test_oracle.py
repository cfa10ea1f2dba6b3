"""The closed forms by independent means, and the Monte-Carlo assertions on draws of known law."""

import dataclasses

import numpy as np
import pytest
from scipy import optimize, stats

from assertions import assert_estimate, assert_mean, assert_sd, threshold
from oracle import LinearGaussian, design, from_sites, to_sites

# What rounding leaves of well-conditioned algebra on twenty rows.
ROUNDING = {"rtol": 1e-9, "atol": 1e-9}


def example(rows=20, features=3, seed=0, **changes):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features))
    y = x @ rng.normal(size=features) + 0.7 + 0.4 * rng.normal(size=rows)
    loc = rng.normal(size=features + 1)
    scale = rng.uniform(0.3, 1.5, size=features + 1)
    return dataclasses.replace(LinearGaussian(x, y, 0.4, loc, scale), **changes)


def without(model, row):
    keep = np.arange(len(model.y)) != row
    return dataclasses.replace(model, x=model.x[keep], y=model.y[keep])


def log_joint(model, params):
    # By scipy, term by term: shares nothing with the oracle's algebra.
    fitted = model.x @ params[:-1] + params[-1]
    return (
        stats.norm.logpdf(model.y, fitted, model.noise).sum()
        + stats.norm.logpdf(params, model.loc, model.scale).sum()
    )


class TestPosterior:
    def test_posterior_is_the_conditional_of_the_joint_gaussian(self):
        # Condition (w, y) ~ N on y, with the (rows x rows) matrix the oracle never forms.
        model = example()
        d, s = design(model.x), np.diag(model.scale**2)
        marginal = model.noise**2 * np.eye(len(model.y)) + d @ s @ d.T
        gain = np.linalg.solve(marginal, d @ s).T
        mean = model.loc + gain @ (model.y - d @ model.loc)
        np.testing.assert_allclose(model.mean, mean, **ROUNDING)
        np.testing.assert_allclose(model.covariance, s - gain @ d @ s, **ROUNDING)
        np.testing.assert_allclose(model.sd, np.sqrt(np.diag(model.covariance)), **ROUNDING)

    def test_map_is_the_optimum_of_the_joint_density(self):
        model = example()
        found = optimize.minimize(
            lambda params: -log_joint(model, params), model.loc, method="BFGS", tol=1e-8
        )
        # The optimiser's gradients are finite differences: half of the digits.
        np.testing.assert_allclose(model.map, found.x, atol=1e-5)

    def test_moments_and_evidence_by_quadrature(self):
        # The trapezoidal rule on a Gaussian converges faster than any power of the step.
        model = example(rows=4, features=1)
        axes = [
            np.linspace(m - 12 * s, m + 12 * s, 241)
            for m, s in zip(model.mean, model.sd, strict=True)
        ]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        density = np.exp([log_joint(model, params) for params in grid])
        cell = np.prod([axis[1] - axis[0] for axis in axes])
        np.testing.assert_allclose(model.log_evidence, np.log(density.sum() * cell), **ROUNDING)
        weights = density / density.sum()
        np.testing.assert_allclose(model.mean, weights @ grid, **ROUNDING)
        centred = grid - model.mean
        np.testing.assert_allclose(model.covariance, centred.T * weights @ centred, **ROUNDING)

    def test_without_data_the_posterior_is_the_prior(self):
        model = example()
        empty = dataclasses.replace(model, x=model.x[:0], y=model.y[:0])
        np.testing.assert_allclose(empty.mean, model.loc, **ROUNDING)
        np.testing.assert_allclose(empty.covariance, np.diag(model.scale**2), **ROUNDING)
        assert empty.log_evidence == pytest.approx(0.0, abs=1e-12)
        assert empty.effective_parameters == 0.0

    def test_a_shifted_prior_is_a_shifted_problem(self):
        model, shift = example(), np.array([0.5, -2.0, 3.0, 1.5])
        moved = dataclasses.replace(
            model, y=model.y + design(model.x) @ shift, loc=model.loc + shift
        )
        np.testing.assert_allclose(moved.mean, model.mean + shift, **ROUNDING)
        np.testing.assert_allclose(moved.covariance, model.covariance, **ROUNDING)
        np.testing.assert_allclose(moved.log_evidence, model.log_evidence, **ROUNDING)
        np.testing.assert_allclose(moved.loo, model.loo, **ROUNDING)

    def test_effective_parameters_count_what_the_data_decided(self):
        model = example()
        expected = np.sum(1 - np.diag(model.covariance) / model.scale**2)
        assert model.effective_parameters == pytest.approx(expected, rel=1e-9)


class TestEvidence:
    def test_evidence_is_the_marginal_density(self):
        model = example()
        d = design(model.x)
        covariance = model.noise**2 * np.eye(len(model.y)) + d @ np.diag(model.scale**2) @ d.T
        expected = stats.multivariate_normal.logpdf(model.y, d @ model.loc, covariance)
        np.testing.assert_allclose(model.log_evidence, expected, **ROUNDING)

    def test_evidence_is_the_product_of_sequential_predictions(self):
        model = example()
        total = 0.0
        for i in range(len(model.y)):
            seen = dataclasses.replace(model, x=model.x[:i], y=model.y[:i])
            total += seen.log_predictive(model.x[i : i + 1], model.y[i : i + 1])[0]
        np.testing.assert_allclose(model.log_evidence, total, **ROUNDING)

    @pytest.mark.parametrize("scale", [np.inf, [1.0, 1.0, 1.0, np.inf]])
    def test_a_flat_prior_has_none(self, scale):
        with pytest.raises(ValueError, match="evidence of a flat prior"):
            _ = example(scale=scale).log_evidence


class TestPredictions:
    # A flat bias, as in scikit-learn, has to work as well.
    @pytest.mark.parametrize("scale", [[0.3, 1.0, 2.0, 0.5], [0.3, 1.0, 2.0, np.inf]])
    def test_loo_is_the_prediction_of_a_refit(self, scale):
        model = example(scale=scale)
        refits = [
            without(model, i).log_predictive(model.x[i : i + 1], model.y[i : i + 1])[0]
            for i in range(len(model.y))
        ]
        np.testing.assert_allclose(model.loo, refits, **ROUNDING)

    def test_prediction_is_the_ratio_of_evidences(self):
        model = example()
        x, y = np.array([[0.3, -2.0, 1.0]]), np.array([0.8])
        more = dataclasses.replace(model, x=np.vstack([model.x, x]), y=np.append(model.y, y))
        ratio = more.log_evidence - model.log_evidence
        np.testing.assert_allclose(model.log_predictive(x, y), [ratio], **ROUNDING)

    def test_predictive_moments_are_those_of_the_posterior(self):
        model = example()
        x = np.random.default_rng(1).normal(size=(5, 3))
        d = design(x)
        variance = np.diag(d @ model.covariance @ d.T)
        np.testing.assert_allclose(model.predictive_mean(x), d @ model.mean, **ROUNDING)
        np.testing.assert_allclose(
            model.predictive_sd(x), np.sqrt(variance + model.noise**2), **ROUNDING
        )
        np.testing.assert_allclose(
            model.predictive_sd(x, with_noise=False), np.sqrt(variance), **ROUNDING
        )

    def test_densities_of_parameters(self):
        model = example()
        params = np.random.default_rng(1).normal(size=(2, 5, 4))
        ours = model.log_likelihood(params).sum(axis=-1) + model.log_prior(params)
        expected = [[log_joint(model, p) for p in chain] for chain in params]
        np.testing.assert_allclose(ours, expected, **ROUNDING)


class TestFlat:
    def test_flat_is_least_squares(self):
        model = example(scale=np.inf)
        d = design(model.x)
        np.testing.assert_allclose(model.mean, np.linalg.lstsq(d, model.y)[0], **ROUNDING)
        np.testing.assert_allclose(
            model.covariance, model.noise**2 * np.linalg.inv(d.T @ d), **ROUNDING
        )
        assert model.effective_parameters == pytest.approx(4.0)
        assert model.log_prior(model.mean) == 0.0

    def test_flat_is_the_limit_of_wide(self):
        flat, scale = example(scale=np.inf), 1e3
        wide = dataclasses.replace(flat, scale=scale)
        # The difference is covariance @ (loc - mean) / scale^2.
        bound = np.linalg.norm(flat.covariance, 2) * np.linalg.norm(flat.loc - flat.mean)
        assert 0 < np.linalg.norm(wide.mean - flat.mean) < bound / scale**2
        difference = np.linalg.norm(wide.covariance - flat.covariance, 2)
        assert 0 < difference < np.linalg.norm(flat.covariance, 2) ** 2 / scale**2

    def test_the_centre_of_a_flat_prior_is_irrelevant(self):
        scale = [0.5, np.inf, 1.0, np.inf]
        model = example(scale=scale)
        moved = dataclasses.replace(model, loc=np.add(model.loc, [0.0, 7.0, 0.0, -3.0]))
        np.testing.assert_allclose(moved.mean, model.mean, **ROUNDING)

    def test_an_improper_posterior_is_refused(self):
        with pytest.raises(ValueError, match="improper"):
            _ = example(rows=3, scale=np.inf).mean
        # With as many rows as parameters, leaving one out is too few.
        with pytest.raises(ValueError, match="improper"):
            _ = example(rows=4, scale=np.inf).loo


@pytest.mark.parametrize(
    "changes",
    [
        {"noise": 0.0},
        {"scale": 0.0},
        {"scale": np.nan},
        {"loc": np.inf},
        {"y": np.zeros(7)},
        {"loc": np.zeros(3)},
    ],
)
def test_wrong_input_is_refused(changes):
    with pytest.raises(ValueError):  # noqa: PT011
        example(**changes)


def test_sites_and_back():
    params = np.arange(24.0).reshape(2, 3, 4)
    sites = to_sites(params)
    assert {name: value.shape for name, value in sites.items()} == {
        "output.weight": (2, 3, 3, 1),
        "output.bias": (2, 3, 1),
    }
    np.testing.assert_array_equal(from_sites(sites), params)


# Monte-Carlo assertions.

CHAINS, DRAWS, CORRELATION = 4, 2000, 0.8
MEAN, SD = np.array([0.0, -3.0, 1e3]), np.array([1.0, 0.01, 50.0])
# An AR(1) chain's mean and sd have errors sd * MEAN_ERROR and sd * SD_ERROR, up to O(1 / DRAWS).
MEAN_ERROR = np.sqrt((1 + CORRELATION) / (1 - CORRELATION) / (CHAINS * DRAWS))
SD_ERROR = np.sqrt((1 + CORRELATION**2) / (1 - CORRELATION**2) / (2 * CHAINS * DRAWS))


def autoregressive(seed=0, correlation=CORRELATION, draws=DRAWS, size=3):
    """Stationary AR(1) chains of unit variance, ``(CHAINS, draws, size)``."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(CHAINS, draws, size))
    z[:, 1:] *= np.sqrt(1 - correlation**2)
    for i in range(1, draws):
        z[:, i] += correlation * z[:, i - 1]
    return z


@pytest.fixture(scope="module")
def draws():
    return MEAN + SD * autoregressive()


def test_threshold_is_bonferroni():
    assert threshold(1, 0.05) == pytest.approx(1.959964, abs=1e-6)
    assert threshold(50, 0.05) == pytest.approx(threshold(1, 0.001))
    assert 4.8 < threshold(1) < threshold(1000) < 6.3


def test_right_draws_pass(draws):
    assert_mean(draws, MEAN)
    assert_sd(draws, SD)
    # One value for all elements, and no dimensions beyond chain and draw.
    assert_sd(draws / SD, 1.0)
    assert_mean(draws[..., 0], 0.0)
    # float32 is what samplers return.
    assert_mean(draws.astype(np.float32), MEAN)


# How far off an estimate has to be for a failure to be certain, up to `false_alarm`: k for the
# assertion and k for the draws themselves, with a tenth for the error of the MCSE.
SURELY = 2.2


@pytest.mark.parametrize("element", range(3))
def test_a_shifted_mean_fails(draws, element):
    wrong = MEAN.copy()
    wrong[element] += SURELY * threshold(3) * SD[element] * MEAN_ERROR
    with pytest.raises(AssertionError, match=rf"(?s)1 of 3 .*\(at {element}\)"):
        assert_mean(draws, wrong)


def test_a_shift_of_half_an_error_passes(draws):
    assert_mean(draws, MEAN + 0.5 * SD * MEAN_ERROR)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_an_sd_ten_percent_off_fails(factor):
    # Enough draws for 10 % to be `SURELY` out of reach.
    draws = autoregressive(draws=6000, correlation=0.5, size=1)
    with pytest.raises(AssertionError, match=r"sd: 1 of 1"):
        assert_sd(draws, factor)


def test_too_few_effective_draws_fail():
    draws = autoregressive(correlation=0.99, draws=500)
    for check, expected in ((assert_mean, 0.0), (assert_sd, 1.0)):
        with pytest.raises(AssertionError, match=r"too few effective draws .*ESS.*at least 400"):
            check(draws, expected)


def test_chains_that_disagree_fail():
    draws = autoregressive() + np.array([-3.0, -1.0, 1.0, 3.0])[:, None, None]
    # Their average is right, and only the ESS knows that none of them is.
    with pytest.raises(AssertionError, match="too few effective draws"):
        assert_mean(draws, 0.0)


def test_draws_that_do_not_move_or_are_not_finite_fail(draws):
    with pytest.raises(AssertionError, match="1 of 3 never move"):
        assert_mean(draws * [1.0, 0.0, 1.0], MEAN * [1.0, 0.0, 1.0])
    broken = draws.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(AssertionError, match="1 draws not finite"):
        assert_sd(broken, SD)
    with pytest.raises(ValueError, match=r"\(chain, draw, \.\.\.\)"):
        assert_mean(draws[0, :, 0], 0.0)


def test_the_reference_may_have_an_error_of_its_own(draws):
    off = MEAN + 10 * SD * MEAN_ERROR
    with pytest.raises(AssertionError):
        assert_mean(draws, off)
    assert_mean(draws, off, reference_mcse=10 * SD * MEAN_ERROR)
    off = SD * (1 + 10 * SD_ERROR)
    with pytest.raises(AssertionError):
        assert_sd(draws, off)
    assert_sd(draws, off, reference_mcse=10 * SD * SD_ERROR)


def test_an_estimate_with_an_error():
    assert_estimate(-12.3, -12.0, 0.1)
    with pytest.raises(AssertionError, match=r"evidence: 1 of 1 .*6\.00 standard errors of 0\.1"):
        assert_estimate(-12.6, -12.0, 0.1, label="evidence")
    for broken in ((np.nan, 0.0, 1.0), (0.0, 0.0, np.nan), (1.0, 0.0, 0.0)):
        with pytest.raises(AssertionError):
            assert_estimate(*broken)


@pytest.mark.parametrize(("check", "expected"), [(assert_mean, 0.0), (assert_sd, 1.0)])
def test_false_alarms_are_as_rare_as_stated(check, expected):
    # At a rate that can be observed: 500 independent sets of draws, and one in 20 may fail. The
    # bound on their number is itself one that a rate of 0.05 exceeds once in a million.
    many = autoregressive(seed=1, correlation=0.5, draws=1000, size=500)
    alarms = 0
    for i in range(500):
        try:
            check(many[..., i], expected, false_alarm=0.05)
        except AssertionError:
            alarms += 1
    assert 0 < alarms <= stats.binom.isf(1e-6, 500, 0.05)
