"""`ModuleNetwork`: a network of another library in the form that this package uses."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightprior import _arrays
from weightprior.model.foreign import units, verify
from weightprior.model.foreign.form import Form, Readout
from weightprior.model.foreign.parameters import Original
from weightprior.model.network import Head, HiddenLayer, HiddenUnits
from weightprior.model.posterior_means import posterior_means
from weightprior.model.sites import Site, Weights

__all__ = ["ModuleNetwork"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class ModuleNetwork:
    """A network of another library, with its parameters as named weights. Made by `network`.

    Attributes
    ----------
    feature_names : tuple
        A name per column of x, or 0, 1, ... if none were given.
    num_outputs : int
        Outputs.
    """

    form: Form = field(metadata={"static": True})
    feature_names: tuple[str | int, ...] = field(metadata={"static": True})
    num_outputs: int = field(metadata={"static": True})
    named_sites: tuple[tuple[str, Site], ...] = field(metadata={"static": True})
    originals: tuple[tuple[str, Original], ...] = field(metadata={"static": True})
    readout: Readout | None = field(metadata={"static": True})
    shows: units.Units | None = field(metadata={"static": True})
    hidden_layers: tuple[HiddenLayer, ...] | None = field(metadata={"static": True})
    output_first: frozenset[str] = field(metadata={"static": True})
    fingerprint: tuple[tuple[str, Any], ...] = field(metadata={"static": True})
    constants: dict[str, Any]

    @property
    def sites(self) -> dict[str, Site]:
        """Name of every fitted parameter, with its `Site`."""
        return dict(self.named_sites)

    def hidden_units(self, weights: Weights, x: Any) -> dict[str, HiddenUnits]:
        """Return inputs and outputs of hidden layers' activations, if a function shows them."""
        assert self.shows is not None, "beside hidden_layers"
        arrays, x = self._prepared(weights, x)
        return units.hidden_units(self.shows, self.form.build(arrays), x)

    def apply_without(self, weights: Weights, x: Any, layer: str, unit: Any) -> jax.Array:
        """Compute outputs with one unit of a hidden layer held at its mean over the rows."""
        held = next(one for one in self.hidden_layers or () if one.name == layer)
        shown = self.hidden_units(weights, x)[layer]
        return self.apply(units.held_at_mean(held, weights, shown, unit), x)

    @property
    def head(self) -> Head | None:
        """The last linear layer, if one was named."""
        if self.readout is None:
            return None
        weight, bias, output_first = self.readout
        return Head(weight, bias, self._signal, output_first)

    def apply(self, weights: Weights, x: Any) -> jax.Array:
        """Compute outputs of the network, in the precision of the weights.

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
        arrays, x = self._prepared(weights, x)
        return self.form.call(arrays, x)

    def module(self, weights: Any) -> Any:
        """Put weights into a network of the original library.

        Parameters
        ----------
        weights : mapping of str to array, or DataTree
            An array for every site; or a fit of a single prior, for its posterior mean: with a MAP,
            the optimum.

        Returns
        -------
        module or pytree
            A module of Equinox or nnx, variables of Linen, or parameters of a function, such as a
            state dict; in the precision of the network that was passed.
        """
        given = posterior_means("weights", weights, self.sites)
        given = weights if given is None else {name: given[name] for name in self.sites}
        _arrays.weights("weights", given, self.sites)
        arrays = {**self.constants, **{name: np.asarray(given[name]) for name in self.sites}}
        return self.form.build({name: own(arrays[name]) for name, own in self.originals})

    def describe(self) -> dict[str, Any]:
        """Describe the function by its outputs at some weights and rows, and by its constants."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.fingerprint
        }

    def check_inputs(self, x: np.ndarray) -> None:
        """Raise if the outputs of some of these rows depend on the others."""
        weights = verify.example_weights(self.sites)
        verify.check_rows(self.apply, weights, x[: verify.NUM_ROWS], parts=verify.NUM_ROWS)
        verify.check_rows(self.apply, weights, x, parts=2)

    def _signal(self, weights: Weights, x: Any) -> jax.Array:
        assert self.readout is not None, "from head"
        arrays, x = self._prepared(weights, x)
        return self.form.signal(arrays, x, self.readout)

    def _prepared(self, weights: Weights, x: Any) -> tuple[dict[str, Any], jax.Array]:
        dtype = jnp.asarray(weights[self.named_sites[0][0]]).dtype
        held = {
            name: _arrays.in_precision(values, dtype) for name, values in self.constants.items()
        }
        return {**held, **weights}, jnp.asarray(x, dtype)
