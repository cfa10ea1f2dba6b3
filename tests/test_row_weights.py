"""A row of weight 2 is the row twice, and a row of weight 0 is no row, for every reader of rows.

Copies stay together: in a fold, and where a row is left out.
"""

from functools import partial

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import weightprior as wp
from assertions import assert_estimate
from oracle import LinearGaussian, design, to_sites
from shared_fits import FRAME, LINEAR, ROUNDING, TARGET, case, drawn, light_fit, point_fit

WEIGHTS = np.array([2.0, 1.0, 0.0, 1.0, 1.0] * 4)
TWICE = np.repeat(np.arange(20), WEIGHTS.astype(int))
PRIOR = wp.stack_priors({s: wp.normal_prior(LINEAR, scale=s) for s in (0.3, 1.0, 3.0)})
FOLDS = np.arange(20) % 4
# Rows in another place have other noise, from which the CRPS is estimated.
SUMMED = ("elpd", "elpd_se", "rmse", "r2", "coverage", "calibration_error")
CHOSEN = ("elpd_diff", "elpd_diff_se", "train", "norm", "effective_parameters")


def validated(rows=slice(None), **options):
    options = {"prior": PRIOR, "fit": point_fit} | options
    return wp.cross_validate(LINEAR, FRAME.to_numpy()[rows], TARGET[rows], **options)


def assert_same(found, expected, names):
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], **ROUNDING)


def test_in_cross_validation():
    weighted = validated(row_weights=WEIGHTS, folds=FOLDS)
    assert_same(weighted, validated(TWICE, folds=FOLDS[TWICE]), (*SUMMED, *CHOSEN))
    assert weighted["obs_id"].to_numpy().tolist() == np.flatnonzero(WEIGHTS).tolist()
    np.testing.assert_array_equal(weighted["row_weights"], WEIGHTS[WEIGHTS > 0])


def test_a_row_of_weight_0_is_no_row_in_folds_by_chance():
    some = np.arange(20) % 5 != 2
    weighted, without = validated(row_weights=some), validated(some)
    np.testing.assert_array_equal(weighted["fold_of_row"], without["fold_of_row"])
    assert_same(weighted, without, ("elpd_i", "prob_best", *SUMMED, *CHOSEN))


def test_probabilities_to_be_the_best_are_those_of_the_rows_twice():
    expected = validated(TWICE, folds=FOLDS[TWICE])["prob_best"]
    found = validated(row_weights=WEIGHTS, folds=FOLDS)["prob_best"]
    # Both are shares of 1,000 samples.
    error = np.sqrt(2 * np.maximum(expected * (1 - expected), 1e-3) / 1000)
    assert_estimate(found, expected, error)


def test_weights_that_a_fit_function_carries_are_used():
    carried = validated(fit=partial(point_fit, row_weights=WEIGHTS), folds=FOLDS)
    xr.testing.assert_identical(
        carried.drop_attrs(), validated(row_weights=WEIGHTS, folds=FOLDS).drop_attrs()
    )
    with pytest.raises(ValueError, match="got them as an argument and in the fit function"):
        validated(fit=partial(point_fit, row_weights=WEIGHTS), row_weights=WEIGHTS)


@pytest.mark.parametrize("function", [wp.cross_validate, wp.prequential_code])
def test_a_fit_function_that_drops_weights_is_refused(function):
    def dropping(bnn, x, y, *, prior, row_weights=None):
        return point_fit(bnn, x, y, prior=prior)

    def following(*data, row_weights=None, **options):  # as the error says
        return point_fit(*data, row_weights=row_weights, **options)

    data = LINEAR, FRAME, TARGET
    with pytest.raises(ValueError, match=r"uses the row_weights it is given.*Pass them on"):
        function(*data, prior=PRIOR, fit=dropping)
    assert function(*data, prior=PRIOR, fit=following).attrs["fit"] == "map"


def test_interrupted_fits_are_not_scored():
    def interrupted(*data, row_weights=None, **options):
        fit = point_fit(*data, row_weights=row_weights, **options)
        fit.attrs["interrupted"] = 1
        return fit

    with pytest.raises(KeyboardInterrupt, match="a part of their draws is not enough"):
        validated(fit=interrupted)


@pytest.mark.parametrize(
    "name",
    [
        *("gaussian", "categorical"),
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("poisson", "bernoulli, two outputs")),
    ],
)
def test_in_scores(name):
    given = case(name)
    weights = np.array([2.0, 1.0, 0.0, 1.0, 2.0, 0.0, 1.0, 1.0])
    twice = np.repeat(np.arange(8), weights.astype(int))
    found = wp.score(given.bnn, given.fit, given.x, given.y, row_weights=weights)
    expected = wp.score(given.bnn, given.fit, given.x[twice], given.y[twice])
    assert found["obs_id"].to_numpy().tolist() == [0, 1, 3, 4, 6, 7]
    assert_same(found, expected, set(expected.data_vars) - {"elpd_i", "crps"})
    each = expected["elpd_i"][np.diff(twice, prepend=-1) > 0]
    np.testing.assert_allclose(found["elpd_i"], each, **ROUNDING)


def test_in_the_prequential_code():
    blocks = np.sort(FOLDS)
    options = {"prior": PRIOR, "fit": point_fit}
    found = wp.prequential_code(
        LINEAR, FRAME, TARGET, row_weights=WEIGHTS, blocks=blocks, **options
    )
    twice = FRAME.to_numpy()[TWICE], TARGET[TWICE]
    expected = wp.prequential_code(LINEAR, *twice, blocks=blocks[TWICE], **options)
    assert_same(found, expected, ("bits", "bits_per_observation", "bits_by_block"))


def posterior(rows):
    """Draws from the exact posterior of some rows, as often as they are named."""
    exact = LinearGaussian(FRAME.to_numpy()[rows], TARGET[rows], 0.5, [0.0] * 3, [1.0] * 3)
    rng = np.random.default_rng(0)
    return exact, rng.multivariate_normal(exact.mean, exact.covariance, (4, 1000))


def weighted_fit():
    _, draws = posterior(TWICE)
    prior = wp.normal_prior(LINEAR)
    return light_fit(
        LINEAR, FRAME, TARGET, to_sites(draws), prior=prior, row_weights=WEIGHTS
    ), draws


def test_in_comparisons():
    fit, draws = weighted_fit()
    line = wp.compare(LINEAR, {"fit": fit}).loc["fit"]
    density = stats.norm.pdf(TARGET, draws @ design(FRAME).T, 0.5)
    train = np.average(np.log(density.mean((0, 1))), weights=WEIGHTS)
    np.testing.assert_allclose(line["lpd_train"], train, **ROUNDING)
    # Leaving a row out leaves out its copies, and the prediction counts for each of them.
    expected, error = np.zeros(20), np.zeros(20)
    for row in np.flatnonzero(WEIGHTS):
        without, others = posterior(TWICE[row != TWICE])
        [expected[row]] = without.log_predictive(FRAME.to_numpy()[[row]], TARGET[[row]])
        densities = stats.norm.pdf(TARGET[row], others @ design(FRAME.iloc[[row]])[0], 0.5)
        error[row] = densities.std() / densities.mean() / np.sqrt(1000)
    number = WEIGHTS.sum()
    # Importance weights leave a fourth of the draws at the least.
    error = np.sqrt(((WEIGHTS * error) ** 2).sum()) / number
    assert_estimate(line["elpd_loo"], WEIGHTS @ expected / number, error)
    assert line["loo_reliable"]
    assert "row_weights" in fit["log_likelihood"].attrs["note"]


def test_leaving_out_rows_of_weight_1_is_what_it_is_without_weights():
    """By our own smoothing and by ArviZ's."""
    fit, _ = weighted_fit()
    plain = fit.copy(deep=True)
    constants = plain["constant_data"].dataset.drop_vars("row_weights")
    plain["constant_data"] = constants
    nearly = plain.copy(deep=True)
    nearly["constant_data"] = constants.assign(row_weights=("obs_id", np.full(20, 1 + 1e-12)))
    ours, theirs = (wp.compare(LINEAR, {"fit": f}).loc["fit"] for f in (nearly, plain))
    for name in ("elpd_loo", "elpd_loo_se", "max_pareto_k"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)


def test_chains_that_never_moved_are_no_crash():
    fit = drawn("map")
    draws = {n: np.repeat(fit["posterior"][n].to_numpy(), 200, 1) for n in fit["posterior"]}
    model = case("gaussian").bnn
    still = light_fit(model, FRAME, TARGET, {n: draws[n] for n in model.sites})
    line = wp.compare(model, {"still": still}).loc["still"]
    assert "never moved" in line["note"]
    assert np.isfinite(line["elpd_loo"])


@pytest.mark.parametrize("function", [wp.cross_validate, wp.prequential_code])
def test_weights_of_zero_alone_are_refused(function):
    with pytest.raises(ValueError, match="expected a row that counts"):
        function(LINEAR, FRAME, TARGET, prior=PRIOR, fit=point_fit, row_weights=np.zeros(20))
