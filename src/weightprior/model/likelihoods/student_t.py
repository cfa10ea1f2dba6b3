"""The Student-t likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import zeta

from weightprior.model._distributions import LearnedStudentT
from weightprior.model.likelihoods._fields import set_positive
from weightprior.model.likelihoods._scaled import Scaled, of_outputs, set_noise
from weightprior.model.likelihoods.terms import latent_of_outputs, per_target

__all__ = ["StudentT"]

# Centre and scale of the default prior of the logarithm of learned degrees of freedom.
_LOG_DF_PRIOR = (2.5, 0.8)
# Up to this many degrees of freedom, differences of trigammas lose at most five digits to rounding.
# Above, their series is right to more than seven digits.
_MANY = 20.0
# Coefficients of that series in 1/df, from the fourth power: see `_shape_given_scale`.
_SERIES = (3 / 2, -3.0, 7 / 2, -3.0, 11 / 2, -15.0, 15 / 2)


@dataclass(frozen=True)
class StudentT(Scaled):
    """Student-t noise around the outputs: robust to outliers.

    Parameters
    ----------
    df : float, optional
        Degrees of freedom, if they are known. None: they are learned through the latent `log_df`,
        one per output. The mean of a target is the output for ``df > 1``.
    noise : float or sequence of float, optional
        The scale in units of y, if it is known: a number, or one per output. None: it is learned
        through the latent `log_noise`, one per output.

    Notes
    -----
    Few rows say little about degrees of freedom, so that their prior matters. By default `log_df`
    is normal around 2.5 with a scale of 0.8: 90 % of it is between 3.3 and 45 degrees of freedom.
    For the Gamma(2, rate 0.1) of Juárez and Steel, this is between 3.6 and 47. By default
    `log_noise` is normal around -1 with a scale of 1, as for `Gaussian`. For other priors, pass
    ``latents={"log_df": (centre, scale)}`` to `normal_prior`.

    References
    ----------
    M. A. Juárez and M. F. J. Steel, Model-based clustering of non-Gaussian panel data based on
    skew-t distributions, Journal of Business & Economic Statistics 28, 2010.
    :doi:`10.1198/jbes.2009.07145`

    K. L. Lange, R. J. A. Little and J. M. G. Taylor, Robust statistical modeling using the t
    distribution, JASA 84, 1989 (the expected information).
    :doi:`10.1080/01621459.1989.10478852`

    Examples
    --------
    >>> import weightprior as wp
    >>> wp.StudentT(df=4.0)
    StudentT(df=4.0, noise=None)
    >>> list(wp.StudentT().latents(num_outputs=1))
    ['log_noise', 'log_df']
    """

    df: float | None = None
    noise: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        set_positive(self, "df", optional=True)
        set_noise(self)

    def latents(self, num_outputs):
        """Return the logs of noise and degrees of freedom, one per output, if they are learned."""
        found = super().latents(num_outputs)
        if self.df is None:
            found["log_df"] = latent_of_outputs(
                num_outputs, _LOG_DF_PRIOR, "df", limit="a normal law"
            )
        return found

    def distribution(self, output, weights):
        location = per_target(output)
        law = dist.StudentT if self.df is not None else LearnedStudentT
        return law(
            of_outputs(self._df(weights), location), location, self.noise_of(location, weights)
        )

    def information_root(self, output, weights):
        about_outputs = super().information_root(output, weights)
        if self.df is not None:
            return about_outputs
        df = jnp.exp(weights["log_df"]).ravel().astype(output.dtype)
        # The information about the degrees of freedom and the scale is joint.
        root = df * jnp.sqrt(_shape_given_scale(df))
        about_scale = jnp.sqrt(2 * df / (df + 3))
        cross = -2 * df / ((df + 1) * (df + 3)) / about_scale
        if self.noise is not None:
            return jax.scipy.linalg.block_diag(about_outputs, jnp.diag(jnp.hypot(cross, root)))
        zero = jnp.zeros((df.size, df.size), df.dtype)
        about_latents = [[jnp.diag(about_scale), zero], [jnp.diag(cross), jnp.diag(root)]]
        return jax.scipy.linalg.block_diag(about_outputs, jnp.block(about_latents))

    def _df(self, weights):
        return jnp.exp(weights["log_df"]) if self.df is None else self.df

    def _information_about_location(self, weights):
        df = self._df(weights)
        return (df + 1) / (df + 3)

    @property
    def _information_about_scale(self):
        return None if self.df is None else 2 * self.df / (self.df + 3)


def _shape_given_scale(df: jax.Array) -> jax.Array:
    """Compute the expected information about df that remains if the scale is unknown."""
    few = jnp.minimum(df, _MANY)
    trigammas = zeta(jnp.full_like(few, 2.0), few / 2) - zeta(
        jnp.full_like(few, 2.0), (few + 1) / 2
    )
    rest = (few + 5) / (2 * few * (few + 1) * (few + 3)) + 2 / ((few + 1) ** 2 * few * (few + 3))
    inverse = 1 / jnp.maximum(df, _MANY)
    series = inverse**4 * jnp.polyval(jnp.asarray(_SERIES[::-1], df.dtype), inverse)
    return jnp.where(df < _MANY, trigammas / 4 - rest, series)
