"""Cross-validation: which prior predicts rows that the fit has not seen, and how sure that is."""

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

    All folds of all priors are one call of `fit`, in which the rows of a fold do not count: every
    fit is exact, and nothing is compiled for a fold. All fits are held at once: chains of many
    priors take memory for their weights, as many times as there are folds.

    Parameters
    ----------
    bnn : BNN
        The model.
    x : array or data frame of shape (rows, features)
        Inputs.
    y : array of shape (rows,) or (rows, outputs)
        Targets.
    prior : NormalPrior
        The prior; usually a stacked one, whose parts are compared.
    fit : callable
        `fit_map`, `fit_mcmc`, `fit_ensemble`, or ``functools.partial`` of one with options.
    num_folds : int
        Folds, at least 2 and at most the number of rows, which is leave-one-out.
    rng_key : int or JAX key
        Decides which rows make a fold; classes are spread evenly over the folds. The fits take
        theirs from `fit`.
    folds : array of shape (rows,) or splitter, optional
        The fold of every row, such as its year, where chance should not decide; or one of
        scikit-learn's splitters, which may let a fold be predicted by the past alone
        (``TimeSeriesSplit``). Rows that are in no test set have no score. Replaces `num_folds`.
    groups : array of shape (rows,), optional
        The group of every row, such as a patient. The rows of a group stay together in a fold, and
        standard errors take groups for independent instead of rows.
    row_weights : array of shape (rows,), optional
        Number of times each row counts, in fits and in scores: a row of weight 2 is the row twice,
        in one fold; a row of weight 0 is no row. Weights that `fit` carries (as a partial may) are
        used.

    Returns
    -------
    Dataset
        For a stacked prior with the dim `prior`. Log densities are in nats.

        - what `score` returns, of every row predicted by the fits that have not seen it: `elpd`,
          `elpd_se`, `elpd_i`, `rmse` and so on;
        - for a stacked prior `elpd_diff`, each prior's `elpd` minus that of the best, and
          `elpd_diff_se`, its standard error over rows; `prob_best`, the probability that it is
          the best of them, as the share of 1,000 bootstrap samples of the rows in which it is
          (fits stay as they are); the labels `best` and `one_se`: the strongest prior (smallest
          geometric mean of its scales) that falls short of the best by no more than one standard
          error of their difference;
        - means over the fits to the folds of `train` (log density per row that was fitted), `norm`
          (length of weights and biases), `distance` (from the prior's centre, where it is not
          flat) and `effective_parameters`;
        - `prior_loc.<site>` and `prior_scale.<site>`, as in a fit;
        - for optima `converged`, for chains `divergences`, and of a learned Gaussian noise
          `noise_collapsed`, with the dim `fold`; the coordinate
          `fold_of_row` says which rows a fold holds, and `row_weights` and `group`, where there are
          any, what was passed.

        Standard errors take rows for independent, which predictions of one fit are not quite. For a
        stacked prior ``attrs["note"]`` says where the best is at the end of a grid of three or more
        and still better than its neighbour there, by more than one standard error; empty elsewhere.

    Raises
    ------
    ValueError, TypeError
        For data, a prior, folds or a fit function that cannot be used.
    KeyboardInterrupt
        If the fits were interrupted: scores of a part of their draws would be no answer.

    Warns
    -----
    UserWarning
        If a learned noise collapsed: in some folds it is many times smaller than the residuals
        of the rows held out.

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
    labelled = folds is not None and not hasattr(folds, "split")  # a splitter divides what is left
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
    """Coordinates of the rows: their fold and, where they were given, weight and group."""
    found = {"fold_of_row": divided.of_scored}
    if np.any(rows.weights != 1):
        found["row_weights"] = rows.weights
    if groups is not None:
        found["group"] = groups[divided.scored]
    return {name: ("obs_id", values) for name, values in found.items()}


def _priors(bnn: BNN, x: Any, y: Any, prior: NormalPrior) -> xr.Dataset:
    """Centres and scales of all priors; outputs that are no targets have a dim of their own."""
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
    """Everything about one prior, from its fits to the folds, and how its noise did."""
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
