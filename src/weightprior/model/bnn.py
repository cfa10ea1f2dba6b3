"""The model: a network, a likelihood, and the one density that every method evaluates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax.core import Tracer

from weightprior import _arrays, _checks, _data
from weightprior.model import density
from weightprior.model.likelihoods.base import Likelihood, check_likelihood
from weightprior.model.likelihoods.terms import Latent
from weightprior.model.network import (
    Network,
    check_network,
    describe_network,
    flatten_network,
    input_columns,
    offset_of,
    unflatten_network,
)
from weightprior.model.priors.base import Prior
from weightprior.model.sites import Site, Weights, check_latents, check_sites

__all__ = ["BNN"]


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, repr=False)
class BNN:
    """A Bayesian neural network: a network and a likelihood, without a prior.

    Every latent is real-valued: weights, biases, and latents of the likelihood. So the MAP is the
    same for every method, and nothing must be transformed.

    Parameters
    ----------
    network : Network
        From `mlp`, or any other object with its members.
    likelihood : Likelihood
        The distribution of the targets around the network's outputs, such as `Gaussian()`.

    Raises
    ------
    TypeError
        If one of them is something else.
    ValueError
        If the likelihood needs another number of outputs, if it cannot be used with a network's
        offset, or if names do not tell the sites, latents and axes of the model apart.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(10, hidden=(32,)), wp.Gaussian())
    >>> sum(np.prod(site.shape, dtype=int) for site in bnn.sites.values()).item()
    386

    The latents that the likelihood learns come last, with centre and scale of their default prior:

    >>> wp.BNN(wp.mlp(1, hidden=()), wp.Poisson())
    BNN(network=MLP(...), likelihood=Poisson())
    >>> wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian())
    BNN(network=MLP(...), likelihood=Gaussian(noise=None), latents={'log_noise': (-1.0, 1.0)})
    """

    network: Network
    likelihood: Likelihood

    def __post_init__(self) -> None:
        check_network(self.network)
        check_likelihood(self.likelihood)
        self.likelihood.check_outputs(self.network.num_outputs)
        if self.likelihood.no_offset and offset_of(self.network) is not None:
            raise ValueError(
                f"network: expected none with an offset for {type(self.likelihood).__name__}: "
                f"{self.likelihood.no_offset}. Leave offset out."
            )
        sizes = {"feature": len(input_columns(self.network)), "output": self.network.num_outputs}
        derived = [latent.derived for latent in self.latents.values() if latent.derived]
        check_sites(self.sites, derived, sizes)
        check_latents(self.latents, self.network.sites)

    def __repr__(self) -> str:
        told = f"network={self.network!r}, likelihood={self.likelihood!r}"
        if latents := {name: latent.prior for name, latent in self.latents.items()}:
            told += f", latents={latents}"
        return f"BNN({told})"

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        """Split into traced numbers (a known noise, numbers that a network holds) and structure."""
        numbers, structure = flatten_network(self.network)
        return (self.likelihood, *numbers), structure

    @classmethod
    def tree_unflatten(cls, structure, children):
        """Rebuild from traced numbers and structure."""
        likelihood, *numbers = children
        new = object.__new__(cls)
        object.__setattr__(new, "network", unflatten_network(structure, numbers))
        object.__setattr__(new, "likelihood", likelihood)
        return new

    @property
    def latents(self) -> Mapping[str, Latent]:
        """Unknowns of the likelihood, by name."""
        return self.likelihood.latents(self.network.num_outputs)

    @property
    def sites(self) -> dict[str, Site]:
        """Every latent of the model: the network's sites, and those of the likelihood."""
        own = {
            name: Site(latent.shape, latent.dims, None, "latent", name)
            for name, latent in self.latents.items()
        }
        return {**self.network.sites, **own}

    def describe(self) -> dict[str, Any]:
        """Describe the model in a form for JSON; fits hold it, to recognise their model."""
        return {
            "network": describe_network(self.network),
            "likelihood": repr(self.likelihood),
            "sites": {name: list(site.shape) for name, site in self.sites.items()},
            "latents": list(self.latents),
        }

    def model(self, x, y=None, *, prior: Prior) -> None:
        """Write the NumPyro model, for any kernel or handler of NumPyro.

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
        >>> import jax
        >>> import numpy as np
        >>> import numpyro
        >>> import weightprior as wp
        >>> bnn = wp.BNN(wp.mlp(2, hidden=()), wp.Bernoulli())
        >>> predictive = numpyro.infer.Predictive(bnn.model, num_samples=7)
        >>> draws = predictive(jax.random.key(0), np.ones((5, 2)), prior=wp.normal_prior(bnn))
        >>> draws["y"].shape
        (7, 5)
        """
        weights = self.sample_weights(prior)
        if y is not None and not isinstance(y, Tracer):
            targets = self.likelihood.check_target(y, np.shape(x)[0], self.network.num_outputs)
            _data.aligned("y", y, x)
            y = targets
        x = _data.untraced_inputs(self, x)
        dtype = jnp.result_type(float)
        for name, value in density.derived(self, weights).items():
            numpyro.deterministic(name, value)
        law = density.targets(self, weights, x)
        with numpyro.plate("obs_id", law.batch_shape[0]):
            observed = None if y is None else density.observed(self, y, law, dtype)
            numpyro.sample("y", law, obs=observed)

    def sample_weights(self, prior: Prior, *, name: str | None = None) -> dict[str, jax.Array]:
        """Sample every site inside a NumPyro model of your own that contains the network.

        Parameters
        ----------
        prior : NormalPrior or HierarchicalPrior
            A single prior, not a stacked one.
        name : str, optional
            Prefix of the sites in NumPyro's trace, ``"<name>.<site>"``, so that a model may contain
            several networks.

        Returns
        -------
        dict of str to array
            By site, without the prefix, as `outputs` takes them. Latents of the likelihood are
            among them; a likelihood without unknowns, such as ``Gaussian(noise=1.0)``, has none.

        Raises
        ------
        TypeError, ValueError
            If the prior is not a prior of this model, or is stacked.

        See Also
        --------
        from_numpyro : Make a fit of the chains of such a model.

        Examples
        --------
        >>> import numpyro
        >>> import numpyro.distributions as dist
        >>> import weightprior as wp
        >>> bnn = wp.BNN(wp.mlp(2, hidden=(3,)), wp.Poisson())
        >>> def model(x, exposure, y=None):
        ...     log_rate = bnn.outputs(bnn.sample_weights(wp.normal_prior(bnn)), x)[:, 0]
        ...     numpyro.sample("y", dist.Poisson(exposure * jnp.exp(log_rate)), obs=y)
        """
        _checks.prior(self, prior, stacked=False, learned=True)
        if name is not None and (not isinstance(name, str) or not name or "/" in name):
            raise TypeError(f"name: expected a word without slashes; got {name!r}.")
        prefix, dtype = "" if name is None else f"{name}.", jnp.result_type(float)
        prior = _arrays.own(prior)
        laws = prior.hyperparameters(dtype).items()
        drawn = {site: numpyro.sample(prefix + site, law) for site, law in laws}
        conditional = prior.conditional(drawn)
        return {
            site: numpyro.sample(prefix + site, conditional.distribution(site, dtype))
            for site in self.sites
        }

    def outputs(self, weights: Weights, x) -> jax.Array:
        """Compute outputs of the network, before the likelihood turns them into targets.

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
        return density.outputs(self, _arrays.own(weights), _data.untraced_inputs(self, x))

    def log_prior(self, weights: Weights, prior: Prior) -> jax.Array:
        """Compute the log density of weights under the prior, in nats; a flat site adds nothing.

        Parameters
        ----------
        weights : mapping of str to array
            An array for every site, and for every hyperparameter of the prior.
        prior : NormalPrior or HierarchicalPrior
            A single prior.

        Returns
        -------
        array of shape ()
        """
        _checks.prior(self, prior, stacked=False, learned=True)
        return density.log_prior(self, *_arrays.own((weights, prior)))

    def log_likelihood(self, weights: Weights, x, y, row_weights=None) -> jax.Array:
        """Compute the log density of all targets given the weights, in nats.

        Parameters
        ----------
        weights : mapping of str to array
            An array for every site.
        x : array of shape (rows, features)
            Inputs.
        y : array of shape (rows,) or (rows, outputs)
            Targets.
        row_weights : array of shape (rows,), optional
            Number of times each row counts; once by default.

        Returns
        -------
        array of shape ()

        Raises
        ------
        TypeError, ValueError
            If the data do not suit the model. In a program that JAX traces, numbers are not read.
        """
        x, y, row_weights = _data.untraced(self, x, y, row_weights)
        return density.log_likelihood(self, _arrays.own(weights), x, y, row_weights)

    def log_joint(self, weights: Weights, x, y, prior: Prior, row_weights=None) -> jax.Array:
        """Compute the log density of weights and targets: the one that every method evaluates.

        Its maximum is the MAP, and minus its gradient is the gradient of loss plus L2 penalty.

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
            Number of times each row counts; once by default.

        Returns
        -------
        array of shape ()
            In nats, with all constants.

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
        _checks.prior(self, prior, stacked=False, learned=True)
        x, y, row_weights = _data.untraced(self, x, y, row_weights)
        weights, prior = _arrays.own((weights, prior))
        return density.log_joint(self, weights, x, y, prior, row_weights)
