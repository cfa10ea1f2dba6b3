"""How well a prior foretold the data: their evidence, in nats."""

from typing import NamedTuple

import numpy as np
import xarray as xr

from weightprior.draws import check_tree, lay_out
from weightprior.inference.tempered import doubts

__all__ = ["log_evidence"]


class _Value(NamedTuple):
    log_evidence: float
    error: float
    reason: str


def log_evidence(fit: xr.DataTree) -> xr.Dataset:
    """Read the evidence of the data off a fit, and judge whether it can be relied on.

    The evidence is the probability density of the targets under the prior, all weights integrated
    out: what decides between priors without held-out data.

    Parameters
    ----------
    fit : DataTree
        What `fit_tempered`, `fit_laplace` or `fit_vi` returns.

    Returns
    -------
    Dataset
        With the dim `prior` where the fit has it:

        - `log_evidence`, in nats, and `error`, its standard error; NaN where it is not known;
        - `reliable`, and the `reason` where it is not: neighbouring temperatures share too few
          draws, chains disagree, a coarser ladder gives something else, or it is Laplace's or the
          lower bound of variational inference.

    Raises
    ------
    ValueError
        Where the fit has no estimate of it.

    References
    ----------
    D. J. C. MacKay, Bayesian interpolation, Neural Computation 4, 1992.
    :doi:`10.1162/neco.1992.4.3.415`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> priors = {s: wp.normal_prior(bnn, scale=s) for s in (0.1, 1.0, 10.0)}
    >>> fit = wp.fit_laplace(bnn, x, 2 * x[:, 0], prior=wp.stack_priors(priors))
    >>> found = wp.log_evidence(fit)
    >>> found["log_evidence"].idxmax().item()
    1.0
    """
    check_tree(fit)
    group = next((name for name in _JUDGES if name in fit.children), None)
    if group is None:
        raise ValueError(
            f"fit: expected one with an estimate of the evidence; got one by "
            f"{fit.attrs.get('method')!r}. Fit with weightprior.fit_tempered."
        )
    known = fit[group].dataset
    parts = [known.isel(prior=i) for i in range(known.sizes.get("prior", 0))] or [known]
    values = [_JUDGES[group](part, bool(fit.attrs["exact"])) for part in parts]
    pieces = [
        {
            "log_evidence": value.log_evidence,
            "error": value.error,
            "reliable": not value.reason,
            "reason": value.reason,
        }
        for value in values
    ]
    found = lay_out(pieces, (), {}, fit["posterior"].coords)
    found["log_evidence"].attrs["units"] = found["error"].attrs["units"] = "nats"
    found.attrs["method"] = fit.attrs["method"]
    return found


def _of_ladder(ladder: xr.Dataset, exact: bool) -> _Value:
    value, error = (float(ladder[name][-1]) for name in ("log_evidence", "log_evidence_se"))
    return _Value(value, error, doubts(ladder))


def _of_laplace(known: xr.Dataset, exact: bool) -> _Value:
    value = float(known["log_evidence"])
    if exact:
        return _Value(value, 0.0, "")
    alike = float(known["log_num_symmetries"])
    reason = (
        "Laplace's approximation around one mode, whose error is not known; equivalent modes, "
        f"which would add {alike:.1f} nats, are not counted: fit_tempered estimates the evidence"
    )
    return _Value(value, np.nan, reason)


def _of_bound(known: xr.Dataset, exact: bool) -> _Value:
    reason = "the ELBO, a lower bound: fit_tempered estimates the evidence"
    return _Value(float(known["elbo"]), float(known["elbo_se"]), reason)


_JUDGES = {"tempering": _of_ladder, "laplace": _of_laplace, "variational": _of_bound}
