"""Table of several fits: their priors, their scores, and their reliability."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from weightprior import _checks, _data
from weightprior._checks.options import names_its_options
from weightprior._running.progress import shows_progress
from weightprior.comparison._cells import (
    Line,
    add_note,
    errors,
    held_out,
    is_point,
    lines_of_cross_validation,
    of_loo,
    prior_in_words,
    train,
)
from weightprior.comparison._ends import note_open_ends
from weightprior.diagnostics.configurational_temperature import reason_against, temperature_of
from weightprior.diagnostics.effective_parameters import gamma
from weightprior.evaluation.score import Held, weight_norms
from weightprior.evidence.log_evidence import evidence_of
from weightprior.fits.convergence import assess, watched_inputs
from weightprior.fits.inputs import holds_inputs, new_rows
from weightprior.fits.pointwise import is_known, log_predictive_densities, loo_of
from weightprior.fits.reading import Part, parts_of, targets_of
from weightprior.model.bnn import BNN

__all__ = ["compare"]

# R-hat and ESS are those of outputs at this many inputs, spread over the training rows.
_NUM_INPUTS = 50
# With more weights, their matrix would take longer than the rest of the table.
_MAX_WEIGHTS_COUNTED = 1000
# Columns in the order of the table.
_COLUMNS = (
    *("method", "loc", "scale", "lpd_train", "lpd_test", "lpd_test_se"),
    *("test_diff", "test_diff_se", "gap", "rmse", "accuracy"),
    *("elpd_loo", "elpd_loo_se", "max_pareto_k", "loo_reliable", "elpd_cv", "elpd_cv_se"),
    *("converged", "rhat", "ess", "divergences", "temperature", "temperature_se"),
    *("evidence", "evidence_se", "bits", "parameters"),
    *("norm", "distance", "seconds", "note"),
)


@names_its_options
@shows_progress
def compare(
    bnn: BNN,
    fits: Mapping[Any, xr.DataTree | xr.Dataset],
    x: Any = None,
    y: Any = None,
    *,
    baseline: Any = None,
) -> pd.DataFrame:
    """Compare fits in one table, with one row per fit.

    Parameters
    ----------
    bnn : BNN
        The model of all fits.
    fits : mapping of name to DataTree or Dataset
        Fits, and results of `cross_validate`. One of a stacked prior has a row per prior, named
        ``name[label]``.
    x : array or data frame of shape (rows, features), optional
        Held-out inputs.
    y : array, optional
        Held-out targets.
    baseline : object, optional
        Name of the row of the table to compare all others with, on the held-out rows.

    Returns
    -------
    pandas.DataFrame
        Log densities are in nats per row. Indexed by name, with the columns

        - `method`; `loc` and `scale` of the prior on weights and biases;
        - `lpd_train`: log predictive density of the rows that were fitted; with held-out rows
          `lpd_test`, `lpd_test_se` (standard error over rows), `gap` (train minus test), and `rmse`
          or `accuracy` (for several outputs their mean, and each as ``rmse[output]``); with a
          `baseline`, `test_diff`, lpd_test minus that of the baseline, and `test_diff_se`, its
          standard error, paired by row. Rows of a fit are weighted by its row_weights;
        - `elpd_loo`, `elpd_loo_se` by PSIS, and `max_pareto_k`, the largest Pareto k;
          `loo_reliable` is False if that is above 0.7, or with less than 2,200 draws above
          1 - 1 / log10(draws);
        - for a cross-validation `elpd_cv` and `elpd_cv_se`, log predictive density of rows that
          were held out in turn; its `lpd_train`, `norm` and `distance` are means over the
          folds, and its `gap` and `rmse` or `accuracy` are those of the held-out rows;
        - `converged`: False if chains or a search did not converge, so that no score is reliable;
        - `rhat` (largest) and `ess` (smallest bulk ESS) of the network's outputs at up to 50 of
          the training inputs; `divergences`;
        - for draws that are not exact (from an approximation, or an ensemble) the `temperature` and
          `temperature_se` of `diagnostics.configurational_temperature`: 1 for exact draws;
        - if a fit estimates it, the log `evidence` of all rows in nats (not per row), with
          `evidence_se`, and the length of their code in `bits`;
        - `parameters`: number of parameters that the data determine, among all weights and biases
          (MacKay's gamma);
        - `norm` of the weights and biases and their `distance` from the prior's centre (Euclidean,
          mean over draws; a flat prior has no centre); `seconds`, of the whole fit;
        - `note`: reasons for blank cells, and warnings. For chains that did not converge,
          `diagnostics.convergence` gives advice. For a stacked prior, a note that the best (by
          held-out rows, else by the evidence, else by LOO) is at an end of the grid.

    Raises
    ------
    ValueError, TypeError
        If a fit is of another model, only one of `x` and `y` is given, or `baseline` is no row.

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
    # A fit itself is a mapping.
    if isinstance(fits, xr.DataTree) or not isinstance(fits, Mapping) or not fits:
        raise TypeError(
            f"fits: expected a dict of name to fit, not empty; got {type(fits).__name__}. "
            'Name every fit: {"map": fit}.'
        )
    if (x is None) != (y is None):
        given, absent = ("y", "x") if x is None else ("x", "y")
        raise ValueError(f"{absent}: expected held-out data together with {given}; got None.")
    held = (
        None if x is None else Held.checked(bnn, _data.readable(x, bnn.network.feature_names), x, y)
    )
    lines: dict[Any, Line] = {}
    for name, fit in fits.items():
        if isinstance(fit, xr.Dataset):
            lines |= lines_of_cross_validation(bnn, name, fit)
            continue
        parts = parts_of(bnn, fit)
        if held is not None:
            new_rows(bnn, fit, x)
        of_fit = [_line(bnn, part, held) for part in parts]
        if len(parts) > 1:
            note_open_ends(fit, parts, of_fit)
        for part, line in zip(parts, of_fit, strict=True):
            lines[name if part.label is None else f"{name}[{part.label}]"] = line
    if baseline is not None:
        _add_differences(lines, baseline)
    table = pd.DataFrame.from_dict({n: line.cells for n, line in lines.items()}, orient="index")
    table = table[sorted(table.columns, key=_place)]
    table.index.name = "fit"
    # Integers and truth values, some of which may be missing.
    truths = {name: "boolean" for name in ("converged", "loo_reliable") if name in table}
    return table.astype({"divergences": "Int64", **truths})


def _place(column: str) -> int:
    """Return the place of a column in the table; columns of outputs have that of their mean."""
    return _COLUMNS.index(column.split("[")[0])


def _add_differences(lines: dict[Any, Line], baseline: Any) -> None:
    """Add to every line how much better it predicts held-out rows than the baseline does."""
    _checks.known_names("baseline", [baseline], list(lines))
    base = lines[baseline]
    if not base.held_by:
        raise ValueError(
            "baseline: expected held-out rows; got none. Pass x and y, or compare "
            "cross-validations."
        )
    for line in lines.values():
        diff = error = np.nan
        if line.has_rows_of(base):
            terms = line.elpd_i - base.elpd_i
            diff = line.rows.total(terms) / line.rows.number
            error = line.rows.standard_error(terms) / line.rows.number
        else:
            add_note(line, "no test_diff: the baseline has other held-out rows")
        line.cells.update(test_diff=diff, test_diff_se=error)


def _line(bnn: BNN, part: Part, held: Held | None) -> Line:
    """Return the line of a fit of one prior."""
    fit, constants = part.fit, part.fit["constant_data"].dataset
    notes = ["interrupted"] if fit.attrs.get("interrupted") else []
    cells = {"method": fit.attrs["method"], **prior_in_words(bnn, constants)}
    loo, reason = loo_of(part)
    # For every row that counted; the Pareto smoothing has computed it already.
    terms = loo.lpd_i if loo else log_predictive_densities(part) if is_known(part) else None
    cells |= train(part, terms, notes)
    elpd_i = np.zeros(0)
    if held is not None:
        scores, doubts = held.score(bnn, part)
        notes += [doubt.finding for doubt in doubts]
        cells |= held_out(scores, held.rows, cells["lpd_train"], notes)
        cells |= errors(scores, fit["observed_data"].coords)
        elpd_i = scores["elpd_i"]
    cells |= of_loo(part, loo, reason, terms, notes) | _sampling(part, notes)
    cells |= _temperature(bnn, part) | _evidence(fit, notes)
    cells |= _parameters(part, notes) | weight_norms(bnn, part.weights, part.prior)
    cells |= {"seconds": fit.attrs["seconds"], "note": "; ".join(notes)}
    if held is None:
        return Line(cells, loo=loo)
    return Line(cells, "x and y", elpd_i, held.rows, np.arange(len(elpd_i)), loo)


def _parameters(part: Part, notes: list[str]) -> dict[str, float]:
    """Return the number of parameters that the data determine, unless it takes too long."""
    if sum(w[0, 0].size for w in part.weights.values()) > _MAX_WEIGHTS_COUNTED:
        notes.append(f"parameters not counted: more than {_MAX_WEIGHTS_COUNTED:,} weights")
        return {}
    if not part.model.likelihood.is_known:
        notes.append("parameters not counted: the targets follow a model written elsewhere")
        return {}
    if not holds_inputs(part.fit):
        notes.append("parameters not counted: the fit does not hold x, which was read from a disk")
        return {}
    x, y = part.fit["constant_data"]["x"].to_numpy(), targets_of(part.fit)
    found = gamma(part.model, part.weights, x, y, part.prior, part.row_weights)
    return {"parameters": float(found["gamma"])}


def _temperature(bnn: BNN, part: Part) -> dict[str, float]:
    """Compute the configurational temperature of draws that are not exact."""
    if part.fit.attrs["exact"] or reason_against(part):
        return {}
    x, y = part.fit["constant_data"]["x"].to_numpy(), targets_of(part.fit)
    found = temperature_of(bnn, part, x, y, part.row_weights)
    return {name: float(found[name]) for name in ("temperature", "temperature_se")}


def _evidence(fit: xr.DataTree, notes: list[str]) -> dict[str, float]:
    """Return the evidence if the method estimates it."""
    if "evidence" not in fit.children:
        return {}
    found = evidence_of(fit)
    if not found["reliable"]:
        notes.append(f"evidence unreliable: {found['reason'].item()}")
    value, error = float(found["log_evidence"]), float(found["error"])
    return {"evidence": value, "evidence_se": error, "bits": -value / np.log(2)}


def _sampling(part: Part, notes: list[str]) -> dict[str, Any]:
    """Compute convergence of the outputs, and divergences; add any problem to the notes."""
    stats, arrived = part.stats, True
    if "converged" in stats and not stats["converged"].all():
        arrived = False
        late, members = int((~stats["converged"]).sum()), stats["converged"].size
        which = f"{late} of {members} members " if members > 1 else ""
        worst = float(stats["gradient_norm"].max())
        notes.append(f"{which}not converged (gradient {worst:.1g})")
    if is_point(part):
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
