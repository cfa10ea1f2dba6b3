"""A likelihood that was written elsewhere: in a NumPyro model that contains a network."""

from dataclasses import dataclass
from typing import ClassVar, Never

from weightprior.model.likelihoods.base import Likelihood

__all__ = ["Elsewhere"]


@dataclass(frozen=True)
class Elsewhere(Likelihood):
    """The likelihood of a larger model, which only that model can compute.

    Attributes
    ----------
    declared : Likelihood
        Likelihood of the BNN. The fit holds its latents.
    """

    is_known: ClassVar[bool] = False
    declared: Likelihood

    def latents(self, num_outputs):
        return self.declared.latents(num_outputs)

    def distribution(self, output, weights) -> Never:
        """Raise: there is no such density."""
        raise ValueError(
            "fit: expected targets that follow the likelihood of bnn; got a fit of a NumPyro model "
            "in which more than the network decides them (a random effect, an offset, a likelihood "
            "of its own). Evaluate that model: numpyro.infer.Predictive, numpyro.infer."
            "log_likelihood. These parts of the fit are right: its log_likelihood, arviz.loo, the "
            "network's outputs (predict)."
        )

    targets = distribution
