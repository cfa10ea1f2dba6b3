"""The Student-t likelihood."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpyro.distributions as dist

from weightprior.model.likelihoods._scaled import Scaled
from weightprior.model.likelihoods.base import per_target, set_positive

__all__ = ["StudentT"]


@dataclass(frozen=True)
class StudentT(Scaled):
    """Student-t noise around the outputs: robust to outliers.

    Parameters
    ----------
    df : float
        Degrees of freedom, known. The mean of a target is the output for ``df > 1``.
    noise : float, optional
        The scale in units of y, where it is known. None: it is learned through the latent
        `log_noise`, one per output.

    Examples
    --------
    >>> import weightprior as wp
    >>> wp.StudentT(df=4.0)
    StudentT(df=4.0, noise=None)
    """

    df: float
    noise: float | None = None

    def __post_init__(self) -> None:
        set_positive(self, "df")
        set_positive(self, "noise", optional=True)

    def distribution(self, output, weights):
        location = per_target(output)
        df = jnp.full_like(location, self.df)
        return dist.StudentT(df, location, self.noise_of(location, weights))

    @property
    def _information(self):
        return (self.df + 1) / (self.df + 3), 2 * self.df / (self.df + 3)
