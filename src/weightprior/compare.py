"""One table for several fits: what each claims, what it delivers, and whether to trust it."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.loo import loo as psis_loo

from weightprior.diagnostics.convergence import convergence
from weightprior.draws import check_fit
from weightprior.model import BNN
from weightprior.results import split
from weightprior.score import log_mean, score

__all__ = ["compare"]

# Outputs are watched at this many inputs, spread over the training rows.
_NUM_INPUTS = 50


def compare(
    bnn: BNN, fits: Mapping[Any, xr.DataTree], x: Any = None, y: Any = None
) -> pd.DataFrame:
    """Put fits side by side, a row each.

    Parameters
    ----------
    bnn : BNN
        The model of all fits.
    fits : mapping of name to DataTree
        A fit of a stacked prior takes a row per prior, named ``name[label]``.
    x : array or data frame of shape (rows, features), optional
        Held-out inputs.
    y : array, optional
        Held-out targets.

    Returns
    -------
    pandas.DataFrame
        Log densities are in nats per row. Indexed by name, with the columns

        - `method`; `center` and `scale` of the prior on weights and biases;
        - `train`: log predictive density of the rows that were fitted; with held-out rows `test`,
          `test_se` (standard error over rows), `gap` (train minus test), and `rmse` or `accuracy`
          (for several outputs their mean);
        - `loo`, `loo_se` by PSIS, and `worst_k`, the largest Pareto k (above 0.7, with less than
          2,200 draws above 1 - 1 / log10(draws), the estimate is not to be trusted);
        - `rhat` (largest) and `ess` (smallest bulk ESS) of the network's outputs at up to 50 of
          the training inputs; `divergences`;
        - `norm` of the weights and biases and their `distance` from the prior's centre (Euclidean,
          mean over draws; a flat prior has no centre); `seconds`, of the whole fit;
        - `note`: why a cell is blank, or what to beware of.

    Raises
    ------
    ValueError, TypeError
        Where a fit is another model's, or only one of `x` and `y` is given.

    References
    ----------
    A. Vehtari, A. Gelman and J. Gabry, Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC, 2017. :doi:`10.1007/s11222-016-9696-4`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x, y = np.arange(10.0)[:, None], np.arange(10.0)
    >>> fits = {
    ...     f"sd {s}": wp.fit_map(bnn, x, y, prior=wp.normal_prior(bnn, scale=s))
    ...     for s in (0.01, 1.0)
    ... }
    >>> table = wp.compare(bnn, fits)
    >>> table["norm"].round(1).tolist()
    [0.0, 1.0]
    """
    # A fit is a mapping itself.
    if isinstance(fits, xr.DataTree) or not isinstance(fits, Mapping) or not fits:
        raise TypeError(
            f"fits: expected a dict of name to fit, not empty; got {type(fits).__name__}. "
            'Name every fit: {"map": fit}.'
        )
    if (x is None) != (y is None):
        given, absent = ("y", "x") if x is None else ("x", "y")
        raise ValueError(f"{absent}: expected held-out data together with {given}; got None.")
    rows = {}
    for name, fit in fits.items():
        check_fit(bnn, fit)
        for label, part in split(fit).items():
            stacked = "prior" in fit["posterior"].dims
            rows[f"{name}[{label}]" if stacked else name] = _row(bnn, part, x, y)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "fit"
    return table.astype({"divergences": "Int64"})  # whole numbers, of which some may be missing


def _row(bnn: BNN, fit: xr.DataTree, x: Any, y: Any) -> dict[str, Any]:
    train = log_mean(fit["log_likelihood"]["y"].to_numpy()).mean()
    row = {"method": fit.attrs["method"], **_prior_in_words(bnn, fit), "train": train}
    notes: list[str] = []
    if x is not None:
        row |= _held_out(score(bnn, fit, x, y), train, notes)
    row |= _loo(fit, notes) | _sampling(bnn, fit, notes) | _size(bnn, fit)
    return {**row, "seconds": fit.attrs["seconds"], "note": "; ".join(notes)}


def _held_out(scores: xr.Dataset, train: float, notes: list[str]) -> dict[str, float]:
    num_rows = scores.sizes["obs_id"]
    if num_rows == 1:
        notes.append("no test_se: a single held-out row")
    test = float(scores["elpd"]) / num_rows
    point = "rmse" if "rmse" in scores else "accuracy"
    return {
        "test": test,
        "test_se": float(scores["elpd_se"]) / num_rows,
        "gap": train - test,
        point: float(scores[point].mean()),
    }


def _prior_in_words(bnn: BNN, fit: xr.DataTree) -> dict[str, str]:
    constants = fit["constant_data"].dataset
    loc, scale = (
        np.concatenate(
            [constants[f"prior_{part}.{name}"].to_numpy().ravel() for name in bnn.network.sites]
        )
        for part in ("loc", "scale")
    )
    # A flat prior has no centre, whatever number stands there.
    loc, proper = loc[np.isfinite(scale)], scale[np.isfinite(scale)]
    if proper.size == 0:
        return {"center": "none", "scale": "flat"}
    center = f"{loc[0]:g}" if np.ptp(loc) == 0 else f"norm {np.linalg.norm(loc):.3g}"
    low, high = proper.min(), proper.max()
    width = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    return {"center": center, "scale": width + (", part flat" if proper.size < scale.size else "")}


def _loo(fit: xr.DataTree, notes: list[str]) -> dict[str, float]:
    """PSIS-LOO, where there are draws to reweight."""
    blank = {"loo": np.nan, "loo_se": np.nan, "worst_k": np.nan}
    if fit.attrs["method"] == "map":
        notes.append("no LOO, R-hat or ESS: a MAP is one point, without draws")
        return blank
    if fit["log_likelihood"].sizes["chain"] * fit["log_likelihood"].sizes["draw"] < 100:
        notes.append("no LOO: fewer than 100 draws")
        return blank
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what ArviZ would warn of is the column worst_k
        loo: Any = psis_loo(fit, pointwise=True)
    num_rows = fit["log_likelihood"].sizes["obs_id"]
    worst, limit = float(np.max(loo.pareto_k)), loo.good_k
    if worst > limit:
        bad = int(np.sum(np.asarray(loo.pareto_k) > limit))
        notes.append(f"LOO unreliable at {bad} of {num_rows} rows (k > {limit:.2g})")
    return {"loo": loo.elpd / num_rows, "loo_se": loo.se / num_rows, "worst_k": worst}


def _sampling(bnn: BNN, fit: xr.DataTree, notes: list[str]) -> dict[str, Any]:
    """Convergence of the outputs, and divergences."""
    stats = fit["sample_stats"].dataset
    if fit.attrs["method"] == "map":
        if not bool(stats["converged"].all()):
            notes.append(f"not converged (gradient {float(stats['gradient_norm'].max()):.1g})")
        return {"rhat": np.nan, "ess": np.nan, "divergences": pd.NA}
    x = fit["constant_data"]["x"].to_numpy()
    chosen = np.unique(np.linspace(0, len(x) - 1, _NUM_INPUTS).round().astype(int))
    found = convergence(bnn, fit, x[chosen])
    divergences = int(stats["diverging"].sum())
    rhat, ess = float(found["rhat"].max()), float(found["ess_bulk"].min())
    if not rhat <= 1.01:
        notes.append("chains disagree: draw more" if rhat > 1.01 else "R-hat needs two chains")
    if divergences:
        notes.append("diverging transitions")
    return {"rhat": rhat, "ess": ess, "divergences": divergences}


def _size(bnn: BNN, fit: xr.DataTree) -> dict[str, float]:
    """Mean length of the weights, from zero and from the prior's centre."""
    posterior, constants = fit["posterior"].dataset, fit["constant_data"].dataset
    from_zero: Any = 0.0
    from_center: Any = 0.0
    any_center = False
    for name, site in bnn.network.sites.items():
        weights: Any = posterior[name]
        proper = np.isfinite(constants[f"prior_scale.{name}"])  # a flat prior has no centre
        apart = (weights - constants[f"prior_loc.{name}"]).where(proper, 0.0)
        from_zero = from_zero + (weights**2).sum(site.dims)
        from_center = from_center + (apart**2).sum(site.dims)
        any_center |= bool(proper.any())
    distance = _mean_root(from_center) if any_center else np.nan
    return {"norm": _mean_root(from_zero), "distance": distance}


def _mean_root(squares: Any) -> float:
    return float(np.sqrt(squares).mean())
