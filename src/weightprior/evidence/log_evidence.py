"""Evidence of the data under a prior, in nats."""

import numpy as np
import xarray as xr

from weightprior.fits.reading import check_tree

__all__ = ["evidence_of", "log_evidence"]


def log_evidence(fit: xr.DataTree) -> xr.Dataset:
    """Read the evidence of the data off a fit, and judge if it is reliable.

    The evidence is the probability density of the targets under the prior, with all weights
    integrated out. It compares priors without held-out data.

    Parameters
    ----------
    fit : DataTree
        Result of `fit_tempered`, `fit_laplace` or `fit_vi`.

    Returns
    -------
    Dataset
        With the dim `prior` if the fit has it:

        - `log_evidence`, in nats, and `error`, its standard error; NaN if it is not known;
        - `reliable`, and the `reason` if it is not: neighbouring temperatures share too few draws,
          chains disagree, a coarser ladder gives another value, or it is Laplace's estimate or the
          lower bound of variational inference.

    Raises
    ------
    ValueError
        If the fit has no estimate of the evidence.

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
    found = evidence_of(fit)[["log_evidence", "error", "reliable", "reason"]]
    found["log_evidence"].attrs["units"] = found["error"].attrs["units"] = "nats"
    found.attrs["method"] = fit.attrs["method"]
    return found


def evidence_of(fit: xr.DataTree) -> xr.Dataset:
    """Return the evidence that a method has written into its fit; raise if there is none."""
    check_tree(fit)
    if "evidence" not in fit.children:
        raise ValueError(
            f"fit: expected one with an estimate of the evidence; got one by "
            f"{fit.attrs.get('method')!r}. Fit with weightprior.fit_tempered."
        )
    found = fit["evidence"].to_dataset()
    reliable = found["reason"] == ""
    return found.assign(reliable=(reliable.dims, np.asarray(reliable)))
