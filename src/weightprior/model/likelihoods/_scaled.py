"""Location families: targets around the outputs, with a scale that is known or learned."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightprior import _checks
from weightprior.model.likelihoods.base import Likelihood
from weightprior.model.likelihoods.terms import (
    Latent,
    Recession,
    Restated,
    latent_of_outputs,
    per_target,
)
from weightprior.model.sites import Weights

__all__ = ["Scaled", "of_outputs", "set_noise"]

# Centre and scale of the default prior of the noise's logarithm, in log units of y.
_LOG_NOISE_PRIOR = (-1.0, 1.0)


class Scaled(Likelihood):
    """A location family with a scale `noise`, known or learned through the latent `log_noise`."""

    noise: float | Sequence[float] | None

    def check_outputs(self, num_outputs: int) -> None:
        if isinstance(self.noise, tuple) and len(self.noise) != num_outputs:
            raise ValueError(
                f"noise: expected a number, or one for each of the {num_outputs} outputs of the "
                f"network; got {len(self.noise)}."
            )

    def latents(self, num_outputs: int) -> dict[str, Latent]:
        """Return the logarithm of the noise, one per output, if it is learned."""
        if self.noise is not None:
            return {}
        information = self._information_about_scale
        latent = latent_of_outputs(num_outputs, _LOG_NOISE_PRIOR, "noise", information)
        return {"log_noise": latent}

    def noise_of(self, location: jax.Array, weights: Weights) -> jax.Array:
        """Return the scale of every target around its location, of that shape."""
        noise = jnp.exp(weights["log_noise"]) if self.noise is None else self.noise
        return of_outputs(noise, location)

    def noise_centers(self, noise: float) -> dict[str, float]:
        """Return the logarithm of the noise, if it is learned."""
        return {} if self.noise is not None else {"log_noise": float(np.log(noise))}

    def restated(self, shift, factor, num_outputs):
        """Return the distribution around other locations, its noise multiplied like the targets."""
        if self.noise is None:
            added = np.log(factor) if num_outputs > 1 else np.log(factor[0])
            return Restated(self, factor, shift, {"log_noise": added})
        known: Any = self  # its subclasses are dataclasses
        noise = np.broadcast_to(self.noise * factor, (num_outputs,))
        noise = float(noise[0]) if num_outputs == 1 else noise.tolist()
        return Restated(replace(known, noise=noise), factor, shift, {})

    def recession(self, y, num_outputs):
        """Return no direction: a target holds its location."""
        never = np.zeros((len(y), num_outputs), bool)
        return Recession.of_each(never, never)

    def learned_scale(self, output, weights):
        """Return the noise, if it is learned."""
        return None if self.noise is not None else self.noise_of(per_target(output), weights)

    def scale_advice(self, spread, num_rows):
        """Advise a known noise, or a prior so narrow that all rows move it by a factor of e."""
        held = f"{np.log(spread) + _LOG_NOISE_PRIOR[0]:.2g}, {num_rows**-0.5:.2g}"
        return (
            f"Pass a known noise, {type(self).__name__}(noise=...), or hold it by a narrow prior: "
            f"normal_prior(bnn, latents={{'log_noise': ({held})}})."
        )

    def information_root(self, output, weights):
        """Return the root of the information about locations: a constant over the squared scale."""
        scale = self.noise_of(output[None, :], weights)[0]
        about_location = jnp.asarray(self._information_about_location(weights), output.dtype)
        return jnp.diag(jnp.sqrt(about_location) / scale)

    def _information_about_location(self, weights: Weights) -> Any:
        """Return the expected information about the location, for a scale of 1."""
        raise NotImplementedError

    @property
    def _information_about_scale(self) -> Any:
        """Expected information about the log scale; None if it is found with that of others."""
        raise NotImplementedError


def set_noise(likelihood: Scaled) -> None:
    """Make floats of a known noise, or raise if a number is not positive."""
    noise: Any = likelihood.noise
    if noise is None:
        return
    # By its attributes: scalars of numpy and JAX have `__len__`, but calling it raises.
    several = not isinstance(noise, str | bytes) and hasattr(noise, "__iter__") and np.ndim(noise)
    if several:
        values = tuple(_checks.number(f"noise[{i}]", v, above=0) for i, v in enumerate(noise))
    else:
        values = _checks.number("noise", noise, above=0)
    object.__setattr__(likelihood, "noise", values)


def of_outputs(number: Any, location: jax.Array) -> jax.Array:
    """Broadcast a number, or one per output, to the shape of the locations."""
    if isinstance(number, tuple):
        number = jnp.stack([jnp.asarray(one, location.dtype) for one in number])
    number = jnp.asarray(number, location.dtype)
    number = number.reshape(()) if number.size == 1 else number[None, :]
    return jnp.broadcast_to(number, location.shape)
