"""The table of fits against ArviZ and numpy, cell by cell."""

import warnings
from functools import cache
from importlib import import_module
from typing import ClassVar

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import shared_fits as fits
import weightprior as wp
from assertions import assert_estimate
from shared_fits import (
    EXACT,
    EXACT_DRAWS,
    FITTERS,
    FRAME,
    LINEAR,
    REGRESSION,
    ROUNDING,
    TARGET,
    case,
    drawn,
    exact_fit,
)
from weightprior.fits import pointwise

HELD_OUT = FRAME[::-1], TARGET[::-1]
COUNTS = np.tile([1.0, 0.0, 2.0, 1.0], 5)
ROWS = ["map", "sweep[narrow]", "sweep[moved]", "nuts"]
SAMPLED = ROWS[1:]


# Under stronger priors rows cannot be left out; of the last the chains are not of one width.
KINDS = {
    "map": ("map",),
    "sweep": ("hmc", "strings"),
    "nuts": ("nuts", "single", REGRESSION, (0.3, 3.0)),
}


def made(name):
    return drawn(*KINDS[name])


@cache
def table():
    return wp.compare(REGRESSION, {name: made(name) for name in KINDS}, *HELD_OUT)


@cache
def part(row):
    """The fit behind a row."""
    if row.startswith("sweep"):
        return wp.unstack_fit(made("sweep"))[row[6:-1]]
    return made(row)


def loo(fit):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a large Pareto k
        return az.loo(fit, pointwise=True)


def test_columns_and_rows():
    assert table().index.name == "fit"
    assert table().index.tolist() == ROWS
    assert table().columns.tolist() == [
        *("method", "loc", "scale", "lpd_train", "lpd_test", "lpd_test_se", "gap", "rmse"),
        *("elpd_loo", "elpd_loo_se", "max_pareto_k", "loo_reliable", "converged"),
        *("rhat", "ess", "divergences", "parameters"),
        *("norm", "distance", "seconds", "note"),
    ]


@pytest.mark.parametrize("row", ROWS)
class TestEveryRow:
    def test_method_and_seconds_are_the_fits(self, row):
        attrs = part(row).attrs
        assert table().loc[row, "method"] == attrs["method"]
        assert table().loc[row, "seconds"] == attrs["seconds"]

    def test_train_is_the_mean_log_predictive_density(self, row):
        density = np.exp(fits.log_density(REGRESSION, fits.sites(part(row)), FRAME, TARGET))
        expected = np.log(density.mean((0, 1))).mean()
        np.testing.assert_allclose(table().loc[row, "lpd_train"], expected, **ROUNDING)

    @pytest.mark.filterwarnings("ignore:score. the density of 1 of 20")  # of made-up draws
    def test_held_out_columns_are_the_scores_per_row(self, row):
        scores, cells = wp.score(REGRESSION, part(row), *HELD_OUT), table().loc[row]
        np.testing.assert_allclose(cells["lpd_test"], scores["elpd"] / 20, **ROUNDING)
        np.testing.assert_allclose(cells["lpd_test_se"], scores["elpd_se"] / 20, **ROUNDING)
        np.testing.assert_allclose(cells["rmse"], scores["rmse"], **ROUNDING)
        np.testing.assert_allclose(cells["gap"], cells["lpd_train"] - cells["lpd_test"], **ROUNDING)

    def test_norm_and_distance_are_mean_lengths_of_all_weights(self, row):
        prior = fits.prior_of(REGRESSION, "strings" if row.startswith("sweep") else "single")
        prior = prior["narrow"] if row == "sweep[narrow]" else prior.singles()[-1]
        draws, center = (
            np.concatenate([w[name].reshape(*lead, -1) for name in REGRESSION.network.sites], -1)
            for w, lead in (
                (fits.sites(part(row)), fits.sites(part(row))["log_noise"].shape),
                (prior.loc, ()),
            )
        )
        for column, vectors in (("norm", draws), ("distance", draws - center)):
            expected = np.linalg.norm(vectors, axis=-1).mean()
            # Draws are kept in single precision, and squares are summed in it.
            np.testing.assert_allclose(table().loc[row, column], expected, rtol=1e-6)


@pytest.mark.parametrize("row", SAMPLED)
class TestSampled:
    def test_loo_is_arvizs_per_row(self, row):
        expected, cells = loo(part(row)), table().loc[row]
        np.testing.assert_allclose(cells["elpd_loo"], expected.elpd / 20, **ROUNDING)
        np.testing.assert_allclose(cells["elpd_loo_se"], expected.se / 20, **ROUNDING)
        # A row whose k cannot be told is as bad as can be.
        worst = np.nan_to_num(expected.pareto_k, nan=np.inf).max()
        np.testing.assert_allclose(cells["max_pareto_k"], worst, **ROUNDING)

    def test_rows_with_unreliable_loo_are_counted_by_arvizs_threshold(self, row):
        expected = loo(part(row))
        count = int((~(expected.pareto_k <= expected.good_k)).sum())
        assert count > 0
        said = f"LOO unreliable at {count} of 20 rows (k > {expected.good_k:.2g})"
        assert said in table().loc[row, "note"]

    def test_convergence_is_that_of_the_outputs(self, row):
        expected, cells = wp.diagnostics.convergence(REGRESSION, part(row), FRAME), table().loc[row]
        assert cells["rhat"] == expected["rhat"].max()
        assert cells["ess"] == expected["ess_bulk"].min()
        assert expected["converged"] == (row != "nuts")
        verdict = expected["verdict"].item()
        findings = verdict.split(": ", 1)[1].split(";")[0].split(", ")
        said = [finding in cells["note"] for finding in findings]
        assert said == [not expected["converged"]] * len(findings)

    def test_divergences(self, row):
        assert table().loc[row, "divergences"] == 0
        fit = part(row).copy(deep=True)
        fit["sample_stats"]["diverging"].to_numpy()[1, 3:5] = True
        cells = wp.compare(REGRESSION, {row: fit}).loc[row]
        assert cells["divergences"] == 2
        assert "2 of 300 transitions diverged" in cells["note"]


def test_what_a_map_cannot_have_is_blank_with_the_reason():
    cells = table().loc["map"]
    blank = ["elpd_loo", "elpd_loo_se", "max_pareto_k", "loo_reliable"]
    blank += ["rhat", "ess", "divergences"]
    assert cells.index[cells.isna()].tolist() == blank
    assert cells["note"] == "no LOO, R-hat or ESS: a MAP is one point, without draws"


def test_loo_of_the_linear_model_meets_the_closed_form():
    found = wp.compare(LINEAR, {"exact": exact_fit()}).loc["exact"]
    terms = fits.log_density(LINEAR, fits.sites(exact_fit()), FRAME, TARGET)
    # A row is left out by weighting draws with one over its density; the error of the log of
    # their mean is the relative error, and the rows share their draws.
    weight = np.exp(-terms).reshape(-1, 20)
    error = stats.sem((weight / weight.mean(0)).sum(1)) / 20
    assert_estimate(found["elpd_loo"], EXACT.loo.mean(), error)
    np.testing.assert_allclose(found["distance"], np.mean(distances()), **ROUNDING)


def distances():
    return np.linalg.norm(EXACT_DRAWS - EXACT.loc, axis=-1)


def test_convergence_is_watched_at_inputs_spread_over_the_training_rows(monkeypatch):
    # `wp.compare` is the function.
    monkeypatch.setattr(import_module("weightprior.comparison.compare"), "_NUM_INPUTS", 5)
    found = wp.compare(REGRESSION, {"nuts": made("nuts")}).loc["nuts"]
    chosen = FRAME.iloc[[0, 5, 10, 14, 19]]
    expected = wp.diagnostics.convergence(REGRESSION, made("nuts"), chosen)
    assert found["rhat"] == expected["rhat"].max()


@pytest.mark.parametrize("scale", [{"weight": 1.0, "bias": np.inf}, np.inf])
def test_a_flat_prior_has_no_centre_to_be_distant_from(scale):
    bnn = wp.BNN(wp.mlp(2, hidden=()), wp.Gaussian())
    weights = fits.random_weights(bnn, np.random.default_rng(0), (2, 5))
    fit = fits.light_fit(bnn, FRAME, TARGET, weights, prior=wp.normal_prior(bnn, 5.0, scale))
    apart = np.linalg.norm(weights["output.weight"][..., 0] - 5.0, axis=-1).mean()
    expected = np.nan if scale is np.inf else apart
    found = wp.compare(bnn, {"fit": fit}).loc["fit", "distance"]
    np.testing.assert_allclose(found, expected, **ROUNDING)


class TestPriorInWords:
    @pytest.mark.parametrize(
        ("loc", "scale", "center", "width"),
        [
            (0.0, 0.5, "0", "0.5"),
            (0.25, 0.5, "0.25", "0.5"),
            ({"weight": 0.3, "bias": 0.4}, 0.5, "norm 0.583", "0.5"),
            (0.0, {"weight": 0.1, "bias": 1.0}, "0", "0.1 to 1"),
            (0.0, {"weight": 0.5, "bias": np.inf}, "0", "0.5, part flat"),
            (
                {"weight": 0.3, "bias": 4.0},
                {"weight": 0.5, "bias": np.inf},
                "0.3",
                "0.5, part flat",
            ),
            (0.0, np.inf, "none", "flat"),
        ],
    )
    def test_it_says_where_and_how_wide(self, loc, scale, center, width):
        # The prior of the noise is not spoken of.
        bnn = wp.BNN(wp.mlp(2, hidden=()), wp.Gaussian())
        prior = wp.normal_prior(bnn, loc, scale, latents={"log_noise": (3.0, 7.0)})
        weights = fits.random_weights(bnn, np.random.default_rng(0), (2, 5))
        fit = fits.light_fit(bnn, FRAME, TARGET, weights, prior=prior)
        cells = wp.compare(bnn, {"fit": fit}).loc["fit"]
        assert (cells["loc"], cells["scale"]) == (center, width)
        assert "no LOO: fewer than 100 draws" in cells["note"]


def test_without_held_out_data_there_are_no_columns_for_it():
    found = wp.compare(REGRESSION, {"nuts": made("nuts")})
    expected = table().drop(columns=["lpd_test", "lpd_test_se", "gap", "rmse"]).loc[["nuts"]]
    expected["note"] = expected["note"].str.removeprefix(
        "the density of 1 of 20 held-out rows (obs_id 18) rests on fewer than 3 draws; "
    )
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("categorical", "accuracy"),
        ("bernoulli, two outputs", "accuracy"),
        ("gaussian, two outputs", "rmse"),
    ],
)
def test_accuracy_and_rmse_are_means_over_outputs(name, column):
    given = case(name)
    found = wp.compare(given.bnn, {"fit": given.fit}, given.x, given.y)
    assert {"rmse", "accuracy"} & {*found.columns} == {column}
    expected = wp.score(given.bnn, given.fit, given.x, given.y)[column].mean()
    np.testing.assert_allclose(found[column], expected, **ROUNDING)


def test_a_stack_labelled_by_numbers():
    found = wp.compare(REGRESSION, {"sd": drawn("map", "numbers")})
    assert found.index.tolist() == ["sd[0.25]", "sd[0.5]", "sd[1.0]"]
    assert found["scale"].tolist() == ["0.25", "0.5", "1"]


def test_the_best_of_a_grid_at_its_end_is_noted_by_what_was_held_out():
    fit = drawn("hmc", "numbers")
    found = wp.compare(REGRESSION, {"sd": fit}, *HELD_OUT)
    assert found["lpd_test"].idxmax() == "sd[1.0]"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the density of one row
        terms = wp.score(REGRESSION, fit, *HELD_OUT)["elpd_i"].to_numpy()
    paired = terms[2] - terms[1]
    rises = paired.sum() > np.sqrt(len(TARGET)) * paired.std(ddof=1)
    told = "best lpd_test at the upper end of the priors, 0.25 to 1: extend the grid above 1"
    assert (told in found.loc["sd[1.0]", "note"]) == rises
    assert not found["note"][:2].str.contains("extend the grid").any()
    # Without rows held out it is leave-one-out that tells, and here it does.
    found = wp.compare(REGRESSION, {"sd": fit})
    [note] = [note for note in found["note"] if "extend the grid" in note]
    assert "best elpd_loo at the" in note


class TestNotes:
    def test_one_chain_leaves_rhat_blank_with_the_reason(self):
        one = drawn("hmc").map_over_datasets(
            lambda group: group.isel(chain=[0]) if "chain" in group.dims else group
        )
        cells = wp.compare(REGRESSION, {"one": one}).loc["one"]
        assert np.isnan(cells["rhat"])
        assert cells["ess"] > 0
        assert "one chain alone cannot be judged" in cells["note"]

    def test_a_map_that_did_not_converge(self):
        early = made("map").copy(deep=True)
        early["sample_stats"]["converged"][:] = False
        early["sample_stats"]["gradient_norm"][:] = 3.21
        cells = wp.compare(REGRESSION, {"early": early}).loc["early"]
        assert "not converged (gradient 3)" in cells["note"]
        assert not cells["converged"]
        assert "not converged" not in table().loc["map", "note"]

    @pytest.mark.parametrize("row_weights", [None, COUNTS], ids=["once", "weighted"])
    def test_a_fit_without_log_likelihood_has_the_same_cells(self, row_weights, monkeypatch):
        """What the fit does not hold is computed, a few rows at a time."""
        fit = FITTERS["hmc"](
            REGRESSION, FRAME, TARGET, prior=wp.normal_prior(REGRESSION), row_weights=row_weights
        )
        without = fit.copy()
        del without["log_likelihood"]
        monkeypatch.setattr(pointwise, "_NUMBERS_AT_ONCE", 300 * 7)
        found = wp.compare(REGRESSION, {"with": fit, "without": without}, *HELD_OUT)
        assert found["elpd_loo"].notna().all()
        pd.testing.assert_series_equal(
            found.loc["with"], found.loc["without"], check_names=False, rtol=1e-9
        )

    @pytest.mark.parametrize("log_likelihood", [True, False])
    def test_a_fit_of_no_row_that_counts_says_so(self, log_likelihood):
        fit = made("nuts").copy(deep=True)
        fit["constant_data"]["row_weights"] = xr.DataArray(np.zeros(len(TARGET)), dims="obs_id")
        if not log_likelihood:
            del fit["log_likelihood"]
        cells = wp.compare(REGRESSION, {"fit": fit}).loc["fit"]
        assert np.isnan(cells["lpd_train"])
        assert "no LOO: no row counts" in cells["note"]
        assert "no train or gap: no row counts" in cells["note"]

    def test_one_held_out_row_has_no_standard_error(self):
        given = case("bernoulli")
        found = wp.compare(given.bnn, {"fit": given.fit}, given.x[:1], given.y[:1]).loc["fit"]
        assert np.isnan(found["lpd_test_se"])
        assert "no lpd_test_se: a single held-out row" in found["note"]


class TestWrongInput:
    @pytest.mark.parametrize("given", [{}, [], None])
    def test_fits(self, given):
        with pytest.raises(TypeError, match="fits: expected a dict of name to fit, not empty"):
            wp.compare(REGRESSION, given)

    def test_the_fit_itself(self):
        with pytest.raises(TypeError, match=r"fits: expected a dict of name to fit.*got DataTree"):
            wp.compare(REGRESSION, made("map"))

    @pytest.mark.parametrize("held_out", [(), HELD_OUT], ids=["fitted rows", "held-out rows"])
    def test_what_is_no_fit(self, held_out):
        with pytest.raises(TypeError, match=r"fit: expected the DataTree .* got dict"):
            wp.compare(REGRESSION, {"weights": {"output.bias": np.zeros(1)}}, *held_out)

    @pytest.mark.parametrize(("given", "absent"), [("x", "y"), ("y", "x")])
    def test_only_one_of_x_and_y(self, given, absent):
        data = dict(zip("xy", HELD_OUT, strict=True))
        with pytest.raises(ValueError, match=f"{absent}: expected held-out data together with"):
            wp.compare(REGRESSION, {"map": made("map")}, **{given: data[given]})

    def test_a_fit_of_another_model(self):
        with pytest.raises(ValueError, match="fit: expected the sites and shapes of this model"):
            wp.compare(REGRESSION, {"map": made("map"), "other": case("bernoulli").fit})


class TestBaseline:
    """Differences are paired by the rows that were held out."""

    FITS: ClassVar = {"map": made("map"), "nuts": made("nuts")}

    def test_differences_are_those_of_the_scores(self):
        found = wp.compare(REGRESSION, self.FITS, *HELD_OUT, baseline="map")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the density of one row
            mine, theirs = (
                wp.score(REGRESSION, fit, *HELD_OUT)["elpd_i"].to_numpy()
                for fit in self.FITS.values()
            )
        terms = theirs - mine
        np.testing.assert_allclose(found.loc["nuts", "test_diff"], terms.mean(), **ROUNDING)
        np.testing.assert_allclose(found.loc["nuts", "test_diff_se"], stats.sem(terms), **ROUNDING)
        assert found.loc["map", ["test_diff", "test_diff_se"]].tolist() == [0.0, 0.0]
        assert found.columns.tolist()[5:9] == ["lpd_test_se", "test_diff", "test_diff_se", "gap"]

    def test_cross_validations_of_the_same_rows_can_be_compared(self):
        data = {"prior": wp.normal_prior(LINEAR), "fit": fits.point_fit}
        first = {"num_folds": 2, "row_weights": np.arange(20) < 10}
        last = {"num_folds": 2, "row_weights": np.arange(20) >= 10}
        of = {
            "all": wp.cross_validate(LINEAR, FRAME, TARGET, num_folds=4, **data),
            "other folds": wp.cross_validate(LINEAR, FRAME, TARGET, num_folds=5, **data),
            "first": wp.cross_validate(LINEAR, FRAME, TARGET, **first, **data),
            "last": wp.cross_validate(LINEAR, FRAME, TARGET, **last, **data),
        }
        found = wp.compare(LINEAR, of, baseline="all")
        terms = (of["other folds"]["elpd_i"] - of["all"]["elpd_i"]).to_numpy()
        np.testing.assert_allclose(found.loc["other folds", "test_diff"], terms.mean(), **ROUNDING)
        # As many rows, and not the same.
        found = wp.compare(LINEAR, of, baseline="first")
        assert np.isnan(found.loc["last", "test_diff"])
        assert "no test_diff: the baseline has other held-out rows" in found.loc["last", "note"]

    def test_without_rows_held_out_or_a_row_of_that_name_it_is_refused(self):
        with pytest.raises(ValueError, match=r"baseline: expected held-out rows"):
            wp.compare(REGRESSION, self.FITS, baseline="map")
        with pytest.raises(ValueError, match=r"baseline: expected names among 'map', 'nuts'"):
            wp.compare(REGRESSION, self.FITS, *HELD_OUT, baseline="maps")


def test_each_of_several_outputs_has_a_column():
    given = case("gaussian, two outputs")
    found = wp.compare(given.bnn, {"fit": given.fit}, given.x, given.y).loc["fit"]
    expected = wp.score(given.bnn, given.fit, given.x, given.y)["rmse"]
    np.testing.assert_array_equal(found[["rmse[0]", "rmse[1]"]].tolist(), expected)


def test_rows_without_a_density_are_told_of():
    assert "rows without a density (log -7e+07)" in table().loc["nuts", "note"]


def test_rows_that_a_point_gives_no_density_are_told_of():
    """Of a MAP too, and of rows held out, which no Pareto k speaks of."""
    weights = {n: w[:1, :1] for n, w in fits.sites(exact_fit()).items()}
    far = [*TARGET[:-1], 200.0]
    fit = fits.light_fit(LINEAR, FRAME, far, weights, draws="point", exact=False)
    found = wp.compare(LINEAR, {"map": fit}).loc["map"]
    assert "rows without a density (log -8e+04): standardise x and y" in found["note"]
    near = fits.light_fit(LINEAR, FRAME, TARGET, weights, draws="point", exact=False)
    assert "without a density" not in wp.compare(LINEAR, {"map": near}).loc["map", "note"]
    held = wp.compare(LINEAR, {"map": near}, FRAME, far).loc["map", "note"]
    assert "without a density (log -8e+04): 1 of 20 held-out rows (obs_id 19)" in held


@pytest.mark.parametrize("size", [1e5, 1e18])
def test_densities_that_overflow_leave_no_cell_that_looks_good(size):
    fit = fits.light_fit(
        LINEAR,
        FRAME,
        size * TARGET,
        fits.sites(exact_fit()),
        prior=wp.normal_prior(LINEAR, scale=size),
    )
    cells = wp.compare(LINEAR, {"far": fit}).loc["far"]
    assert "rows without a density" in cells["note"]
    assert "LOO unreliable" in cells["note"]
    assert not cells["loo_reliable"]
    assert not cells["max_pareto_k"] <= 0.7
