"""The optima of a density: runs from draws of the prior, first rough, then exact.

In single precision a step costs half as much, and rounds gradients; the last steps are in double
precision, whatever JAX's own is set to.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from weightprior.fits.problem import Problem, under
from weightprior.inference import _batch
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.inference._optima.collapse import Collapse, is_hopeless, measure
from weightprior.inference._optima.optimise import minimise, minimise_whitened
from weightprior.inference._optima.search import Search

__all__ = [
    "OVERFLOW",
    "Found",
    "find",
    "keys",
    "run",
    "stack",
    "under",
    "usable",
]

# Single precision rounds gradients at about 1e-4 of what it sums; double precision takes over
# well before that, at a hundredth of a nat per unit, or after so many steps.
_ROUGH_TOLERANCE = 1e-2
_ROUGH_STEPS = 4000
# After so many steps, of the search or of the finish, the optimum is known to lie in a narrow
# valley, and curvature is worth looking at, as long as that of so many weights fits into memory.
_LONG_SEARCH = 350
_LONG_FINISH = 1000
_MANY_WEIGHTS = 4000

OVERFLOW = "Standardise x and y, or give the prior smaller scales."


type Found = tuple[list[dict[str, np.ndarray]], list[Collapse]]


def find(problem: Problem, search: Search, num_restarts: int) -> Found:
    """Run from `num_restarts` draws of each prior to optima, the highest density first.

    Returns
    -------
    list of dict of str to array
        Per part of the prior, what `stack` returns.
    list of Collapse
        Per part, where the noise of its best restart went.

    Raises
    ------
    FloatingPointError
        Where every restart of a part overflowed.
    """
    starts = keys(problem.key, num_restarts)
    items = [(task, start) for task in problem.tasks for start in starts]
    ended = run(Standardised, problem, items, search)
    parts = [ended[i : i + num_restarts] for i in range(0, len(ended), num_restarts)]
    restarts = [_best_first(part, search) for part in parts]
    best = [max(filter(usable, part), key=lambda r: r["lp"]) for part in parts]
    return restarts, [one["collapse"] for one in best]


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
        In the order of the items: `weights`, a dict of arrays by site, `lp`, `gradient_norm`,
        `num_iterations`, and `collapse`, a `Collapse`. What overflowed has NaN or infinity there.
    """
    with jax.enable_x64(True):
        shared = (*problem.data, search.tolerance, search.max_iterations)
        near = _batch.prepare(_approach, coordinates, shared, items[0], len(items))
        _batch.prepare(_finish, coordinates, shared, (items[0][0], near), len(items))
        disable = None if search.progress_bar else True
        with tqdm(
            total=2 * len(items), desc=search.method, unit="run", delay=2, disable=disable
        ) as bar:
            nears = _batch.run(
                _approach, coordinates, shared, items, on_done=lambda _: bar.update()
            )
            items = [(task, near) for (task, _), near in zip(items, nears, strict=True)]
            return _batch.run(_finish, coordinates, shared, items, on_done=lambda _: bar.update())


class _Approach(NamedTuple):
    position: jax.Array
    num_iterations: jax.Array


def _approach(kind: type[Standardised], shared: Any, item: Any) -> _Approach:
    """Run from one draw of one prior to the neighbourhood of an optimum, in single precision."""
    bnn, x, y, _, max_iterations = shared
    task, key = item
    coordinates = kind(bnn, x, y, task, jnp.float32)
    # Drawn in double precision, so that the finish could begin at the same place.
    start = kind(bnn, x, y, task, jnp.float64).draw(key)
    # A quarter of the steps is kept for the finish, so that it always has its turn.
    near = minimise(
        lambda z: -coordinates.log_density(z),
        start.astype(jnp.float32),
        _ROUGH_TOLERANCE,
        jnp.minimum(_ROUGH_STEPS, max_iterations - (max_iterations + 3) // 4),
    )
    # Single precision may have overflowed where double does not: then it begins anew.
    usable = jnp.isfinite(near.value) & jnp.all(jnp.isfinite(near.position))
    position = jnp.where(usable, near.position.astype(jnp.float64), start)
    return _Approach(position, near.num_iterations)


def _finish(kind: type[Standardised], shared: Any, item: Any) -> dict[str, Any]:
    """Run on to the tolerance, in double precision."""
    bnn, x, y, tolerance, max_iterations = shared
    task, near = item
    coordinates = kind(bnn, x, y, task, jnp.float64)

    def noise_at(position: jax.Array) -> Collapse:
        given = coordinates.x, coordinates.y, coordinates.row_weights
        return measure(coordinates.bnn, coordinates.weights(position), *given)

    def hopeless(position: jax.Array) -> jax.Array:
        return is_hopeless(noise_at(position), coordinates.row_weights, tolerance)

    end = minimise_whitened(
        lambda z: -coordinates.log_density(z),
        coordinates.precision,
        near.position,
        tolerance,
        max_iterations - near.num_iterations,
        plain_steps=_plain_steps(coordinates.size, near, hopeless),
        hopeless=hopeless,
    )
    return {
        "weights": coordinates.weights(end.position),
        "lp": -end.value,
        "gradient_norm": end.gradient_norm,
        "num_iterations": near.num_iterations + end.num_iterations,
        "collapse": noise_at(end.position),
    }


def _plain_steps(
    size: int, near: _Approach, hopeless: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    if size > _MANY_WEIGHTS:
        return jnp.where(hopeless(near.position), _LONG_FINISH, jnp.iinfo(jnp.int32).max)
    return jnp.where(near.num_iterations < _LONG_SEARCH, _LONG_FINISH, 0)


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
