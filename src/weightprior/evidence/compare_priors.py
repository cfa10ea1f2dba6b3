"""Evidence, leave-one-out and cross-validation of the same priors, side by side."""

from typing import Any

import numpy as np
import xarray as xr
from scipy.special import softmax

from weightprior import _checks
from weightprior._running.progress import shows_progress
from weightprior.diagnostics.effective_parameters import effective_parameters
from weightprior.evidence.log_evidence import log_evidence
from weightprior.evidence.preference import (
    agreement,
    between_evidences,
    between_rows,
    open_grid,
    verdict,
)
from weightprior.fits.grid import Grid, grid_of
from weightprior.fits.leave_one_out import leave_one_out
from weightprior.fits.reading import (
    check_cross_validation,
    check_fit,
    parts_of,
    targets_of,
    unstack_fit,
)
from weightprior.fits.rows import Rows
from weightprior.model.bnn import BNN

__all__ = ["compare_priors"]


@shows_progress
def compare_priors(
    bnn: BNN, fit: xr.DataTree, cross_validation: xr.Dataset | None = None
) -> xr.Dataset:
    """Compare priors by evidence, leave-one-out and cross-validation, side by side.

    The evidence is the probability of all rows, predicted one after the other, the first without
    any data: a prior is charged for its predictions before the data. Leave-one-out and
    cross-validation measure how well one row is predicted from all others. They do not charge a
    prior for errors that the data correct. The evidence and leave-one-out are those of the
    posterior; cross-validation is that of the cross-validated fit.

    Nothing is fitted here. The results passed in were computed with options of their own, and can
    be used again.

    Parameters
    ----------
    bnn : BNN
        The model of both.
    fit : DataTree
        Result of `fit_tempered` for a stacked prior.
    cross_validation : Dataset, optional
        Result of `cross_validate` for the same rows and the same stacked prior. Without it there
        is no criterion ``"cv"``.

    Returns
    -------
    Dataset
        Log densities are in nats, summed over all rows. By `prior`:

        - `log_evidence`, `log_evidence_error` (a Monte-Carlo standard error), `reliable` and
          `reason`, as in `log_evidence`; `probability`: that of each prior given the data, if all
          in the stack were equally probable before;
        - `elpd_loo`, `elpd_loo_se` (over rows) and `pareto_k` (the largest), of PSIS-LOO from the
          draws at temperature one;
        - `elpd_cv` and `elpd_cv_se` (over rows), as in `cross_validate`;
        - `effective_parameters`, mean over posterior draws, and `effective_parameters_cv`, mean
          over the fits to the folds.

        By `criterion`, one of ``"evidence"``, ``"loo"`` and ``"cv"``:

        - `doubtful` (and by `prior`): true if the criterion is not reliable. For the evidence, see
          `reason`. PSIS-LOO is not reliable, and as a rule too high, if k is above ArviZ's limit,
          0.7 or less; nor is cross-validation if a learned noise collapsed;
        - `best`: label of the best prior that is not doubtful. If all are doubtful, it is the best
          of all, none is close to it, and the verdict says that none is preferred;
        - `difference` (and by `prior`) from the best; `difference_se`: for the evidence, both
          Monte-Carlo errors combined, else the standard error over rows of the paired differences,
          NaN for a single row;
        - `close` (and by `prior`): by the evidence, less than 20 times less probable than the best
          (3.0 nats), or within two Monte-Carlo errors of that; else within two standard errors of
          the best, or within 4 nats, since that error is not reliable below 4 nats. A doubtful
          prior is not close;
        - `agree`: true if its best is close by all other criteria.

        `verdict` says in words which prior each criterion prefers; by how much they disagree, if
        they do, and which priors are close by all; and which numbers are not reliable. It also says
        if the best of three priors or more is at the end of their grid, and better than its
        neighbour by more than one standard error.

    Raises
    ------
    TypeError, ValueError
        If `fit` is not by `fit_tempered`, is of a single prior, was made with `row_weights`,
        without log likelihoods or with fewer than 100 draws; if `cross_validation` is of other
        priors or of another number of rows; if a number is NaN or infinite.

    References
    ----------
    D. J. C. MacKay, Bayesian interpolation, Neural Computation 4, 1992.
    :doi:`10.1162/neco.1992.4.3.415`

    R. E. Kass and A. E. Raftery, Bayes factors, JASA 90, 1995 (odds of 20).
    :doi:`10.1080/01621459.1995.10476572`

    A. Vehtari, A. Gelman and J. Gabry, Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC, 2017. :doi:`10.1007/s11222-016-9696-4`

    T. Sivula, M. Magnusson, A. A. Matamoros and A. Vehtari, Uncertainty in Bayesian leave-one-out
    cross-validation based model comparison, 2020 (differences below 4).
    :doi:`10.48550/arXiv.2008.10296`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> path = wp.stack_priors({s: wp.normal_prior(bnn, scale=s) for s in (0.1, 2.0)})
    >>> fit = wp.fit_tempered(bnn, x, 3 * x[:, 0], prior=path, num_temperatures=8, num_chains=4)
    >>> folds = wp.cross_validate(bnn, x, 3 * x[:, 0], prior=path, num_folds=5)
    >>> found = wp.compare_priors(bnn, fit, folds)
    >>> found["best"].sel(criterion="evidence").item(), found["agree"].all().item()
    (2.0, True)
    """
    _check_fit(bnn, fit)
    criteria, fitted = {}, ""
    found, criteria["evidence"] = _of_evidence(fit)
    piece, criteria["loo"] = _of_loo(fit)
    found = found.merge(piece, compat="equals")
    data = fit["constant_data"]["x"].to_numpy(), bnn.likelihood.decode(targets_of(fit))
    found["effective_parameters"] = effective_parameters(bnn, fit, *data)["gamma"]
    if cross_validation is not None:
        _check_cross_validation(bnn, fit, cross_validation)
        piece, criteria["cv"] = _of_cross_validation(cross_validation)
        found, fitted = found.merge(piece, compat="equals"), cross_validation.attrs["fit"]
    names = xr.DataArray(list(criteria), dims="criterion", name="criterion")
    side_by_side = xr.concat(
        criteria.values(), names, data_vars="all", coords="different", compat="equals"
    )
    found = found.merge(side_by_side, compat="equals")
    found["best"] = found["prior"].isel(prior=found["best"]).drop_vars("prior")
    found["agree"] = agreement(found)
    found["verdict"] = ((), verdict(found, fitted) + open_grid(found, _grid_of(bnn, fit)))
    for name in ("log_evidence", "log_evidence_error", "elpd_loo", "difference", "difference_se"):
        found[name].attrs["units"] = "nats"
    found.attrs = {"function": "compare_priors", "model": fit.attrs["model"]}
    return found


def _grid_of(bnn: BNN, fit: xr.DataTree) -> Grid:
    """Return the places of a fit's priors on their grid."""
    parts, told = parts_of(bnn, fit), fit["posterior"].coords.items()
    along = {str(n): c.to_numpy() for n, c in told if c.dims == ("prior",) and n != "prior"}
    return grid_of([part.label for part in parts], along, [part.prior for part in parts])


def _check_fit(bnn: BNN, fit: Any) -> None:
    check_fit(bnn, fit)
    if "evidence" not in fit.children or fit.attrs["draws"] != "chains":
        raise ValueError(
            f"fit: expected one by fit_tempered, with the evidence and draws of the posterior; "
            f"got one by {fit.attrs.get('method')!r}."
        )
    if "prior" not in fit["posterior"].dims:
        raise ValueError(
            "fit: expected one of a stacked prior; got one of a single prior. Stack the priors to "
            "compare: weightprior.stack_priors."
        )


def _check_cross_validation(bnn: BNN, fit: xr.DataTree, found: Any) -> None:
    if not isinstance(found, xr.Dataset):
        raise TypeError(
            f"cross_validation: expected a result of cross_validate; got {type(found).__name__}."
        )
    check_cross_validation(bnn, found)
    known = fit["constant_data"].dataset
    expected = known["prior"].to_numpy().tolist()
    labels = found["prior"].to_numpy().tolist() if "prior" in found.dims else []
    if labels != expected:
        raise ValueError(
            f"cross_validation: expected one of the fit's priors {_checks.several(expected)}; "
            f"got {_checks.several(labels) or 'a single one'}."
        )
    numbers = [name for name in known if str(name).startswith(("prior_loc.", "prior_scale."))]
    other = next((n for n in numbers if not np.array_equal(known[n], found[n])), None)
    if other is not None:
        raise ValueError(
            f"cross_validation: expected one of the fit's priors; got other numbers in {other!r}, "
            "under the same labels."
        )
    rows, fitted = found.sizes["obs_id"], fit["observed_data"].sizes["obs_id"]
    if rows != fitted:
        raise ValueError(
            f"cross_validation: expected the fit's {fitted} rows; got {rows}. Cross-validate the "
            "rows that were fitted."
        )


def _check_finite(argument: str, name: str, values: Any) -> None:
    bad = np.asarray(values)[~np.isfinite(values)]
    if bad.size:
        raise ValueError(
            f"{argument}: expected finite numbers; got {bad[0]} in its {name}. "
            "Standardise x and y, or give the priors smaller scales."
        )


def _of_evidence(fit: xr.DataTree) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the evidence of each prior, and differences between them."""
    found = log_evidence(fit).rename(error="log_evidence_error")
    value, error = (found[name].to_numpy() for name in ("log_evidence", "log_evidence_error"))
    _check_finite("fit", "log evidence", value)
    _check_finite("fit", "error of the log evidence", error)
    between = between_evidences(value, error, found["reliable"].to_numpy())
    return found.assign(probability=("prior", softmax(value))), between


def _of_loo(fit: xr.DataTree) -> tuple[xr.Dataset, xr.Dataset]:
    found = [leave_one_out(part) for part in unstack_fit(fit).values()]
    parts = [loo for loo, _ in found if loo is not None]
    if len(parts) < len(found):
        raise ValueError(
            f"fit: expected one that allows leave-one-out; got one that does not: {found[0][1]}."
        )
    rows = parts[0].rows
    if not all(np.array_equal(part.rows.weights, rows.weights) for part in parts):
        raise ValueError(
            "fit: expected the same row_weights for all priors; got different ones, so the data "
            "are not the same."
        )
    k = np.array([float(np.max(part.pareto_k)) for part in parts])
    terms = np.stack([part.elpd_i for part in parts])
    _check_finite("fit", "leave-one-out densities", terms)
    values = {
        "elpd_loo": [part.elpd for part in parts],
        "elpd_loo_se": [part.se for part in parts],
        "pareto_k": k,
    }
    found = xr.Dataset({name: ("prior", np.asarray(array)) for name, array in values.items()})
    return found, between_rows(terms, np.array([part.reliable for part in parts]), rows)


def _of_cross_validation(found: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    terms = found["elpd_i"].transpose("prior", "obs_id").to_numpy()
    _check_finite("cross_validation", "elpd_i", terms)
    kept = {
        "elpd_cv": found["elpd"],
        "elpd_cv_se": found["elpd_se"],
        "effective_parameters_cv": found["effective_parameters"],
    }
    whole = np.ones(len(terms), bool)
    if "noise_collapsed" in found:
        whole = ~found["noise_collapsed"].any("fold").to_numpy()
    return xr.Dataset(kept), between_rows(terms, whole, Rows.of(found))
