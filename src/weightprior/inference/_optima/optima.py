"""The optima of a density: runs from draws of the prior, first rough, then exact.

In single precision a step costs half as much, and rounds gradients; the last steps are in double
precision, whatever JAX's own is set to.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from weightprior import _checks
from weightprior.fits.problem import Problem
from weightprior.inference import _batch
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.inference._optima.optimise import minimise, minimise_whitened
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

# Single precision rounds gradients at about 1e-4 of what it sums; double precision takes over
# well before that, at a hundredth of a nat per unit, or after so many steps.
_ROUGH_TOLERANCE = 1e-2
_ROUGH_STEPS = 4000
# After so many steps, of the search or of the finish, the optimum is known to lie in a narrow
# valley, and curvature is worth looking at, as long as that of so many weights fits into memory.
_LONG_SEARCH = 350
_LONG_FINISH = 1000
_MANY_WEIGHTS = 4000

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
    progress_bar : bool
        Whether to show one, where the output is a terminal.
    """

    method: str
    max_iterations: int
    tolerance: float
    progress_bar: bool

    @classmethod
    def checked(
        cls, method: str, max_iterations: Any, tolerance: Any, progress_bar: bool = True
    ) -> "Search":
        """Check what a user passed to a fit function, or raise."""
        return cls(
            method,
            _checks.integer("max_iterations", max_iterations, 1),
            _checks.number("tolerance", tolerance, above=0),
            progress_bar,
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
    end = minimise_whitened(
        lambda z: -coordinates.log_density(z),
        coordinates.precision,
        near.position,
        tolerance,
        max_iterations - near.num_iterations,
        plain_steps=_plain_steps(coordinates.size, near.num_iterations),
    )
    return {
        "weights": coordinates.weights(end.position),
        "lp": -end.value,
        "gradient_norm": end.gradient_norm,
        "num_iterations": near.num_iterations + end.num_iterations,
    }


def _plain_steps(size: int, num_iterations: jax.Array) -> jax.Array:
    if size > _MANY_WEIGHTS:
        return jnp.full((), jnp.iinfo(jnp.int32).max, jnp.int32)
    return jnp.where(num_iterations < _LONG_SEARCH, _LONG_FINISH, 0)


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
