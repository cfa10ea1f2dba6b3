"""The first claim, which is exact: a penalty on squared weights is a prior around zero."""

import numpy as np
import pandas as pd
from experiments import REAL, optima, standardised
from sklearn.linear_model import LogisticRegression, Ridge

import weightprior as wp

STRENGTHS = (0.1, 1.0, 10.0)


def table() -> pd.DataFrame:
    """Largest difference from scikit-learn's weights, as a share of the largest weight."""
    found = {
        (name, strength): of_data(load(), strength)
        for name, load in REAL.items()
        for strength in STRENGTHS
    }
    wide = pd.Series(found).unstack()
    wide.columns = [f"penalty {strength:g}" for strength in wide.columns]
    return wide.loc[list(REAL)]


def of_data(data, penalty: float) -> float:
    """One penalty, by scikit-learn and as the MAP of the prior that it is."""
    [data] = standardised(data)
    if data.num_classes:
        outputs = data.num_classes if data.num_classes > 2 else 1
        likelihood = wp.Categorical(outputs) if outputs > 1 else wp.Bernoulli()
        theirs = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(data.x, data.y)
        strength, convention = 1 / penalty, "logistic_C"
    else:
        outputs, likelihood = 1, wp.Gaussian(noise=1.0)
        theirs = Ridge(alpha=penalty, solver="svd").fit(data.x, data.y)
        strength, convention = penalty, "ridge"
    bnn = wp.BNN(wp.mlp(data.x.columns, hidden=(), num_outputs=outputs), likelihood)
    prior = wp.prior_from_l2(bnn, strength, convention=convention)
    fit = optima(bnn, data.x, data.y, prior=prior, tolerance=1e-9)
    ours = fit["posterior"]["output.weight"].to_numpy()[0, 0]
    expected = np.atleast_2d(theirs.coef_).T
    return float(np.abs(ours - expected).max() / np.abs(expected).max())
