"""Table that describes a prior, site by site."""

from typing import Any

import numpy as np
import pandas as pd

from weightprior import _checks
from weightprior.model.bnn import BNN
from weightprior.model.priors.base import Prior

__all__ = ["prior_summary"]


def prior_summary(bnn: BNN, prior: Prior) -> pd.DataFrame:
    """Describe a prior with one row per site (and per label, if it is stacked).

    Parameters
    ----------
    bnn : BNN
        The model.
    prior : NormalPrior or HierarchicalPrior
        The prior of the model.

    Returns
    -------
    pandas.DataFrame
        Columns `shape`, `size`, `loc_mean`, `loc_norm` (Euclidean), `scale_min`, `scale_max` and
        `density` ("normal", "flat" or "part flat"), indexed by site, or by label and site.

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(3, hidden=(4,)), wp.Gaussian())
    >>> print(wp.prior_summary(bnn, wp.normal_prior(bnn))[["size", "loc_mean", "scale_max"]])
                     size  loc_mean  scale_max
    site
    hidden_0.weight    12       0.0        1.0
    hidden_0.bias       4       0.0        1.0
    output.weight       4       0.0        1.0
    output.bias         1       0.0        1.0
    log_noise           1      -1.0        1.0
    """
    _checks.model(bnn)
    _checks.prior(bnn, prior, learned=True)
    labels = (None,) if prior.labels is None else prior.labels
    table = pd.DataFrame(
        {"prior": label, "site": name, **_describe(part.loc[name], part.scale[name])}
        for label, part in zip(labels, prior.singles(), strict=True)
        for name in bnn.sites
    )
    if prior.labels is None:
        return table.drop(columns="prior").set_index("site")
    return table.set_index(["prior", "site"])


def _describe(loc: Any, scale: Any) -> dict[str, Any]:
    loc, scale = np.asarray(loc), np.asarray(scale)
    flat = np.isinf(scale)
    return {
        "shape": loc.shape,
        "size": loc.size,
        "loc_mean": loc.mean(),
        "loc_norm": np.linalg.norm(loc.ravel()),
        "scale_min": scale.min(),
        "scale_max": scale.max(),
        "density": "flat" if flat.all() else "part flat" if flat.any() else "normal",
    }
