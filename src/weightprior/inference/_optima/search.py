"""Length and tolerance of a search."""

from typing import Any, NamedTuple

from weightprior import _checks

__all__ = ["Search"]


class Search(NamedTuple):
    """Length of a search, and its tolerance.

    Attributes
    ----------
    method : str
        The function that says what went wrong.
    max_iterations : int
        L-BFGS steps per run, both precisions together.
    tolerance : float
        Largest partial derivative at an optimum, in nats per unit of the prior.
    """

    method: str
    max_iterations: int
    tolerance: float

    @classmethod
    def checked(cls, method: str, max_iterations: Any, tolerance: Any) -> "Search":
        """Check what a user passed to a fit function, or raise."""
        return cls(
            method,
            _checks.integer("max_iterations", max_iterations, 1),
            _checks.number("tolerance", tolerance, above=0),
        )

    @property
    def options(self) -> dict[str, Any]:
        """Options of the search, for the fit."""
        return {"max_iterations": self.max_iterations, "tolerance": self.tolerance}
