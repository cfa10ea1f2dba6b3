"""Scores of predictions on held-out rows."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import xarray as xr

from weightprior import _checks, _data
from weightprior._checks.options import names_its_options
from weightprior._running.progress import shows_progress
from weightprior.evaluation._collapse import collapse_of, noise_of_draws
from weightprior.evaluation._metrics import (
    LEVELS,
    NAMES,
    NO_DENSITY,
    dims_of_scores,
    score_rows,
    summarise,
)
from weightprior.fits.inputs import new_rows
from weightprior.fits.layout import lay_out, prediction_coords, row_coords
from weightprior.fits.reading import Part, check_cross_validation, parts_of
from weightprior.fits.rows import Rows
from weightprior.model.bnn import BNN
from weightprior.model.devices import collected
from weightprior.model.priors.normal import NormalPrior

__all__ = ["score"]

# If a row's density rests on fewer draws than `_MIN_EFFECTIVE`, of at least `_MIN_DRAWS`, it is too
# noisy: the standard error of its log is above half a nat, and that estimate itself is noisy.
_MIN_EFFECTIVE, _MIN_DRAWS = 3, 100


@names_its_options
@shows_progress
def score(
    bnn: BNN,
    fit: xr.DataTree | xr.Dataset,
    x: Any = None,
    y: Any = None,
    *,
    row_weights: Any = None,
) -> xr.Dataset:
    """Score a fit's predictions on held-out rows.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted.
    fit : DataTree or Dataset
        The fit, or the result of `cross_validate`, in which every row was held out in turn.
    x : array or data frame of shape (rows, features)
        Held-out inputs; None for a cross-validation. A memory map, a Zarr or dask array or an HDF5
        dataset is read a block of rows at a time.
    y : array of shape (rows,) or (rows, outputs)
        Held-out targets; None for a cross-validation.
    row_weights : array of shape (rows,), optional
        Number of times each row counts. A row of weight 2 is two copies of the row. A row of weight
        0 is left out.

    Returns
    -------
    Dataset
        In the units of y (log densities in nats), with the dim `prior` if the fit has it:

        - `elpd`, the log predictive density summed over rows; `elpd_se`, its standard error over
          rows (NaN for a single row); `elpd_i`, its terms, each once (dim `obs_id`). The predictive
          density of a row is the mean over all draws of its density. Divide by the number of rows
          to compare data sets.
        - for numbers and counts (for `Binomial`, successes given a row's trials) `rmse` of the
          posterior mean prediction, and `r2`, the share of the targets' variance that it explains
          (NaN if they do not vary); `crps`, the continuous ranked probability score, mean over
          rows; `coverage`, the share of targets inside the central predictive interval (dim
          `level`); `calibration_error`, the mean distance of that share from the level. With
          several outputs each has the dim `output`.
        - for classes `accuracy`; `brier`, the mean squared distance of the probabilities from the
          observed classes, as scikit-learn defines it: with two classes that of one probability,
          with more the sum over all; `calibration_error`, the expected distance of a class's
          probability from its frequency (ten bins), mean over classes.

    Raises
    ------
    ValueError, TypeError
        If the data do not suit the model, or the fit is of another model.

    Warns
    -----
    UserWarning
        If few draws dominate a row's density, so that `elpd` is too noisy; if rows have no density;
        or if a learned noise collapsed.

    References
    ----------
    T. Gneiting and A. E. Raftery, Strictly proper scoring rules, prediction, and estimation, JASA
    102, 2007. :doi:`10.1198/016214506000001437`

    C. Czado, T. Gneiting and L. Held, Predictive model assessment for count data, Biometrics 65,
    2009. :doi:`10.1111/j.1541-0420.2009.01191.x`

    M. Kull et al., Beyond temperature scaling: obtaining well-calibrated multi-class probabilities
    with Dirichlet calibration, NeurIPS 2019 (classwise calibration error).
    :doi:`10.48550/arXiv.1910.12656`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> y = 3 * x[:, 0]
    >>> fit = wp.fit_map(bnn, x[::2], y[::2], prior=wp.normal_prior(bnn))
    >>> scores = wp.score(bnn, fit, x[1::2], y[1::2])
    >>> scores["elpd_i"].sizes["obs_id"], bool(scores["rmse"] < 0.4)
    (20, True)
    """
    if isinstance(fit, xr.Dataset):
        check_cross_validation(bnn, fit)
        return _scores_of(fit, {"x": x, "y": y, "row_weights": row_weights})
    parts = parts_of(bnn, fit)
    if x is None or y is None:
        raise ValueError(f"{'x' if x is None else 'y'}: expected held-out rows; got None.")
    held = Held.checked(bnn, new_rows(bnn, fit, x), x, y, row_weights)
    pieces, doubts = zip(*(held.score(bnn, part) for part in parts), strict=True)
    if gravest := next(filter(None, doubts), None):
        _checks.warn(f"score: {gravest[0].finding}{gravest[0].advice}")
    coords = prediction_coords(bnn, fit, x) | held.coords
    return lay_out(pieces, (), dims_of_scores(pieces[0]), coords)


class Doubt(NamedTuple):
    """Problem of scores, in a few words, and advice."""

    finding: str
    advice: str


class Held(NamedTuple):
    """Checked held-out rows, all of positive weight.

    Attributes
    ----------
    x : array of shape (rows, features), or Stored
        Inputs.
    y : array of shape (rows,) or (rows, targets)
        Targets.
    rows : Rows
        Number of times each row counts.
    coords : dict
        Coordinates of scores.
    """

    x: Any
    y: np.ndarray
    rows: Rows
    coords: dict[Any, Any]

    @classmethod
    def checked(cls, bnn: BNN, inputs: Any, x: Any, y: Any, row_weights: Any = None) -> Self:
        """Check a user's data (`inputs` are checked already), and leave out rows of weight 0."""
        targets = _data.targets(bnn, x, collected(y))
        rows = Rows.checked(collected(row_weights), x)
        counted = rows.weights > 0
        coords = {"level": LEVELS, **row_coords(x, counted)}
        inputs, targets = (_data.select_rows(values, counted) for values in (inputs, targets))
        return cls(inputs, targets, rows.take(counted), coords)

    def score(self, bnn: BNN, part: Part) -> tuple[dict[str, Any], list[Doubt]]:
        """Compute the scores of a part of a fit, and doubts about their `elpd`, gravest first."""
        rowwise = score_rows(part.model, part.weights, self.x, self.y)
        scores = summarise(bnn, rowwise, self.y, self.rows)
        noise, elpd_i = noise_of_draws(bnn, part.weights), scores["elpd_i"]
        collapse = collapse_of(bnn, [noise], [elpd_i])
        if collapse and collapse.any:
            return scores, [Doubt(*collapse.told(bnn))]
        chance = rowwise["num_effective"] < _MIN_EFFECTIVE
        if part.weights.num_chains * part.weights.num_draws < _MIN_DRAWS:
            chance[:] = False
        return scores, [*self._no_density(elpd_i), *self._chance(chance)]

    def _chance(self, chance: np.ndarray) -> list[Doubt]:
        if not chance.any():
            return []
        finding = f"the density of {self._named(chance)} rests on fewer than {_MIN_EFFECTIVE} draws"
        advice = (
            ", so other draws would give another elpd. Such rows are far from the fit's "
            "predictions: look at them, raise num_samples, or use a likelihood with heavier tails, "
            "such as StudentT."
        )
        return [Doubt(finding, advice)]

    def _no_density(self, elpd_i: np.ndarray) -> list[Doubt]:
        without = ~(elpd_i >= NO_DENSITY)
        if not without.any():
            return []
        lowest = elpd_i[without].min()
        finding = f"without a density (log {lowest:.1g}): {self._named(without)}"
        advice = (
            ", which dominate elpd. They are far from the fit's predictions: look at them, and "
            "check that x and y are on the scale of the rows that were fitted."
        )
        return [Doubt(finding, advice)]

    def _named(self, chosen: np.ndarray) -> str:
        ids = np.asarray(self.coords.get("obs_id", np.arange(len(chosen))))[chosen]
        named = ", ".join(map(str, ids[:3])) + (", ..." if len(ids) > 3 else "")
        return f"{len(ids)} of {len(chosen)} held-out rows (obs_id {named})"


def _scores_of(found: xr.Dataset, given: Mapping[str, Any]) -> xr.Dataset:
    """Return the scores that `cross_validate` has computed already."""
    if any(values is not None for values in given.values()):
        raise ValueError(
            "x: expected no rows with a cross-validation, which has held-out rows of its own; "
            "got some. Leave x, y and row_weights out."
        )
    return found[[name for name in found if name in NAMES]]


def weight_norms(
    bnn: BNN, weights: Mapping[str, np.ndarray], prior: NormalPrior
) -> dict[str, np.ndarray | float]:
    """Compute Euclidean norms of weights and biases, mean over draws.

    `norm` is the distance from zero, and `distance` that from the prior's centre, over weights
    with a prior that is not flat (NaN if there are none).
    """
    proper = {name: np.isfinite(prior.scale[name]) for name in bnn.network.sites}
    apart = {n: np.where(proper[n], weights[n] - prior.loc[n], 0.0) for n in proper}
    any_center = any(values.any() for values in proper.values())
    return {
        "norm": _mean_norm(weights[name] for name in proper),
        "distance": _mean_norm(apart.values()) if any_center else np.nan,
    }


def _mean_norm(arrays: Iterable[np.ndarray]) -> float:
    squares = [np.square(array).sum(tuple(range(2, array.ndim))) for array in arrays]
    return float(np.sqrt(sum(squares)).mean())
