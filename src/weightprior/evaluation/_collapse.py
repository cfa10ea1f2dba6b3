"""Collapse of a learned noise: it is far smaller than the residuals of held-out rows."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightprior import _checks
from weightprior.model.bnn import BNN

__all__ = ["Collapse", "collapse_of", "noise_of_draws", "warn_collapse"]

# Held-out residuals this many times the noise cost 50 nats a row. An overfit with a meaningful
# noise comes nowhere near that.
_MANY = 10.0


class Collapse(NamedTuple):
    """Fits with a learned noise that may have collapsed.

    Attributes
    ----------
    fits : array of bool of shape (fits,)
        True for the fits with a collapsed noise.
    noise : float
        The smallest noise.
    residual : float
        Median size of the residuals of held-out rows.
    """

    fits: np.ndarray
    noise: float
    residual: float

    @property
    def any(self) -> bool:
        """True if the noise of any fit collapsed."""
        return bool(self.fits.any())

    def told(self, bnn: BNN) -> tuple[str, str]:
        """Return the finding that a noise collapsed, and advice, in a few words."""
        centers = bnn.likelihood.noise_centers(self.residual)
        held = {name: (round(center, 2), 0.1) for name, center in centers.items()}
        finding = (
            f"a learned noise collapsed to {self.noise:.2g} (held-out residuals are about "
            f"{self.residual:.2g})"
        )
        advice = (
            ", so densities of these rows mean nothing. Pass a known noise, such as "
            f"noise={self.residual:.2g}; or hold it with a tight prior, "
            f"normal_prior(bnn, latents={held}); or give the weights smaller scales."
        )
        return finding, advice


def noise_of_draws(bnn: BNN, weights: Mapping[str, np.ndarray]) -> float:
    """Compute the median over draws of a learned noise; NaN if no noise is learned.

    With several outputs, it is that of their geometric mean. Only the noise of a normal likelihood
    is returned: other likelihoods with a learned noise tolerate outliers.
    """
    learned = bnn.likelihood.noise_centers(1.0) if bnn.likelihood.normal_outputs else {}
    if not learned:
        return np.nan
    (name,) = learned
    with jax.enable_x64(True):
        natural = np.asarray(bnn.latents[name].natural(jnp.asarray(weights[name], jnp.float64)))
    per_draw = np.log(natural).reshape(*natural.shape[:2], -1).mean(axis=-1)
    return float(np.exp(np.median(per_draw)))


def collapse_of(
    bnn: BNN, noises: Sequence[float], densities: Sequence[np.ndarray]
) -> Collapse | None:
    """Tell which fits have a noise that collapsed; return None if no noise is learned.

    The noise of a fit collapsed if it is ten times smaller than both the median residual of its
    own held-out rows and that of all fits. A single row far off, in a fold of its own, is an
    outlier instead.

    Parameters
    ----------
    bnn : BNN
        The model.
    noises : sequence of float
        Noise of each fit, by `noise_of_draws`.
    densities : sequence of array of shape (rows,)
        Log predictive density of the rows that each fit did not see.
    """
    columns = bnn.likelihood.num_targets(bnn.network.num_outputs)
    residuals = [
        _residuals(noise, found, columns) for noise, found in zip(noises, densities, strict=True)
    ]
    whole = np.concatenate([*residuals, np.zeros(0)])
    if np.isnan(noises).any():
        return None
    typical = float(np.median(whole)) if whole.size else 0.0
    own = [float(np.median(sizes)) if sizes.size else 0.0 for sizes in residuals]
    bad = _MANY * np.asarray(noises) < np.minimum(own, typical)
    return Collapse(bad, float(np.min(noises)), typical)


def warn_collapse(
    function: str, bnn: BNN, labels: Sequence[Any], found: Sequence[Collapse | None]
) -> None:
    """Warn once about fits with a collapsed noise; name the prior with the worst."""
    bad = [(label, one) for label, one in zip(labels, found, strict=True) if one and one.any]
    if not bad:
        return
    label, worst = min(bad, key=lambda pair: pair[1].noise)
    under = "" if label is None else f"under prior {label!r}, "
    more = f" (and under {len(bad) - 1} more)" if len(bad) > 1 else ""
    finding, advice = worst.told(bnn)
    share = f"in {worst.fits.sum()} of {len(worst.fits)} folds"
    _checks.warn(f"{function}: {under}{share}{more}, {finding}{advice}")


def _residuals(noise: float, log_density: Any, columns: int) -> np.ndarray:
    """Compute the sizes of residuals with these log densities under normal noise."""
    peak = -columns * (np.log(noise) + 0.5 * np.log(2 * np.pi))
    short = np.maximum(peak - np.asarray(log_density, float), 0.0)
    return noise * np.sqrt(2 * short / columns)
