"""The optima of a density: runs from draws of the prior, or from weights that a user passes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from weightprior._running.progress import counting
from weightprior.fits.problem import Problem
from weightprior.inference import _batch
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.inference._optima import descent, stored
from weightprior.inference._optima.collapse import Collapse
from weightprior.inference._optima.minibatch import Batches, descend
from weightprior.inference._optima.search import Search
from weightprior.inference._starts import Drawn, starts_of_restarts

__all__ = [
    "OVERFLOW",
    "Found",
    "drawn",
    "find",
    "run",
    "stack",
    "usable",
]

# Above this number of weights times rows, a search begins in single precision.
_LARGE = 2_000_000
OVERFLOW = "Standardise x and y, or give the prior smaller scales."
_DIVERGED = "Lower learning_rate. If that does not help: "


type Found = tuple[list[dict[str, np.ndarray]], list[Collapse]]


def find(
    problem: Problem,
    search: Search,
    num_restarts: int,
    init: Any = None,
    meanwhile: Callable[[], Any] = lambda: None,
    batches: Batches | None = None,
) -> Found:
    """Run from `num_restarts` starts to optima of each prior, the highest density first.

    The starts are draws of the prior, except those in `init`. With `batches`, a descent over
    batches of rows first moves them. `meanwhile` is called once the programs have begun to compile.

    Returns
    -------
    list of dict of str to array
        Per part of the prior, as returned by `stack`.
    list of Collapse
        Per part, how close to zero the noise of its best restart went.

    Raises
    ------
    FloatingPointError
        If every restart of a part overflowed.
    """
    starts = starts_of_restarts(problem, init, drawn(problem.key, num_restarts))
    tasks = [task for task in problem.tasks for _ in range(num_restarts)]
    items = [*zip(tasks, starts, strict=True)]
    if batches is not None:
        items = [*zip(tasks, descend(problem, items, batches), strict=True)]
    if problem.digest:
        ended = stored.run(problem, items, search)
    else:
        # Single precision would take a start near an optimum away from it.
        near = init is not None and batches is None
        ended = run(Standardised, problem, items, search, meanwhile, near=near)
    parts = [ended[i : i + num_restarts] for i in range(0, len(ended), num_restarts)]
    advice = OVERFLOW if batches is None else _DIVERGED + OVERFLOW[0].lower() + OVERFLOW[1:]
    restarts = [_best_first(part, search, advice) for part in parts]
    best = [max(filter(usable, part), key=lambda r: r["lp"]) for part in parts]
    return restarts, [one["collapse"] for one in best]


def drawn(key: jax.Array, count: int) -> list[Drawn]:
    """Return the starts that a key draws; with a larger count the first ones stay the same."""
    return [(key, number) for number in np.arange(count, dtype=np.uint32)]


def run(
    coordinates: type[Standardised],
    problem: Problem,
    items: Sequence[tuple[Any, Any]],
    search: Search,
    meanwhile: Callable[[], Any] = lambda: None,
    *,
    near: bool = False,
) -> list[dict[str, Any]]:
    """Run to one optimum per item, from weights, or from a draw.

    Parameters
    ----------
    coordinates : type
        Coordinates with the log density to maximise: `Standardised` or a subclass.
    problem : Problem
        The model and its data.
    items : sequence of (task, start)
        The task, from which the coordinates are made; and weights by site, or a key and the number
        of a draw, which is folded into the key.
    search : Search
        Limits of the search.
    meanwhile : callable, optional
        Called once the programs have begun to compile.
    near : bool
        True if starts may be near an optimum: the search is then in double precision throughout.

    Returns
    -------
    list of dict
        In the order of the items: `weights`, a dict of arrays by site, `lp`, `gradient_norm`,
        `num_iterations`, and `collapse`, a `Collapse`. A search that overflowed has NaN or infinity
        there.
    """
    begin = descent.begin
    with jax.enable_x64(True):
        num_rows, size = len(problem.x), _num_weights(problem)
        if num_rows * size > _LARGE and not near:
            rough = search.rough(num_rows, size)
            nears = _search(begin, np.float32, coordinates, problem, items, rough, meanwhile)
            places = [(near["position"], near["num_iterations"]) for near in nears]
            items = [(task, place) for (task, _), place in zip(items, places, strict=True)]
            begin = descent.begin_near
        return _search(begin, np.float64, coordinates, problem, items, search, meanwhile)


def _search(
    begin: Any,
    dtype: Any,
    coordinates: Any,
    problem: Problem,
    items: Any,
    search: Search,
    meanwhile: Callable[[], Any],
) -> list[Any]:
    """Run from the starts of the items, in one precision."""
    programs, static = (begin, descent.move), (coordinates, dtype)
    shared = (*problem.data, search.tolerance, search.max_iterations)
    _batch.prepare_steps(*programs, static, shared, items[0], len(items))
    meanwhile()
    with counting(len(items), " searches") as count:
        return _batch.run_steps(
            *programs,
            static,
            shared,
            items,
            renew=descent.precondition,
            on_done=lambda _: count.advance(),
        )


def _num_weights(problem: Problem) -> int:
    return sum(math.prod(site.shape) for site in problem.bnn.sites.values())


def _best_first(
    ended: list[dict[str, Any]], search: Search, advice: str = OVERFLOW
) -> dict[str, np.ndarray]:
    """Stack one prior's restarts, the highest density first."""
    whole = [r for r in ended if usable(r)]
    if not whole:
        raise FloatingPointError(
            f"{search.method}: every restart ended in NaN or infinity. {advice}"
        )
    whole.sort(key=lambda r: -r["lp"])
    # The broken ones stay countable: they come last, unsorted.
    return stack(whole + [r for r in ended if not usable(r)], search.tolerance)


def usable(one: dict[str, Any]) -> bool:
    """Tell if a run ended at a finite density and gradient."""
    return bool(np.isfinite(one["lp"]) and np.isfinite(one["gradient_norm"]))


def stack(ended: list[dict[str, Any]], tolerance: float) -> dict[str, np.ndarray]:
    """Stack sites, `lp`, `converged`, `gradient_norm` and `num_iterations`, the runs in front."""
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
