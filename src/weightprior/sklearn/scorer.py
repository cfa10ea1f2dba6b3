"""Score for probabilistic predictions."""

from typing import Any

import numpy as np

__all__ = ["log_density_scorer"]


def log_density_scorer(estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    """Score an estimator of this package by its mean log predictive density.

    R2 and accuracy depend on the mean alone, and so prefer other scales. Use this as ``scoring=``
    in ``GridSearchCV`` and ``cross_val_score``. Larger is better.

    Parameters
    ----------
    estimator : BayesianMLPRegressor or BayesianMLPClassifier
        A fitted estimator, or a pipeline or grid search with one.
    X : array or data frame of shape (rows, features)
        Held-out inputs.
    y : array of shape (rows,) or (rows, targets)
        Their targets.
    sample_weight : array of shape (rows,), optional
        Number of times each row counts.

    Returns
    -------
    float
        In nats per row, in units of y.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from weightprior.sklearn import BayesianMLPRegressor, log_density_scorer
    >>> X = np.linspace(-1, 1, 30)[:, None]
    >>> y = X[:, 0] + 0.1 * np.random.default_rng(0).normal(size=30)
    >>> model = BayesianMLPRegressor((), scale=1.0, random_state=0)
    >>> scores = cross_val_score(model, X, y, scoring=log_density_scorer, cv=3)
    >>> bool(np.all(scores > 0))
    True
    """
    estimator = getattr(estimator, "best_estimator_", estimator)
    if hasattr(estimator, "steps"):
        # A pipeline of one step has nothing to transform with.
        X = estimator[:-1].transform(X) if len(estimator) > 1 else X
        estimator = estimator[-1]
    return float(np.average(estimator.log_density(X, y), weights=sample_weight))
