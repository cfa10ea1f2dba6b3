"""Code length of the data under a prior, in bits: the code of a fit, and its parts."""

from typing import Any

import numpy as np
import xarray as xr

from weightprior.evidence.log_evidence import evidence_of
from weightprior.fits.layout import SAMPLE_DIMS
from weightprior.fits.reading import check_tree

__all__ = ["code_length"]

_OF_A_MIXTURE = "the mixture of all networks, weighted by the prior: minus the log evidence"
_BITS_BACK = (
    "bits-back: an upper bound of minus the log evidence, what the approximation costs more"
)


def code_length(fit: xr.DataTree) -> xr.Dataset:
    """Compute the bits needed to send the targets to a receiver with the inputs and the prior.

    The code length is minus the base-two logarithm of the evidence, or an upper bound of it. For
    real-valued targets it is relative to a density of one in their units: use it for differences
    between priors of one data set.

    Variational inference has a code of its own, bits-back. Weights drawn from the approximation
    are sent at some fine precision, then the targets given them. The receiver knows the
    approximation in the end, and recovers the bits that chose among its draws. At any precision,
    the weights then cost the divergence of the approximation from the prior.

    Parameters
    ----------
    fit : DataTree
        Result of `fit_tempered`, `fit_laplace` or `fit_vi`. For a MAP use `two_part_code`, and for
        any fit function `prequential_code`.

    Returns
    -------
    Dataset
        With the dim `prior` if the fit has it:

        - `bits` and `bits_error`, `bits_per_observation` and its error (per row, or per unit of
          `row_weights`);
        - `reliable` and `reason`, as in `log_evidence`;
        - for a fit by `fit_vi` its parts, which sum to `bits`: `bits_residuals`, those of the
          targets given the weights, and `bits_weights`, the divergence of the approximation from
          the prior; and the error of each. Their errors have opposite signs, so `bits` may be more
          precise than either part.

        The attribute `code` names the code.

    Raises
    ------
    ValueError
        If the fit has no estimate of the evidence.

    References
    ----------
    P. D. Grünwald, The Minimum Description Length Principle, 2007.
    :doi:`10.7551/mitpress/4643.001.0001`

    G. E. Hinton and D. van Camp, Keeping the neural networks simple by minimizing the description
    length of the weights, COLT 1993. :doi:`10.1145/168304.168306`

    A. Honkela and H. Valpola, Variational learning and bits-back coding: an information-theoretic
    view to Bayesian learning, IEEE Transactions on Neural Networks 15, 2004.
    :doi:`10.1109/TNN.2004.828762`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> path = wp.stack_priors({s: wp.normal_prior(bnn, scale=s) for s in (0.1, 1.0)})
    >>> fit = wp.fit_laplace(bnn, x, 2 * x[:, 0], prior=path)
    >>> wp.code_length(fit)["bits"].idxmin().item()
    1.0
    """
    check_tree(fit)
    if fit.attrs["draws"] == "point":
        raise ValueError(
            "fit: expected one with an estimate of the evidence; got a MAP, which is one point. "
            "For its code use weightprior.two_part_code; for the evidence fit with "
            "weightprior.fit_tempered."
        )
    found, counts = evidence_of(fit), _num_observations(fit)
    bits, error = -found["log_evidence"] / np.log(2), found["error"] / np.log(2)
    bounded = bool(found["is_bound"].any())
    return xr.Dataset(
        {
            "bits": bits,
            "bits_error": error,
            "bits_per_observation": bits / counts,
            "bits_per_observation_error": error / counts,
            **(_bits_back(fit) if bounded else {}),
            "reliable": found["reliable"],
            "reason": found["reason"],
        },
        attrs={"code": _BITS_BACK if bounded else _OF_A_MIXTURE},
    )


def _num_observations(fit: xr.DataTree) -> Any:
    constants = fit["constant_data"].dataset
    if "row_weights" not in constants:
        return constants.sizes["obs_id"]
    return constants["row_weights"].sum("obs_id").drop_vars("prior", errors="ignore")


def _bits_back(fit: xr.DataTree) -> dict[str, xr.DataArray]:
    """Return the two parts of the bits-back code, from the same draws as its total."""
    stats = fit["sample_stats"].dataset
    log_prior = fit["log_prior"].dataset.to_dataarray().sum("variable")
    terms = {"residuals": log_prior - stats["lp"], "weights": stats["log_q"] - log_prior}
    draws = stats["lp"].sizes["chain"] * stats["lp"].sizes["draw"]
    found = {}
    for name, nats in terms.items():
        found[f"bits_{name}"] = nats.mean(SAMPLE_DIMS) / np.log(2)
        # The draws of an approximation are independent.
        error = nats.std(SAMPLE_DIMS, ddof=1) / np.sqrt(draws)
        found[f"bits_{name}_error"] = error / np.log(2)
    return found
