"""Length and tolerance of a search, and of its rounds."""

from typing import Any, NamedTuple, Self

from weightprior import _checks

__all__ = ["MANY_WEIGHTS", "PRECONDITIONED_STEPS", "Search", "plain_steps"]

# Least and largest number of steps of the first round, which has no matrix; and of every other.
_PLAIN_STEPS, _MOST_PLAIN_STEPS, PRECONDITIONED_STEPS = 500, 3000, 100
# The matrix of this many weights still fits into memory.
MANY_WEIGHTS = 4000

# Single precision rounds gradients at about 1e-4 of their terms; double precision takes over well
# before that, at a hundredth of a nat per unit.
_ROUGH_TOLERANCE = 1e-2


class Search(NamedTuple):
    """Length of a search, and its tolerance.

    Attributes
    ----------
    method : str
        Name of the function in messages.
    max_iterations : int
        Largest number of L-BFGS steps per run.
    tolerance : float
        Largest partial derivative at an optimum, in nats per unit of the prior.
    """

    method: str
    max_iterations: int
    tolerance: float

    @classmethod
    def checked(cls, method: str, max_iterations: Any, tolerance: Any, least: int = 1) -> Self:
        """Check what a user passed to a fit function, or raise."""
        return cls(
            method,
            _checks.integer("max_iterations", max_iterations, least),
            _checks.number("tolerance", tolerance, above=0),
        )

    def rough(self, num_rows: int, size: int) -> Self:
        """Return the search in single precision that precedes this one.

        A quarter of the steps is left for the exact search. If a matrix can precondition that one,
        the rough search stops where a valley would be seen: it has no matrix.

        Parameters
        ----------
        num_rows, size : int
            Numbers of rows and of weights.
        """
        most = self.max_iterations - (self.max_iterations + 3) // 4
        if size <= MANY_WEIGHTS:
            most = min(most, plain_steps(num_rows, size))
        tolerance = max(self.tolerance, _ROUGH_TOLERANCE)
        return self._replace(tolerance=tolerance, max_iterations=most)

    @property
    def options(self) -> dict[str, Any]:
        """Options of the search, for the fit."""
        return {"max_iterations": self.max_iterations, "tolerance": self.tolerance}


def plain_steps(num_rows: int, size: int) -> int:
    """Return the number of steps of the first round: they take about as long as two matrices."""
    steps_of_a_matrix = size * (1 + 2 * size / num_rows) / 6
    return min(max(_PLAIN_STEPS, round(2 * steps_of_a_matrix)), _MOST_PLAIN_STEPS)
