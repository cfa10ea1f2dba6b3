"""The optima of a density: runs from draws of the prior, first rough, then exact.

In single precision a step costs half as much, and rounds gradients; the last steps are in double
precision, whatever JAX's own is set to.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from weightprior import _checks
from weightprior._running.progress import counting
from weightprior.fits.problem import Problem
from weightprior.inference import _batch
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.inference._optima.search import EXACT, ROUGH
from weightprior.model.activations import kinks
from weightprior.model.network import hidden_layers_of

__all__ = [
    "OVERFLOW",
    "Search",
    "find",
    "keys",
    "run",
    "stack",
    "under",
    "usable",
    "warn_unconverged",
]

# Priors that a warning names.
_MAX_PRIORS_NAMED = 3

OVERFLOW = "Standardise x and y, or give the prior smaller scales."


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


def find(problem: Problem, search: Search, num_restarts: int) -> list[dict[str, np.ndarray]]:
    """Run from `num_restarts` draws of each prior to optima, the highest density first.

    Returns
    -------
    list of dict of str to array
        Per part of the prior, what `stack` returns.

    Raises
    ------
    FloatingPointError
        Where every restart of a part overflowed.
    """
    starts = keys(problem.key, num_restarts)
    items = [(task, start) for task in problem.tasks for start in starts]
    ended = run(Standardised, problem, items, search)
    return [
        _best_first(ended[i : i + num_restarts], search) for i in range(0, len(ended), num_restarts)
    ]


def keys(key: jax.Array, count: int) -> list[jax.Array]:
    """Keys of runs, of which more leave the first as they were."""
    with jax.enable_x64(True):
        # The same keys as split(key, count), which compiles for every new number.
        return [jax.random.fold_in(key, i) for i in range(count)]


def run(
    coordinates: type[Standardised],
    problem: Problem,
    items: Sequence[tuple[Any, jax.Array]],
    search: Search,
) -> list[dict[str, Any]]:
    """Run to one optimum per item, from where its key draws a position.

    Parameters
    ----------
    coordinates : type
        Whose log density is maximised: `Standardised`, or a kind of it.
    problem : Problem
        The model and its data.
    items : sequence of (task, key)
        What the coordinates are made of beside these, and the key of the start.
    search : Search
        How long and how far.

    Returns
    -------
    list of dict
        In the order of the items: `weights`, a dict of arrays by site, and `lp`, `gradient_norm`
        and `num_iterations`. What overflowed has NaN or infinity there.
    """
    with jax.enable_x64(True):
        shared = (*problem.data, search.tolerance, search.max_iterations)
        near = _batch.prepare_steps(*ROUGH, coordinates, shared, items[0], len(items))
        _batch.prepare_steps(*EXACT, coordinates, shared, (items[0][0], near), len(items))
        with counting(2 * len(items), " searches") as count:

            def search_all(programs: Any, items: Any) -> list[Any]:
                begin, advance = programs
                return _batch.run_steps(
                    begin, advance, coordinates, shared, items, on_done=lambda _: count.advance()
                )

            nears = search_all(ROUGH, items)
            pairs = zip(items, nears, strict=True)
            return search_all(EXACT, [(task, near) for (task, _), near in pairs])


def _best_first(ended: list[dict[str, Any]], search: Search) -> dict[str, np.ndarray]:
    """Stack one prior's restarts, the highest density first."""
    whole = [r for r in ended if usable(r)]
    if not whole:
        raise FloatingPointError(
            f"{search.method}: every restart ended in NaN or infinity. {OVERFLOW}"
        )
    whole.sort(key=lambda r: -r["lp"])
    # The broken ones stay countable: they come last, as they ended.
    return stack(whole + [r for r in ended if not usable(r)], search.tolerance)


def usable(one: dict[str, Any]) -> bool:
    """Tell whether a run ended anywhere."""
    return bool(np.isfinite(one["lp"]) and np.isfinite(one["gradient_norm"]))


def stack(ended: list[dict[str, Any]], tolerance: float) -> dict[str, np.ndarray]:
    """Every site, `lp`, `converged`, `gradient_norm` and `num_iterations`, the runs in front."""
    numbers = {
        name: np.stack([r[name] for r in ended])
        for name in ("lp", "gradient_norm", "num_iterations")
    }
    return {
        **{name: np.stack([r["weights"][name] for r in ended]) for name in ended[0]["weights"]},
        "lp": numbers.pop("lp"),
        "converged": numbers["gradient_norm"] <= tolerance,
        **numbers,
    }


def warn_unconverged(
    problem: Problem, search: Search, told: str, late: Sequence[str], exhausted: bool, kinks: str
) -> None:
    """Warn of runs that did not converge, with what to do; nothing where there are none.

    Parameters
    ----------
    problem, search
        What was searched, and how.
    told : str
        What did not reach the tolerance.
    late : sequence of str
        Of each prior that is concerned, how far it came.
    exhausted : bool
        Whether iterations ran out.
    kinks : str
        What to do where kinks are the reason, as of relu units: no gradient vanishes there.
    """
    if not late:
        return
    named = list(late[:_MAX_PRIORS_NAMED])
    if len(late) > len(named):
        named.append(f"and under {len(late) - len(named)} more")
    if problem.doubt:
        advice = "Mind the scale of the data first, of which another warning tells."
    elif exhausted:
        advice = f"It had max_iterations={search.max_iterations}. Raise max_iterations."
    elif _has_kinks(problem):
        advice = f"Optima of relu units often lie on kinks, where no gradient vanishes: {kinks}"
    else:
        advice = (
            "Its precision allows no further progress. Standardise x and y, or raise tolerance."
        )
    if problem.prior.flat():
        advice += (
            " Under a flat prior there may be no optimum to reach: give every site a finite scale."
        )
    _checks.warn(
        f"{search.method}: {told} did not reach tolerance={search.tolerance:g}: "
        f"{', '.join(named)}. {advice}"
    )


def under(label: Any) -> str:
    """Name the prior of a stack that is spoken of; nothing where there is one."""
    return "" if label is None else f" under prior {label!r}"


def _has_kinks(problem: Problem) -> bool:
    layers = hidden_layers_of(problem.bnn.network) or ()
    return any(kinks(layer.activation) for layer in layers)
