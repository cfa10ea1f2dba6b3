"""A search over rows that stay on a disk: every gradient reads all of them, block by block.

It takes the same steps, in the same rounds, as the search over rows in memory (see `descent`), but
asks this process for every gradient.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from weightprior._running.progress import counting
from weightprior.fits.problem import Problem
from weightprior.fits.programs import compiled
from weightprior.fits.task import Task
from weightprior.inference import _driven
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.inference._optima import optimise
from weightprior.inference._optima.collapse import Collapse, is_hopeless, measure
from weightprior.inference._optima.optimise import Descent, Downhill, Point, Trial
from weightprior.inference._optima.search import (
    MANY_WEIGHTS,
    PRECONDITIONED_STEPS,
    Search,
    plain_steps,
)
from weightprior.model.blocks import width_of
from weightprior.model.bnn import BNN

__all__ = ["run"]

# Numbers in the widest layer for the rows that are read at once.
_NUMBERS_AT_ONCE = 2**22


class _Asked(NamedTuple):
    """A descent that waits for the function at a position.

    Attributes
    ----------
    descent : Descent
        Current point of the descent.
    downhill : Downhill
        Direction of the step under way.
    trial : Trial
        Search for the length of this step.
    """

    descent: Descent
    downhill: Downhill
    trial: Trial


def run(
    problem: Problem, items: Sequence[tuple[Task, Any]], search: Search
) -> list[dict[str, Any]]:
    """Run to one optimum per item, from weights, or from a draw.

    Parameters
    ----------
    problem : Problem
        Problem with rows that stay on a disk.
    items : sequence of (task, start)
        A single prior with its row weights; and weights by site, or a key and the number of a draw.
    search : Search
        Limits of the search.

    Returns
    -------
    list of dict
        As returned by `optima.run`.
    """
    bnn, x, y = problem.data
    with jax.enable_x64(True), counting(len(items), " searches") as count:
        begun = [Standardised.of_first_row(bnn, x, y, task, np.float64) for task, _ in items]
        starts = [np.asarray(of.begin(s)) for of, (_, s) in zip(begun, items, strict=True)]

        def drive(evaluate: Callable[..., Any], item: tuple[Any, Any]) -> dict[str, Any]:
            number = int(item[1])
            rows = _Rows(problem, items[number][0], item, evaluate)
            end, num_iterations = _search(rows, starts[number], search)
            count.advance()
            return {
                "weights": jax.tree.map(np.asarray, rows.weights(end.position)),
                "lp": -np.asarray(end.value),
                "gradient_norm": _norm(end),
                "num_iterations": np.asarray(num_iterations),
                "collapse": jax.tree.map(np.asarray, rows.noise(end.position)),
            }

        priors = [(task.prior, np.int32(number)) for number, (task, _) in enumerate(items)]
        given = starts[0], next(_Rows(problem, items[0][0], priors[0], None).blocks())
        return _driven.run(_of_block, None, bnn, priors, drive, given, once=False)


class _Rows:
    """The log density of one task over all rows, and other quantities for the search."""

    def __init__(self, problem: Problem, task: Task, item: Any, evaluate: Any) -> None:
        self._problem, self._task, self._item, self._evaluate = problem, task, item, evaluate
        bnn, self._x, self._y = problem.data
        self._coordinates = Standardised.of_first_row(bnn, self._x, self._y, task, np.float64)
        self._at_once = max(1, _NUMBERS_AT_ONCE // width_of(bnn.network))

    def __len__(self) -> int:
        return len(self._x)

    def blocks(self) -> Iterator[tuple[Any, ...]]:
        """Yield each block's inputs, targets, row weights, and how often the prior counts in it."""
        times = 1.0
        for rows, new in self._x.blocks(self._at_once):
            counts = np.where(new, self._task.row_weights[rows], 0.0)
            yield self._x[rows], self._y[rows], counts, np.float64(times)
            times = 0.0

    def loss(self, position: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute minus the log density, and its gradient."""
        value, gradient = 0.0, np.zeros_like(position)
        for block in self.blocks():
            found = self._evaluate((position, block))
            value, gradient = value + float(found[0]), gradient + np.asarray(found[1])
        return value, gradient

    def precision(self, position: np.ndarray) -> np.ndarray:
        """Compute the Gauss-Newton matrix of the loss."""
        bnn, total = self._problem.bnn, np.zeros((position.size,) * 2)
        for block in self.blocks():
            given = position, block
            program = compiled(_matrix_of_block, None, bnn, (self._item, given), False)
            total += np.asarray(self._evaluate(given, program))
        return total

    def weights(self, position: jax.Array) -> dict[str, jax.Array]:
        """Return weights by site."""
        return self._coordinates.weights(position)

    def noise(self, position: jax.Array) -> Collapse:
        """Measure the distance of a learned noise from zero, by the rows in memory."""
        bnn, x, y = self._problem.seen.data
        counts = self._task.row_weights[self._x.spread()]
        return measure(bnn, self.weights(position), x, y, counts)

    def is_hopeless(self, position: jax.Array, tolerance: float) -> bool:
        """Tell if a noise is so small that rounding alone keeps gradients above a tolerance."""
        counts = jnp.asarray(self._task.row_weights)
        return bool(is_hopeless(self.noise(position), counts, tolerance))


def _search(rows: _Rows, start: np.ndarray, search: Search) -> tuple[Point, int]:
    """Run rounds from a start to the end of the search, and count the steps."""
    num_steps, most, inverse = 0, plain_steps(len(rows), start.size), np.zeros((0, 0))
    descent = optimise.begin(jnp.asarray(start))
    value = norm = np.inf
    while True:
        most = min(most, search.max_iterations - num_steps)
        descent = _round(rows.loss, descent, inverse, (search.tolerance, most))
        point, before = descent.point, (value, norm)
        value, norm = float(point.value), float(_norm(point))
        num_steps += int(descent.num_iterations)
        if (
            not norm > search.tolerance  # NaN as well
            or num_steps >= search.max_iterations
            or not (value < before[0] or norm < before[1])
            or start.size > MANY_WEIGHTS
            or rows.is_hopeless(point.position, search.tolerance)
        ):
            return point, num_steps
        most, inverse = PRECONDITIONED_STEPS, _inverse(rows.precision(np.asarray(point.position)))
        descent = optimise.resume(point, jnp.asarray(inverse @ point.gradient))


def _round(
    loss: Callable[[np.ndarray], tuple[float, np.ndarray]],
    descent: Descent,
    inverse: np.ndarray,
    limits: tuple[float, int],
) -> Descent:
    """Take a descent to its end, or to its largest number of steps."""
    given = descent, inverse, np.float64(limits[0]), np.int32(limits[1])
    ask = compiled(_ask, None, (), given, False, once=True)
    asked, place, ended = ask((), given)
    while not ended:
        answer = asked, *loss(np.asarray(place)), *given[1:]
        tell = compiled(_tell, None, (), answer, False)
        asked, place, ended = tell((), answer)
    return asked.descent


def _ask(static: None, shared: Any, item: Any) -> tuple[_Asked, jax.Array, jax.Array]:
    """Begin the next step of a descent; return the position to evaluate, and if it has ended."""
    descent, _, tolerance, max_iterations = item
    downhill = optimise.downhill_from(descent)
    trial = optimise.first_trial(descent, downhill)
    place = optimise.place_of(trial, descent, downhill)
    ended = ~optimise.unfinished(descent, tolerance, max_iterations)
    return _Asked(descent, downhill, trial), place, ended


def _tell(static: None, shared: Any, item: Any) -> tuple[_Asked, jax.Array, jax.Array]:
    """Update a descent with the function that it asked for, and ask again."""
    (descent, downhill, trial), value, gradient, inverse, *limits = item
    point = Point(optimise.place_of(trial, descent, downhill), value, gradient)
    tried = optimise.judge(trial, descent, downhill, point)
    place = optimise.place_of(tried, descent, downhill)
    going_on = _Asked(descent, downhill, tried), place, jnp.asarray(False)
    taken = optimise.take(descent, tried, lambda g: inverse @ g if inverse.size else g)
    stepping = _ask(static, shared, (taken, inverse, *limits))
    return jax.tree.map(partial(jnp.where, optimise.is_open(tried)), going_on, stepping)


def _norm(point: Point) -> np.ndarray:
    """Return the largest absolute partial derivative; NaN if the point was not evaluated."""
    gradient = np.asarray(point.gradient)
    return np.abs(gradient).max() if np.isfinite(point.value) else np.asarray(np.nan)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Compute the inverse of a positive definite matrix; the identity if it is not one."""
    identity = np.eye(len(matrix))
    try:
        return cho_solve(cho_factor(matrix, lower=True), identity)
    except (LinAlgError, ValueError):
        return identity


def _of_block(static: None, bnn: BNN, item: Any) -> tuple[jax.Array, jax.Array]:
    """Compute minus the log density of a block, and its gradient."""
    coordinates, position, times = _coordinates(bnn, item)
    return jax.value_and_grad(
        lambda z: -(coordinates.log_likelihood(z) + times * coordinates.log_prior(z))
    )(position)


def _matrix_of_block(static: None, bnn: BNN, item: Any) -> jax.Array:
    coordinates, position, times = _coordinates(bnn, item)
    return coordinates.information(position) + times * coordinates.prior_precision()


def _coordinates(bnn: BNN, item: Any) -> tuple[Standardised, jax.Array, jax.Array]:
    (prior, _), (position, (x, y, counts, times)) = item
    return Standardised(bnn, x, y, Task(prior, counts), position.dtype), position, times
