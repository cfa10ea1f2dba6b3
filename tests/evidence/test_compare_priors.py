"""Criteria of a stack of priors side by side: closed forms, pairing, and what is said of them."""

from functools import cache

import numpy as np
import pytest
import xarray as xr
from scipy import special, stats

import weightprior as wp
from assertions import FALSE_ALARM
from oracle import to_sites
from problems import LINEAR, NET, exact
from shared_fits import light_fit, point_fit
from weightprior.evidence import preference
from weightprior.fits.leave_one_out import leave_one_out
from weightprior.fits.outcome import Evidence
from weightprior.fits.rows import Rows

TRUTH = {"output.weight": np.array([[1.0], [-1.0], [0.5]]), "output.bias": 2.0}
PRIORS = {
    "narrow": LINEAR.prior(scale=0.2),
    "around 0": LINEAR.prior(scale=1.0),
    "informed": LINEAR.prior(loc=TRUTH, scale={"weight": 0.1, "bias": 0.5}),
}
STACK = wp.stack_priors(PRIORS)


@cache
def fitted():
    return as_if_tempered(STACK)


def as_if_tempered(stack):
    """Chains of independent draws from every posterior, and evidences known to a hundredth.

    That `fit_tempered` finds these is tested there; here its fits are only read.
    """
    rng, known = np.random.default_rng(0), [exact(prior) for prior in stack.singles()]
    draws = [rng.multivariate_normal(one.mean, one.covariance, (8, 400)) for one in known]
    evidence = [Evidence(one.log_evidence + rng.normal(0, 0.01), 0.01) for one in known]
    own = {"prior": stack, "evidence": evidence, "method": "tempered"}
    return light_fit(LINEAR.bnn, LINEAR.x, LINEAR.y, *map(to_sites, draws), **own)


@cache
def folds():
    return validated(STACK)


def validated(prior):
    """A cross-validation, of which this module only reads the numbers."""
    return wp.cross_validate(
        LINEAR.bnn, LINEAR.x, LINEAR.y, prior=prior, fit=point_fit, num_folds=5
    )


@pytest.fixture
def found():
    return wp.compare_priors(LINEAR.bnn, fitted(), folds())


def with_evidence(*values, error=0.01):
    """The tempered fit with another evidence of each prior."""
    return with_group(log_evidence=values, error=[error] * 3)


def with_group(fit=None, **numbers):
    fit = fitted().copy(deep=True) if fit is None else fit
    held = fit["evidence"].dataset
    fit["evidence"] = held.assign({n: ("prior", list(values)) for n, values in numbers.items()})
    return fit


def with_terms(*terms):
    """The cross-validation with other densities of the rows."""
    array = np.stack(terms)
    given = folds().assign(elpd_i=(("prior", "obs_id"), array))
    return given.assign(elpd=("prior", array.sum(1)))


def test_evidence_and_best_meet_the_closed_form(found):
    expected = np.array([exact(prior).log_evidence for prior in PRIORS.values()])
    k = stats.t.isf(FALSE_ALARM / 6, fitted()["posterior"].sizes["chain"] - 1)
    error = found["log_evidence_error"].to_numpy()
    assert (np.abs(found["log_evidence"] - expected) < k * error).all()
    # Separated by far more than the errors.
    ordered = np.sort(expected)
    assert ordered[-1] - ordered[-2] > 2 * k * error.max()
    best = found["best"].sel(criterion="evidence").item()
    assert best == list(PRIORS)[expected.argmax()]


def test_the_verdict_tells_where_the_best_is_at_the_end_of_a_grid():
    scales = (0.01, 0.05, 0.2)
    stack = wp.stack_priors([LINEAR.prior(scale=s) for s in scales], coords={"scale": scales})
    found = wp.compare_priors(LINEAR.bnn, as_if_tempered(stack))
    end = "the best is at the upper end of scale, 0.01 to 0.2: extend the grid above 0.2."
    assert f"By the evidence and PSIS-LOO {end}" in found["verdict"].item()
    wide = (0.2, 1.0, 30.0)
    stack = wp.stack_priors([LINEAR.prior(scale=s) for s in wide], coords={"scale": wide})
    verdict = wp.compare_priors(LINEAR.bnn, as_if_tempered(stack))["verdict"].item()
    assert "By the evidence" not in verdict


def test_what_tells_priors_apart_goes_along():
    scales, words = [0.5, 0.7, 1.0], ["narrow", "medium", "wide"]
    stack = wp.stack_priors(
        [LINEAR.prior(scale=s) for s in scales], coords={"scale": scales, "word": words}
    )
    found = wp.compare_priors(LINEAR.bnn, as_if_tempered(stack), validated(stack))
    assert found["scale"].dims == ("prior",)
    assert found["difference"]["word"].to_numpy().tolist() == words


def test_a_cross_validation_whose_noise_collapsed_is_doubtful():
    given = folds()
    collapsed = np.zeros((3, given.sizes["fold"]), bool)
    collapsed[2, 1] = True
    given = given.assign(noise_collapsed=(("prior", "fold"), collapsed))
    found = wp.compare_priors(LINEAR.bnn, fitted(), given)
    assert found["doubtful"].sel(criterion="cv").to_numpy().tolist() == [False, False, True]
    assert "Not reliable: cross-validation of 'informed'" in found["verdict"].item()


def test_loo_meets_the_closed_form(found):
    expected = [exact(prior).loo.sum() for prior in PRIORS.values()]
    for label, one in wp.unstack_fit(fitted()).items():
        # A row is left out by weighting draws with one over its density: the error of the log of
        # their mean is the relative error, rows share their draws, and chains are replicates.
        weight = np.exp(-one["log_likelihood"]["y"].to_numpy())
        of_chain = (weight / weight.mean((0, 1))).sum(-1).mean(-1)
        k = stats.t.isf(FALSE_ALARM / 6, len(of_chain) - 1)
        off = found["elpd_loo"].sel(prior=label) - expected[list(PRIORS).index(label)]
        assert abs(off) < k * stats.sem(of_chain)
    assert not found["doubtful"].any()
    assert (found["pareto_k"] < 0.7).all()


def test_numbers_are_those_of_where_they_come_from(found):
    read, table = wp.log_evidence(fitted()), wp.compare(LINEAR.bnn, {"fit": fitted()})
    cv, rows = folds(), len(LINEAR.y)
    for name, expected in {
        "log_evidence": read["log_evidence"],
        "log_evidence_error": read["error"],
        "reliable": read["reliable"],
        "reason": read["reason"],
        "elpd_cv": cv["elpd"],
        "elpd_cv_se": cv["elpd_se"],
        "effective_parameters_cv": cv["effective_parameters"],
    }.items():
        np.testing.assert_array_equal(found[name], expected)
    for name, expected in {
        "elpd_loo": table["elpd_loo"] * rows,
        "elpd_loo_se": table["elpd_loo_se"] * rows,
        "pareto_k": table["max_pareto_k"],
        "effective_parameters": table["parameters"],
    }.items():
        np.testing.assert_allclose(found[name], expected)
    evidence = found["log_evidence"].to_numpy()
    np.testing.assert_allclose(found["probability"], special.softmax(evidence))
    np.testing.assert_allclose(found["probability"].sum(), 1.0)


def test_differences_are_paired_over_rows_and_independent_between_evidences(found):
    parts = wp.unstack_fit(fitted()).values()
    terms = {
        "loo": np.stack([leave_one_out(part)[0].elpd_i for part in parts]),
        "cv": folds()["elpd_i"].to_numpy(),
    }
    for name, of_rows in terms.items():
        one, best = found.sel(criterion=name), of_rows.sum(1).argmax()
        paired = of_rows - of_rows[best]
        assert one["best"].item() == list(PRIORS)[best]
        np.testing.assert_allclose(one["difference"], paired.sum(1), atol=1e-9)
        error = np.sqrt(len(LINEAR.y)) * paired.std(1, ddof=1)
        np.testing.assert_allclose(one["difference_se"], error, atol=1e-9)
    np.testing.assert_allclose(
        found["difference"].sel(criterion="cv"), folds()["elpd_diff"], atol=1e-9
    )
    one, error = found.sel(criterion="evidence"), found["log_evidence_error"].to_numpy()
    best = list(PRIORS).index(one["best"].item())
    expected = np.hypot(error, error[best])
    expected[best] = 0
    np.testing.assert_allclose(one["difference_se"], expected)
    assert (found["difference"] <= 0).all()
    assert ((found["difference"] == 0).sum("prior") == 1).all()


def test_a_prior_is_close_by_the_evidence_at_odds_below_twenty():
    limit, beyond = np.log(20), 0.001
    values = (0.0, -limit - beyond, -limit - 0.1)
    one = wp.compare_priors(LINEAR.bnn, with_evidence(*values)).sel(criterion="evidence")
    # The second within two Monte-Carlo errors, 0.028, of the limit.
    assert one["close"].to_numpy().tolist() == [True, True, False]
    exactly = wp.compare_priors(LINEAR.bnn, with_evidence(*values, error=0.0))
    assert exactly["close"].sel(criterion="evidence").to_numpy().tolist() == [True, False, False]
    odds = exactly["probability"][0] / exactly["probability"][1]
    np.testing.assert_allclose(odds, 20 * np.exp(beyond))


def test_a_prior_is_close_by_its_predictions_within_two_errors_or_four_nats():
    rows = len(LINEAR.y)
    noisy = np.resize([1.0, -1.0], rows)  # Its sum is 0, and the error of that 6.4.
    base = np.zeros(rows)
    for terms, close in (
        ((base, base - 3.9 / rows, base - 4.1 / rows), [True, True, False]),
        ((base, base + noisy - 12 / rows, base + noisy - 13 / rows), [True, True, False]),
    ):
        found = wp.compare_priors(LINEAR.bnn, fitted(), with_terms(*terms))
        assert found["close"].sel(criterion="cv").to_numpy().tolist() == close


def test_criteria_that_agree_say_so():
    rows = len(LINEAR.y)
    loo = wp.compare_priors(LINEAR.bnn, fitted())["best"].sel(criterion="loo").item()
    index = list(PRIORS).index(loo)
    terms = [np.full(rows, float(i == index)) for i in range(3)]
    values = [0.0 if i == index else -9.0 for i in range(3)]
    found = wp.compare_priors(LINEAR.bnn, with_evidence(*values), with_terms(*terms))
    assert found["agree"].all()
    assert found["verdict"].item() == (
        f"The evidence, PSIS-LOO and cross-validation of fits by map prefer {loo!r}."
    )


def test_criteria_that_disagree_say_by_how_much():
    zeros = np.zeros(len(LINEAR.y))
    fit = with_evidence(0.0, -50.0, -50.0)
    told = wp.compare_priors(LINEAR.bnn, fit, with_terms(zeros - 1, zeros, zeros))
    assert told["best"].sel(criterion="evidence").item() == "narrow"
    assert told["best"].sel(criterion="cv").item() == "around 0"
    assert not told["agree"].any()
    verdict = told["verdict"].item()
    assert "cross-validation of fits by map prefers 'around 0'. They disagree:" in verdict
    assert "by the evidence 'around 0' falls short by 50.0 ± 0.0 nats" in verdict
    assert "by cross-validation of fits by map 'narrow' falls short by 40.0 ± 0.0 nats" in verdict
    assert "No prior is close by all." in verdict
    close = with_evidence(0.0, -1.0, -1.0)
    told = wp.compare_priors(LINEAR.bnn, close, with_terms(zeros - 1, zeros, zeros))
    assert "They disagree" in told["verdict"].item()
    assert "Close by all: 'around 0', 'informed'." in told["verdict"].item()
    # Close, though not the same.
    near = with_terms(zeros, zeros + 0.01, zeros)
    told = wp.compare_priors(LINEAR.bnn, with_evidence(-40.0, -0.5, 0.0), near)
    assert told["agree"].all()
    assert "No criterion tells these apart." in told["verdict"].item()


def test_what_is_not_reliable_is_said():
    fit = fitted().copy(deep=True)
    fit = doubted(fit, "narrow")
    # What leaves row 0 out weighs draws by a Pareto variable with a shape of 2.
    terms = fit["log_likelihood"].dataset["y"].copy(deep=True)
    shape = terms.sel(prior="informed", obs_id=0).shape
    heavy = np.random.default_rng(0).exponential(2.0, shape)
    terms.loc[{"prior": "informed", "obs_id": 0}] = -heavy
    fit["log_likelihood"] = fit["log_likelihood"].dataset.assign(y=terms)
    found = wp.compare_priors(LINEAR.bnn, fit)
    assert found["reliable"].to_numpy().tolist() == [False, True, True]
    assert found["doubtful"].sel(criterion="evidence").to_numpy().tolist() == [True, False, False]
    assert found["doubtful"].sel(criterion="loo").to_numpy().tolist() == [False, False, True]
    assert (
        found["verdict"]
        .item()
        .endswith("Not reliable: the evidence of 'narrow'; PSIS-LOO of 'informed'.")
    )


def doubted(fit, *labels):
    """Fit with an unreliable evidence, under these priors."""
    return with_group(fit, reason=["chains disagree" if n in labels else "" for n in PRIORS])


def test_what_is_not_reliable_is_never_preferred():
    values = 0.0, -1.0, -2.0
    one = wp.compare_priors(LINEAR.bnn, doubted(with_evidence(*values, error=0.05), "narrow"))
    assert one["best"].sel(criterion="evidence").item() == "around 0"
    one = one.sel(criterion="evidence")
    np.testing.assert_allclose(one["difference"], [1.0, 0.0, -1.0], atol=1e-9)
    assert one["close"].to_numpy().tolist() == [False, True, True]
    one = wp.compare_priors(LINEAR.bnn, doubted(with_evidence(*values, error=0.05), *PRIORS))
    assert one["best"].sel(criterion="evidence").item() == "narrow"
    assert not one["close"].sel(criterion="evidence").any()
    assert not one["agree"].sel(criterion="loo")
    verdict = one["verdict"].item()
    assert "PSIS-LOO prefers" in verdict
    assert "No estimate of the evidence is reliable, so it prefers none." in verdict
    assert "the evidence prefers" not in verdict.lower()
    # What the others prefer may be what one cannot judge.
    loo = one["best"].sel(criterion="loo").item()
    one = wp.compare_priors(LINEAR.bnn, doubted(with_evidence(*values, error=0.05), loo))
    assert f"by the evidence {loo!r} cannot be judged" in one["verdict"].item()


def test_without_a_cross_validation_there_are_two_criteria():
    found = wp.compare_priors(LINEAR.bnn, fitted())
    assert found["criterion"].to_numpy().tolist() == ["evidence", "loo"]
    assert not {"elpd_cv", "effective_parameters_cv"} & set(found)


def test_it_is_saved_and_read(found, tmp_path):
    found.to_netcdf(tmp_path / "found.nc")
    with xr.open_dataset(tmp_path / "found.nc") as read:
        xr.testing.assert_equal(read.load(), found)
        assert read.attrs == found.attrs


def test_numbers_may_label_priors_and_chains_be_cross_validated():
    path = wp.stack_priors({s: LINEAR.prior(scale=s) for s in (0.5, 1.0)})
    cv = validated(path).assign_attrs(fit="laplace")
    found = wp.compare_priors(LINEAR.bnn, as_if_tempered(path), cv)
    assert found["best"].dtype == float
    assert "cross-validation of fits by laplace" in found["verdict"].item()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda fit: wp.unstack_fit(fit)["narrow"],
            ValueError,
            "fit: expected one of a stacked prior",
        ),
        (
            lambda fit: point_fit(LINEAR.bnn, LINEAR.x, LINEAR.y, prior=STACK),
            ValueError,
            "fit: expected one by fit_tempered.*got one by 'map'",
        ),
        (lambda fit: None, TypeError, "fit: expected the DataTree"),
        (lambda fit: fit.isel(draw=slice(12)), ValueError, "leave-one-out.*fewer than 100 draws"),
        (
            lambda fit: with_evidence(0.0, np.nan, 0.0),
            ValueError,
            "fit: .* got nan in its log evidence",
        ),
        (
            lambda fit: with_evidence(0.0, 0.0, 0.0, error=np.nan),
            ValueError,
            "in its error of the log",
        ),
        (lambda fit: without(fit, "log_likelihood"), ValueError, "log_likelihood=False"),
    ],
)
def test_a_fit_that_cannot_be_read_is_an_error(change, error, message):
    with pytest.raises(error, match=message):
        wp.compare_priors(LINEAR.bnn, change(fitted()))


def without(fit, group):
    kept = {name: child.dataset for name, child in fit.children.items() if name != group}
    tree = xr.DataTree.from_dict(kept)
    tree.attrs = dict(fit.attrs)
    return tree


def test_priors_under_other_row_weights_cannot_be_compared():
    fit = fitted().copy(deep=True)
    constants = fit["constant_data"].dataset
    counts = np.ones((constants.sizes["prior"], 40))
    counts[0, 0] = 2.0
    fit["constant_data"] = constants.assign(row_weights=(("prior", "obs_id"), counts))
    with pytest.raises(ValueError, match=r"expected the same row_weights for all priors"):
        wp.compare_priors(LINEAR.bnn, fit)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda cv: {"cv": cv}, TypeError, "cross_validation: .*got dict"),
        (lambda cv: cv.assign_attrs(function="other"), TypeError, "what cross_validate returns"),
        (lambda cv: cv.isel(prior=0, drop=True), ValueError, "got a single one"),
        (lambda cv: cv.isel(prior=[1, 0, 2]), ValueError, "got 'around 0', 'narrow', 'informed'"),
        (lambda cv: cv.isel(obs_id=slice(30)), ValueError, "expected the fit's 40 rows; got 30"),
        (
            lambda cv: cv.assign({"prior_loc.output.bias": cv["prior_loc.output.bias"] + 1}),
            ValueError,
            "got other numbers in 'prior_loc.output.bias'",
        ),
        (lambda cv: cv.assign(elpd_i=cv["elpd_i"] * np.nan), ValueError, "got nan in its elpd_i"),
    ],
)
def test_another_cross_validation_is_an_error(change, error, message):
    with pytest.raises(error, match=message):
        wp.compare_priors(LINEAR.bnn, fitted(), change(folds()))


def test_another_model_is_an_error():
    with pytest.raises(ValueError, match="expected the sites and shapes of this model"):
        wp.compare_priors(NET.bnn, fitted())


def test_without_a_reliable_estimate_no_prior_is_preferred():
    terms = np.zeros((2, 10))
    none = np.zeros(2, bool)
    criteria = [
        preference.between_evidences(np.array([1.0, 0.0]), np.full(2, 0.1), none),
        preference.between_rows(terms, none, Rows(np.ones(10))),
    ]
    found = xr.concat(
        criteria, xr.DataArray(["evidence", "loo"], dims="criterion", name="criterion")
    )
    found = found.assign_coords(prior=["narrow", "wide"])
    found["best"] = found["prior"].isel(prior=found["best"]).drop_vars("prior")
    told = preference.verdict(found, "map")
    assert told.startswith("No prior is preferred: no criterion has a reliable estimate.")
    assert "Not reliable: the evidence of 'narrow', 'wide'" in told
