"""`network`: any network of Flax, Equinox or plain functions, with named weights."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightprior import _arrays, _checks
from weightprior.model.foreign import units, verify
from weightprior.model.foreign.form import Form, Readout
from weightprior.model.foreign.libraries import read, trained
from weightprior.model.foreign.parameters import (
    Original,
    Parameter,
    as_array,
    by_name,
    real,
    sites_of,
)
from weightprior.model.network import Head, HiddenLayer, HiddenUnits, checked_features
from weightprior.model.posterior_means import posterior_means
from weightprior.model.sites import Site, Weights

__all__ = ["ModuleNetwork", "network"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class ModuleNetwork:
    """A network of another library's, whose parameters are named weights. Made by `network`.

    Attributes
    ----------
    feature_names : tuple
        A name per column of x, or 0, 1, ... where none were given.
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
    told: tuple[tuple[str, Any], ...] = field(metadata={"static": True})
    constants: dict[str, Any]

    @property
    def sites(self) -> dict[str, Site]:
        """Name of every parameter that is fitted, with its `Site`."""
        return dict(self.named_sites)

    def hidden_units(self, weights: Weights, x: Any) -> dict[str, HiddenUnits]:
        """Inputs and outputs of the activations of hidden layers, where a function shows them."""
        assert self.shows is not None, "beside hidden_layers"
        arrays, x = self._prepared(weights, x)
        return units.hidden_units(self.shows, self.form.build(arrays), x)

    def apply_without(self, weights: Weights, x: Any, layer: str, unit: Any) -> jax.Array:
        """Outputs with one unit of a hidden layer held at its mean over the rows."""
        held = next(one for one in self.hidden_layers or () if one.name == layer)
        shown = self.hidden_units(weights, x)[layer]
        return self.apply(units.held_at_mean(held, weights, shown, unit), x)

    @property
    def head(self) -> Head | None:
        """The last linear layer, where one was named."""
        if self.readout is None:
            return None
        weight, bias, output_first = self.readout
        return Head(weight, bias, self._signal, output_first)

    def apply(self, weights: Weights, x: Any) -> jax.Array:
        """Outputs of the network, in the precision of the weights.

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
        """Put weights into the network as its library has it.

        Parameters
        ----------
        weights : mapping of str to array, or DataTree
            An array for every site; or a fit of a single prior, which stands for its posterior
            mean: for a MAP, the optimum.

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
        """Describe the function by what it puts out at some weights and rows, and its constants."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in self.told
        }

    def check_inputs(self, x: np.ndarray) -> None:
        """Raise where the outputs of some of these rows depend on the others."""
        verify.check_rows(
            self.apply, verify.example_weights(self.sites), x[: len(verify.example_rows(1))]
        )

    def _signal(self, weights: Weights, x: Any) -> jax.Array:
        assert self.readout is not None, "from head"
        arrays, x = self._prepared(weights, x)
        return self.form.signal(arrays, x, self.readout)

    def _prepared(self, weights: Weights, x: Any) -> tuple[dict[str, Any], jax.Array]:
        dtype = jnp.asarray(weights[self.named_sites[0][0]]).dtype
        held = {name: _in_precision(values, dtype) for name, values in self.constants.items()}
        return {**held, **weights}, jnp.asarray(x, dtype)


def _in_precision(values: Any, dtype: Any) -> jax.Array:
    """Return an array of constants; numbers with a fraction in the precision of the weights."""
    is_real = jnp.issubdtype(jnp.asarray(values).dtype, jnp.floating)
    return jnp.asarray(values, dtype if is_real else None)


def network(
    model: Any,
    features: int | Sequence[str],
    *,
    params: Any = None,
    kinds: Mapping[str, str] | None = None,
    fan_ins: Mapping[str, int] | None = None,
    readout: str | None = None,
    hidden_units: Callable[[Any, Any], Mapping[str, Any]] | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> ModuleNetwork:
    """Describe a network of another library, each of whose parameters becomes a site.

    Only the form of the network is used, not its numbers: pass the trained module as a centre,
    ``normal_prior(bnn, loc=module)``.

    Parameters
    ----------
    model : module or callable
        A module of flax.nnx or flax.linen, which is called with all rows; a module of Equinox,
        which is called row by row; or ``function(params, x)``, which returns an array of shape
        (rows, outputs).
    features : int or sequence of str
        Number of columns of x, or their names (a data frame's ``columns``).
    params : pytree of arrays, optional
        Parameters of a function or of a Linen module; a state dict of PyTorch is one.
    kinds, fan_ins : dict of str, optional
        Kind (``"weight"``, ``"bias"``, ``"gain"`` or a word of your own) and fan-in by site or
        layer, where path and shape mislead.
    readout : str, optional
        Path of the last linear layer, whose outputs are the network's. It may then be integrated
        out, or be approximated alone.
    hidden_units : callable, optional
        ``hidden_units(model, x)``, or of `params` and x for a function: a dict of the inputs and
        outputs of activations, each of shape (rows, units), by the path of the layer that puts out
        the inputs. It brings diagnostics of units.
    fixed : dict, optional
        Parameters that are held at their values, by site or layer: arrays, or what holds them.

    Returns
    -------
    ModuleNetwork
        Its sites are named by the library's own paths, with dots.

    Raises
    ------
    TypeError
        For a network with a state or random numbers, such as BatchNorm or Dropout; for parameters
        that are no real numbers; for a network of another library.
    ValueError
        Where parameters are tied and the library does not share them, rows depend on each other,
        a layer is no readout, a name is unknown.

    Examples
    --------
    A polynomial with parameters in a dict:

    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> import weightprior as wp
    >>> def function(params, x):
    ...     return jnp.hstack([x, x**2]) @ params["slope"]["weight"] + params["slope"]["bias"]
    >>> params = {"slope": {"weight": np.zeros((2, 1)), "bias": np.zeros(1)}}
    >>> network = wp.network(function, 1, params=params, readout="slope")
    >>> network.sites["slope.weight"].fan_in
    2
    """
    names = checked_features("features", features)
    reading = read(model, params, len(names))
    parameters = by_name(reading.parameters)
    held = _held(fixed, parameters)
    free = {name: parameter for name, parameter in parameters.items() if name not in held}
    free = {name: p._replace(value=real(name, p.value)) for name, p in free.items()}
    if not free:
        raise ValueError(
            "model: expected parameters to put a prior on; got none that is not fixed."
        )
    sites = sites_of(free, kinds, fan_ins)
    constants = {**reading.constants, **held}
    originals = {name: parameter.original for name, parameter in parameters.items()}
    originals |= {name: Original.of(values) for name, values in reading.constants.items()}
    draft = ModuleNetwork(
        reading.form,
        names,
        1,
        tuple(sites.items()),
        tuple(originals.items()),
        None if readout is None else _readout(readout, free),
        hidden_units,
        None,
        frozenset(name for name, p in free.items() if p.output_first),
        (),
        constants,
    )
    made = _verified(draft)
    return made if hidden_units is None else _with_units(made, free)


def _held(fixed: Any, parameters: Mapping[str, Parameter]) -> dict[str, np.ndarray]:
    """Return the parameters that are not fitted, by name."""
    if fixed is not None and not isinstance(fixed, Mapping):
        raise TypeError(f"fixed: expected a dict by site or layer; got {fixed!r}.")
    found: dict[str, np.ndarray] = {}
    for key, values in (fixed or {}).items():
        expected = {n: p for n, p in parameters.items() if n == key or n.startswith(f"{key}.")}
        if not expected:
            _checks.known_names("fixed", [key], [*parameters, *_layers(parameters)])
        arrays = _arrays_of_part(key, values, is_one=[*expected] == [key])
        shapes = {n: p.value.shape for n, p in expected.items()}
        if (got := {n: array.shape for n, array in arrays.items()}) != shapes:
            raise ValueError(f"fixed[{key!r}]: expected the shapes {shapes}; got {got}.")
        found |= arrays
    return found


def _arrays_of_part(key: str, values: Any, *, is_one: bool) -> dict[str, np.ndarray]:
    """Return what a parameter, or each parameter of a layer, is held at."""
    if is_one and hasattr(values, "shape"):
        return {key: as_array(values)}
    given = trained(f"fixed[{key!r}]", values)
    return {key if is_one else f"{key}.{p.name}": p.value for p in given}


def _layers(parameters: Mapping[str, Parameter]) -> list[str]:
    return list(dict.fromkeys(parameter.layer for parameter in parameters.values()))


def _readout(layer: str, parameters: Mapping[str, Parameter]) -> Readout:
    """Return weight and bias of the layer that a user named."""
    _checks.known_names("readout", [layer], _layers(parameters))
    own = {n: p for n, p in parameters.items() if p.layer == layer}
    pair = sorted(own, key=lambda name: -own[name].value.ndim)
    if [own[name].value.ndim for name in pair] != [2, 1]:
        shapes = {name: parameter.value.shape for name, parameter in own.items()}
        raise ValueError(
            f"readout: expected a layer with a weight of two axes and a bias of one; got {layer!r} "
            f"with {shapes}. Give it a bias, or leave readout out."
        )
    weight, bias = pair
    return Readout(weight, bias, own[weight].output_first)


def _verified(draft: ModuleNetwork) -> ModuleNetwork:
    """Return the network with what it puts out, or raise where it is no function of each row."""
    weights, x = verify.example_weights(draft.sites), verify.example_rows(len(draft.feature_names))
    found = _outputs(draft, weights, x)
    verify.check_constants(draft.apply, weights, x)
    verify.check_rows(draft.apply, weights, x)
    digest = hashlib.sha256()
    for name, values in sorted(draft.constants.items()):
        digest.update(f"{name} {values.dtype} {values.shape}".encode() + values.tobytes())
    told = {
        "library": draft.form.library,
        # Enough digits to tell functions apart, and none that another machine rounds otherwise.
        "outputs": tuple(f"{value:.4g}" for value in found.ravel()[:12]),
        "constants": digest.hexdigest()[:16] if draft.constants else "",
    }
    made = replace(draft, num_outputs=found.shape[1], told=tuple(told.items()))
    if made.head is not None:
        verify.check_readout(made.head, made.apply, weights, x)
    return made


def _with_units(made: ModuleNetwork, parameters: Mapping[str, Parameter]) -> ModuleNetwork:
    """Return the network with the hidden layers that its user's function shows."""
    weights, x = verify.example_weights(made.sites), verify.example_rows(len(made.feature_names))
    with jax.enable_x64(True):
        arrays, rows = made._prepared(verify.as_jax(weights), x)
        shown = made.shows(made.form.build(arrays), rows)  # pyright: ignore
    layers = units.hidden_layers(shown, parameters, len(x))
    made = replace(made, hidden_layers=layers)
    verify.check_units(made, weights, x)
    return made


def _outputs(draft: ModuleNetwork, weights: Mapping[str, Any], x: np.ndarray) -> np.ndarray:
    """Outputs at some rows, or raise where the network cannot compute them as fits do."""
    count = len(draft.feature_names)
    try:
        found = verify.outputs(draft.apply, weights, x)
    except Exception as error:
        raise TypeError(
            f"model: expected a network that can be called with an array of shape (rows, {count}), "
            f"and parameters of the shapes that it has; got {type(error).__name__}: {error}"
        ) from error
    if found.ndim != 2 or len(found) != len(x):
        raise ValueError(
            f"model: expected outputs of shape (rows, outputs) for x of shape {x.shape}; got "
            f"{found.shape}. End with output[:, None] where there is one output per row."
        )
    if found.dtype != np.float64:
        raise TypeError(
            "model: expected outputs in the precision of the parameters, which fits change; got "
            f"{found.dtype} for parameters of float64. Leave out dtype=... where layers are made, "
            "and casts of the signal."
        )
    return found
