"""Cells of the table that `compare` makes: the prior, and the scores of predictions."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from weightprior.evaluation._metrics import NO_DENSITY
from weightprior.fits.leave_one_out import Loo
from weightprior.fits.reading import Part, check_cross_validation
from weightprior.fits.rows import Rows
from weightprior.model.bnn import BNN

__all__ = [
    "Line",
    "add_note",
    "errors",
    "held_out",
    "is_point",
    "lines_of_cross_validation",
    "of_loo",
    "prior_in_words",
    "train",
]


class Line(NamedTuple):
    """Line of the table.

    Attributes
    ----------
    cells : dict
        By column.
    held_by : str
        The way in which rows were held out; empty if none were.
    elpd_i : array of shape (rows,)
        Log predictive density of each held-out row.
    rows : Rows
        Number of times each held-out row counts.
    ids : array of shape (rows,)
        Names of the held-out rows.
    loo : Loo or None
        Leave-one-out of the rows that were fitted, if there is one.
    """

    cells: dict[str, Any]
    held_by: str = ""
    elpd_i: np.ndarray = np.zeros(0)
    rows: Rows = Rows(np.zeros(0))
    ids: np.ndarray = np.zeros(0)
    loo: Loo | None = None

    def has_rows_of(self, other: "Line") -> bool:
        """Tell if both held the same rows out in the same way, and count them alike."""
        return (
            self.held_by == other.held_by
            and np.array_equal(self.ids, other.ids)
            and np.array_equal(self.rows.weights, other.rows.weights)
        )


def add_note(line: Line, note: str) -> None:
    """Add to the notes of a line."""
    line.cells["note"] = "; ".join(filter(None, (line.cells["note"], note)))


def lines_of_cross_validation(bnn: BNN, name: Any, found: xr.Dataset) -> dict[Any, Line]:
    """Return the lines of a cross-validation, one per prior, by name."""
    check_cross_validation(bnn, found)
    if "prior" not in found.dims:
        return {name: _line_of_cross_validation(bnn, found)}
    labels = found["prior"].to_numpy().tolist()
    lines = {
        f"{name}[{label}]": _line_of_cross_validation(bnn, found.isel(prior=i))
        for i, label in enumerate(labels)
    }
    if note := found.attrs.get("note"):
        add_note(lines[f"{name}[{found['best'].item()}]"], note)
    return lines


def _line_of_cross_validation(bnn: BNN, found: xr.Dataset) -> Line:
    rows, train = Rows.of(found), float(found["train"])
    whole = bool(found["converged"].all()) if "converged" in found else True
    cv = float(found["elpd"]) / rows.number
    notes = [f"{found.attrs['num_folds']}-fold cross-validation"]
    if not whole:
        late, folds = int((~found["converged"]).sum()), found.sizes["fold"]
        notes.append(f"{late} of {folds} fits not converged")
    if "noise_collapsed" in found and found["noise_collapsed"].any():
        late, folds = int(found["noise_collapsed"].sum()), found.sizes["fold"]
        notes.append(f"a learned noise collapsed in {late} of {folds} fits")
    else:
        _note_no_density(found["elpd_i"].to_numpy(), notes)
    cells = {
        "method": found.attrs["fit"],
        **prior_in_words(bnn, found),
        "lpd_train": train,
        "gap": train - cv,
        **errors(found, found.coords),
        "elpd_cv": cv,
        "elpd_cv_se": float(found["elpd_se"]) / rows.number,
        "converged": whole,
        "rhat": np.nan,
        "ess": np.nan,
        "divergences": int(found["divergences"].sum()) if "divergences" in found else pd.NA,
        "parameters": float(found["effective_parameters"]),
        "norm": float(found["norm"]),
        "distance": float(found["distance"]),
        "seconds": found.attrs["seconds"],
    }
    cells["note"] = "; ".join(notes)
    ids = found["obs_id"].to_numpy()
    return Line(cells, "cross-validation", found["elpd_i"].to_numpy(), rows, ids)


def train(part: Part, terms: np.ndarray | None, notes: list[str]) -> dict[str, float]:
    """Compute the log predictive density per fitted row, weighted as in the fit."""
    if terms is None:
        notes.append("no train or gap: its log likelihood is not known")
        return {"lpd_train": np.nan}
    if not terms.size:
        notes.append("no train or gap: no row counts")
        return {"lpd_train": np.nan}
    return {"lpd_train": float(np.average(terms, weights=part.row_weights[part.row_weights > 0]))}


def _note_no_density(terms: np.ndarray, notes: list[str]) -> None:
    if not (lowest := terms.min(initial=0.0)) >= NO_DENSITY:  # true for NaN as well
        notes.append(f"rows without a density (log {lowest:.1g}): standardise x and y")


def held_out(
    scores: dict[str, Any], rows: Rows, train: float, notes: list[str]
) -> dict[str, float]:
    """Return the cells of the held-out rows, as values per row."""
    if rows.number <= 1:
        notes.append("no lpd_test_se: a single held-out row")
    test, error = (float(scores[name]) / rows.number for name in ("elpd", "elpd_se"))
    return {"lpd_test": test, "lpd_test_se": error, "gap": train - test}


def errors(scores: Mapping[Any, Any], coords: Mapping[Any, Any]) -> dict[str, float]:
    """Return the RMSE or accuracy: its mean over outputs and, if several, that of each."""
    name = "rmse" if "rmse" in scores else "accuracy"
    values = np.asarray(scores[name])
    found = {name: float(values.mean())}
    if values.ndim:
        outputs = np.asarray(coords["output"]).tolist()
        found |= {f"{name}[{o}]": float(v) for o, v in zip(outputs, values, strict=True)}
    return found


def prior_in_words(bnn: BNN, constants: xr.Dataset) -> dict[str, str]:
    """Return the centre and scale of the prior on weights and biases, as text for a reader."""
    loc, scale = (
        np.concatenate(
            [constants[f"prior_{part}.{name}"].to_numpy().ravel() for name in bnn.network.sites]
        )
        for part in ("loc", "scale")
    )
    # A flat prior has no centre, whatever its `loc` is.
    loc, proper = loc[np.isfinite(scale)], scale[np.isfinite(scale)]
    if proper.size == 0:
        return {"loc": "none", "scale": "flat"}
    center = f"{loc[0]:g}" if np.ptp(loc) == 0 else f"norm {np.linalg.norm(loc):.3g}"
    low, high = proper.min(), proper.max()
    width = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    return {"loc": center, "scale": width + (", part flat" if proper.size < scale.size else "")}


def of_loo(
    part: Part, found: Loo | None, reason: str, terms: np.ndarray | None, notes: list[str]
) -> dict[str, Any]:
    """Return the PSIS-LOO if there are draws to reweight; otherwise note the reason."""
    if found is None:
        # One note says that a MAP has no LOO and no R-hat.
        what = "LOO, R-hat or ESS" if is_point(part) else "LOO"
        notes.append(f"no {what}: {reason}")
        if terms is not None:
            _note_no_density(terms, notes)
        blank = dict.fromkeys(("elpd_loo", "elpd_loo_se", "max_pareto_k"), np.nan)
        return blank | {"loo_reliable": pd.NA}
    worst, number = float(np.max(found.pareto_k)), found.rows.number
    if not found.reliable:
        bad = int(np.sum(found.pareto_k > found.good_k))
        notes.append(
            f"LOO unreliable at {bad} of {len(found.elpd_i)} rows (k > {found.good_k:.2g})"
        )
    _note_no_density(found.elpd_i, notes)
    return {
        "elpd_loo": found.elpd / number,
        "elpd_loo_se": found.se / number,
        "max_pareto_k": worst,
        "loo_reliable": found.reliable,
    }


def is_point(part: Part) -> bool:
    """Tell if a fit is a single point, as a MAP is."""
    return part.weights.num_chains * part.weights.num_draws == 1
