"""Adam over mini-batches of rows: it gets near an optimum in few passes over very many rows.

A batch represents all rows: its log likelihood is multiplied by the number of such batches, and the
prior counts once.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from numpy.random import SeedSequence

from weightprior import _checks
from weightprior._running.progress import counting
from weightprior.fits.problem import Problem
from weightprior.fits.task import Task
from weightprior.inference import _driven
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.model.bnn import BNN

__all__ = ["Batches", "descend", "loss"]

_NUM_EPOCHS, _LEARNING_RATE = 20, 0.03
# Number of rows that are read at once, unless a batch has more.
_MANY_ROWS = 2**16
# Decays of both means, and a constant that keeps a step finite: the defaults of the source.
_OF_SLOPE, _OF_SQUARE, _SMALL = 0.9, 0.999, 1e-8
# Branch of the seed of a call that draws the order of rows.
_ORDER = 1


class Batches(NamedTuple):
    """Plan of a descent over mini-batches.

    Attributes
    ----------
    size : int
        Rows of a batch.
    num_epochs : int
        Passes over all rows.
    learning_rate : float
        Length of the first steps, in units of the prior's scale; it falls to 0 along a cosine.
    """

    size: int
    num_epochs: int
    learning_rate: float

    @classmethod
    def checked(cls, size: Any, num_epochs: Any, learning_rate: Any, num_rows: int) -> Self | None:
        """Check what a user passed to a fit function, or raise; None if there are no batches."""
        given = {"num_epochs": num_epochs, "learning_rate": learning_rate}
        given = {name: value for name, value in given.items() if value is not None}
        if size is None:
            for name, value in given.items():
                raise ValueError(
                    f"{name}: expected None without batch_size; got {value!r}. Leave it out, or "
                    f"pass batch_size={min(1000, num_rows)} as well."
                )
            return None
        if (rows := _checks.integer("batch_size", size, 1)) > num_rows:
            without = "".join(f" and {name}" for name in given)
            raise ValueError(
                f"batch_size: expected at most the {num_rows} rows of x; got {rows}. Pass "
                f"batch_size={num_rows}, or leave out batch_size{without}: the only search is then "
                "that with all rows."
            )
        return cls(
            rows,
            _checks.integer("num_epochs", given.get("num_epochs", _NUM_EPOCHS), 1),
            _checks.number("learning_rate", given.get("learning_rate", _LEARNING_RATE), above=0),
        )

    def windows(
        self, num_rows: int, rng: np.random.Generator, together: int = 1
    ) -> Iterator[np.ndarray]:
        """Yield the rows of some batches at once, epoch by epoch, in random order.

        The last batch of an epoch is filled up from the first. For a table on a disk, the chunks of
        `together` adjacent rows are shuffled first, and then the rows of a window.
        """
        window = self.size * max(1, _MANY_ROWS // self.size)
        for _ in range(self.num_epochs):
            order = rng.permutation(-(-num_rows // together))
            if together > 1:
                order = (order[:, None] * together + np.arange(together)).ravel()
                order = order[order < num_rows]
            for start in range(0, num_rows, window):
                rows = order[start : start + window]
                rows = np.concatenate([rows, order[: -len(rows) % self.size]])
                yield rows if together == 1 else rng.permutation(rows)

    @property
    def options(self) -> dict[str, Any]:
        """Options of the descent, for the fit."""
        told = self._asdict()
        return {"batch_size": told.pop("size"), **told}

    def num_steps(self, num_rows: int) -> int:
        """Return the number of batches in all epochs."""
        return self.num_epochs * math.ceil(num_rows / self.size)


class _State(NamedTuple):
    """A position, and the running means of its slope and of the slope's square."""

    position: Any
    slope: Any
    square: Any


def descend(
    problem: Problem, items: Sequence[tuple[Task, Any]], batches: Batches
) -> list[dict[str, np.ndarray]]:
    """Descend from the start of every item, weights or a draw of the prior, to new weights.

    References
    ----------
    D. P. Kingma and J. Ba, Adam: a method for stochastic optimization, 2015.
    doi:10.48550/arXiv.1412.6980
    """
    # Rows of this process, since several restarts draw batches at once: from rows that are divided
    # among devices every batch would be collected, by each process in an order of its own.
    bnn, (x, y) = problem.bnn, problem.rows
    num_steps = batches.num_steps(len(x))
    together = x.together if problem.digest else 1

    def batches_of(task: Task, windows: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
        for rows in windows:
            counts = task.row_weights[rows] * (len(x) / batches.size)
            data = [np.asarray(a, np.float32) for a in (x[rows], y[rows], counts)]
            for start in range(0, len(rows), batches.size):
                yield tuple(a[start : start + batches.size] for a in data)

    def drive(evaluate: Callable[[Any], _State], item: tuple[Any, Any]) -> np.ndarray:
        number = int(item[1])
        task, state = items[number][0], begun[number]
        rng = np.random.default_rng(SeedSequence(problem.seed, spawn_key=(_ORDER, number)))
        windows = batches.windows(len(x), rng, together)
        for step, batch in enumerate(batches_of(task, windows)):
            rate = batches.learning_rate * (1 + math.cos(math.pi * step / num_steps)) / 2
            state = evaluate((state, batch, _numbers(step, rate)))
            count.advance()
        return np.asarray(state.position, np.float64)

    with jax.enable_x64(True), counting(num_steps * len(items), " steps") as count:
        coordinates = [Standardised.of_first_row(bnn, x, y, t, np.float64) for t, _ in items]
        begun = [_begin(of, start) for of, (_, start) in zip(coordinates, items, strict=True)]
        first = next(batches_of(items[0][0], [np.arange(batches.size)]))
        given = begun[0], first, _numbers(0, 1.0)
        priors = [(task.prior, np.int32(number)) for number, (task, _) in enumerate(items)]
        ended = _driven.run(_step, None, bnn, priors, drive, given, once=False)
        found = [of.weights(jnp.asarray(z)) for of, z in zip(coordinates, ended, strict=True)]
    return [{name: np.asarray(one[name]) for name in bnn.sites} for one in found]


def _begin(coordinates: Standardised, start: Any) -> _State:
    position = np.asarray(coordinates.begin(start), np.float32)
    return _State(position, np.zeros_like(position), np.zeros_like(position))


def _numbers(step: int, rate: float) -> np.ndarray:
    """Return the length of a step, and the bias corrections of both running means."""
    missed = [1 - decay ** (step + 1) for decay in (_OF_SLOPE, _OF_SQUARE)]
    return np.array([rate, *missed], np.float32)


def loss(bnn: BNN, prior: Any, batch: tuple[Any, ...], position: jax.Array) -> jax.Array:
    """Compute minus the log density at a position, of a batch weighted to stand for all rows."""
    x, y, counts = batch
    return -Standardised(bnn, x, y, Task(prior, counts), position.dtype).log_density(position)


def _step(static: None, bnn: BNN, item: Any) -> _State:
    (prior, _), (state, batch, (rate, of_slope, of_square)) = item
    gradient = jax.grad(lambda z: loss(bnn, prior, batch, z))(state.position)
    slope = _OF_SLOPE * state.slope + (1 - _OF_SLOPE) * gradient
    square = _OF_SQUARE * state.square + (1 - _OF_SQUARE) * gradient**2
    move = (slope / of_slope) / (jnp.sqrt(square / of_square) + _SMALL)
    return _State(state.position - rate * move, slope, square)
