"""Maximum a posteriori: the optimum of the model's density, which is L2 regularisation."""

import time
from typing import Any

import jax
import xarray as xr

from weightprior import _checks, results
from weightprior.hierarchy import HierarchicalPrior
from weightprior.inference import _optima
from weightprior.inference._standardised import parts
from weightprior.model import BNN
from weightprior.priors import NormalPrior

__all__ = ["fit_map"]

# Priors that a warning names.
_NUM_NAMED = 3


def fit_map(
    bnn: BNN,
    x: Any,
    y: Any,
    *,
    prior: NormalPrior,
    rng_key: Any = 0,
    num_restarts: int = 8,
    max_iterations: int = 5000,
    tolerance: float = 1e-6,
    row_weights: Any = None,
) -> xr.DataTree:
    """Find the weights of highest posterior density: the L2-regularised network.

    L-BFGS runs from draws of the prior, first in single precision, then in double precision to
    the tolerance, whatever JAX's precision is set to. Where the optimum lies in a narrow valley, as
    under wide priors, the last steps are taken in coordinates that the Gauss-Newton matrix whitens.

    Parameters
    ----------
    bnn : BNN
        The model.
    x : array or data frame of shape (rows, features)
        Inputs. A data frame's column names become the coordinate `feature`.
    y : array of shape (rows,) or (rows, outputs)
        Targets.
    prior : NormalPrior
        The prior; a stacked one is fitted part by part, each from the same standard starts.
    rng_key : int or JAX key
        Decides the starts.
    num_restarts : int
        Starts per prior.
    max_iterations : int
        L-BFGS steps per restart, both precisions together.
    tolerance : float
        A restart has converged where no partial derivative of the log density exceeds this, in
        nats per unit, the unit of a weight being its prior's scale (where the prior is flat,
        one over the root of the fan-in, or 1 for a bias).
    row_weights : array of shape (rows,) or (priors, rows), optional
        How often each row's log likelihood counts; once by default, 0 leaves the row out. For a
        stacked prior there can be one set for each part. The fit's `log_likelihood` stays that of
        one row each.

    Returns
    -------
    DataTree
        A fit whose `posterior` is the best restart: one chain, one draw. The group `restarts` has
        all, best first, with `lp`, `converged`, `gradient_norm` (largest partial derivative, as
        for `tolerance`) and `num_iterations`.

    Raises
    ------
    ValueError, TypeError
        For data, a prior or options that cannot be used.
    FloatingPointError
        Where every restart ended in NaN or infinity.

    Warns
    -----
    UserWarning
        Where the best restart did not converge.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(5,)), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_map(bnn, x, np.sin(3 * x[:, 0]), prior=wp.normal_prior(bnn))
    >>> bool(fit["restarts"]["converged"][0])
    True
    """
    _checks.model(bnn)
    inputs, targets = bnn.check_data(x, y)
    if isinstance(prior, HierarchicalPrior):
        raise TypeError(
            "prior: expected a NormalPrior; got one with learned centres and scales. The mode of "
            "weights and their scale together is degenerate: all weights at their centre and next "
            "to no scale, whatever the data say. Sample it with fit_mcmc, or choose among fixed "
            "centres and scales by their evidence: fit_tempered with a stacked prior."
        )
    bnn.check_prior(prior)
    key = _checks.random_key(rng_key)
    num_restarts = _checks.integer("num_restarts", num_restarts, 1)
    max_iterations = _checks.integer("max_iterations", max_iterations, 1)
    tolerance = _checks.number("tolerance", tolerance, above=0)

    began = time.perf_counter()
    fits = parts(prior, row_weights, len(inputs))
    restarts = _optima.find(
        bnn, inputs, targets, fits, key,
        method="fit_map", num_restarts=num_restarts, max_iterations=max_iterations,
        tolerance=tolerance,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    _warn_unconverged(bnn, prior, restarts, max_iterations, tolerance)
    stats = ("converged", "gradient_norm", "num_iterations")
    return results.build(
        bnn,
        x,
        y,
        prior,
        results.Draws(
            weights=[
                {n: v[None, None, 0] for n, v in r.items() if n in bnn.sites} for r in restarts
            ],
            stats=[{name: r[name][None, None, 0] for name in stats} for r in restarts],
            groups={"restarts": (("restart",), restarts)},
        ),
        method="map",
        exact=False,
        seconds=seconds,
        row_weights=row_weights,
        options={
            "num_restarts": num_restarts,
            "max_iterations": max_iterations,
            "tolerance": tolerance,
            "rng_key": jax.random.key_data(key).tolist(),
        },
    )


def _warn_unconverged(bnn, prior, restarts, max_iterations, tolerance) -> None:
    labels = prior.labels or (None,)
    late = [(label, r) for label, r in zip(labels, restarts, strict=True) if not r["converged"][0]]
    if not late:
        return
    reached = [
        ("" if label is None else f"under prior {label!r} ")
        + f"gradient norm {r['gradient_norm'][0]:.1e} after {r['num_iterations'][0]} iterations"
        for label, r in late
    ]
    if len(reached) > _NUM_NAMED:
        reached[_NUM_NAMED:] = [f"and under {len(reached) - _NUM_NAMED} more"]
    _checks.warn(
        f"fit_map: the best restart did not reach tolerance={tolerance:g}: {', '.join(reached)}. "
        + _optima.advice(
            bnn,
            prior,
            max_iterations,
            exhausted=any(r["num_iterations"][0] >= max_iterations for _, r in late),
            kinks="compare the restarts' lp instead, and raise num_restarts where they differ.",
        )
    )
