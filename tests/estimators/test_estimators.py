"""Estimators of scikit-learn: the fit that the functions make, in the units of what came in."""

import warnings
from functools import cache, partial

import jax
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import weightprior as wp
from assertions import assert_estimate
from weightprior.fits import programs as _programs
from weightprior.sklearn import BayesianMLPClassifier, BayesianMLPRegressor, log_density_scorer
from weightprior.sklearn._padding import Padded, padded, size_for

_rng = np.random.default_rng(0)
# All rows are filled up to 32, so that the tests share their programs.
X = pd.DataFrame(
    _rng.normal([40.0, -3.0], [9.0, 0.2], (30, 2)), columns=["age", "dose"], index=range(5, 35)
)
Y = 200.0 + 30.0 * np.sin((X["age"].to_numpy() - 40) / 9) + _rng.normal(0.0, 8.0, 30)
LABELS = np.where(Y > 205, "high", "low")
NEW = X[:20] + 0.5
# Under so strong a prior there is one optimum, and so many starts find it.
FEW = {"num_restarts": 2}
EXACT = FEW | {"tolerance": 1e-9}


def regressor(**options):
    given = {"scale": 1.0, "random_state": 0, "fit_options": FEW} | options
    return BayesianMLPRegressor(hidden_layer_sizes=(3,), **given)


def classifier(**options):
    given = {"scale": 1.0, "random_state": 0, "fit_options": FEW} | options
    return BayesianMLPClassifier((3,), **given)


@cache
def fitted():
    return regressor(fit_options=EXACT).fit(X, Y)


@cache
def fitted_classes():
    return classifier().fit(X, LABELS)


def functional(fit=wp.fit_map, **options):
    """Fit of the same rows by the functions: standardised, and none added."""
    scaler, of_y = StandardScaler().fit(X), StandardScaler().fit(Y[:, None])
    bnn = wp.BNN(wp.mlp(list(X.columns), (3,)), wp.Gaussian())
    widths = wp.fan_in_scale(bnn)
    rows = scaler.transform(X), of_y.transform(Y[:, None])[:, 0]
    found = fit(bnn, *rows, prior=wp.normal_prior(bnn, scale=widths), **options)
    return bnn, found, scaler, of_y


class TestFit:
    def test_it_is_that_of_the_functions(self):
        bnn, fit, scaler, of_y = functional(**EXACT)
        ours = fitted().fit_
        assert ours["sample_stats"]["lp"].item() == pytest.approx(
            fit["sample_stats"]["lp"].item(), abs=1e-9
        )
        mean = wp.predict(bnn, fit, scaler.transform(NEW))["mean"].to_numpy()[0, 0]
        # A gradient of 1e-9 per scale of a prior leaves predictions as exact as that.
        expected = of_y.inverse_transform(mean[:, None])[:, 0]
        np.testing.assert_allclose(fitted().predict(NEW), expected, rtol=1e-7)

    def test_it_holds_the_rows_that_were_there(self):
        fit = fitted().fit_
        for name in ("observed_data", "constant_data", "log_likelihood"):
            assert fit[name]["obs_id"].to_numpy().tolist() == X.index.tolist()
        assert "row_weights" not in fit["constant_data"]
        assert fit["posterior"]["feature"].to_numpy().tolist() == ["age", "dose"]
        # Everything that reads fits takes it.
        unit = fitted().standardization_
        data = unit.inputs(X.to_numpy()), unit.targets(Y)
        scores = wp.score(fitted().bnn_, fit, *data)
        np.testing.assert_allclose(
            fitted().log_density(X, Y), scores["elpd_i"] - unit.log_unit, rtol=1e-10
        )
        assert log_density_scorer(fitted(), X, Y) == pytest.approx(
            scores["elpd"].item() / 30 - np.log(Y.std())
        )
        np.testing.assert_array_equal(unit.targets(pd.Series(Y)), unit.targets(Y))
        alone = make_pipeline(fitted())
        assert log_density_scorer(alone, X, Y) == log_density_scorer(fitted(), X, Y)

    def test_a_row_of_weight_2_is_the_row_twice(self):
        counts = np.arange(30) % 3
        weighted = regressor(fit_options=EXACT).fit(X, Y, sample_weight=counts)
        rows = np.repeat(np.arange(30), counts)
        repeated = regressor(fit_options=EXACT).fit(X.to_numpy()[rows], Y[rows])
        lp = [m.fit_["sample_stats"]["lp"].item() for m in (weighted, repeated)]
        assert lp[0] == pytest.approx(lp[1], abs=1e-9)
        np.testing.assert_allclose(weighted.predict(X), repeated.predict(X.to_numpy()), rtol=1e-7)
        assert weighted.fit_["constant_data"]["row_weights"].to_numpy().tolist() == counts.tolist()

    def test_labels_are_given_back(self):
        found = fitted_classes()
        assert found.classes_.tolist() == ["high", "low"]
        probability = found.predict_proba(NEW)
        np.testing.assert_allclose(probability.sum(axis=1), 1.0)
        assert (found.predict(NEW) == found.classes_[probability.argmax(axis=1)]).all()
        np.testing.assert_allclose(np.exp(found.predict_log_proba(NEW)), probability)
        chosen = np.where(LABELS == "high", 0, 1)
        expected = np.log(found.predict_proba(X)[np.arange(30), chosen])
        np.testing.assert_allclose(found.log_density(X, LABELS), expected, rtol=1e-9)

    def test_nothing_is_standardised_where_that_is_not_wanted(self):
        scaled = StandardScaler().fit_transform(X)
        plain = regressor(standardize=False, fit_options=EXACT).fit(
            scaled, (Y - Y.mean()) / Y.std()
        )
        lp = plain.fit_["sample_stats"]["lp"].item()
        assert lp == pytest.approx(fitted().fit_["sample_stats"]["lp"].item(), abs=1e-9)

    def test_parameters_and_fits_travel(self, tmp_path):
        joblib.dump(fitted(), tmp_path / "fitted.joblib")
        loaded = joblib.load(tmp_path / "fitted.joblib")
        np.testing.assert_array_equal(loaded.predict(NEW), fitted().predict(NEW))
        copied = clone(regressor(loc=fitted()))
        assert copied.loc is fitted()
        assert not hasattr(copied, "fit_")
        assert copied.get_params(deep=False)["scale"] == 1.0


class TestPredictions:
    def test_the_sd_at_an_optimum_is_that_of_the_noise(self):
        mean, sd = fitted().predict(NEW, return_std=True)
        np.testing.assert_array_equal(mean, fitted().predict(NEW))
        noise = fitted().fit_["posterior"]["noise"].item() * Y.std()
        np.testing.assert_allclose(sd, noise, rtol=1e-12)

    def test_quantiles_are_those_of_a_normal_law_at_an_optimum(self):
        mean, sd = fitted().predict(NEW, return_std=True)
        lower, upper = fitted().predict_interval(NEW, level=0.5).T
        # Of the quartile of 4,000 normal draws.
        error = np.sqrt(0.25 * 0.75 / 4000) / 0.3178 * sd
        assert_estimate(lower, mean - 0.6745 * sd, error)
        assert_estimate(upper, mean + 0.6745 * sd, error)
        assert fitted().predict_quantiles(NEW, 0.5).shape == (20,)
        assert fitted().predict_quantiles(NEW, [0.1, 0.5, 0.9]).shape == (20, 3)

    def test_samples_scatter_as_told(self):
        mean, sd = fitted().predict(NEW, return_std=True)
        drawn = fitted().sample_y(NEW, 400, random_state=1)
        assert drawn.shape == (20, 400)
        assert_estimate(drawn.mean(axis=1), mean, sd / 20)
        np.testing.assert_array_equal(drawn, fitted().sample_y(NEW, 400, random_state=1))
        assert np.any(drawn != fitted().sample_y(NEW, 400, random_state=2))

    def test_blocks_of_rows_make_no_difference(self, monkeypatch):
        whole = fitted().predict(NEW)
        monkeypatch.setattr("weightprior.sklearn._base._NUMBERS_AT_ONCE", 16)
        np.testing.assert_allclose(fitted().predict(NEW), whole, rtol=1e-14)


class TestSeveralTargets:
    Y2 = pd.DataFrame({"up": Y, "down": 5 - Y / 10}, index=X.index)

    def test_each_has_its_own_units(self):
        found = regressor().fit(X, self.Y2)
        mean, sd = found.predict(NEW, return_std=True)
        np.testing.assert_allclose(mean[:, 1], 5 - mean[:, 0] / 10, rtol=1e-3)
        np.testing.assert_allclose(sd[:, 1], sd[:, 0] / 10, rtol=1e-3)
        assert found.predict_interval(NEW).shape == (20, 2, 2)
        assert found.sample_y(NEW, 3).shape == (20, 2, 3)
        assert found.log_density(X, self.Y2).shape == (30,)
        assert found.fit_["posterior"]["output"].to_numpy().tolist() == ["up", "down"]


class TestLikelihoods:
    def test_a_known_noise_is_in_units_of_y(self):
        found = regressor(likelihood=wp.Gaussian(noise=8.0)).fit(X, Y)
        assert found.bnn_.likelihood.noise == pytest.approx(8.0 / Y.std())
        np.testing.assert_allclose(found.predict(NEW, return_std=True)[1], 8.0)

    @pytest.mark.slow
    def test_counts_stay_counts(self):
        counts = np.random.default_rng(1).poisson(np.exp((X["age"] - 40) / 20))
        found = regressor(likelihood="poisson").fit(X, counts)
        assert found.fit_["observed_data"]["y"].to_numpy().tolist() == counts.tolist()
        mean, sd = found.predict(X, return_std=True)
        np.testing.assert_allclose(sd, np.sqrt(mean))

    @pytest.mark.parametrize(
        ("likelihood", "error", "message"),
        [
            ("normal", ValueError, "likelihood: expected one of 'gaussian'"),
            (wp.Gaussian, TypeError, "likelihood: expected one of 'gaussian'"),
            (wp.Bernoulli(), ValueError, "Take BayesianMLPClassifier"),
            (wp.Binomial(), ValueError, "Take weightprior.fit_map"),
        ],
    )
    def test_others_are_refused(self, likelihood, error, message):
        with pytest.raises(error, match=message):
            regressor(likelihood=likelihood).fit(X, Y)


def outputs_at_the_center(model, rows):
    """Outputs of the network that a prior is centred at."""
    with jax.enable_x64(True):
        units = model.standardization_
        return np.asarray(model.bnn_.outputs(model.prior_.loc, units.inputs(rows)))


def predictions_at_the_center(model, rows):
    """Predictions of that network, in the units of y."""
    return model.standardization_.locations(outputs_at_the_center(model, rows))


def probability_at_the_center(model, rows):
    """Probability of the second class that it gives."""
    return 1 / (1 + np.exp(-outputs_at_the_center(model, rows)[:, 0]))


# What is told of networks that say little is not what is asked here.
@pytest.mark.filterwarnings("ignore:fit_map. its predictions never vary")
class TestCenters:
    OTHER = X.to_numpy() * [1.5, 0.8] + [3.0, 0.1]

    def test_a_fitted_estimator_predicts_the_same_in_other_units(self):
        found = regressor(loc=fitted()).fit(self.OTHER, 5 * Y - 3)
        expected = fitted().predict(X)
        ours = predictions_at_the_center(found, X.to_numpy())
        np.testing.assert_allclose(ours[:, 0], expected, rtol=1e-10)
        moved = found.prior_.loc["log_noise"] + np.log(5 * Y.std())
        given = fitted().fit_["posterior"]["log_noise"].item() + np.log(Y.std())
        assert moved == pytest.approx(given)

    def test_so_does_its_fit_read_alone(self):
        whole, alone = (
            regressor(loc=loc).fit(self.OTHER, 5 * Y - 3) for loc in (fitted(), fitted().fit_)
        )
        for name, values in whole.prior_.loc.items():
            np.testing.assert_array_equal(alone.prior_.loc[name], values)

    def test_and_a_perceptron_of_scikit_learn(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = MLPRegressor(
                hidden_layer_sizes=(3,), activation="tanh", max_iter=20, random_state=0
            ).fit(X, Y)
        found = regressor(loc=theirs).fit(X, Y)
        ours = predictions_at_the_center(found, X.to_numpy())
        np.testing.assert_allclose(ours[:, 0], theirs.predict(X), rtol=1e-10)

    @pytest.mark.slow
    def test_with_a_noise_that_depends_on_x(self):
        first = regressor(likelihood="heteroscedastic").fit(X, Y)
        found = regressor(likelihood="heteroscedastic", loc=first).fit(self.OTHER, 5 * Y - 3)
        mean, log_sd = outputs_at_the_center(found, X.to_numpy()).T
        units = found.standardization_
        expected, sd = first.predict(X, return_std=True)
        np.testing.assert_allclose(units.locations(mean), expected, rtol=1e-10)
        np.testing.assert_allclose(units.distances(np.exp(log_sd)), sd, rtol=1e-10)

    def test_of_classes(self):
        found = classifier(loc=fitted_classes()).fit(self.OTHER, LABELS)
        probability = probability_at_the_center(found, X.to_numpy())
        np.testing.assert_allclose(probability, fitted_classes().predict_proba(X)[:, 1], rtol=1e-9)

    def test_and_a_perceptron_of_classes(self):
        theirs = MLPClassifier((3,), activation="tanh", max_iter=20, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.fit(X, LABELS)
        found = classifier(loc=theirs).fit(X, LABELS)
        expected = theirs.predict_proba(X)[:, 1]
        ours = probability_at_the_center(found, X.to_numpy())
        np.testing.assert_allclose(ours, expected, rtol=1e-9)

    def test_of_other_classes_is_refused(self):
        with pytest.raises(ValueError, match="loc: expected a network for classes 'no', 'yes'"):
            classifier(loc=fitted_classes()).fit(X, np.where(Y > 200, "yes", "no"))

    def test_numbers_are_those_of_the_functions(self):
        found = regressor(loc={"weight": 0.5, "bias": 0.0}).fit(X, Y)
        assert np.all(found.prior_.loc["hidden_0.weight"] == 0.5)


class TestSelection:
    SCALES = (0.7, 1.0, 2.0)

    @pytest.mark.parametrize("select", ["cv", "one_se", "evidence"])
    def test_the_chosen_scale_is_fitted(self, select):
        found = regressor(scale=self.SCALES, select=select).fit(X, Y)
        assert found.scale_ == found.selection_["chosen"].item()
        assert found.selection_["prior"].to_numpy().tolist() == list(self.SCALES)
        alone = regressor(scale=found.scale_).fit(X, Y)
        np.testing.assert_array_equal(found.predict(NEW), alone.predict(NEW))
        assert not hasattr(alone, "selection_")

    @pytest.mark.slow
    def test_folds_are_those_of_cross_validate(self):
        counts = np.where(np.arange(30) == 3, 0.0, 1.0 + (np.arange(30) % 2))
        found = regressor(scale=self.SCALES, fit_options=EXACT).fit(X, Y, sample_weight=counts)
        rows = np.flatnonzero(counts)
        seed = int(np.random.RandomState(0).randint(2**31 - 1))
        fold = np.empty(29, int)
        fold[np.random.default_rng(seed).permutation(29)] = np.arange(29) % 5
        units, bnn = found.standardization_, found.bnn_
        priors = {
            s: wp.normal_prior(bnn, 0.0, {n: s * v for n, v in wp.fan_in_scale(bnn).items()})
            for s in self.SCALES
        }
        expected = wp.cross_validate(
            bnn,
            units.inputs(X.to_numpy())[rows],
            units.targets(Y)[rows],
            prior=wp.stack_priors(priors),
            fit=partial(wp.fit_map, **EXACT, rng_key=seed),
            folds=fold,
            row_weights=counts[rows],
        )
        shift = counts.sum() * np.log(units.y_scale[0])
        np.testing.assert_allclose(found.selection_["elpd"], expected["elpd"] - shift, rtol=1e-6)
        for name in ("elpd_diff", "elpd_diff_se", "elpd_se", "best", "one_se"):
            np.testing.assert_allclose(found.selection_[name], expected[name], rtol=1e-5, atol=1e-6)

    def test_one_row_is_none_to_choose_by(self):
        with pytest.raises(ValueError, match="scale: expected at least two rows"):
            regressor(scale=None).fit(X[:1], Y[:1])


class TestPadding:
    def test_sizes_are_few_and_at_most_two_thirds_more(self):
        sizes = [size_for(number) for number in range(1, 100_000)]
        assert all(size >= number for number, size in enumerate(sizes, start=1))
        assert len({*sizes}) == 6 + 2 * 8
        assert {*sizes} >= {16, 512, 768, 1024, 1536, 98304}
        assert size_for(16) == 16
        assert size_for(17) == 32

    def test_rows_that_were_added_do_not_count(self):
        data = Padded.of(np.arange(17.0)[:, None], np.arange(17.0), np.full(17, 2.0))
        assert data.x.shape == (32, 1)
        assert data.row_weights.sum() == 34
        np.testing.assert_array_equal(padded(np.arange(3))[3:], 2)

    def test_new_numbers_of_rows_compile_nothing(self):
        fitted().predict(NEW)
        before = _programs._compile_once.cache_info().misses
        grid = GridSearchCV(regressor(), {"scale": [0.7, 1.0]}, cv=4)
        grid.fit(X, Y)  # 22 and 23 rows of 30
        assert _programs._compile_once.cache_info().misses == before
        assert np.isfinite(grid.best_score_)


class TestPipelines:
    def test_text_and_gaps_go_in_and_intervals_come_out(self):
        frame = X.assign(sex=np.where(np.arange(30) % 2, "f", "m"))
        frame.loc[frame.index[3], "age"] = np.nan
        prepared = make_column_transformer(
            (SimpleImputer(), ["age", "dose"]),
            (OneHotEncoder(sparse_output=False), ["sex"]),
            verbose_feature_names_out=False,
        ).set_output(transform="pandas")
        model = make_pipeline(prepared, regressor()).fit(frame, Y)
        names = ["age", "dose", "sex_f", "sex_m"]
        assert model[-1].feature_names_in_.tolist() == names
        assert model[-1].fit_["posterior"]["feature"].to_numpy().tolist() == names
        assert model[-1].fit_["observed_data"]["obs_id"].to_numpy().tolist() == X.index.tolist()
        interval = model[-1].predict_interval(model[:-1].transform(frame))
        assert np.all(interval[:, 0] < model.predict(frame))
        assert np.isfinite(log_density_scorer(model, frame, Y))
        assert np.all(np.isfinite(cross_val_score(model, frame, Y, scoring=log_density_scorer)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "fit_map"}, ValueError, "method: expected one of 'map'"),
        ({"select": "loo", "scale": None}, ValueError, "select: expected one of 'cv'"),
        ({"scale": 0.0}, ValueError, "scale: expected a number above 0"),
        ({"scale": []}, ValueError, "scale: expected a number, or several"),
        ({"scale": [1.0, 1.0]}, ValueError, "scale: expected every scale once"),
        ({"scale": "large"}, TypeError, "scale: expected a number"),
        ({"fit_options": {"prior": 1}}, ValueError, "fit_options: .*given by loc and scale"),
        ({"fit_options": {"restarts": 1}}, TypeError, "Did you mean 'num_restarts'"),
        ({"activation": "logistic"}, ValueError, "activation: expected one of"),
    ],
)
def test_wrong_parameters_are_named(options, error, message):
    with pytest.raises(error, match=message):
        regressor(**options).fit(X, Y)


def test_a_single_class_is_none():
    with pytest.raises(ValueError, match="y: expected at least two classes; got one class"):
        classifier().fit(X, np.full(30, "low"))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: fitted().predict_quantiles(NEW, 95), "q: expected a number above 0 and below 1"),
        (lambda: fitted().predict_interval(NEW, 90), "level: expected a number above 0 and below"),
        (lambda: fitted().sample_y(NEW, 0), "n_samples: expected at least 1"),
        (
            lambda: regressor().fit(X, Y, sample_weight=-np.ones(30)),
            "sample_weight: expected numbers of at least 0; got -1",
        ),
    ],
)
def test_wrong_arguments_are_named(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
