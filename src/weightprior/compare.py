"""One table for several fits: what each claims, what it delivers, and whether to trust it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from weightprior.diagnostics.effective_parameters import gamma
from weightprior.draws import (
    check_cross_validation,
    check_fit,
    draws_of,
    lengths,
    priors_of,
    row_weights_of,
)
from weightprior.evidence import log_evidence
from weightprior.leave_one_out import leave_one_out
from weightprior.mixing import judge, watched_inputs
from weightprior.model import BNN
from weightprior.results import split
from weightprior.score import log_mean, score

__all__ = ["compare"]

# Outputs are watched at this many inputs, spread over the training rows.
_NUM_INPUTS = 50
# Beyond so many weights their matrix would take longer than all else in the table.
_MOST_WEIGHTS = 1000
# In the order in which they are read.
_COLUMNS = (
    *("method", "center", "scale", "train", "test", "test_se", "gap", "rmse", "accuracy"),
    *("loo", "loo_se", "worst_k", "cv", "cv_se", "rhat", "ess", "divergences"),
    *("evidence", "evidence_se", "bits", "parameters"),
    *("norm", "distance", "seconds", "note"),
)


def compare(
    bnn: BNN, fits: Mapping[Any, xr.DataTree | xr.Dataset], x: Any = None, y: Any = None
) -> pd.DataFrame:
    """Put fits side by side, a row each.

    Parameters
    ----------
    bnn : BNN
        The model of all fits.
    fits : mapping of name to DataTree or Dataset
        Fits, and what `cross_validate` returns. One of a stacked prior takes a row per prior, named
        ``name[label]``.
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
        - where there is a cross-validation `cv` and `cv_se`, log predictive density of rows that
          were held out in turn; its `train`, `norm` and `distance` are means over the folds, and
          its `gap` and `rmse` or `accuracy` are those of the rows held out;
        - `rhat` (largest) and `ess` (smallest bulk ESS) of the network's outputs at up to 50 of
          the training inputs; `divergences`;
        - where a fit estimates it, the log `evidence` of all rows in nats (not per row), with
          `evidence_se`, and the length of their code in `bits`;
        - `parameters`: how many the data determine, of all weights and biases (MacKay's gamma);
        - `norm` of the weights and biases and their `distance` from the prior's centre (Euclidean,
          mean over draws; a flat prior has no centre); `seconds`, of the whole fit;
        - `note`: why a cell is blank, or what to beware of; of chains that have not converged
          `diagnostics.convergence` says what to do.

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
        if isinstance(fit, xr.Dataset):
            rows |= _rows_of_cross_validation(bnn, name, fit)
            continue
        check_fit(bnn, fit)
        for label, part in split(fit).items():
            stacked = "prior" in fit["posterior"].dims
            rows[f"{name}[{label}]" if stacked else name] = _row(bnn, part, x, y)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table = table[[name for name in _COLUMNS if name in table]]
    table.index.name = "fit"
    return table.astype({"divergences": "Int64"})  # whole numbers, of which some may be missing


def _rows_of_cross_validation(bnn: BNN, name: Any, found: xr.Dataset) -> dict[Any, dict]:
    check_cross_validation(bnn, found)
    if "prior" not in found.dims:
        return {name: _row_of_cross_validation(bnn, found)}
    labels = found["prior"].to_numpy().tolist()
    return {
        f"{name}[{label}]": _row_of_cross_validation(bnn, found.isel(prior=i))
        for i, label in enumerate(labels)
    }


def _row_of_cross_validation(bnn: BNN, found: xr.Dataset) -> dict[str, Any]:
    num_rows, train = found.sizes["obs_id"], float(found["train"])
    cv = float(found["elpd"]) / num_rows
    point = "rmse" if "rmse" in found else "accuracy"
    notes = [f"{found.attrs['num_folds']}-fold cross-validation"]
    if "converged" in found and not found["converged"].all():
        late, folds = int((~found["converged"]).sum()), found.sizes["fold"]
        notes.append(f"{late} of {folds} fits not converged")
    row = {
        "method": found.attrs["fit"],
        **_prior_in_words(bnn, found),
        "train": train,
        "gap": train - cv,
        point: float(found[point].mean()),
        "cv": cv,
        "cv_se": float(found["elpd_se"]) / num_rows,
        "rhat": np.nan,
        "ess": np.nan,
        "divergences": int(found["divergences"].sum()) if "divergences" in found else pd.NA,
        "parameters": float(found["effective_parameters"]),
        "norm": float(found["norm"]),
        "distance": float(found["distance"]),
        "seconds": found.attrs["seconds"],
    }
    return {**row, "note": "; ".join(notes)}


def _row(bnn: BNN, fit: xr.DataTree, x: Any, y: Any) -> dict[str, Any]:
    notes: list[str] = []
    train = np.nan
    if "log_likelihood" in fit.children:
        train = log_mean(fit["log_likelihood"]["y"].to_numpy()).mean()
    else:
        notes.append("no train, gap or LOO: fitted with log_likelihood=False")
    constants = fit["constant_data"].dataset
    row = {"method": fit.attrs["method"], **_prior_in_words(bnn, constants), "train": train}
    if x is not None:
        row |= _held_out(score(bnn, fit, x, y), train, notes)
    [weights], [prior] = draws_of(bnn, fit), priors_of(bnn, fit)
    row |= _loo(fit, notes) | _sampling(bnn, fit, notes) | _evidence(fit, notes)
    if sum(w[0, 0].size for w in weights.values()) <= _MOST_WEIGHTS:
        trained = constants["x"].to_numpy()
        [counts] = row_weights_of(fit, len(trained))
        row["parameters"] = float(gamma(bnn, weights, trained, prior, counts)["gamma"])
    else:
        notes.append(f"parameters not counted: more than {_MOST_WEIGHTS:,} weights")
    row |= lengths(bnn, weights, prior)
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


def _prior_in_words(bnn: BNN, constants: xr.Dataset) -> dict[str, str]:
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
    loo, reason = leave_one_out(fit)
    if loo is None:
        # That there is no log likelihood, and no R-hat of a MAP, is said once.
        if fit.attrs["method"] == "map":
            notes.append(f"no LOO, R-hat or ESS: {reason}")
        elif "log_likelihood" in fit.children:
            notes.append(f"no LOO: {reason}")
        return {"loo": np.nan, "loo_se": np.nan, "worst_k": np.nan}
    num_rows = fit["log_likelihood"].sizes["obs_id"]
    worst, limit = float(np.max(loo.pareto_k)), loo.good_k
    if worst > limit:
        bad = int(np.sum(np.asarray(loo.pareto_k) > limit))
        notes.append(f"LOO unreliable at {bad} of {num_rows} rows (k > {limit:.2g})")
    return {"loo": loo.elpd / num_rows, "loo_se": loo.se / num_rows, "worst_k": worst}


def _evidence(fit: xr.DataTree, notes: list[str]) -> dict[str, float]:
    """The evidence, where the method estimates it."""
    if fit.attrs["method"] not in ("tempered", "laplace", "vi"):
        return {}
    found = log_evidence(fit)
    if not found["reliable"]:
        notes.append(f"evidence unreliable: {found['reason'].item()}")
    value, error = float(found["log_evidence"]), float(found["error"])
    return {"evidence": value, "evidence_se": error, "bits": -value / np.log(2)}


def _sampling(bnn: BNN, fit: xr.DataTree, notes: list[str]) -> dict[str, Any]:
    """Convergence of the outputs, and divergences; what is the matter goes to the notes."""
    stats = fit["sample_stats"].dataset
    if "converged" in stats and not stats["converged"].all():
        late, members = int((~stats["converged"]).sum()), stats["converged"].size
        which = f"{late} of {members} members " if members > 1 else ""
        worst = float(stats["gradient_norm"].max())
        notes.append(f"{which}not converged (gradient {worst:.1g})")
    if fit.attrs["method"] == "map":
        return {"rhat": np.nan, "ess": np.nan, "divergences": pd.NA}
    [judged] = judge(bnn, fit, watched_inputs(fit, _NUM_INPUTS))
    notes.extend(judged.findings)
    divergences = judged.numbers.get("divergences")
    return {
        "rhat": float(judged.numbers["rhat"].max()),
        "ess": float(judged.numbers["ess_bulk"].min()),
        "divergences": pd.NA if divergences is None else int(divergences.sum()),
    }
