"""Checks of the arguments of users, and the wording of messages about wrong ones.

A message names the argument, the expected and the actual value, and what to do.
"""

import os
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "arrays",
    "close_name",
    "held_warnings",
    "input_shape",
    "integer",
    "known_names",
    "leaves",
    "model",
    "not_forked",
    "number",
    "one_of",
    "prior",
    "random_key",
    "row_weights_shape",
    "several",
    "shape",
    "target_shape",
    "warn",
]


# Collects warnings that a caller wants to see first; separate for each thread.
_held: ContextVar[list[str] | None] = ContextVar("held", default=None)


@contextmanager
def held_warnings() -> Iterator[list[str]]:
    """Hold back warnings of this package, in a list of their messages."""
    told: list[str] = []
    before = _held.set(told)
    try:
        yield told
    finally:
        _held.reset(before)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside this package that called into it."""
    if (told := _held.get()) is not None:
        told.append(message)
        return
    package = os.path.dirname(os.path.dirname(__file__))
    warnings.warn(message, category, skip_file_prefixes=(os.path.join(package, ""),))


def several(names: Iterable[Any]) -> str:
    """Write names the way messages list them: ``'a', 'b', 'c'``."""
    return ", ".join(repr(name) for name in names)


def close_name(name: Any, valid: Collection[Any]) -> str:
    """Suggest the valid name that a misspelt one was probably meant to be."""
    match = get_close_matches(str(name), [str(v) for v in valid], n=1)
    return f" Did you mean {match[0]!r}?" if match else ""


def known_names(argument: str, names: Iterable[Any], valid: Collection[Any]) -> None:
    """Raise if one of `names` is not among the `valid` ones."""
    unknown = [name for name in names if name not in valid]
    if unknown:
        expected = f"names among {several(valid)}" if valid else "none, since there are no names"
        raise ValueError(
            f"{argument}: expected {expected}; got {several(unknown)}."
            f"{close_name(unknown[0], valid)}"
        )


def one_of(argument: str, value: Any, valid: Collection[str]) -> None:
    """Raise if an option is not one of the valid words."""
    if value not in tuple(valid):  # not by hash: a list has none
        hint = close_name(value, valid)
        raise ValueError(f"{argument}: expected one of {several(valid)}; got {value!r}.{hint}")


def integer(argument: str, value: Any, minimum: int) -> int:
    """Return a whole number that is at least `minimum`."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{argument}: expected a whole number; got {value!r}.")
    if value < minimum:
        raise ValueError(f"{argument}: expected at least {minimum}; got {value}.")
    return int(value)


def number(argument: str, value: Any, *, above: float, below: float = np.inf) -> float:
    """Return a finite number strictly between two bounds."""
    if isinstance(value, jax.Array | np.ndarray) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{argument}: expected a number; got {type(value).__name__} {value!r}.")
    if not above < float(value) < below:
        bounds = f"above {above:g}" + (f" and below {below:g}" if below < np.inf else " and finite")
        raise ValueError(f"{argument}: expected a number {bounds}; got {value}.")
    return float(value)


def model(bnn: Any) -> None:
    """Raise if something else was passed as a model."""
    # By its attributes: the class is in a layer above this one.
    if isinstance(bnn, type) or not (hasattr(bnn, "network") and hasattr(bnn, "likelihood")):
        raise TypeError(
            f"bnn: expected a model, BNN(network, likelihood); got {type(bnn).__name__}."
        )


def leaves(argument: str, values: Iterable[Any], advice: str) -> None:
    """Raise if a leaf of a pytree is no number that JAX can trace."""
    for value in values:
        if not hasattr(value, "dtype") and not isinstance(value, Real):
            raise TypeError(f"{argument}: expected numbers as leaves; got {value!r}. {advice}")


def prior(
    bnn: Any,
    prior: Any,
    *,
    stacked: bool = True,
    learned: bool = False,
    proper: str = "",
    argument: str = "prior",
) -> None:
    """Raise if a prior is not a prior of this model.

    `stacked` and `learned` say if a stacked prior, and one with learned centres and scales, are
    accepted. If the prior must not be flat anywhere, `proper` says why.
    """
    # By its attributes: the class is in a layer above this one.
    if isinstance(prior, type) or not hasattr(prior, "conditional"):
        several_priors = isinstance(prior, list | tuple | dict)
        got = f"{type(prior).__name__} of {len(prior)}" if several_priors else repr(prior)
        raise TypeError(
            f"{argument}: expected a NormalPrior, as weightprior.normal_prior(bnn) makes; "
            f"got {got}.{' To fit several, use stack_priors.' if several_priors else ''}"
        )
    if not (prior.fixed or learned):
        raise TypeError(
            f"{argument}: expected a NormalPrior; got one with learned centres and scales, for "
            "which this is not defined. Fit it with weightprior.fit_mcmc."
        )
    if prior.labels is not None and not stacked:
        raise ValueError(
            f"{argument}: expected a single prior; got a stacked one. Choose one: prior[label], "
            f"with a label among {several(prior.labels)}."
        )
    prior.check(bnn.sites)
    if proper and (flat := prior.flat()):
        raise ValueError(
            f"{argument}: expected finite scales; got a flat prior, which is improper, on "
            f"{several(flat)}: {proper}. Give it a scale."
        )


def input_shape(shape: tuple[int, ...], num_features: int) -> None:
    """Raise if inputs have another shape than (rows, features)."""
    if len(shape) != 2 or shape[1] != num_features:
        advice = " Pass numpy.reshape(x, (-1, 1))." if len(shape) == 1 and num_features == 1 else ""
        raise ValueError(
            f"x: expected shape (rows, {num_features}), a column per feature of the network; "
            f"got {shape}.{advice}"
        )


def shape(values: Any) -> tuple[int, ...] | None:
    """Return the shape of a value that may be an array; None if it is ragged."""
    try:
        return np.shape(values)
    except ValueError:
        return None


def target_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise if targets do not have the shape that inputs and outputs require."""
    if shape != expected:
        flat = shape in ((*expected, 1), (1, *expected)) and len(expected) == 1
        advice = " Pass numpy.ravel(y), or y.iloc[:, 0] of a data frame." if flat else ""
        raise ValueError(
            f"y: expected shape {expected}, a target for every row of x; got {shape}.{advice}"
        )


def row_weights_shape(shape: tuple[int, ...], *expected: tuple[int, ...] | None) -> None:
    """Raise if row weights have none of the expected shapes."""
    if shape not in expected:
        shapes = " or ".join(str(e) for e in expected if e is not None)
        flat = any(shape in ((*e, 1), (1, *e)) for e in expected if e is not None and len(e) == 1)
        advice = " Pass numpy.ravel(row_weights)." if flat else ""
        raise ValueError(
            f"row_weights: expected shape {shapes}, a number for every row of x; got {shape}."
            f"{advice}"
        )


def arrays(
    argument: str, values: Mapping[str, Any], sites: Mapping[str, Any]
) -> dict[str, jax.Array]:
    """Return JAX arrays, in an enabled precision; the numbers are not read.

    Raise if a site has no floating-point array of its shape.
    """
    missing = [name for name in sites if name not in values]
    if missing:
        raise ValueError(
            f"{argument}: expected an array for each of {several(sites)}; "
            f"got none for {several(missing)}."
        )
    for name, site in sites.items():
        shape, dtype = np.shape(values[name]), getattr(values[name], "dtype", None)
        if shape != site.shape:
            raise ValueError(f"{argument}[{name!r}]: expected shape {site.shape}; got {shape}.")
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"{argument}[{name!r}]: expected a floating-point array; "
                f"got {dtype or type(values[name]).__name__}."
            )
    return {name: jnp.asarray(values[name]) for name in sites}


def random_key(rng_key: Any) -> jax.Array:
    """Return a typed JAX key for an int, a typed key or an old-style pair of words."""
    not_forked()  # the key is the first thing that a call computes
    if isinstance(rng_key, Integral) and not isinstance(rng_key, bool):
        # JAX cuts off excess bits, so that two seeds could mean one key.
        if not 0 <= int(rng_key) < 2**32:
            raise ValueError(f"rng_key: expected an int from 0 to 2**32 - 1; got {rng_key}.")
        return _key(int(rng_key))
    if isinstance(rng_key, jax.Array | np.ndarray):
        if jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key) and rng_key.shape == ():
            return jnp.asarray(rng_key)
        if rng_key.dtype == np.uint32 and rng_key.shape == (2,):
            return jax.random.wrap_key_data(jnp.asarray(rng_key))
    raise TypeError(f"rng_key: expected an int or one JAX key, jax.random.key(0); got {rng_key!r}.")


def _key(seed: int) -> jax.Array:
    """Return the key that JAX makes from a seed, without compiling anything."""
    if jax.config.jax_default_prng_impl != "threefry2x32":
        return jax.random.key(seed)
    words: Any = np.array([0, seed], np.uint32)
    return jax.random.wrap_key_data(words)


# A fork keeps only the thread that forked, and JAX's own threads are lost: any computation in the
# child would wait for them for ever.
_used = _forked = False


def not_forked() -> None:
    """Raise in a forked process if its parent has used JAX."""
    if _forked:
        raise RuntimeError(
            "weightprior: expected a process of its own; got one forked from a process that has "
            "used JAX. A fork loses the threads of JAX, so that it would wait for ever. Start "
            'processes by multiprocessing.get_context("spawn"), or '
            'ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")).'
        )


def _before() -> None:
    # This runs in the parent: its locks are free or will be.
    global _used
    bridge = sys.modules.get("jax._src.xla_bridge")
    # If a future JAX does not tell, it is taken as used.
    _used = bridge is not None and getattr(bridge, "backends_are_initialized", lambda: True)()


def _in_child() -> None:
    global _forked
    _forked = _forked or _used


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before, after_in_child=_in_child)
