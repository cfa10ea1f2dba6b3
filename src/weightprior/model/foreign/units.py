"""Hidden units of a network from elsewhere, by a user's function that shows them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightprior import _checks
from weightprior.model.activations import ACTIVATIONS, activation_function
from weightprior.model.foreign.parameters import Parameter
from weightprior.model.network import HiddenLayer, HiddenUnits

__all__ = ["Units", "held_at_mean", "hidden_layers", "hidden_units", "shown"]

Units = Callable[[Any, Any], Mapping[str, Any]]
# Activations that are recognised by inputs and outputs, tried in this order.
_KNOWN = {
    **ACTIVATIONS,
    "approximate gelu": jax.nn.gelu,
    "elu": jax.nn.elu,
    "leaky_relu": jax.nn.leaky_relu,
    "selu": jax.nn.selu,
    "mish": jax.nn.mish,
    "relu6": jax.nn.relu6,
    "hard_tanh": jax.nn.hard_tanh,
    "soft_sign": jax.nn.soft_sign,
    "sin": jnp.sin,
}
_TOLERANCE = float(np.finfo(np.float64).eps) ** 0.6
# Halvings of an interval after which double precision does not tell its ends apart.
_HALVINGS = 60


def shown(function: Any, model: Any, x: Any) -> Mapping[str, Any]:
    """Return the result of a user's function; raise if it is no dict of two arrays by layer."""
    if not callable(function):
        raise TypeError(
            f"hidden_units: expected a function of the model and x; got {function!r}. Return a "
            "dict of the inputs and outputs of activations by layer."
        )
    try:
        found: Any = function(model, x)
    except Exception as error:
        raise TypeError(
            "hidden_units: expected a function that can be called with the model, or params, and "
            f"x; got {type(error).__name__}: {error}"
        ) from error
    pairs = isinstance(found, Mapping) and all(
        isinstance(signals, tuple | list) and len(signals) in (2, 3) for signals in found.values()
    )
    if not pairs or not found:
        raise TypeError(
            "hidden_units: expected a dict by layer of inputs and outputs of its activations, "
            f'{{"layer": (inputs, outputs)}}; got {found!r}.'
        )
    return found


def hidden_units(function: Units, model: Any, x: Any) -> dict[str, HiddenUnits]:
    """Return the inputs and outputs of the activations, by layer."""
    found = {name: tuple(signals) for name, signals in function(model, x).items()}
    return {name: HiddenUnits(*map(jnp.asarray, signals[:2])) for name, signals in found.items()}


def hidden_layers(
    shown: Mapping[str, Any], parameters: Mapping[str, Parameter], num_rows: int
) -> tuple[HiddenLayer, ...]:
    """Describe the layers that a user's function shows, or raise if they are no valid layers.

    Parameters
    ----------
    shown : mapping of str to (inputs, outputs) or (inputs, outputs, activation)
        Result of the function at some weights and rows.
    parameters : mapping of str to Parameter
        Parameters of the network, by name.
    num_rows : int
        Number of these rows.
    """
    return tuple(_layer(name, signals, parameters, num_rows) for name, signals in shown.items())


def _layer(
    name: str, signals: Any, parameters: Mapping[str, Parameter], num_rows: int
) -> HiddenLayer:
    layers = dict.fromkeys(parameter.layer for parameter in parameters.values())
    _checks.known_names("hidden_units", [name], layers)
    own = {p.name: p for p in parameters.values() if p.layer == name}
    weight = next((n for n, p in own.items() if p.value.ndim == 2), None)
    bias = next((n for n, p in own.items() if p.value.ndim == 1), None)
    if weight is None or bias is None or len(own) != 2:
        raise ValueError(
            f"hidden_units: expected layers with a weight of two axes and a bias; got {name!r} "
            f"with {_checks.several(own)}."
        )
    pre, post, *given = signals
    shape = (num_rows, own[bias].value.size)
    if np.shape(pre) != shape or np.shape(post) != shape:
        raise ValueError(
            f"hidden_units: expected inputs and outputs of the shape {shape}, (rows, units), for "
            f"{name!r}; got {np.shape(pre)} and {np.shape(post)}."
        )
    activation = given[0] if given else _recognised(name, np.asarray(pre), np.asarray(post))
    return HiddenLayer(
        name,
        shape[1],
        activation_function(activation),
        weight,
        bias,
        output_first=own[weight].output_first,
    )


def _recognised(name: str, pre: np.ndarray, post: np.ndarray) -> Any:
    with jax.enable_x64(True):
        for function in _KNOWN.values():
            made = np.asarray(function(jnp.asarray(pre)))
            if np.allclose(made, post, rtol=_TOLERANCE, atol=_TOLERANCE):
                return function
    raise ValueError(
        f"hidden_units: expected outputs of {name!r} that are a known activation of its inputs, "
        f"one of {_checks.several(_KNOWN)}; got another. Return three things for it: inputs, "
        "outputs and the activation, an elementwise function."
    )


def held_at_mean(
    layer: HiddenLayer, weights: Mapping[str, Any], units: HiddenUnits, unit: Any
) -> dict[str, Any]:
    """Return weights with which a unit's output is its mean over the rows, whatever they are.

    Its incoming weights are zero, and its bias is the input that gives this output. There is one
    between the inputs with the smallest and the largest output, since activations are continuous.
    """
    pre, post = units.pre[:, unit], units.post[:, unit]
    function, mean = layer.activation, post.mean()

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        below = function(middle) < mean
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    ends = pre[post.argmin()], pre[post.argmax()]
    held = sum(jax.lax.fori_loop(0, _HALVINGS, halve, ends)) / 2
    incoming, bias = weights[layer.incoming], weights[layer.bias]
    number = jnp.arange(layer.num_units)
    other = number[:, None] != unit if layer.output_first else number != unit
    return {
        **weights,
        layer.incoming: jnp.where(other, incoming, 0.0),
        layer.bias: jnp.where(number == unit, held, bias),
    }
