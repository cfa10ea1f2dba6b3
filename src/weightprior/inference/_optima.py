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

from weightprior.inference import _batch
from weightprior.inference._optimise import minimise, minimise_whitened
from weightprior.inference._standardised import Part, Standardised
from weightprior.model import BNN
from weightprior.priors import NormalPrior

__all__ = ["OVERFLOW", "advice", "best_first", "find", "keys", "run", "stack", "usable"]

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


def find(
    bnn: BNN,
    x: np.ndarray,
    y: np.ndarray,
    fits: Sequence[Part],
    key: jax.Array,
    *,
    method: str,
    num_restarts: int,
    max_iterations: int,
    tolerance: float,
) -> list[dict[str, np.ndarray]]:
    """Run from `num_restarts` draws of each prior to optima, the highest density first.

    Returns
    -------
    list of dict of str to array
        Per part, what `stack` returns.

    Raises
    ------
    FloatingPointError
        Where every restart of a part overflowed; `method` is who says so.
    """
    starts = keys(key, num_restarts)
    items = [(part, start) for part in fits for start in starts]
    options = {"method": method, "max_iterations": max_iterations, "tolerance": tolerance}
    ended = run(Standardised, bnn, x, y, items, **options)
    return [
        best_first(ended[i : i + num_restarts], tolerance, method)
        for i in range(0, len(ended), num_restarts)
    ]


def keys(key: jax.Array, count: int) -> list[jax.Array]:
    """Keys of runs, of which more leave the first as they were."""
    with jax.enable_x64(True):
        # The same keys as split(key, count), which compiles for every new number.
        return [jax.random.fold_in(key, i) for i in range(count)]


def run(
    space: type[Standardised],
    bnn: BNN,
    x: np.ndarray,
    y: np.ndarray,
    items: Sequence[tuple[Any, jax.Array]],
    *,
    method: str,
    max_iterations: int,
    tolerance: float,
) -> list[dict[str, Any]]:
    """Run to one optimum per item, from where its key draws a position.

    Parameters
    ----------
    space : type
        Whose log density is maximised: `Standardised`, or a kind of it.
    bnn, x, y
        The model and its data.
    items : sequence of (part, key)
        What the space is made of beside these, and the key of the start.
    method, max_iterations, tolerance
        As for `find`.

    Returns
    -------
    list of dict
        In the order of the items: `weights`, a dict of arrays by site, and `lp`, `gradient_norm`
        and `num_iterations`. What overflowed has NaN or infinity there.
    """
    with jax.enable_x64(True):
        shared = (bnn, x, y, tolerance, max_iterations)
        near = _batch.prepare(_approach, space, shared, items[0], len(items))
        _batch.prepare(_finish, space, shared, (items[0][0], near), len(items))
        with tqdm(total=2 * len(items), desc=method, unit="run", delay=2, disable=None) as bar:
            nears = _batch.run(_approach, space, shared, items, on_done=lambda _: bar.update())
            items = [(part, near) for (part, _), near in zip(items, nears, strict=True)]
            return _batch.run(_finish, space, shared, items, on_done=lambda _: bar.update())


class _Approach(NamedTuple):
    position: jax.Array
    num_iterations: jax.Array


def _approach(kind: type[Standardised], shared: Any, item: Any) -> _Approach:
    """Run from one draw of one prior to the neighbourhood of an optimum, in single precision."""
    bnn, x, y, _, max_iterations = shared
    part, key = item
    space = kind(bnn, x, y, part, jnp.float32)
    # Drawn in double precision, so that the finish could begin at the same place.
    start = kind(bnn, x, y, part, jnp.float64).draw(key)
    # A quarter of the steps is kept for the finish, so that it always has its turn.
    near = minimise(
        lambda z: -space.log_density(z),
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
    part, near = item
    space = kind(bnn, x, y, part, jnp.float64)
    end = minimise_whitened(
        lambda z: -space.log_density(z),
        space.precision,
        near.position,
        tolerance,
        max_iterations - near.num_iterations,
        plain_steps=_plain_steps(space.size, near.num_iterations),
    )
    return {
        "weights": space.weights(end.position),
        "lp": -end.value,
        "gradient_norm": end.gradient_norm,
        "num_iterations": near.num_iterations + end.num_iterations,
    }


def _plain_steps(size: int, num_iterations: jax.Array) -> jax.Array:
    if size > _MANY_WEIGHTS:
        return jnp.full((), jnp.iinfo(jnp.int32).max, jnp.int32)
    return jnp.where(num_iterations < _LONG_SEARCH, _LONG_FINISH, 0)


def best_first(ended: list[dict[str, Any]], tolerance: float, method: str) -> dict[str, np.ndarray]:
    """Stack one prior's restarts, the highest density first."""
    whole = [r for r in ended if usable(r)]
    if not whole:
        raise FloatingPointError(f"{method}: every restart ended in NaN or infinity. {OVERFLOW}")
    whole.sort(key=lambda r: -r["lp"])
    # The broken ones stay countable: they come last, as they ended.
    return stack(whole + [r for r in ended if not usable(r)], tolerance)


def usable(one: dict[str, Any]) -> bool:
    """Whether a run ended anywhere."""
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


def advice(
    bnn: BNN, prior: NormalPrior, max_iterations: int, *, exhausted: bool, kinks: str
) -> str:
    """What to do about runs that did not converge, `exhausted` where iterations ran out.

    Of kinks, which relu units have, it is said that no gradient vanishes there, and then `kinks`.
    """
    if exhausted:
        said = f"It had max_iterations={max_iterations}. Raise max_iterations."
    elif "relu" in bnn.network.activations:
        said = f"Optima of relu units often lie on kinks, where no gradient vanishes: {kinks}"
    else:
        said = "Its precision allows no further progress. Standardise x and y, or raise tolerance."
    if prior.flat():
        said += (
            " Under a flat prior there may be no optimum to reach: give every site a finite scale."
        )
    return said
