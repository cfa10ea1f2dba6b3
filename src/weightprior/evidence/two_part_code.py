"""Code in two parts: rounded weights, and then the targets given these weights."""

from typing import Any

import numpy as np
import xarray as xr
from scipy.special import log_ndtr

from weightprior import _checks
from weightprior.fits.evaluate import evaluate
from weightprior.fits.inputs import inputs_of
from weightprior.fits.layout import lay_out
from weightprior.fits.reading import parts_of, targets_of
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.priors.normal import NormalPrior

__all__ = ["two_part_code"]

# Widths of cells, in prior sds, to choose from: from widths for which the middle cell holds nearly
# all of the prior, to widths that only weights known to nine digits could need.
_WIDTHS = 2.0 ** np.arange(3, -31, -1)
# In cells narrower than this, in sds, differences of probabilities lose digits.
_NARROW = 1e-4


def two_part_code(
    bnn: BNN, fit: xr.DataTree, x: Any = None, *, precision: float | None = None
) -> xr.Dataset:
    """Compute the bits needed to send the MAP's weights, rounded, and the targets given them.

    Every weight is rounded to the nearest point of a grid around the prior's centre, and costs
    minus the log of the prior's probability of the cell around that point. The targets then cost
    minus their log density under the network with the rounded weights. With coarse cells, weights
    cost few bits, and targets many.

    Parameters
    ----------
    bnn : BNN
        The model.
    fit : DataTree
        Result of `fit_map` or `fit_laplace`. The best restart is sent.
    x : array or data frame of shape (rows, features), optional
        The inputs that were fitted; needed for a fit of a table on disk, which does not hold them.
    precision : float, optional
        The width of the cells, in units of each weight's prior sd. By default the power of two,
        from 8 down to 2^-30, with the shortest code; the choice costs bits as well.

    Returns
    -------
    Dataset
        With the dim `prior` if the fit has it:

        - `bits`, the sum of `bits_weights` for the weights, `bits_residuals` for the targets given
          these, and `bits_precision` for the choice of the precision (0 if it was given); and
          `bits_per_observation` (per row, or per unit of `row_weights`);
        - `bits_weights_by_layer` (dim `layer`, with `log_noise` as a layer);
        - `precision`, the width of the cells in prior sds, and ``precision.<site>``, in the units
          of the weights.

    Raises
    ------
    TypeError, ValueError
        For a fit without a MAP, of another model, or with a prior that is flat somewhere: a weight
        with a flat prior has no code. For inputs that are needed and not passed, or that differ
        from those that were fitted.

    Notes
    -----
    The cells of a grid hold all of the prior's probability. So a code of this length exists (to
    within a bit or two in all, as for any code of whole bits). It is longer than minus the log
    evidence under the prior on the grid, since it takes one term alone of that sum. The excess is
    at least the bits that distinguish weights that explain the data about as well, among them the
    permutations of hidden units.
    For real-valued targets it is relative to a density of one in their units, as in `code_length`.

    References
    ----------
    C. S. Wallace and P. R. Freeman, Estimation and inference by compact coding, Journal of the
    Royal Statistical Society B 49, 1987. :doi:`10.1111/j.2517-6161.1987.tb01695.x`

    J. Rissanen, Modeling by shortest data description, Automatica 14, 1978.
    :doi:`10.1016/0005-1098(78)90005-5`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_map(bnn, x, 1.83 * x[:, 0] + 0.31, prior=wp.normal_prior(bnn))
    >>> code = wp.two_part_code(bnn, fit)
    >>> float(code["precision"])  # where the posterior's sds are 0.04 and 0.02
    0.0625
    """
    parts = parts_of(bnn, fit)
    if "restarts" not in fit.children:
        raise ValueError(
            f"fit: expected one with a MAP; got one by {fit.attrs.get('method')!r}. Fit with "
            "weightprior.fit_map. For a fit with an evidence use weightprior.code_length."
        )
    if precision is not None:
        precision = _checks.number("precision", precision, above=0)
    widths = _WIDTHS if precision is None else np.array([precision])
    inputs, y = inputs_of(bnn, fit, x), targets_of(fit)
    for part in parts:
        _checks.prior(bnn, part.prior, proper="a weight without a probability has no code")
    pieces = []
    for part in parts:
        restarts = part.fit["restarts"].dataset.isel(restart=0)
        best = {name: restarts[name].to_numpy().astype(np.float64) for name in bnn.sites}
        pieces.append(_of_part(bnn, best, part.prior, (inputs, y, part.row_weights), widths))
    layers = list(dict.fromkeys(site.layer for site in bnn.sites.values()))
    dims = {f"precision.{name}": site.dims for name, site in bnn.sites.items()}
    dims["bits_weights_by_layer"] = ("layer",)
    return lay_out(pieces, (), dims, {**fit["posterior"].coords, "layer": layers})


def _of_part(bnn: BNN, mode: Any, prior: NormalPrior, data: Any, widths: Any) -> dict[str, Any]:
    """Find the shortest code of one prior's MAP among those with cells of these widths."""
    weights, nats = {}, {}
    for name, values in mode.items():
        weights[name], nats[name] = _rounded(values, prior.loc[name], prior.scale[name], widths)
    _, _, counts = data
    told = {name: values[None] for name, values in weights.items()}
    [residuals] = evaluate(_log_likelihood, bnn, told, *data)
    of_layer: dict[str, list[np.ndarray]] = {}
    for name, values in nats.items():
        of_layer.setdefault(bnn.sites[name].layer, []).append(values / np.log(2))
    by_layer = np.array([np.sum(sites, axis=0) for sites in of_layer.values()])
    parts = {
        "bits_weights": by_layer.sum(axis=0),
        "bits_residuals": -residuals / np.log(2),
        "bits_precision": np.full(len(widths), np.log2(len(widths))),
    }
    bits = np.sum(list(parts.values()), axis=0)
    if not np.isfinite(bits).any():
        raise FloatingPointError(
            "two_part_code: the density of the targets is not finite under the rounded weights. "
            "Standardise x and y, or pass a smaller precision."
        )
    best = int(np.argmin(np.where(np.isfinite(bits), bits, np.inf)))
    return {
        "bits": bits[best],
        **{name: values[best] for name, values in parts.items()},
        "bits_per_observation": bits[best] / counts.sum(),
        "bits_weights_by_layer": by_layer[:, best],
        "precision": widths[best],
        **{f"precision.{name}": widths[best] * scale for name, scale in prior.scale.items()},
    }


def _rounded(values: Any, loc: Any, scale: Any, widths: Any) -> tuple[np.ndarray, np.ndarray]:
    """Round one site's weights to the grid of each width; return them and their cost in nats."""
    width = widths.reshape(-1, *[1] * values.ndim)
    index = np.rint((values - loc) / scale / width)
    nats = -_log_mass(np.abs(index), width)
    return loc + scale * width * index, nats.sum(axis=tuple(range(1, nats.ndim)))


def _log_mass(index: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Compute the log probability, under a standard normal, of the cell `index` from the middle.

    It is the difference of the upper tails at the cell's edges, which is precise even far out. For
    narrow cells the density is used; its error is a 24th of the squared width in sds of the tail.
    """
    narrow = width * np.maximum(index * width, 1.0) < _NARROW
    upper, lower = log_ndtr(-(index - 0.5) * width), log_ndtr(-(index + 0.5) * width)
    with np.errstate(divide="ignore"):  # in a narrow cell, both may be equal
        exact = upper + np.log(-np.expm1(lower - upper))
    density = -0.5 * np.square(index * width) - 0.5 * np.log(2 * np.pi) + np.log(width)
    return np.where(narrow, density, exact)


def _log_likelihood(bnn: BNN, weights: Any, x: Any, y: Any, row_weights: Any) -> Any:
    return density.log_likelihood(bnn, weights, x, y, row_weights)
