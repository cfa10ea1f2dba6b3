"""Kernels of Markov chains: the protocol, and the form in which they get the posterior."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from weightprior.inference._coordinates.standardised import Standardised
from weightprior.model import density

__all__ = ["Kernel", "Target", "target_of"]

# Number of rows at which kernels may watch outputs.
_NUM_WATCHED = 8


class Kernel(Protocol):
    """A hashable object that begins a chain at a position and moves it once.

    Attributes
    ----------
    exact : bool
        True if its draws converge to the posterior.
    collapses : bool
        True if it samples the density with the output layer integrated out, where possible.
    moves_to_begin : bool
        True if its first state has no density yet, which the first move evaluates, and an arbitrary
        step, which ``with_step(state, factor)`` of such a kernel changes.
    """

    exact: bool
    collapses: bool
    moves_to_begin: bool

    def init(self, key, position, target: "Target", options) -> Any:
        """Return the state of a chain that has not moved yet."""
        ...

    def step(
        self, key, state, target: "Target", options, iteration
    ) -> tuple[Any, dict[str, jax.Array], dict[str, jax.Array]]:
        """Return a new state, statistics (`diverging n_steps step_size` and its own), a draw."""
        ...

    def meetings(self, num_warmup: int) -> Collection[int]:
        """Return the iterations after which chains of one posterior learn from one another.

        If there are any, ``learn(states, iteration, num_warmup)`` of the kernel returns new states.
        """
        ...

    def log_density(self, state) -> jax.Array:
        """Return the log density at the chain's position; not finite if evaluation failed."""
        ...

    def with_log_density(self, state, value) -> Any:
        """Return the state with its log density counted from another level."""
        ...


class Target(NamedTuple):
    """The posterior in the form that kernels use.

    Attributes
    ----------
    log_density : callable
        Log density at a position.
    num_free : int
        Number of standard normals that a draw needs besides a position.
    complete : callable
        Function of these normals and a position. It returns a draw: weights by site.
    outputs : callable
        Function of a draw. It returns the quantities of interest as a flat array: some of the
        network's outputs, and the learned centres and scales.
    """

    log_density: Callable[[jax.Array], jax.Array]
    num_free: int
    complete: Callable[[jax.Array, jax.Array], dict[str, jax.Array]]
    outputs: Callable[[dict[str, jax.Array]], jax.Array]


def target_of(coordinates: Standardised, level: jax.Array | None = None) -> Target:
    """Make the target of a kernel, from its coordinates.

    The log density is counted from `level` if single precision would lose its last digits.
    """
    # Rows spread over the data: more rows would be much alike.
    rows = np.linspace(0, len(coordinates.x) - 1, min(_NUM_WATCHED, len(coordinates.x))).astype(int)

    above = [n for n, site in coordinates.prior.sites.items() if not site.shape]

    def outputs(draw: dict[str, jax.Array]) -> jax.Array:
        found = density.outputs(coordinates.bnn, draw, coordinates.x[rows]).ravel()
        return jnp.append(found, jnp.stack([draw[name] for name in above])) if above else found

    def log_density(position: jax.Array) -> jax.Array:
        return coordinates.log_density(position, level)

    return Target(log_density, coordinates.num_free, coordinates.complete, outputs)
