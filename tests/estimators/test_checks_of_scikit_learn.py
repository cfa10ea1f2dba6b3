"""Scikit-learn's own checks of estimators, none of which is expected to fail."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from weightprior.sklearn import BayesianMLPClassifier, BayesianMLPRegressor

# One scale, so strong that there is one optimum, which rows of weight 2 and rows twice share; and
# down to where predictions agree to the checks' 1e-7. That little rows say little is no error.
_OPTIONS = {"scale": 0.3, "random_state": 0, "fit_options": {"tolerance": 1e-10}}
ESTIMATORS = (BayesianMLPRegressor((4,), **_OPTIONS), BayesianMLPClassifier((4,), **_OPTIONS))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda estimator: {})
def test_check(estimator, check):
    check(estimator)
