"""Libraries with networks that can be read, each in its own file."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from weightprior.model.foreign import equinox, function, linen, nnx
from weightprior.model.foreign.parameters import Parameter, Reading

__all__ = ["outputs_of", "read", "trained"]

_LIBRARIES = (nnx, linen, equinox, function)


def read(model: Any, params: Any, num_features: int) -> Reading:
    """Read a network of any library, or raise if it is of none."""
    if hasattr(model, "sites") and hasattr(model, "apply"):
        raise TypeError(
            "model: expected a network of another library; got one that is written for this "
            "package. Pass it to BNN as it is."
        )
    if hasattr(model, "state_dict"):
        raise TypeError(
            "model: expected a function of JAX; got a module of PyTorch. Write its forward pass as "
            "function(params, x) with jax.numpy, and pass params=model.state_dict()."
        )
    if isinstance(model, type):
        raise TypeError(
            f"model: expected a module; got the class {model.__name__}. Pass an instance of it."
        )
    for library in _LIBRARIES:
        if library.matches(model):
            return library.read(model, params, num_features)
    raise TypeError(
        "model: expected a module of flax.nnx, flax.linen or Equinox, or function(params, x); got "
        f"{model!r}."
    )


def trained(argument: str, network: Any) -> list[Parameter]:
    """Return the parameters of a trained network, or raise if it holds none.

    It is a module of nnx or Equinox, or a pytree of arrays, such as variables of Linen or a state
    dict of PyTorch.
    """
    if hasattr(network, "fit") and hasattr(network, "get_params"):
        raise TypeError(
            f"{argument}: expected a perceptron of scikit-learn that is fitted; got "
            f"{type(network).__name__}. Fit it first; for a Pipeline, pass its last step."
        )
    if hasattr(network, "state_dict"):
        raise TypeError(
            f"{argument}: expected arrays; got a module of PyTorch. Pass its state_dict()."
        )
    if linen.matches(network):
        raise TypeError(
            f"{argument}: expected parameters; got a module of flax.linen, which holds none. Pass "
            "its variables, as module.init and training return them."
        )
    library = next((one for one in (nnx, equinox) if one.matches(network)), function)
    alone = jax.tree_util.all_leaves([network])
    found = [] if alone else library.parameters_of(_unwrapped(network))
    if not found or any(parameter.value.dtype.kind == "O" for parameter in found):
        raise TypeError(
            f"{argument}: expected a dict of arrays, a fit, or a trained network; got "
            f"{type(network).__name__}, which is none of these."
        )
    return found


def outputs_of(network: Any, x: jax.Array) -> jax.Array | None:
    """Compute a trained module's outputs; None for arrays alone, and if rows get no numbers."""
    library = next((one for one in (nnx, equinox) if one.matches(network)), None)
    if library is None or not callable(network):
        return None
    try:
        found = library.outputs_of(network, x)
    except Exception:  # a user's code may raise anything: only the parameters are needed
        return None
    rows = isinstance(found, jax.Array) and found.shape[:1] == (len(x),)
    return found if rows and jnp.issubdtype(found.dtype, jnp.floating) else None


def _unwrapped(values: Any) -> Any:
    """Return the parameters among the variables of Linen."""
    is_alone = isinstance(values, Mapping) and [*values] == ["params"]
    return values["params"] if is_alone and isinstance(values["params"], Mapping) else values
