"""Advice on a search that found no optimum, or one that says nothing about the data."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from weightprior import _checks
from weightprior.fits.problem import Problem, under
from weightprior.inference._optima.collapse import Collapse, spread
from weightprior.inference._optima.search import Search
from weightprior.model.activations import kinks
from weightprior.model.network import hidden_layers_of

__all__ = ["SMOOTH", "advise", "warn_exact", "warn_unconverged"]

SMOOTH = "take smooth units, as by activation='softplus'"
# Largest number of priors that a warning names.
_MAX_PRIORS_NAMED = 3


def warn_unconverged(
    problem: Problem, search: Search, told: str, late: Sequence[str], advice: str
) -> None:
    """Warn of runs that did not converge, with what to do.

    Parameters
    ----------
    problem, search
        The problem, and the options of its search.
    told : str
        The searches that did not reach the tolerance, in words.
    late : sequence of str
        Progress of each prior in question.
    advice : str
        Text that `advise` returns.
    """
    named = list(late[:_MAX_PRIORS_NAMED])
    if len(late) > len(named):
        named.append(f"and under {len(late) - len(named)} more")
    if problem.prior.flat():
        advice += (
            " Under a flat prior there may be no optimum to reach: give every site a finite scale."
        )
    _checks.warn(
        f"{search.method}: {told} did not reach tolerance={search.tolerance:g}: "
        f"{', '.join(named)}. {advice}"
    )


def advise(
    problem: Problem,
    search: Search,
    exhausted: bool,
    collapses: Sequence[Collapse],
    kinks: str,
) -> str:
    """Say why runs did not converge, and what to do.

    Parameters
    ----------
    problem, search
        The problem, and the options of its search.
    exhausted : bool
        True if iterations ran out.
    collapses : sequence of Collapse
        Collapses of the noise in those runs.
    kinks : str
        Advice if kinks are the reason, as of relu units: no gradient vanishes there.
    """
    if problem.doubt:
        return "First mind the scale of the data: see the other warning."
    gone = [one for one in collapses if one.explains(converged=False)]
    if gone:
        least = min(float(one.relative_noise) for one in gone)
        return (
            "The targets are met almost exactly, so that the learned noise runs to zero: it is at "
            f"{least:.1g} of the spread of y. {_held(problem)}"
        )
    if exhausted:
        told = f"It had max_iterations={search.max_iterations}. Raise max_iterations"
        smooth = f", or {SMOOTH}: relu's optima often lie on kinks"
        return f"{told}{smooth if _has_kinks(problem) else ''}."
    if _has_kinks(problem):
        return f"Optima of relu units often lie on kinks, where no gradient vanishes: {kinks}."
    return "Its precision allows no further progress. Standardise x and y, or raise tolerance."


def warn_exact(
    problem: Problem, search: Search, ended: Sequence[tuple[Any, bool, Collapse]]
) -> None:
    """Warn of optima at which only its prior keeps the noise from zero.

    `ended` has the label of each prior, true if its search converged, and its final noise.
    """
    exact = [(label, c) for label, done, c in ended if done and c.explains(converged=True)]
    if exact:
        label, one = exact[0]
        _checks.warn(
            f"{search.method}: The targets are met exactly{under(label)}, so that nothing but its "
            f"prior keeps the learned noise from zero: it is {float(one.relative_noise):.1g} of "
            f"the spread of y, and says nothing about the data. {_held(problem)}"
        )


def _held(problem: Problem) -> str:
    """Say how to keep the noise from running to zero."""
    counts = np.max([task.row_weights for task in problem.tasks], axis=0)
    with jax.enable_x64(True):
        width = float(np.median(spread(problem.y, counts)))
    return problem.bnn.likelihood.scale_advice(width, float(counts.sum()))


def _has_kinks(problem: Problem) -> bool:
    layers = hidden_layers_of(problem.bnn.network) or ()
    return any(kinks(layer.activation) for layer in layers)
