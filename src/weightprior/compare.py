"""One table for several fits: what each claims, what it delivers, and how far to trust it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from weightprior._options import names_its_options
from weightprior.diagnostics.effective_parameters import gamma
from weightprior.evaluation.score import log_mean, score_parts, weight_norms
from weightprior.evidence.log_evidence import evidence_of
from weightprior.fits.convergence import assess, watched_inputs
from weightprior.fits.leave_one_out import leave_one_out
from weightprior.fits.reading import Part, check_cross_validation, parts_of, targets_of
from weightprior.model.bnn import BNN

__all__ = ["compare"]

# Outputs are watched at this many inputs, spread over the training rows.
_NUM_INPUTS = 50
# Beyond so many weights their matrix would take longer than all else in the table.
_MAX_WEIGHTS_COUNTED = 1000
# In the order in which they are read.
_COLUMNS = (
    *("method", "loc", "scale", "lpd_train", "lpd_test", "lpd_test_se", "gap", "rmse", "accuracy"),
    *("elpd_loo", "elpd_loo_se", "max_pareto_k", "loo_reliable", "elpd_cv", "elpd_cv_se"),
    *("converged", "rhat", "ess", "divergences"),
    *("evidence", "evidence_se", "bits", "parameters"),
    *("norm", "distance", "seconds", "note"),
)


@names_its_options
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

        - `method`; `loc` and `scale` of the prior on weights and biases;
        - `lpd_train`: log predictive density of the rows that were fitted; with held-out rows
          `lpd_test`, `lpd_test_se` (standard error over rows), `gap` (train minus test), and `rmse`
          or `accuracy` (for several outputs their mean);
        - `elpd_loo`, `elpd_loo_se` by PSIS, and `max_pareto_k`, the largest Pareto k;
          `loo_reliable` is False where that is above 0.7, with less than 2,200 draws above
          1 - 1 / log10(draws);
        - where there is a cross-validation `elpd_cv` and `elpd_cv_se`, log predictive density of
          rows that were held out in turn; its `lpd_train`, `norm` and `distance` are means over the
          folds, and its `gap` and `rmse` or `accuracy` are those of the rows held out;
        - `converged`: False where chains or a search have not, so that no score is to be relied on;
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
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fits = {
    ...     f"sd {s}": wp.fit_map(bnn, x, x[:, 0], prior=wp.normal_prior(bnn, scale=s))
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
        for part in parts_of(bnn, fit):
            own = name if part.label is None else f"{name}[{part.label}]"
            rows[own] = _row(bnn, part, x, y)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table = table[[name for name in _COLUMNS if name in table]]
    table.index.name = "fit"
    # Whole numbers and truths, of which some may be missing.
    truths = {name: "boolean" for name in ("converged", "loo_reliable") if name in table}
    return table.astype({"divergences": "Int64", **truths})


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
    whole = bool(found["converged"].all()) if "converged" in found else True
    cv = float(found["elpd"]) / num_rows
    point = "rmse" if "rmse" in found else "accuracy"
    notes = [f"{found.attrs['num_folds']}-fold cross-validation"]
    if not whole:
        late, folds = int((~found["converged"]).sum()), found.sizes["fold"]
        notes.append(f"{late} of {folds} fits not converged")
    row = {
        "method": found.attrs["fit"],
        **_prior_in_words(bnn, found),
        "lpd_train": train,
        "gap": train - cv,
        point: float(found[point].mean()),
        "elpd_cv": cv,
        "elpd_cv_se": float(found["elpd_se"]) / num_rows,
        "converged": whole,
        "rhat": np.nan,
        "ess": np.nan,
        "divergences": int(found["divergences"].sum()) if "divergences" in found else pd.NA,
        "parameters": float(found["effective_parameters"]),
        "norm": float(found["norm"]),
        "distance": float(found["distance"]),
        "seconds": found.attrs["seconds"],
    }
    return {**row, "note": "; ".join(notes)}


def _row(bnn: BNN, part: Part, x: Any, y: Any) -> dict[str, Any]:
    notes: list[str] = []
    fit, train = part.fit, np.nan
    if "log_likelihood" in fit.children:
        train = log_mean(fit["log_likelihood"]["y"].to_numpy()).mean()
    else:
        notes.append("no train, gap or LOO: fitted with log_likelihood=False")
    constants = fit["constant_data"].dataset
    row = {"method": fit.attrs["method"], **_prior_in_words(bnn, constants), "lpd_train": train}
    if x is not None:
        [scores], _ = score_parts(bnn, [part], x, y)
        row |= _held_out(scores, train, notes)
    row |= _loo(part, notes) | _sampling(part, notes) | _evidence(fit, notes)
    if sum(w[0, 0].size for w in part.weights.values()) <= _MAX_WEIGHTS_COUNTED:
        data = constants["x"].to_numpy(), targets_of(fit)
        found = gamma(part.model, part.weights, *data, part.prior, part.row_weights)
        row["parameters"] = float(found["gamma"])
    else:
        notes.append(f"parameters not counted: more than {_MAX_WEIGHTS_COUNTED:,} weights")
    row |= weight_norms(bnn, part.weights, part.prior)
    return {**row, "seconds": fit.attrs["seconds"], "note": "; ".join(notes)}


def _held_out(scores: dict[str, Any], train: float, notes: list[str]) -> dict[str, float]:
    num_rows = len(scores["elpd_i"])
    if num_rows == 1:
        notes.append("no lpd_test_se: a single held-out row")
    test = float(scores["elpd"]) / num_rows
    point = "rmse" if "rmse" in scores else "accuracy"
    return {
        "lpd_test": test,
        "lpd_test_se": float(scores["elpd_se"]) / num_rows,
        "gap": train - test,
        point: float(np.mean(scores[point])),
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
        return {"loc": "none", "scale": "flat"}
    center = f"{loc[0]:g}" if np.ptp(loc) == 0 else f"norm {np.linalg.norm(loc):.3g}"
    low, high = proper.min(), proper.max()
    width = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    return {"loc": center, "scale": width + (", part flat" if proper.size < scale.size else "")}


def _loo(part: Part, notes: list[str]) -> dict[str, Any]:
    """PSIS-LOO, where there are draws to reweight."""
    loo, reason = leave_one_out(part.fit)
    if loo is None:
        # That there is no log likelihood, and no R-hat of a MAP, is said once.
        if _is_point(part):
            notes.append(f"no LOO, R-hat or ESS: {reason}")
        elif "log_likelihood" in part.fit.children:
            notes.append(f"no LOO: {reason}")
        blank = dict.fromkeys(("elpd_loo", "elpd_loo_se", "max_pareto_k"), np.nan)
        return blank | {"loo_reliable": pd.NA}
    num_rows = len(part.row_weights)
    worst, limit = float(np.max(loo.pareto_k)), loo.good_k
    reliable = worst <= limit
    if not reliable:
        bad = int(np.sum(~(np.asarray(loo.pareto_k) <= limit)))
        notes.append(f"LOO unreliable at {bad} of {num_rows} rows (k > {limit:.2g})")
    return {
        "elpd_loo": loo.elpd / num_rows,
        "elpd_loo_se": loo.se / num_rows,
        "max_pareto_k": worst,
        "loo_reliable": reliable,
    }


def _is_point(part: Part) -> bool:
    return part.weights.num_chains * part.weights.num_draws == 1


def _evidence(fit: xr.DataTree, notes: list[str]) -> dict[str, float]:
    """The evidence, where the method estimates it."""
    if "evidence" not in fit.children:
        return {}
    found = evidence_of(fit)
    if not found["reliable"]:
        notes.append(f"evidence unreliable: {found['reason'].item()}")
    value, error = float(found["log_evidence"]), float(found["error"])
    return {"evidence": value, "evidence_se": error, "bits": -value / np.log(2)}


def _sampling(part: Part, notes: list[str]) -> dict[str, Any]:
    """Convergence of the outputs, and divergences; what is the matter goes to the notes."""
    stats, arrived = part.stats, True
    if "converged" in stats and not stats["converged"].all():
        arrived = False
        late, members = int((~stats["converged"]).sum()), stats["converged"].size
        which = f"{late} of {members} members " if members > 1 else ""
        worst = float(stats["gradient_norm"].max())
        notes.append(f"{which}not converged (gradient {worst:.1g})")
    if _is_point(part):
        blank = {"rhat": np.nan, "ess": np.nan, "divergences": pd.NA}
        return {"converged": arrived, **blank}
    judged = assess(part, watched_inputs(part.fit, _NUM_INPUTS))
    notes.extend(judged.findings)
    divergences = judged.numbers.get("divergences")
    return {
        "converged": arrived and not judged.doubtful,
        "rhat": float(judged.numbers["rhat"].max()),
        "ess": float(judged.numbers["ess_bulk"].min()),
        "divergences": pd.NA if divergences is None else int(divergences.sum()),
    }
