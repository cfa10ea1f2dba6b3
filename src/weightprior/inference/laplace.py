"""Laplace's approximation: a normal distribution around the MAP, as curved as the posterior."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from weightprior import _checks, results
from weightprior.inference import _batch, _optima
from weightprior.inference._standardised import Standardised, is_normal, parts
from weightprior.linearised import Linearised
from weightprior.model import BNN
from weightprior.priors import NormalPrior
from weightprior.symmetry import freedoms, log_num_symmetries

__all__ = ["fit_laplace"]

_CURVATURES, _STRUCTURES = ("ggn", "hessian"), ("full", "diagonal", "last_layer")


def fit_laplace(
    bnn: BNN,
    x: Any,
    y: Any,
    *,
    prior: NormalPrior,
    rng_key: Any = 0,
    num_samples: int = 1000,
    curvature: str = "ggn",
    structure: str = "full",
    num_restarts: int = 8,
    max_iterations: int = 5000,
    tolerance: float = 1e-6,
    row_weights: Any = None,
) -> xr.DataTree:
    """Approximate the posterior by a normal distribution around its highest mode.

    Exact for a linear model of known Gaussian noise, and cheap; of a network it knows one mode and
    its curvature, nothing of the others, and its evidence can be off by many nats: `fit_tempered`
    has that of the posterior itself.

    With `curvature` ``"ggn"`` it belongs to the network linearised at the MAP, with which `predict`
    and `score` then predict as well: weights drawn around the MAP fit the data far worse in the
    network itself.

    Parameters
    ----------
    bnn : BNN
        The model.
    x : array or data frame of shape (rows, features)
        Inputs. A data frame's column names become the coordinate `feature`.
    y : array of shape (rows,) or (rows, outputs)
        Targets.
    prior : NormalPrior
        The prior, flat nowhere; each part of a stacked one is approximated.
    rng_key : int or JAX key
        Decides the starts of the search for the MAP, and the draws.
    num_samples : int
        Draws from the approximation.
    curvature : {"ggn", "hessian"}
        The matrix whose inverse is the covariance: the generalised Gauss-Newton matrix, which is
        the Fisher information plus the prior's precision and always positive definite; or the
        Hessian of minus the log density itself.
    structure : {"full", "diagonal", "last_layer"}
        Of all weights together, of each by itself, or of the output layer alone (and the noise),
        with all others fixed at the MAP.
    num_restarts, max_iterations, tolerance
        Of the search for the MAP, as in `fit_map`.
    row_weights : array of shape (rows,) or (priors, rows), optional
        How often each row's log likelihood counts, as in `fit_mcmc`.

    Returns
    -------
    DataTree
        Draws as of a single chain. `sample_stats` has `log_q`, the log density of each draw under
        the approximation, up to weights that do not vary. A group `laplace` has (by `prior`, where
        it is stacked) `log_evidence`, Laplace's, of one mode; `log_num_symmetries`, the log of the
        number of equivalent modes that units exchanged and mirrored make of it, which is *not*
        counted in; `log_joint`, the log density at the MAP; and `log_determinant` of the precision,
        in prior sds. The MAP is the first of the group `restarts`, as in a fit by `fit_map`.

    Raises
    ------
    ValueError
        Where the search ended at a point that is no optimum, or where the Hessian there is not
        positive definite: what was found, and what to do; and for wrong arguments.

    References
    ----------
    D. J. C. MacKay, A practical Bayesian framework for backpropagation networks, Neural
    Computation 4, 1992. :doi:`10.1162/neco.1992.4.3.448`

    E. Daxberger et al., Laplace redux: effortless Bayesian deep learning, 2021.
    :doi:`10.48550/arXiv.2106.14806`

    A. Immer, M. Korzepa and M. Bauer, Improving predictions of Bayesian neural nets via local
    linearization, AISTATS 2021. :doi:`10.48550/arXiv.2008.08400`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_laplace(bnn, x, 2 * x[:, 0], prior=wp.normal_prior(bnn))
    >>> round(float(wp.log_evidence(fit)["log_evidence"]), 3)
    -22.724
    """
    began = time.perf_counter()
    _checks.model(bnn)
    inputs, targets = bnn.check_data(x, y)
    bnn.check_prior(prior, proper="no data have an evidence under it")
    key = _checks.random_key(rng_key)
    num_samples = _checks.integer("num_samples", num_samples, 1)
    _checks.one_of("curvature", curvature, _CURVATURES)
    _checks.one_of("structure", structure, _STRUCTURES)
    search = {
        "num_restarts": _checks.integer("num_restarts", num_restarts, 1),
        "max_iterations": _checks.integer("max_iterations", max_iterations, 1),
        "tolerance": _checks.number("tolerance", tolerance, above=0),
    }
    fits = parts(prior, row_weights, len(inputs))
    optima = _optima.find(bnn, inputs, targets, fits, key, method="fit_laplace", **search)
    labels = prior.labels or ("",)
    for label, found in zip(labels, optima, strict=True):
        _check_optimum(label, float(found["gradient_norm"][0]), search["tolerance"])
    modes = [{name: found[name][0] for name in bnn.sites} for found in optima]
    with jax.enable_x64(True):
        static = (curvature, structure, num_samples)
        items = [(part, mode, key) for part, mode in zip(fits, modes, strict=True)]
        found = _batch.run(_approximate, static, (bnn, inputs, targets), items)
    for label, one in zip(labels, found, strict=True):
        _check_curvature(label, one["eigenvalues"])
    singles = prior.parts()
    summaries = [
        {
            "log_evidence": one["log_evidence"],
            "log_num_symmetries": log_num_symmetries(freedoms(bnn, single)),
            "log_joint": one["log_joint"],
            "log_determinant": one["log_determinant"],
        }
        for one, single in zip(found, singles, strict=True)
    ]
    return results.build(
        bnn,
        x,
        y,
        prior,
        results.Draws(
            weights=[{n: w[None] for n, w in one["weights"].items()} for one in found],
            stats=[{"log_q": one["log_q"][None]} for one in found],
            groups={"restarts": (("restart",), optima), "laplace": ((), summaries)},
            models=[Linearised(bnn.network, bnn.likelihood, mode) for mode in modes]
            if curvature == "ggn"
            else None,
        ),
        method="laplace",
        exact=is_normal(bnn) and structure == "full",
        seconds=time.perf_counter() - began,
        row_weights=row_weights,
        options={
            "num_samples": num_samples,
            "curvature": curvature,
            "structure": structure,
            **search,
            "rng_key": jax.random.key_data(key).tolist(),
        },
    )


def _approximate(static: Any, shared: Any, item: Any) -> dict[str, Any]:
    """The normal distribution around one mode, and draws from it."""
    curvature, structure, num_samples = static
    bnn, x, y = shared
    part, mode, key = item
    space = Standardised(bnn, x, y, part, jnp.float64)
    position = space.position(mode)
    whole = (
        space.precision(position)
        if curvature == "ggn"
        else -jax.hessian(space.log_density)(position)
    )
    free = _free(space, structure)
    # What is fixed has no part in the matrix: a one on its diagonal, which adds nothing.
    both = free[:, None] & free[None, :]
    diagonal = jnp.eye(space.size, dtype=bool)
    kept = diagonal if structure == "diagonal" else jnp.ones_like(diagonal)
    matrix = jnp.where(both & kept, whole, jnp.where(diagonal, 1.0, 0.0))
    root = jnp.linalg.cholesky(matrix)
    log_determinant = 2 * jnp.log(jnp.diagonal(root)).sum()
    z = free * jax.random.normal(key, (num_samples, space.size), jnp.float64)
    moves = jax.scipy.linalg.solve_triangular(root.T, z.T, lower=False).T
    # The volume of a step, and the density of what is fixed: neither is the position's own.
    log_volume = (free * space.log_units()).sum()
    constants = 0.5 * (log_determinant - free.sum() * jnp.log(2 * jnp.pi)) - log_volume
    log_joint = space.log_density(position)
    fixed = 0.5 * jnp.where(free, 0.0, position**2 + jnp.log(2 * jnp.pi)).sum()
    log_of_fixed = -fixed - ((~free) * space.log_units()).sum()
    return {
        "weights": jax.vmap(lambda move: space.weights(position + move))(moves),
        "log_q": constants - 0.5 * (z**2).sum(axis=1),
        "log_joint": log_joint,
        "log_evidence": log_joint - log_of_fixed - constants,
        "log_determinant": log_determinant,
        "eigenvalues": jnp.linalg.eigvalsh(matrix),
    }


def _free(space: Standardised, structure: str) -> jax.Array:
    """Which numbers of a position vary."""
    if structure != "last_layer":
        return jnp.ones(space.size, bool)
    sites = ("output.weight", "output.bias", "log_noise")
    return jnp.stack([space.mask(site) for site in sites]).any(axis=0)


def _check_optimum(label: Any, gradient_norm: float, tolerance: float) -> None:
    if not gradient_norm <= tolerance:
        where = f" under the prior {label!r}" if label != "" else ""
        raise ValueError(
            f"fit_laplace: expected an optimum; the best restart{where} ended where the gradient "
            f"is {gradient_norm:.2g} per prior sd, above tolerance={tolerance:g}. Raise "
            "max_iterations or tolerance; optima of relu units often lie on kinks, where no "
            "gradient vanishes and this approximation has no meaning."
        )


def _check_curvature(label: Any, eigenvalues: np.ndarray) -> None:
    # NaN where the density overflows.
    if not (eigenvalues > 0).all():
        where = f" under the prior {label!r}" if label != "" else ""
        raise ValueError(
            f"fit_laplace: expected a positive definite Hessian at the MAP; that{where} has "
            f"{np.sum(~(eigenvalues > 0))} eigenvalues that are not positive, the least "
            f"{eigenvalues.min():.2g}: the point is no maximum, or a flat one. Use "
            "curvature='ggn', or raise num_restarts."
        )
