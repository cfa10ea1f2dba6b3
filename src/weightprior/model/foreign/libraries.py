"""Libraries whose networks are read, each in a file of its own."""

from typing import Any

from weightprior.model.foreign import equinox, function, linen, nnx
from weightprior.model.foreign.form import Reading
from weightprior.model.foreign.parameters import Parameter

__all__ = ["parameters_of", "read"]

_LIBRARIES = (nnx, linen, equinox, function)


def read(model: Any, params: Any, num_features: int) -> Reading:
    """Read a network of any library, or raise where it is of none."""
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
    for library in _LIBRARIES:
        if library.matches(model):
            return library.read(model, params, num_features)
    raise TypeError(
        "model: expected a module of flax.nnx, flax.linen or Equinox, or function(params, x); got "
        f"{model!r}."
    )


def parameters_of(values: Any) -> list[Parameter]:
    """Parameters of a trained network: a module, a state, or a pytree of arrays."""
    library = next((one for one in (nnx, equinox) if one.matches(values)), function)
    return library.parameters_of(values)
