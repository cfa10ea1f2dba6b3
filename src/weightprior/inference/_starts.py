"""Starts of runs at weights that a user passes."""

from typing import Any

import jax
import numpy as np
import xarray as xr

from weightprior.fits.problem import Problem
from weightprior.fits.reading import Part, parts_of
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.model.adapters import reference_weights
from weightprior.model.bnn import BNN
from weightprior.model.priors.base import Prior

__all__ = ["Drawn", "kind_of", "starts_of_chains", "starts_of_restarts"]

type Starts = list[dict[str, Any]]
# A key, and a number to fold into it. This is done inside a program, which saves compiling another.
type Drawn = tuple[jax.Array, np.uint32]


def kind_of(init: Any) -> str:
    """Name the kind of start in a word."""
    return "prior" if init is None else "fit" if isinstance(init, xr.DataTree) else "weights"


def starts_of_chains(bnn: BNN, init: Any, prior: Prior, num_chains: int) -> list[Any]:
    """Return weights for every chain of every prior, or None for a draw."""
    num_parts = len(prior.singles())
    if init is None:
        return [None] * (num_chains * num_parts)
    parts = _named(bnn, init, num_parts)
    if not isinstance(init, xr.DataTree):
        return [start for [start] in parts for _ in range(num_chains)]
    if (found := len(parts[0])) < num_chains:
        raise ValueError(
            f"init: expected a start for each of num_chains={num_chains} chains; got a fit with "
            f"{found}. Lower num_chains or fit with as many restarts."
        )
    return [start for part in parts for start in part[:num_chains]]


def starts_of_restarts(problem: Problem, init: Any, drawn: list[Drawn]) -> list[Any]:
    """Return the start of every restart of every prior: a draw, or weights that a user passed.

    Weights that were passed come first.
    """
    if init is None:
        return drawn * len(problem.tasks)
    parts = _named(problem.bnn, init, len(problem.tasks))
    return [
        start
        for task, named in zip(problem.tasks, parts, strict=True)
        for start in [*named[: len(drawn)], *_weights(problem, task, drawn[len(named) :])]
    ]


def _named(bnn: BNN, init: Any, num_parts: int) -> list[Starts]:
    """Return starts for every part of a prior. Missing latents are at their priors' centres."""
    if not isinstance(init, xr.DataTree):
        found = reference_weights(bnn, init, argument="init")
        usual = {n: np.full(one.shape, one.prior[0]) for n, one in bnn.latents.items()}
        return [[{**usual, **found}]] * num_parts
    draws = [_starts_of(bnn, part) for part in parts_of(bnn, init)]
    if len(draws) not in (1, num_parts):
        raise ValueError(
            f"init: expected a fit of one prior or of as many as are fitted, {num_parts}; "
            f"got one of {len(draws)}."
        )
    count = len(next(iter(draws[0].values())))
    parts = [[{name: a[i] for name, a in part.items()} for i in range(count)] for part in draws]
    return parts * (num_parts // len(parts))


def _weights(problem: Problem, task: Any, drawn: list[Drawn]) -> Starts:
    """Draw weights from a prior."""
    with jax.enable_x64(True):
        coordinates = Standardised.of_first_row(*problem.data, task, np.float64)
        found = [coordinates.weights(coordinates.begin(one)) for one in drawn]
    return [{name: np.asarray(one[name]) for name in problem.bnn.sites} for one in found]


def _starts_of(bnn: BNN, part: Part) -> dict[str, np.ndarray]:
    """Return a fit's points to start from: a MAP's restarts, best first, or chains' last draws."""
    if "restarts" not in part.fit.children:
        return {name: values[:, -1] for name, values in part.weights.items()}
    restarts = part.fit["restarts"].dataset
    return {name: restarts[name].to_numpy().astype(np.float64) for name in bnn.sites}
