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

__all__ = ["best_first", "find"]

# Single precision rounds gradients at about 1e-4 of what it sums; double precision takes over
# well before that, at a hundredth of a nat per unit, or after so many steps.
_ROUGH_TOLERANCE = 1e-2
_ROUGH_STEPS = 4000
# After so many steps, of the search or of the finish, the optimum is known to lie in a narrow
# valley, and curvature is worth looking at, as long as that of so many weights fits into memory.
_LONG_SEARCH = 350
_LONG_FINISH = 1000
_MANY_WEIGHTS = 4000


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
        Per part: every site, `lp`, `converged`, `gradient_norm` and `num_iterations`, with the axis
        of restarts in front.

    Raises
    ------
    FloatingPointError
        Where every restart of a part overflowed; `method` is who says so.
    """
    with jax.enable_x64(True):
        # The same keys as split(key, num_restarts), which compiles for every new number.
        starts = [jax.random.fold_in(key, i) for i in range(num_restarts)]
        items = [(part, start) for part in fits for start in starts]
        shared = (bnn, x, y, tolerance, max_iterations)
        near = _batch.prepare(_approach, None, shared, items[0], len(items))
        _batch.prepare(_finish, None, shared, (items[0][0], near), len(items))
        with tqdm(total=2 * len(items), desc=method, unit="run", delay=2, disable=None) as bar:
            nears = _batch.run(_approach, None, shared, items, on_done=lambda _: bar.update())
            items = [(part, near) for (part, _), near in zip(items, nears, strict=True)]
            ended = _batch.run(_finish, None, shared, items, on_done=lambda _: bar.update())
    return [
        best_first(ended[i : i + num_restarts], tolerance, method)
        for i in range(0, len(ended), num_restarts)
    ]


class _Approach(NamedTuple):
    position: jax.Array
    num_iterations: jax.Array


def _approach(static: None, shared: Any, item: Any) -> _Approach:
    """Run from one draw of one prior to the neighbourhood of an optimum, in single precision."""
    bnn, x, y, _, max_iterations = shared
    part, key = item
    space = Standardised(bnn, x, y, part, jnp.float32)
    # Drawn in double precision, so that the finish could begin at the same place.
    start = Standardised(bnn, x, y, part, jnp.float64).draw(key)
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


def _finish(static: None, shared: Any, item: Any) -> dict[str, Any]:
    """Run on to the tolerance, in double precision."""
    bnn, x, y, tolerance, max_iterations = shared
    part, near = item
    space = Standardised(bnn, x, y, part, jnp.float64)
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
    usable = [r for r in ended if np.isfinite(r["lp"]) and np.isfinite(r["gradient_norm"])]
    if not usable:
        raise FloatingPointError(
            f"{method}: every restart ended in NaN or infinity. Standardise x and y, or give the "
            "prior smaller scales."
        )
    usable.sort(key=lambda r: -r["lp"])
    # The broken ones stay countable: they come last, as they ended.
    ordered = usable + [r for r in ended if not any(r is u for u in usable)]
    names = ordered[0]["weights"]
    return {
        **{name: np.stack([r["weights"][name] for r in ordered]) for name in names},
        "lp": np.stack([r["lp"] for r in ordered]),
        "converged": np.array([bool(r["gradient_norm"] <= tolerance) for r in ordered]),
        "gradient_norm": np.stack([r["gradient_norm"] for r in ordered]),
        "num_iterations": np.stack([r["num_iterations"] for r in ordered]),
    }
