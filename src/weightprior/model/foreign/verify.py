"""Numerical checks of the conditions under which a network has a meaningful posterior."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightprior.model.foreign.units import held_at_mean
from weightprior.model.sites import Site

__all__ = [
    "NUM_ROWS",
    "as_jax",
    "check_constants",
    "check_derivative",
    "check_readout",
    "check_rows",
    "check_units",
    "example_rows",
    "example_weights",
    "form_of_outputs",
    "outputs",
]

# Number of rows with which a network is tried, each by itself.
NUM_ROWS = 6
# A change of parameters that single precision resolves, and half precision does not.
_STEP = 1e-4
# With another number of rows, sums over them may be in another order.
_TOLERANCE = float(np.finfo(np.float64).eps) ** 0.6

Function = Callable[[Mapping[str, Any], Any], Any]


def example_weights(sites: Mapping[str, Site]) -> dict[str, np.ndarray]:
    """Make weights of typical size with which to try a network; always the same."""
    found, start = {}, 1
    for name, site in sites.items():
        number = int(np.prod(site.shape, dtype=int))
        waves = np.sin(1.7 * np.arange(start, start + number)).reshape(site.shape)
        unit = 1 / np.sqrt(site.fan_in or 1) if site.kind == "weight" else 0.3
        found[name], start = site.neutral + unit * waves, start + number
    return found


def example_rows(num_features: int) -> np.ndarray:
    """Make rows with which to try a network: numbers around zero, and whole ones (categories)."""
    waves = np.sin(2.3 * np.arange(1, NUM_ROWS * num_features + 1)).reshape(NUM_ROWS, -1)
    whole = np.arange(NUM_ROWS * num_features).reshape(NUM_ROWS, -1) % 3
    return np.where(np.arange(NUM_ROWS)[:, None] % 2, 1.5 * waves, whole)


def form_of_outputs(apply: Function, weights: Mapping[str, Any], x: Any) -> Any:
    """Return the shape of a network's outputs, or of other results; in double precision."""
    with jax.enable_x64(True):
        return jax.eval_shape(apply, weights, jnp.asarray(x, jnp.float64))


def outputs(apply: Function, weights: Mapping[str, Any], x: Any) -> np.ndarray:
    """Compute the outputs of a network in double precision."""
    with jax.enable_x64(True):
        return np.asarray(jax.jit(apply)(weights, jnp.asarray(x, jnp.float64)))


def as_jax(weights: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Return weights as JAX arrays."""
    return {name: jnp.asarray(values) for name, values in weights.items()}


def check_derivative(apply: Function, weights: Mapping[str, Any], x: np.ndarray) -> None:
    """Raise if outputs do not change as their derivative says: fits rely on the derivative.

    In half precision outputs change in steps, which are long compared with a change of parameters.
    Single precision is accepted: some layers of Flax have no other.
    """
    with jax.enable_x64(True):
        at = {name: jnp.asarray(values, jnp.float64) for name, values in weights.items()}
        along = {name: jnp.cos(1.3 * jnp.arange(a.size)).reshape(a.shape) for name, a in at.items()}
        rows = jnp.asarray(x, jnp.float64)

        def change(step):
            return apply({name: at[name] + step * along[name] for name in at}, rows)

        found, slope = jax.jit(lambda: jax.jvp(change, (0.0,), (1.0,)))()
        measured = (np.asarray(jax.jit(change)(_STEP)) - found) / _STEP
    # Rounding of two outputs that are a step apart.
    noise = 10 * np.finfo(np.float32).eps / _STEP * np.nanmax(np.abs(found), initial=0.0)
    tolerance = 0.01 * np.nanmax(np.abs(slope), initial=0.0) + noise
    if not np.allclose(measured, slope, rtol=0, atol=tolerance, equal_nan=True):
        raise TypeError(
            "model: expected outputs that change with the parameters as their derivative says; got "
            "others. Is there a layer in half precision, or a gradient that is stopped? Leave "
            "out dtype=... in layers, casts of the signal, and stop_gradient."
        )


def check_constants(apply: Function, weights: Mapping[str, Any], x: np.ndarray) -> None:
    """Raise if the function holds a NumPy array, of which JAX keeps only one precision.

    It is the precision that was used first. After a search in single precision, one in double
    precision would read rounded numbers, or have a program that cannot be compiled.
    """
    wide = [one for one in _constants(apply, weights, x, jnp.float64) if one.itemsize > 4]
    try:
        narrow = _constants(apply, weights, x, jnp.float32)
    except TypeError:
        narrow = wide  # they do not combine with others in single precision
    kept = [one for one in wide if any(one is other for other in narrow)]
    if kept:
        raise TypeError(
            f"model: expected constants in the precision of x; got a NumPy array of shape "
            f"{kept[0].shape} and dtype {kept[0].dtype}, in the function. Write "
            "jnp.asarray(array, x.dtype) at its use (for whole numbers: dtype=int), or pass "
            "it in params and hold it by fixed."
        )


def _constants(apply: Function, weights: Mapping[str, Any], x: np.ndarray, dtype: Any) -> list[Any]:
    """Return the NumPy arrays that a function holds in this precision."""
    with jax.enable_x64(dtype == jnp.float64):
        cast = {name: jnp.asarray(values, dtype) for name, values in weights.items()}
        traced = jax.make_jaxpr(apply)(cast, jnp.asarray(x, dtype))
    return [one for one in _all_constants(traced) if isinstance(one, np.ndarray)]


def _all_constants(traced: Any) -> Iterator[Any]:
    """Yield the constants of a traced function, and of the functions in it."""
    yield from getattr(traced, "consts", ())
    for equation in traced.eqns:
        parts = jax.tree.leaves([*equation.params.values()], is_leaf=lambda v: hasattr(v, "eqns"))
        for part in parts:
            if hasattr(part, "eqns"):
                yield from _all_constants(part)


def check_rows(apply: Function, weights: Mapping[str, Any], x: np.ndarray, parts: int) -> None:
    """Raise if the outputs of a row, in one of `parts` parts, depend on the other rows."""
    together = outputs(apply, weights, x)
    alone = np.concatenate([outputs(apply, weights, p) for p in np.array_split(x, parts) if len(p)])
    size = np.max(np.abs(together), axis=0, where=np.isfinite(together), initial=0.0)
    same = np.isclose(together, alone, rtol=0, atol=_TOLERANCE * size, equal_nan=True)
    if not same.all():
        row = int(np.flatnonzero(~same.all(axis=1))[0])
        raise ValueError(
            "model: expected outputs of a row that depend on that row alone, as weights of rows, "
            f"folds and leave-one-out assume; got {together[row]} for row {row} among {len(x)}, "
            f"and {alone[row]} among fewer. Normalise over features, as LayerNorm does, or over "
            "the whole table before the fit."
        )


def check_readout(head: Any, apply: Function, weights: Mapping[str, Any], x: np.ndarray) -> None:
    """Raise if a layer is not the last, or not linear."""
    given, other = weights, {**weights}
    for name in head.sites:
        other[name] = np.cos(3.1 * np.arange(weights[name].size)).reshape(weights[name].shape)
    try:
        signal = outputs(head.inputs, given, x)
    except (TypeError, ValueError, IndexError):  # it is unused, or later layers have a fixed width
        signal = np.full((len(x), 0), np.nan)
    for tried in (given, other):
        weight = head.oriented(np.asarray(tried[head.weight]))
        fits = signal.ndim == 2 and signal.shape[1] == len(weight)
        made = signal @ weight + tried[head.bias] if fits else signal
        found = outputs(apply, tried, x)
        if found.shape != made.shape or not np.allclose(
            found, made, rtol=0, atol=_TOLERANCE * np.abs(found).max(initial=1.0), equal_nan=True
        ):
            raise ValueError(
                f"readout: expected a last linear layer, which makes the network's outputs; got "
                f"{head.weight!r} and {head.bias!r}, and something else comes after it. Name "
                "another layer, or leave readout out."
            )


def check_units(network: Any, weights: Mapping[str, Any], x: np.ndarray) -> None:
    """Raise if units are not those of their layer's weight and bias."""
    for layer in network.hidden_layers:

        def held(weights, x, layer=layer):
            shown = network.hidden_units(weights, x)[layer.name]
            changed = held_at_mean(layer, weights, shown, 0)
            return network.hidden_units(changed, x)[layer.name].post[:, :1], shown.post[:, :1]

        with jax.enable_x64(True):
            tried = jax.jit(held)(as_jax(weights), jnp.asarray(x))
        found, before = map(np.asarray, tried)
        if not np.allclose(found, before.mean(), atol=_TOLERANCE * np.abs(before).max(), rtol=0):
            raise ValueError(
                f"hidden_units: expected inputs of {layer.name!r} that its own weight and bias "
                f"make, {layer.incoming!r} and {layer.bias!r}; got others. Return the outputs of "
                "that layer, and those of its activation."
            )
