"""The Gaussian likelihood with a noise that depends on x."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from weightprior.model._distributions import NormalLogScale
from weightprior.model.likelihoods.base import Likelihood
from weightprior.model.likelihoods.terms import RandomTerms, Recession, Restated, per_target

__all__ = ["HeteroscedasticGaussian"]


@dataclass(frozen=True)
class HeteroscedasticGaussian(Likelihood):
    """Gaussian noise with a size that depends on x: two outputs, the mean and the log of the sd.

    For k targets the outputs are the k means first, then the k logs of their sds. In a fit, the dim
    `output` of the weights has all of these; that of targets and predictions has the targets.

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, num_outputs=2), wp.HeteroscedasticGaussian())
    """

    no_offset: ClassVar[str] = "it would be added to the log standard deviation as well"
    loss: ClassVar[str] = "Gaussian negative log likelihood"

    def num_targets(self, num_outputs):
        return num_outputs // 2

    def output_names(self, columns, num_outputs):
        count = self.num_targets(num_outputs)
        if count == 1:
            return ["mean", "log_sd"]
        targets = self.target_names(columns, num_outputs) or range(count)
        return [f"{kind} {target}" for kind in ("mean", "log_sd") for target in targets]

    def check_outputs(self, num_outputs: int) -> None:
        if num_outputs % 2:
            raise ValueError(
                "network: expected num_outputs=2 for HeteroscedasticGaussian (the mean and the log "
                f"standard deviation), or twice the number of targets; got {num_outputs}."
            )

    def distribution(self, output, weights):
        location, log_noise = jnp.split(output, 2, axis=1)
        return NormalLogScale(per_target(location), per_target(log_noise))

    def mean(self, output, weights):
        return per_target(output[:, : output.shape[1] // 2])

    def information_root(self, output, weights):
        log_noise = output[output.size // 2 :]
        roots = jnp.exp(-log_noise), jnp.full_like(log_noise, 2**0.5)
        return jnp.diag(jnp.concatenate(roots))

    def restated(self, shift, factor, num_outputs):
        multiplier = np.concatenate([factor, np.ones_like(factor)])
        return Restated(self, multiplier, np.concatenate([shift, np.log(factor)]), {})

    def recession(self, y, num_outputs):
        never = np.zeros((len(y), num_outputs), bool)
        return Recession.of_each(never, never)

    def learned_scale(self, output, weights):
        return jnp.exp(per_target(output[:, output.shape[1] // 2 :]))

    def scale_advice(self, spread, num_rows):
        return "Such targets tell no noise: take Gaussian(noise=...), with half as many outputs."

    def random_terms(self, output, weights, y):
        location, log_noise = jnp.split(output, 2, axis=1)
        residual = location - y.reshape(location.shape)
        return RandomTerms(residual * jnp.exp(-log_noise), -log_noise)
