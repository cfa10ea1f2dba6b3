"""Fingerprints: all that decides the draws of a run, so that two calls can be compared."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightprior.fits.problem import Problem
from weightprior.model.bnn import BNN

__all__ = ["Fingerprint", "differences", "of_call", "of_starts", "versions"]

# The software that computes the draws.
_SOFTWARE = ("weightprior", "jax", "jaxlib", "numpyro", "blackjax")


# Entries that say what is sampled, and not how.
_DATA = ("network", "likelihood", "x", "y", "prior", "row_weights")


class Fingerprint(NamedTuple):
    """All that decides what a run draws; values are numbers, texts and lists, as JSON has them.

    Attributes
    ----------
    run : dict
        Entries that all parts of the prior have in common.
    parts : list of dict
        Per part: `prior`, `row_weights`, and, once it is known, `init`.
    """

    run: dict[str, Any]
    parts: list[dict[str, Any]]

    def starting(self, inits: Sequence[str]) -> "Fingerprint":
        """Return this run with the given starts of chains, part by part."""
        pairs = zip(self.parts, inits, strict=True)
        return self._replace(parts=[part | {"init": init} for part, init in pairs])

    def same_data(self, other: "Fingerprint") -> bool:
        """Tell if both runs have the same model, data and prior."""
        mine, theirs = (
            [[(one.run | part).get(name) for name in _DATA] for part in one.parts]
            for one in (self, other)
        )
        return mine == theirs

    def entries(self) -> dict[str, Any]:
        """Return all entries in one dict, by the names of the arguments."""
        several = len(self.parts) > 1
        parts = {
            f"{name}[{index}]" if several else name: value
            for index, part in enumerate(self.parts)
            for name, value in part.items()
        }
        return {**self.run, **parts}


def differences(there: Fingerprint, here: Fingerprint, but: Collection[str] = ()) -> list[str]:
    """Say what differs between two runs, except for the entries named in `but`."""
    if len(there.parts) != len(here.parts):
        return [f"{len(here.parts)} priors (there {len(there.parts)})"]
    old, new = there.entries(), here.entries()
    return [
        f"{name} {new.get(name)} (there {old.get(name)})"
        for name in {**new, **old}
        if name.split("[")[0] not in but and new.get(name) != old.get(name)
    ]


def of_call(problem: Problem, options: Mapping[str, str | float]) -> Fingerprint:
    """Describe the run of a call, without the starts of its chains.

    Parameters
    ----------
    problem : Problem
        The model, its data, its prior and its random key.
    options : mapping
        Every other argument that decides what is drawn.
    """
    key = problem.key
    run = {
        **_of_model(problem.bnn),
        "x": f"of shape {problem.x.shape}, {_digest([problem.x])}",
        "y": f"of shape {problem.y.shape}, {_digest([problem.y])}",
        **options,
        "rng_key": f"{jax.random.key_data(key).tolist()} ({jax.random.key_impl(key)})",
        "precision": str(jnp.result_type(float)),
        "backend": jax.default_backend(),
        **({"devices of rows": len(problem.devices)} if problem.devices else {}),
        **versions(),
    }
    return Fingerprint(
        run,
        [
            {"prior": _of_prior(task.prior), "row_weights": _digest([task.row_weights])}
            for task in problem.tasks
        ],
    )


def of_starts(kind: str, starts: Sequence[Any], num_parts: int) -> list[str]:
    """Describe what each part's chains start from: in a word, and by a digest of any weights."""
    if starts[0] is None:
        return [kind] * num_parts
    digests = [_digest([np.asarray(w, np.float64) for w in start.values()]) for start in starts]
    num_chains = len(starts) // num_parts
    lines = [digests[i : i + num_chains] for i in range(0, len(starts), num_chains)]
    return [f"{kind} {_digest([np.array(line)])}" for line in lines]


def _of_prior(prior: Any) -> str:
    numbers = _digest([np.asarray(leaf) for leaf in jax.tree.leaves(prior)])
    described = prior.describe()
    return f"{numbers} {json.dumps(described)}" if described else numbers


def _of_model(bnn: BNN) -> dict[str, Any]:
    described = bnn.describe()
    return {
        "network": [f"{name} {tuple(shape)}" for name, shape in described["sites"].items()],
        **described["network"],
        "likelihood": described["likelihood"],
        "model's numbers": _digest([np.asarray(leaf) for leaf in jax.tree.leaves(bnn)]),
    }


@cache  # looking up a version is slow
def versions() -> dict[str, str]:
    """Return the versions of the software that computes the numbers."""
    return {f"version of {name}": version(name) for name in _SOFTWARE}


def _digest(arrays: Sequence[np.ndarray]) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype} {array.shape} ".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return f"sha256 {sha.hexdigest()[:16]}"
