"""Length and tolerance of a search."""

from typing import Any, NamedTuple, Self

from weightprior import _checks

__all__ = ["Search"]

# Single precision rounds gradients at about 1e-4 of what it sums; double precision takes over well
# before that, at a hundredth of a nat per unit.
_ROUGH_TOLERANCE = 1e-2


class Search(NamedTuple):
    """Length of a search, and its tolerance.

    Attributes
    ----------
    method : str
        The function that says what went wrong.
    max_iterations : int
        L-BFGS steps per run.
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

    def rough(self) -> Self:
        """Search that goes before it in single precision.

        A quarter of the steps is kept, so that the exact one always has its turn.
        """
        return self._replace(
            tolerance=max(self.tolerance, _ROUGH_TOLERANCE),
            max_iterations=self.max_iterations - (self.max_iterations + 3) // 4,
        )

    @property
    def options(self) -> dict[str, Any]:
        """Options of the search, for the fit."""
        return {"max_iterations": self.max_iterations, "tolerance": self.tolerance}
