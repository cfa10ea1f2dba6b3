"""Cross-validation: scores of priors, with their errors, on rows that fits have not seen."""

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from weightprior import _checks, _data
from weightprior._checks.options import names_its_options
from weightprior._data import select_rows
from weightprior._running.progress import shows_progress
from weightprior.diagnostics.effective_parameters import gamma
from weightprior.evaluation._collapse import (
    Collapse,
    collapse_of,
    noise_of_draws,
    warn_collapse,
)
from weightprior.evaluation._folds import Folds, folds_of
from weightprior.evaluation._metrics import (
    LEVELS,
    dims_of_scores,
    log_mean,
    score_rows,
    summarise,
)
from weightprior.evaluation.choice import choice, ends_of
from weightprior.evaluation.refits import Refit, grouped, refit, row_weights_of
from weightprior.evaluation.score import weight_norms
from weightprior.fits.layout import lay_out, prior_arrays, prior_dims, row_coords
from weightprior.fits.problem import fit_coords, target_coords
from weightprior.fits.rows import Rows
from weightprior.inference.map import fit_map
from weightprior.model.bnn import BNN
from weightprior.model.priors.normal import NormalPrior

__all__ = ["cross_validate"]


@names_its_options
@shows_progress
def cross_validate(
    bnn: BNN,
    x: Any,
    y: Any,
    *,
    prior: NormalPrior,
    fit: Callable[..., xr.DataTree] = fit_map,
    num_folds: int = 10,
    rng_key: Any = 0,
    folds: Any = None,
    groups: Any = None,
    row_weights: Any = None,
) -> xr.Dataset:
    """Predict every row from a fit without it, under each prior.

    All folds of all priors are fitted in one call of `fit`, in which the rows of a fold have weight
    0. So every fit is exact, and nothing is compiled per fold. All fits are held at once: the draws
    of all priors take memory for every fold.

    Parameters
    ----------
    bnn : BNN
        The model.
    x : array or data frame of shape (rows, features)
        Inputs.
    y : array of shape (rows,) or (rows, outputs)
        Targets.
    prior : NormalPrior
        The prior; usually a stacked one, to compare its parts.
    fit : callable
        `fit_map`, `fit_mcmc`, `fit_ensemble`, or ``functools.partial`` of one with options.
    num_folds : int
        Number of folds, from 2 to the number of rows, which is leave-one-out.
    rng_key : int or JAX key
        Decides the folds; classes are spread evenly over them. The keys of the fits are those of
        `fit`.
    folds : array of shape (rows,) or splitter, optional
        The fold of every row, such as its year, if folds should not be random; or a scikit-learn
        splitter, such as ``TimeSeriesSplit``, which predicts a fold from the past alone. Rows in
        no test set have no score. Replaces `num_folds`.
    groups : array of shape (rows,), optional
        The group of every row, such as a patient. The rows of a group stay together in a fold, and
        standard errors take groups, not rows, as independent.
    row_weights : array of shape (rows,), optional
        Number of times each row counts, in fits and in scores. A row of weight 2 is two copies of
        the row, in one fold. A row of weight 0 is left out. By default, the weights of `fit`, if it
        is a partial with row weights.

    Returns
    -------
    Dataset
        With the dim `prior` for a stacked prior. Log densities are in nats.

        - the variables of `score`, with every row predicted by the fits that have not seen it:
          `elpd`, `elpd_se`, `elpd_i`, `rmse` and so on;
        - for a stacked prior `elpd_diff`, each prior's `elpd` minus that of the best, and
          `elpd_diff_se`, its standard error over rows; `prob_best`, the probability that a prior
          is the best, as a share of 1,000 bootstrap samples of the rows (without refits); the
          labels `best`, of the best prior, and `one_se`, of the strongest prior (smallest
          geometric mean of its scales) that falls short of the best by no more than one standard
          error of their difference;
        - means over the fits to the folds: `train` (log density per fitted row), `norm` (length of
          weights and biases), `distance` (from the prior's centre, unless the prior is flat) and
          `effective_parameters`;
        - `prior_loc.<site>` and `prior_scale.<site>`, as in a fit;
        - with the dim `fold`: `converged` for optima, `divergences` for chains, and
          `noise_collapsed` for a learned Gaussian noise;
        - the coordinate `fold_of_row`, the fold of each row, and, if passed, `row_weights` and
          `group`.

        Standard errors take rows as independent; predictions of one fit are not quite so. For a
        stacked prior, ``attrs["note"]`` tells if the best is at the end of a grid of three or more
        priors and better than its neighbour there by more than one standard error; else it is
        empty.

    Raises
    ------
    ValueError, TypeError
        For data, a prior, folds or a fit function that cannot be used.
    KeyboardInterrupt
        If the fits were interrupted: scores from a part of their draws would not be valid.

    Warns
    -----
    UserWarning
        If a learned noise collapsed: in some folds it is many times smaller than the residuals
        of the held-out rows.

    References
    ----------
    A. Vehtari, A. Gelman and J. Gabry, Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC, 2017. :doi:`10.1007/s11222-016-9696-4`

    L. Breiman et al., Classification and Regression Trees, 1984 (the one-standard-error rule).

    B. Efron, Bootstrap methods: another look at the jackknife, 1979.
    :doi:`10.1214/aos/1176344552`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> path = wp.stack_priors({s: wp.normal_prior(bnn, scale=s) for s in (0.01, 1.0)})
    >>> found = wp.cross_validate(bnn, x, 3 * x[:, 0], prior=path, num_folds=5)
    >>> found["best"].item()
    1.0
    """
    _checks.model(bnn)
    inputs, targets = _data.checked(bnn, x, y)
    _checks.prior(bnn, prior)
    key = _checks.random_key(rng_key)
    weights = row_weights_of(fit, row_weights, x)
    of_group = None if groups is None else grouped("groups", groups, x)[1]
    labelled = folds is not None and not hasattr(folds, "split")  # a splitter divides the rows left
    if labelled:
        folds = grouped("folds", folds, x)[1]
    counted, given = weights > 0, (x, y)
    x, y, inputs, targets, of_group, weights = (
        select_rows(values, counted)
        for values in (x, np.asarray(y), inputs, targets, of_group, weights)
    )
    folds = select_rows(folds, counted) if labelled else folds
    codes = None if of_group is None else np.unique(of_group, return_inverse=True)[1]
    divided = folds_of(bnn, x, targets, num_folds=num_folds, folds=folds, groups=codes, key=key)

    began = time.perf_counter()
    counts = {f"fold {f}": seen * weights for f, seen in zip(*divided[:2], strict=True)}
    method, fits = refit(bnn, x, y, prior=prior, fit=fit, counts=counts)
    rows = Rows(weights, codes).take(divided.scored)
    data = inputs, targets, divided, rows
    parts = zip(prior.singles(), fits, strict=True)
    pieces, collapses = zip(*(_score_part(bnn, f, part, data) for part, f in parts), strict=True)
    warn_collapse("cross_validate", bnn, prior.labels or (None,), collapses)
    dims = dims_of_scores(pieces[0])
    dims |= dict.fromkeys(("converged", "divergences", "noise_collapsed"), ("fold",))
    counted[counted] = divided.scored
    coords = target_coords(bnn, *given, prior) | row_coords(given[0], counted)
    coords |= {"fold": divided.labels, "level": LEVELS}
    found = lay_out(pieces, (), dims, coords).merge(_priors(bnn, *given, prior), compat="equals")
    found = found.assign_coords(_of_rows(divided, rows, of_group))
    if prior.labels is not None:
        chosen = choice(bnn, found["elpd_i"].to_numpy(), rows, prior, key)
        found = found.merge(chosen, compat="equals")
    found.attrs = {
        "function": "cross_validate",
        "fit": method,
        "num_folds": len(divided.labels),
        "seconds": time.perf_counter() - began,
        "model": json.dumps(bnn.describe()),
    }
    if prior.labels is not None:
        found.attrs["note"] = ends_of(prior, found["elpd_i"].to_numpy(), rows)
    return found


def _of_rows(divided: Folds, rows: Rows, groups: np.ndarray | None) -> dict[str, Any]:
    """Return the coordinates of the rows: their fold and, if given, weight and group."""
    found = {"fold_of_row": divided.of_scored}
    if np.any(rows.weights != 1):
        found["row_weights"] = rows.weights
    if groups is not None:
        found["group"] = groups[divided.scored]
    return {name: ("obs_id", values) for name, values in found.items()}


def _priors(bnn: BNN, x: Any, y: Any, prior: NormalPrior) -> xr.Dataset:
    """Return the centres and scales of all priors; outputs without targets get another dim."""
    pieces = [prior_arrays(bnn, part) for part in prior.singles()]
    found = lay_out(pieces, (), prior_dims(bnn), fit_coords(bnn, x, y, prior))
    same = bnn.likelihood.num_targets(bnn.network.num_outputs) in (1, bnn.network.num_outputs)
    return found if same or "output" not in found.dims else found.rename(output="network_output")


def _score_part(
    bnn: BNN,
    fits: list[Refit],
    prior: NormalPrior,
    data: tuple[np.ndarray, np.ndarray, Folds, Rows],
) -> tuple[dict[str, Any], Collapse | None]:
    """Compute all variables of one prior from its fits to the folds; tell if noise collapsed."""
    x, y, folds, rows = data
    rowwise: dict[str, np.ndarray] = {}
    of_fold: dict[str, list] = {}
    for held, (model, weights, row_weights, log_likelihood, stats) in zip(
        folds.held, fits, strict=True
    ):
        for name, values in score_rows(model, weights, x[held], y[held]).items():
            whole = rowwise.setdefault(name, np.empty((len(y), *values.shape[1:])))
            whole[held] = values
        seen = row_weights > 0
        found = {
            "train": np.average(log_mean(log_likelihood[..., seen]), weights=row_weights[seen]),
            **weight_norms(bnn, weights, prior),
            "effective_parameters": gamma(model, weights, x, y, prior, row_weights)["gamma"],
        }
        for name, value in (found | stats).items():
            of_fold.setdefault(name, []).append(value)
    scored = {name: values[folds.scored] for name, values in rowwise.items()}
    found = summarise(bnn, scored, y[folds.scored], rows) | {
        name: np.array(values) if name in fits[0].stats else np.mean(values)
        for name, values in of_fold.items()
    }
    noises = [noise_of_draws(bnn, fit.weights) for fit in fits]
    collapse = collapse_of(bnn, noises, [rowwise["elpd_i"][held] for held in folds.held])
    return found | ({} if collapse is None else {"noise_collapsed": collapse.fits}), collapse
