"""Tests for a finite optimum and a proper posterior, before a search and at its end."""

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from weightprior import _checks
from weightprior.fits.problem import Problem, under
from weightprior.fits.recession import Design, blind, level, rising
from weightprior.fits.task import Task
from weightprior.model import density
from weightprior.model.network import Head, head_of, hidden_layers_of, input_columns
from weightprior.model.sites import Weights

__all__ = [
    "Open",
    "check_proper",
    "leave_unconverged",
    "open_ends",
    "open_ends_at",
    "warn_open",
    "warn_open_at_ends",
]

_REMEDY = "give every site a finite scale, as normal_prior(bnn) does"
# If the log density changes by fewer nats than this when a latent changes by 1, no optimum holds
# it.
_ADRIFT = 1e-3
# Largest number of columns that a message names.
_MAX_NAMED = 4


class Open(NamedTuple):
    """Directions that the data leave open under a flat prior, in words; empty if there are none.

    Attributes
    ----------
    rises : str
        Reason why the density rises without end: there is no finite optimum.
    level : str
        Reason why the density stays level without end: there is no proper posterior either.
    unique : bool
        True if all optima along a level direction give the same function of x.
    certain : bool
        False if only some of the rows are known to leave the directions open.
    """

    rises: str = ""
    level: str = ""
    unique: bool = True
    certain: bool = True

    def by_some_rows(self, count: int) -> Self:
        """Return this finding, marked as based on only so many rows of a table."""
        rises, level = (
            reason and f"of {count:,} rows of the table, {reason}" for reason in self[:2]
        )
        return self._replace(rises=rises, level=level, certain=False)


def open_ends(problem: Problem) -> list[Open]:
    """Find for every prior what the data leave open under it; empty if that is not known.

    Only some thousand rows of a table on a disk are used. Directions that they determine, all rows
    determine; those that they leave open, other rows may determine.

    This is proven for three cases. The weights of a last layer without hidden units below it, and
    the biases of any last layer, multiply inputs that depend on no other weights. And as some
    latents grow, the targets tend to another distribution.
    """
    seen = problem.seen
    found = [_worse(_open_end(seen, t, None), _without_end(seen, t)) for t in seen.tasks]
    return _as_seen(problem, found)


def open_ends_at(problem: Problem, weights: Sequence[Weights]) -> list[Open]:
    """Find for every prior if the density rises without end from the end of a search.

    With the hidden units at these weights, the last layer is a linear model of their values. A
    latent that no longer changes the density has run off.
    """
    seen = problem.seen
    with jax.enable_x64(True):
        found = [
            _worse(_open_end(seen, task, ended), _adrift(seen, task, ended))
            for task, ended in zip(seen.tasks, weights, strict=True)
        ]
    return _as_seen(problem, found)


def _as_seen(problem: Problem, found: list[Open]) -> list[Open]:
    """Mark findings that rest on some of the rows."""
    count = len(problem.seen.x)
    return found if count == len(problem.x) else [one.by_some_rows(count) for one in found]


def _worse(one: Open, other: Open) -> Open:
    """Return the worse of two findings: no optimum is worst, then no proper posterior."""
    return max(one, other, key=lambda found: (bool(found.rises), bool(found.level)))


def _without_end(problem: Problem, task: Task) -> Open:
    """Find a latent with a flat prior that gives the targets another distribution as it grows."""
    for name, latent in problem.bnn.latents.items():
        if latent.limit and _is_flat(problem, task, name).any():
            return Open(level=f"as {name!r} grows, the targets come to have {latent.limit}")
    return Open()


def _adrift(problem: Problem, task: Task, weights: Weights) -> Open:
    """Find a latent with a flat prior that no longer changes the density."""
    bnn, x, y = problem.data
    for name in bnn.latents:
        ended = np.asarray(weights[name], float)
        for index in map(tuple, np.argwhere(_is_flat(problem, task, name))):
            step = np.zeros_like(ended)
            step[index] = 1.0
            moved = [{**weights, name: ended + times * step} for times in (-1, 0, 1)]
            found = [density.log_joint(bnn, w, x, y, task.prior, task.row_weights) for w in moved]
            if max(found) - min(found) < _ADRIFT:
                where = f"{name!r} ran to {ended[index]:.3g}"
                return Open(rises=f"{where}, and the density no longer changes with it")
    return Open()


def _is_flat(problem: Problem, task: Task, name: str) -> np.ndarray:
    scale = np.asarray(task.prior.scale[name], float)
    return np.isinf(scale) & (name in problem.prior.flat())


def _open_end(problem: Problem, task: Task, weights: Weights | None) -> Open:
    head = head_of(problem.bnn.network)
    rows = np.asarray(task.row_weights) > 0
    if head is None or not rows.any():
        return Open()
    free = [_is_flat(problem, task, name) for name in head.sites]
    if not any(one.any() for one in free):
        return Open()
    inputs, names = _inputs(problem, head, weights)
    if inputs is None:  # those of hidden units: only the bias is known
        if not free[1].any():
            return Open()
        inputs, free[0] = np.empty((len(rows), 0)), free[0][:0]
    num_outputs = problem.bnn.network.num_outputs
    any_change = np.broadcast_to(np.eye(num_outputs), (int(rows.sum()), num_outputs, num_outputs))
    inputs = np.column_stack([inputs[rows], np.ones(rows.sum())])
    design = Design(inputs, any_change, np.vstack(free))
    told = problem.bnn.likelihood.recession(problem.y[rows], num_outputs)
    asked = design._replace(constraints=any_change if told is None else told.constraints)
    if told is not None:
        if rising(asked._replace(flat=np.vstack([np.zeros_like(free[0]), free[1]]))) is not None:
            return Open(rises=told.empty)
        if (moved := rising(asked)) is not None:
            return Open(rises=f"{told.apart} by {_columns(moved[:-1], names)}")
    if weights is not None:  # these are not all possible weights
        return Open()
    if found := _unseen(design, names):
        return Open(level=found, unique=False)
    if blind(asked.constraints) and level(asked) is not None:
        return Open(level="only differences of the outputs count")
    return Open()


def _inputs(
    problem: Problem, head: Head, weights: Weights | None
) -> tuple[np.ndarray | None, list[Any]]:
    """Return the inputs of the last layer and their names; None if weights decide them."""
    network = problem.bnn.network
    alone = {*network.sites} == {*head.sites}
    if weights is None and not alone:
        return None, []
    with jax.enable_x64(True):
        zeros = {name: jnp.zeros(site.shape) for name, site in network.sites.items()}
        given = zeros if weights is None else {name: jnp.asarray(weights[name]) for name in zeros}
        inputs = np.asarray(head.inputs(given, jnp.asarray(problem.x)))
    columns = problem.coords["column"]
    names = [columns[i] for i in input_columns(network)]
    if not (alone and hidden_layers_of(network) is not None and len(names) == inputs.shape[1]):
        names = [f"{head.weight}[{i}]" for i in range(inputs.shape[1])]
    return inputs, names


def _unseen(design: Design, names: Sequence[Any]) -> str:
    """Say which columns the rows do not tell apart; nothing if they do."""
    count, rows = int(design.flat.sum(axis=0).max()), len(design.inputs)
    if rows < count:
        return f"{rows} rows do not tell {count} weights of an output apart"
    found = level(design)
    return "" if found is None else f"the rows do not tell apart what {_columns(found, names)} do"


def _columns(weights: np.ndarray, names: Sequence[Any]) -> str:
    """Name the columns of a direction, and the bias."""
    used = np.flatnonzero(weights.any(axis=1)).tolist()
    columns = [names[i] for i in used if i < len(names)]
    if len(columns) > _MAX_NAMED:
        return f"{len(columns)} columns together"
    told = _checks.several(columns)
    return " and ".join(filter(None, [told, "the bias" if len(names) in used else ""]))


def warn_open(method: str, problem: Problem, found: Sequence[Open]) -> None:
    """Warn of priors under which there is no finite optimum, or more than one."""
    for label, one in zip(problem.labels, found, strict=True):
        where = under(label)
        if one.rises:
            is_no, run = ("is", "run") if one.certain else ("may be", "may run")
            _checks.warn(
                f"{method}: There {is_no} no finite optimum{where}: {one.rises}, where the prior "
                f"is flat, and weights {run} off as long as the search goes on. To have one, "
                f"{_REMEDY}."
            )
        elif not one.unique:
            verb = "is not" if one.certain else "may not be"
            _checks.warn(
                f"{method}: The optimum {verb} unique{where}: {one.level}, where the prior is "
                f"flat. The starts decide which one is found. Drop columns, or {_REMEDY}."
            )


def warn_open_at_ends(
    method: str,
    problem: Problem,
    opened: Sequence[Open],
    ends: Sequence[Sequence[dict[str, np.ndarray]]],
) -> list[Open]:
    """Find what is open once the hidden units are known as well, and warn of new findings.

    Parameters
    ----------
    opened : sequence of Open
        Open ends of every prior that were known, and warned of, before the search.
    ends : sequence of sequence of dict
        Weights at which searches ended, by prior; as many for each.
    """
    found = [open_ends_at(problem, at) for at in zip(*ends, strict=True)]
    worst = [reduce(_worse, of_prior) for of_prior in zip(*found, strict=True)]
    pairs = list(zip(opened, worst, strict=True))
    warn_open(method, problem, [Open() if before.rises else after for before, after in pairs])
    return [before if before.rises else after for before, after in pairs]


def leave_unconverged(found: Sequence[Open], parts: Sequence[dict[str, Any]]) -> None:
    """Mark searches without a finite optimum as not converged: gradients vanish there as well."""
    for one, part in zip(found, parts, strict=True):
        if one.rises and one.certain:
            part["converged"] = np.zeros_like(part["converged"])


def check_proper(method: str, problem: Problem) -> None:
    """Raise if there is no proper posterior, and warn if there may be none.

    If a hidden unit's bias runs off, the unit becomes a constant. If its weights run off, it
    becomes a step. The likelihood then tends to a limit above zero, which has an infinite integral.
    Besides, the values of hidden units may be separated, or resemble each other, even if the data
    themselves are not.
    """
    for label, one in zip(problem.labels, open_ends(problem), strict=True):
        if reason := one.rises or one.level:
            raise ValueError(
                f"prior: expected a proper posterior; got an improper one{under(label)}: {reason}, "
                f"where the prior is flat. Chains would run off: {_REMEDY}."
            )
    network = problem.bnn.network
    head, flat = head_of(network), [n for n in problem.prior.flat() if n in network.sites]
    if head is None:
        return
    if hidden := [name for name in flat if name not in head.sites]:
        _checks.warn(
            f"{method}: The posterior is improper: the prior is flat on {_checks.several(hidden)}, "
            "and as they run off a unit becomes constant or a step, which data do not rule out. "
            "Give them a scale, such as 1 for biases."
        )
    elif head.weight in flat and hidden_layers_of(network):
        _checks.warn(
            f"{method}: The posterior may be improper: the prior is flat on {head.weight!r}, above "
            "hidden units, which may come to resemble each other or to separate the targets. Give "
            "it a scale, such as 1."
        )
