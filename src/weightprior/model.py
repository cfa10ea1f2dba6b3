"""The model: a network, a likelihood, and the one density that every method evaluates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.core import Tracer

from weightprior import _checks
from weightprior._weights import Site, Weights
from weightprior.hierarchy import HierarchicalPrior
from weightprior.likelihoods import Likelihood
from weightprior.networks import MLP, HiddenUnits
from weightprior.priors import NormalPrior, check_scale

__all__ = ["BNN", "Prior"]

Prior = NormalPrior | HierarchicalPrior


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class BNN:
    """A Bayesian neural network: what is modelled, without a prior.

    Every latent is real-valued: weights, biases, and the noise as `log_noise`. So the MAP is the
    same for every method, and nothing has to be transformed.

    Parameters
    ----------
    network : MLP
        From `mlp`.
    likelihood : Gaussian, StudentT, HeteroscedasticGaussian, Bernoulli, Categorical or Poisson
        How the targets scatter around the network's outputs.

    Raises
    ------
    TypeError
        Where one of them is something else.
    ValueError
        Where the likelihood needs another number of outputs.

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(10, hidden=(32,)), wp.Gaussian())
    >>> sum(np.prod(site.shape, dtype=int) for site in bnn.sites.values()).item()
    386
    """

    network: MLP
    likelihood: Likelihood

    def __post_init__(self) -> None:
        if not isinstance(self.network, MLP):
            raise TypeError(f"network: expected a network from mlp(...); got {self.network!r}.")
        if not isinstance(self.likelihood, Likelihood):
            raise TypeError(
                "likelihood: expected an instance such as weightprior.Gaussian(); "
                f"got {self.likelihood!r}."
            )
        self.likelihood.check_outputs(self.network.num_outputs)

    def tree_flatten(self) -> tuple[tuple[Any, ...], MLP]:
        """Split into traced numbers (a known noise) and structure."""
        return (self.likelihood,), self.network

    @classmethod
    def tree_unflatten(cls, network, children):
        """Rebuild from traced numbers and structure."""
        new = object.__new__(cls)
        object.__setattr__(new, "network", network)
        object.__setattr__(new, "likelihood", children[0])
        return new

    @property
    def sites(self) -> dict[str, Site]:
        """Every latent of the model: the network's sites, and `log_noise` where it is learned."""
        return {**self.network.sites, **self.likelihood.sites(self.network.num_outputs)}

    def model(self, x, y=None, *, prior: Prior) -> None:
        """Write the NumPyro model, for any kernel or handler of NumPyro's.

        Parameters
        ----------
        x : array of shape (rows, features)
            Inputs.
        y : array, optional
            Targets. None: they are sampled.
        prior : NormalPrior or HierarchicalPrior
            A single prior, not a stacked one.

        Examples
        --------
        >>> import jax, numpyro, weightprior as wp
        >>> bnn = wp.BNN(wp.mlp(2, hidden=(3,)), wp.Bernoulli())
        >>> predictive = numpyro.infer.Predictive(bnn.model, num_samples=7)
        >>> draws = predictive(jax.random.key(0), np.ones((5, 2)), prior=wp.normal_prior(bnn))
        >>> draws["y"].shape
        (7, 5)
        """
        self.check_prior(prior, stacked=False, learned=True)
        dtype = jnp.result_type(float)
        above = prior.latents(dtype).items()
        given = prior.given({name: numpyro.sample(name, latent) for name, latent in above})
        weights = {
            name: numpyro.sample(name, given.distribution(name, dtype)) for name in self.sites
        }
        for name, value in self.likelihood.derived(weights).items():
            numpyro.deterministic(name, value)
        targets = self.targets(weights, x)
        with numpyro.plate("obs_id", targets.batch_shape[0]):
            observed = None if y is None else self._observed(y, targets, dtype)
            numpyro.sample("y", targets, obs=observed)

    def draw(self, key: jax.Array, prior: Prior, dtype: Any) -> dict[str, jax.Array]:
        """Draw every site from the prior, and the latents of the prior above them."""
        above = prior.latents(dtype)
        keys = iter(jax.random.split(key, len(self.sites) + len(above)))
        latents = {name: latent.sample(next(keys)) for name, latent in above.items()}
        given = prior.given(latents)
        return latents | {
            name: given.distribution(name, dtype).sample(next(keys)) for name in self.sites
        }

    def outputs(self, weights: Weights, x) -> jax.Array:
        """What the network says, before the likelihood turns it into targets.

        Parameters
        ----------
        weights : mapping of str to array
            An array for every site.
        x : array of shape (rows, features)
            Inputs.

        Returns
        -------
        array of shape (rows, outputs)
        """
        return self.through(lambda given: self.network.apply(given, x), weights)

    def hidden_units(self, weights: Weights, x) -> dict[str, HiddenUnits]:
        """Where the activations of every hidden layer are evaluated, and what they put out.

        Parameters
        ----------
        weights : mapping of str to array
            An array for every site.
        x : array of shape (rows, features)
            Inputs.

        Returns
        -------
        dict of str to HiddenUnits
            By layer name; each holds two arrays of shape (rows, units).
        """
        return self.network.hidden_units(weights, x)

    def through(self, function: Callable[[Weights], Any], weights: Weights) -> Any:
        """Value of a function of the network's weights, as this model has the network."""
        return function(weights)

    def targets(self, weights: Weights, x) -> dist.Distribution:
        """Distribution of the targets given the weights, a batch of rows.

        Parameters
        ----------
        weights : mapping of str to array
            An array for every site.
        x : array of shape (rows, features)
            Inputs.

        Returns
        -------
        numpyro.distributions.Distribution
            Of batch shape (rows,); with several outputs these are its event.
        """
        weights = _checks.arrays("weights", weights, self.sites)
        elementwise = self.likelihood.distribution(self.outputs(weights, x), weights)
        return elementwise.to_event(len(elementwise.batch_shape) - 1)

    def mean(self, weights: Weights, x) -> jax.Array:
        """E[y | weights, x].

        Parameters
        ----------
        weights : mapping of str to array
            An array for every site.
        x : array of shape (rows, features)
            Inputs.

        Returns
        -------
        array of shape (rows,) or (rows, outputs)
            The location, the rate or the probability of each target, or of each class.
        """
        weights = _checks.arrays("weights", weights, self.sites)
        return self.likelihood.mean(self.outputs(weights, x), weights)

    def log_prior(self, weights: Weights, prior: Prior) -> jax.Array:
        """Log density of the weights under the prior, in nats; a flat site adds nothing.

        Parameters
        ----------
        weights : mapping of str to array
            An array for every site, and for every latent of the prior above them.
        prior : NormalPrior or HierarchicalPrior
            A single prior.

        Returns
        -------
        array of shape ()
        """
        return reduce(add, self.log_prior_by_site(weights, prior).values())

    def log_prior_by_site(self, weights: Weights, prior: Prior) -> dict[str, jax.Array]:
        """Terms of `log_prior`, by site; those of latents above the weights first."""
        self.check_prior(prior, stacked=False, learned=True)
        weights = _checks.arrays("weights", weights, {**prior.sites, **self.sites})
        above = prior.latents(weights["output.weight"].dtype).items()
        given = prior.given(weights)
        return {
            **{name: latent.log_prob(weights[name]) for name, latent in above},
            **{
                name: given.distribution(name, weights[name].dtype).log_prob(weights[name])
                for name in self.sites
            },
        }

    def log_likelihood(self, weights: Weights, x, y, row_weights=None) -> jax.Array:
        """Log density of all targets given the weights, in nats.

        Parameters
        ----------
        weights : mapping of str to array
            An array for every site.
        x : array of shape (rows, features)
            Inputs.
        y : array of shape (rows,) or (rows, outputs)
            Targets.
        row_weights : array of shape (rows,), optional
            How often each row counts; once by default.

        Returns
        -------
        array of shape ()
        """
        terms = self.pointwise_log_likelihood(weights, x, y)
        if row_weights is None:
            return terms.sum()
        _checks.row_weights_shape(np.shape(row_weights), terms.shape)
        counts = jnp.asarray(row_weights, terms.dtype)
        # A row that does not count must not spoil the sum by overflowing.
        return jnp.where(counts > 0, counts * terms, jnp.zeros_like(terms)).sum()

    def pointwise_log_likelihood(self, weights: Weights, x, y) -> jax.Array:
        """Terms of `log_likelihood`, one per row: shape (rows,)."""
        weights = _checks.arrays("weights", weights, self.sites)
        targets = self.targets(weights, x)
        dtype = weights["output.weight"].dtype
        return targets.log_prob(self._observed(y, targets, dtype)).astype(dtype)

    def log_joint(self, weights: Weights, x, y, prior: Prior, row_weights=None) -> jax.Array:
        """Log density of weights and targets: the one that every method evaluates.

        Its maximum is the MAP, and minus its gradient is that of loss plus L2 penalty.

        Parameters
        ----------
        weights : mapping of str to array
            An array for every site; they set the precision of the computation.
        x : array of shape (rows, features)
            Inputs.
        y : array of shape (rows,) or (rows, outputs)
            Targets.
        prior : NormalPrior or HierarchicalPrior
            A single prior.
        row_weights : array of shape (rows,), optional
            How often each row counts; once by default.

        Returns
        -------
        array of shape ()
            Nats, all constants included.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> import weightprior as wp
        >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
        >>> weights = {"output.weight": jnp.zeros((1, 1)), "output.bias": jnp.zeros(1)}
        >>> log_joint = bnn.log_joint(weights, [[1.0]], [0.0], wp.normal_prior(bnn))
        >>> round(float(log_joint), 4)  # three standard normals at their centres
        -2.7568
        """
        log_prior = self.log_prior(weights, prior)
        log_likelihood = self.log_likelihood(weights, x, y, row_weights)
        return log_prior + log_likelihood.astype(log_prior.dtype)

    def _observed(self, y: Any, targets: dist.Distribution, dtype: Any) -> jax.Array:
        # Otherwise a column of targets would be broadcast against all rows.
        _checks.target_shape(np.shape(y), targets.shape())
        return self.likelihood.observed(y, dtype)

    def unit(self, prior: NormalPrior) -> dict[str, Any]:
        """Natural length of each weight: methods count from the prior's centre in these units.

        It is the prior's scale or, where that is flat, one over the root of the fan-in (1 for
        biases and the noise).
        """
        self.check_prior(prior)
        return {
            name: jnp.where(
                jnp.isinf(prior.scale[name]),
                site.fan_in**-0.5 if site.kind == "weight" and site.fan_in else 1.0,
                prior.scale[name],
            )
            for name, site in self.sites.items()
        }

    def check_data(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs and targets as float64 arrays, or raise what is wrong with them."""
        x = _checks.rows(x, self.network.feature_names)
        return x, self.likelihood.check_target(y, len(x), self.network.num_outputs)

    def check_prior(
        self, prior: Any, *, stacked: bool = True, learned: bool = False, proper: str = ""
    ) -> None:
        """Raise where a prior is not one of this model's; some methods take one that is learned.

        Where it may be flat nowhere, `proper` says why.
        """
        if isinstance(prior, HierarchicalPrior) and learned:
            self.check_prior(prior.base, stacked=False, proper=proper)
            return
        if isinstance(prior, HierarchicalPrior):
            raise TypeError(
                "prior: expected a NormalPrior; got one with learned centres and scales, for which "
                "this is not defined. Fit it with weightprior.fit_mcmc."
            )
        if not isinstance(prior, NormalPrior):
            several = isinstance(prior, list | tuple | dict)
            got = f"{type(prior).__name__} of {len(prior)}" if several else repr(prior)
            raise TypeError(
                "prior: expected a NormalPrior, as weightprior.normal_prior(bnn) makes; "
                f"got {got}.{' Of several, stack_priors makes one.' if several else ''}"
            )
        if prior.labels is not None and not stacked:
            raise ValueError(
                "prior: expected a single prior; got a stacked one. Choose one: prior[label], "
                f"with a label among {_checks.several(prior.labels)}."
            )
        lead = () if prior.labels is None else (len(prior.labels),)
        expected = {name: (*lead, *site.shape) for name, site in self.sites.items()}
        for part, values in (("loc", prior.loc), ("scale", prior.scale)):
            shapes = {name: np.shape(array) for name, array in values.items()}
            if shapes != expected:
                raise ValueError(
                    f"prior.{part}: expected the sites and shapes {expected}; got {shapes}. "
                    "Was it made for another model? normal_prior(bnn) makes one for this."
                )
            for name, array in values.items():
                if not isinstance(array, Tracer):
                    self._check_numbers(part, name, np.asarray(array))
        if proper and (flat := prior.flat()):
            raise ValueError(
                "prior: expected finite scales; got a flat prior, which is improper, on "
                f"{_checks.several(flat)}: {proper}. Give it a scale."
            )

    def check_weights(self, argument: str, weights: Any) -> None:
        """Raise where weights are not an array of numbers for every site."""
        if not isinstance(weights, Mapping):
            raise TypeError(f"{argument}: expected a dict of arrays by site; got {weights!r}.")
        expected = {name: site.shape for name, site in self.sites.items()}
        shapes = {name: np.shape(values) for name, values in weights.items()}
        if shapes != expected:
            raise ValueError(f"{argument}: expected the sites and shapes {expected}; got {shapes}.")
        for name, values in weights.items():
            _checks.finite(f"{argument}[{name!r}]", values)

    @staticmethod
    def _check_numbers(part: str, name: str, array: np.ndarray) -> None:
        if part == "scale":
            check_scale(name, array)
        else:
            _checks.finite(f"loc[{name!r}]", array)
