"""`network`: any network of Flax, Equinox or plain functions, with named weights."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from weightprior import _arrays, _checks
from weightprior._checks.options import names_its_options
from weightprior.model.features import checked_features
from weightprior.model.foreign import units, verify
from weightprior.model.foreign.form import Readout
from weightprior.model.foreign.libraries import read, trained
from weightprior.model.foreign.module_network import ModuleNetwork
from weightprior.model.foreign.parameters import (
    Original,
    Parameter,
    as_array,
    by_name,
    real,
)
from weightprior.model.foreign.sites import sites_of

__all__ = ["network"]


@names_its_options
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
    """Describe a network of another library: each of its parameters becomes a site.

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
        Kind (``"weight"``, ``"bias"``, ``"gain"`` or a word of your own) and fan-in by site, layer
        or block of layers, if path and shape are misleading.
    readout : str, optional
        Path of the last linear layer, which makes the network's outputs. It may then be integrated
        out, or be approximated alone.
    hidden_units : callable, optional
        ``hidden_units(model, x)``, or of `params` and x for a function: a dict of the inputs and
        outputs of activations, each of shape (rows, units), by the path of the layer that makes the
        inputs. It allows diagnostics of units.
    fixed : dict, optional
        Parameters that are held at given values, by site or layer: arrays, or objects that hold
        them.

    Returns
    -------
    ModuleNetwork
        Its sites are named by the paths in the library, with dots.

    Raises
    ------
    TypeError
        If the network has a state or random numbers, such as BatchNorm or Dropout, if parameters
        are no real numbers, or if the network is of another library.
    ValueError
        If parameters are tied and the library does not share them, if rows depend on each other, if
        a layer is no readout, or if a name is unknown.

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
    constants = {n: _held_as(values) for n, values in {**reading.constants, **held}.items()}
    originals = {name: parameter.original for name, parameter in parameters.items()}
    originals |= {name: Original.of(values) for name, values in reading.constants.items()}
    draft = ModuleNetwork(
        form=reading.form,
        feature_names=names,
        num_outputs=1,  # until it is called
        named_sites=tuple(sites.items()),
        originals=tuple(originals.items()),
        readout=None if readout is None else _readout(readout, free),
        shows=hidden_units,
        hidden_layers=None,
        output_first=frozenset(name for name, p in free.items() if p.output_first),
        fingerprint=(),
        constants=constants,
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
        if both := [n for n in expected if n in found]:
            raise ValueError(f"fixed: expected each parameter once; got {both[0]!r} twice.")
        arrays = _arrays_of_part(key, values, is_one=[*expected] == [key])
        shapes = {n: p.value.shape for n, p in expected.items()}
        if (got := {n: array.shape for n, array in arrays.items()}) != shapes:
            raise ValueError(f"fixed[{key!r}]: expected the shapes {shapes}; got {got}.")
        for name, array in arrays.items():
            _arrays.finite(f"fixed[{name!r}]", array, "It is held at these numbers.")
        found |= arrays
    return found


def _held_as(values: Any) -> np.ndarray:
    """Return an array to hold: whole numbers in 32 bits, which JAX has in both precisions."""
    array = np.asarray(values)
    narrow = array.astype(np.int32) if array.dtype.kind in "iu" else array
    return narrow if (narrow == array).all() else array


def _arrays_of_part(key: str, values: Any, *, is_one: bool) -> dict[str, np.ndarray]:
    """Return the fixed values of a parameter, or of each parameter of a layer."""
    if is_one and not isinstance(values, Mapping):
        return {key: as_array(values)}
    given = trained(f"fixed[{key!r}]", values)
    return {key if is_one else f"{key}.{p.name}": p.value for p in given}


def _layers(parameters: Mapping[str, Parameter]) -> list[str]:
    return list(dict.fromkeys(parameter.layer for parameter in parameters.values()))


def _readout(layer: str, parameters: Mapping[str, Parameter]) -> Readout:
    """Return the weight and bias of the layer that a user named."""
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
    """Return the network with number and digest of outputs; raise if rows are not independent."""
    weights, x = verify.example_weights(draft.sites), verify.example_rows(len(draft.feature_names))
    found = _outputs(draft, weights, x)
    verify.check_constants(draft.apply, weights, x)
    verify.check_derivative(draft.apply, weights, x)
    verify.check_rows(draft.apply, weights, x, parts=verify.NUM_ROWS)
    digest = hashlib.sha256()
    for name, values in sorted(draft.constants.items()):
        digest.update(f"{name} {values.dtype} {values.shape}".encode() + values.tobytes())
    fingerprint = {
        "library": draft.form.library,
        # Enough digits to tell functions apart, and few enough to be equal on other machines.
        "outputs": tuple(f"{value:.4g}" for value in found.ravel()[:12]),
        "constants": digest.hexdigest()[:16] if draft.constants else "",
    }
    made = replace(draft, num_outputs=found.shape[1], fingerprint=tuple(fingerprint.items()))
    if made.head is not None:
        verify.check_readout(made.head, made.apply, weights, x)
    return made


def _with_units(made: ModuleNetwork, parameters: Mapping[str, Parameter]) -> ModuleNetwork:
    """Return the network with the hidden layers that the user's function shows."""
    weights, x = verify.example_weights(made.sites), verify.example_rows(len(made.feature_names))
    with jax.enable_x64(True):
        arrays, rows = made._prepared(verify.as_jax(weights), x)
        shown = units.shown(made.shows, made.form.build(arrays), rows)
    layers = units.hidden_layers(shown, parameters, len(x))
    made = replace(made, hidden_layers=layers)
    verify.check_units(made, weights, x)
    return made


def _outputs(draft: ModuleNetwork, weights: Mapping[str, Any], x: np.ndarray) -> np.ndarray:
    """Compute outputs at some rows, or raise if the network cannot be called as in fits."""
    count = len(draft.feature_names)
    try:
        form = verify.form_of_outputs(draft.apply, weights, x)
        found = verify.outputs(draft.apply, weights, x) if hasattr(form, "shape") else None
    except Exception as error:
        raise TypeError(
            f"model: expected a network that can be called with an array of shape (rows, {count}), "
            f"and parameters of the shapes that it has; got {type(error).__name__}: {error}"
        ) from error
    if found is None:
        raise TypeError(
            f"model: expected one array of outputs; got {_kind(form)}. Write a function or module "
            "around it that returns the array alone."
        )
    if found.ndim != 2 or len(found) != len(x):
        raise ValueError(
            f"model: expected outputs of shape (rows, outputs) for x of shape {x.shape}; got "
            f"{found.shape}. With one output per row, end with output[:, None]; with a "
            "module of Equinox, which is called row by row, with a vector: out_size=1."
        )
    if found.shape[1] == 0:
        raise ValueError("model: expected at least one output per row; got none.")
    if found.dtype != np.float64:
        raise TypeError(
            "model: expected outputs in the precision of the parameters, which fits change; got "
            f"{found.dtype} for parameters of float64. Leave out dtype=... in layers, "
            "and casts of the signal."
        )
    return found


def _kind(outputs: Any) -> str:
    """Name what a network returned in place of an array."""
    if isinstance(outputs, Mapping):
        return f"a dict of {_checks.several(outputs)}"
    return f"a {type(outputs).__name__}"
