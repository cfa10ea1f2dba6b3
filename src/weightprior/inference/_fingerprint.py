"""What decides the draws of a run, in words and digests, so that two calls can be compared."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightprior.draws import describe, double, prior_arrays
from weightprior.hierarchy import HierarchicalPrior
from weightprior.inference._standardised import Part
from weightprior.model import BNN

__all__ = ["Fingerprint", "differences", "of_call", "of_starts"]

# Whose arithmetic the draws are.
_SOFTWARE = ("weightprior", "jax", "jaxlib", "numpyro", "blackjax")


class Fingerprint(NamedTuple):
    """All that decides what a run draws; values are numbers, texts and lists, as JSON has them.

    Attributes
    ----------
    run : dict
        What all parts of the prior have in common.
    parts : list of dict
        Per part: `prior`, `row_weights`, and, once it is known, `init`.
    """

    run: dict[str, Any]
    parts: list[dict[str, Any]]

    def starting(self, inits: Sequence[str]) -> "Fingerprint":
        """The run whose chains start there, part by part."""
        pairs = zip(self.parts, inits, strict=True)
        return self._replace(parts=[part | {"init": init} for part, init in pairs])

    def entries(self) -> dict[str, Any]:
        """All of it in one dict, by the names of the arguments."""
        several = len(self.parts) > 1
        parts = {
            f"{name}[{index}]" if several else name: value
            for index, part in enumerate(self.parts)
            for name, value in part.items()
        }
        return {**self.run, **parts}


def differences(there: Fingerprint, here: Fingerprint, but: Collection[str] = ()) -> list[str]:
    """Say what differs between two runs, beside the entries named in `but`."""
    if len(there.parts) != len(here.parts):
        return [f"{len(here.parts)} priors (there {len(there.parts)})"]
    old, new = there.entries(), here.entries()
    return [
        f"{name} {new.get(name)} (there {old.get(name)})"
        for name in {**new, **old}
        if name.split("[")[0] not in but and new.get(name) != old.get(name)
    ]


def of_call(
    bnn: BNN,
    x: np.ndarray,
    y: np.ndarray,
    parts: Sequence[Part],
    key: jax.Array,
    options: Mapping[str, str | float],
) -> Fingerprint:
    """The run of a call, but for where its chains start.

    Parameters
    ----------
    bnn, x, y, parts
        The model, its data, and what it is fitted with.
    key : JAX key
        Where its chances come from.
    options : mapping
        Every other argument that decides what is drawn.
    """
    run = {
        **_of_model(bnn),
        "x": f"of shape {x.shape}, {_digest([x])}",
        "y": f"of shape {y.shape}, {_digest([y])}",
        **options,
        "rng_key": f"{jax.random.key_data(key).tolist()} ({jax.random.key_impl(key)})",
        "precision": str(jnp.result_type(float)),
        "backend": jax.default_backend(),
        **_versions(),
    }
    return Fingerprint(
        run,
        [
            {
                "prior": _of_prior(bnn, part.prior),
                "row_weights": _digest([part.row_weights]),
            }
            for part in parts
        ],
    )


def of_starts(kind: str, starts: Sequence[Any], num_parts: int) -> list[str]:
    """For every part what its chains start from: in a word, and the weights where there are any."""
    if starts[0] is None:
        return [kind] * num_parts
    digests = [_digest([start[name] for name in start]) for start in map(double, starts)]
    num_chains = len(starts) // num_parts
    lines = [digests[i : i + num_chains] for i in range(0, len(starts), num_chains)]
    return [f"{kind} {_digest([np.array(line)])}" for line in lines]


def _of_prior(bnn: BNN, prior: Any) -> str:
    if isinstance(prior, HierarchicalPrior):
        return f"{_of_prior(bnn, prior.base)} below {prior.describe()}"
    return _digest(list(prior_arrays(bnn, prior).values()))


def _of_model(bnn: BNN) -> dict[str, Any]:
    described = describe(bnn)
    named = zip(described["activations"], bnn.network.activations, strict=True)
    return {
        "network": [f"{name} {site.shape}" for name, site in bnn.sites.items()],
        "activations": [
            name if isinstance(given, str) else f"{name} {_digest([_values(given)])}"
            for name, given in named
        ],
        "likelihood": described["likelihood"],
    }


@cache  # packages are slow to ask
def _versions() -> dict[str, str]:
    return {f"version of {name}": version(name) for name in _SOFTWARE}


def _values(activation: Any) -> np.ndarray:
    """A function is known by its values: its name may be that of every lambda."""
    grid = jnp.linspace(-8.0, 8.0, 161, dtype=jnp.float32)
    return np.round(np.asarray(activation(grid), np.float64), 4)


def _digest(arrays: Sequence[np.ndarray]) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype} {array.shape} ".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return f"sha256 {sha.hexdigest()[:16]}"
