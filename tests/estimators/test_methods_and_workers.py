"""Every fit function behind an estimator, and estimators in other processes and threads."""

import warnings

import numpy as np
import pytest
from joblib import parallel_backend
from sklearn.model_selection import GridSearchCV, cross_val_predict

import weightprior as wp
from assertions import assert_mean
from weightprior.sklearn import BayesianMLPClassifier, BayesianMLPRegressor

_rng = np.random.default_rng(0)
X = _rng.normal([40.0, -3.0], [9.0, 0.2], (30, 2))
Y = 200.0 + 30.0 * np.sin((X[:, 0] - 40) / 9) + _rng.normal(0.0, 8.0, 30)
OPTIONS = {
    "map": {},
    "mcmc": {"num_warmup": 300, "num_samples": 250},
    "laplace": {},
    "vi": {},
    "tempered": {"num_chains": 4, "num_temperatures": 8},
    "ensemble": {"num_members": 8},
}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("method", OPTIONS)
class TestMethods:
    def test_of_numbers(self, method):
        found = BayesianMLPRegressor(
            (3,), scale=1.0, method=method, random_state=0, fit_options=OPTIONS[method]
        ).fit(X, Y)
        mean, sd = found.predict(X, return_std=True)
        interval = found.predict_interval(X)
        assert found.score(X, Y) > 0.5
        assert np.all((interval[:, 0] < mean) & (mean < interval[:, 1]))
        assert 0.7 < np.mean((interval[:, 0] < Y) & (interval[:, 1] > Y)) <= 1
        noise = found.fit_["posterior"]["noise"].mean().item() * Y.std()
        assert np.all(sd >= 0.9 * noise)
        assert found.fit_["log_likelihood"].sizes["obs_id"] == 30

    def test_of_classes(self, method):
        labels = np.where(Y > 205, "high", "low")
        found = BayesianMLPClassifier(
            (3,), scale=1.0, method=method, random_state=0, fit_options=OPTIONS[method]
        ).fit(X, labels)
        assert found.score(X, labels) > 0.7
        np.testing.assert_allclose(found.predict_proba(X).sum(axis=1), 1.0)


class TestChainsOfWeightedRows:
    def test_agree_in_law_with_rows_repeated(self):
        counts = np.arange(30) % 3
        options = {"num_warmup": 500, "num_samples": 1000}
        model = BayesianMLPRegressor((3,), scale=0.7, method="mcmc", fit_options=options)
        weighted = model.set_params(random_state=1).fit(X, Y, sample_weight=counts)
        draws = self.predictions(weighted)
        rows = np.repeat(np.arange(30), counts)
        repeated = model.set_params(random_state=2).fit(X[rows], Y[rows])
        expected = self.predictions(repeated)
        se = expected.std(axis=(0, 1)) / np.sqrt(400)  # of at least so many effective draws
        assert_mean(draws, expected.mean(axis=(0, 1)), reference_mcse=se)

    @staticmethod
    def predictions(model):
        """Predictions of the same rows, draw by draw."""
        units = model.standardization_
        drawn = wp.predict(model.bnn_, model.fit_, units.inputs(X))["mean"].to_numpy()
        return units.locations(drawn)


class TestWorkers:
    GRID = {"scale": [0.5, 1.0]}  # noqa: RUF012

    @pytest.mark.parametrize("backend", ["loky", "threading"])
    def test_give_what_one_process_gives(self, backend):
        model = BayesianMLPRegressor((3,), random_state=0, fit_options={"num_restarts": 2})
        alone = GridSearchCV(model, self.GRID, cv=3).fit(X, Y)
        with parallel_backend(backend, n_jobs=2), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            together = GridSearchCV(model, self.GRID, cv=3, n_jobs=2).fit(X, Y)
        np.testing.assert_allclose(
            together.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
        )

    def test_take_what_was_fitted(self):
        # A fitted centre has used JAX before it is pickled.
        first = BayesianMLPRegressor((3,), scale=1.0, random_state=0).fit(X, Y)
        model = BayesianMLPRegressor((3,), loc=first, scale=0.5, random_state=0)
        found = cross_val_predict(model, X, Y, cv=3, n_jobs=2)
        np.testing.assert_allclose(found, cross_val_predict(model, X, Y, cv=3))
