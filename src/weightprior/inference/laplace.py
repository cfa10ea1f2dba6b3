"""Laplace's approximation: a normal distribution around the MAP, as curved as the posterior."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from weightprior import _checks
from weightprior._checks.options import names_its_options
from weightprior._running.progress import shows_progress
from weightprior.fits.constant import warn_constant
from weightprior.fits.outcome import Evidence, Outcome
from weightprior.fits.problem import Problem, under
from weightprior.fits.results import build
from weightprior.inference import _batch
from weightprior.inference._coordinates.collapsed import is_normal
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.inference._docs import shares_docs
from weightprior.inference._optima import optima
from weightprior.inference._optima.advice import SMOOTH, advise, warn_exact
from weightprior.inference._optima.optima import Found
from weightprior.inference._optima.search import Search
from weightprior.inference._starts import kind_of
from weightprior.model.bnn import BNN
from weightprior.model.network import head_of
from weightprior.model.priors.base import Prior
from weightprior.model.priors.normal import NormalPrior
from weightprior.model.symmetry import log_num_symmetries, symmetries

__all__ = ["fit_laplace"]

_KINKS = "this approximation has no meaning there, and there is no curvature"
_CURVATURES, _STRUCTURES = ("ggn", "hessian"), ("full", "diagonal", "last_layer")
_WHY_PROPER = "no data have an evidence under it"


@names_its_options
@shows_progress
@shares_docs
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
    init: Any = None,
    row_weights: Any = None,
    log_likelihood: bool = True,
    progress_bar: bool = True,
) -> xr.DataTree:
    """Approximate the posterior by a normal distribution around its highest mode.

    It is cheap, and exact for a linear model with known Gaussian noise. For other networks it
    covers one mode and its curvature only, and its evidence can be off by many nats. `fit_tempered`
    estimates the evidence of the posterior itself.

    With `curvature` ``"ggn"`` it belongs to the network linearised at the MAP, and `predict` and
    `score` use that network: in the network itself, weights drawn around the MAP fit the data far
    worse.

    Parameters
    ----------
    <data>
    prior : NormalPrior
        The prior, which must not be flat anywhere; each part of a stacked one is approximated.
    rng_key : int or JAX key
        Seed of the starts of the search for the MAP, and of the draws.
    num_samples : int
        Number of draws from the approximation.
    curvature : {"ggn", "hessian"}
        The inverse of the covariance: the generalised Gauss-Newton matrix, or the Hessian of minus
        the log density. The former is the Fisher information plus the prior's precision, and always
        positive definite.
    structure : {"full", "diagonal", "last_layer"}
        Structure of the covariance: over all weights, of each weight by itself, or over the output
        layer alone (and the noise), with all others fixed at the MAP.
    num_restarts, max_iterations, tolerance, init
        Options of the search for the MAP, as in `fit_map`. With ``init=fit, num_restarts=1`` it
        starts where `fit_map` ended, and takes no step if that has converged. `init` may also be a
        network that was trained elsewhere.
    <options>

    Returns
    -------
    DataTree
        Draws as if from a single chain. `sample_stats` has `log_q`, the log density of each draw
        under the approximation, without weights that do not vary. A group `laplace` has (by
        `prior`, if it is stacked) `log_evidence`, Laplace's, of one mode; `log_num_symmetries`, the
        log of the number of equivalent modes by exchanged and mirrored units, which is *not*
        included; `log_joint`, the log density at the MAP; and `log_determinant` of the precision,
        in prior sds. The MAP is the first of the group `restarts`, as in a fit by `fit_map`.

    Raises
    ------
    ValueError
        If the search ended at a point that is no optimum, if the Hessian there is not positive
        definite (with advice), or if arguments are wrong.
    KeyboardInterrupt
        After Ctrl-C; no partial result is kept.

    Warns
    -----
    UserWarning
        If the targets are met exactly, so that a learned noise goes to zero, or if the fit explains
        no more than a constant.

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
    problem = Problem.checked(
        bnn, x, y, prior=prior, rng_key=rng_key, row_weights=row_weights, proper=_WHY_PROPER
    )
    num_samples = _checks.integer("num_samples", num_samples, 1)
    _checks.one_of("curvature", curvature, _CURVATURES)
    _checks.one_of("structure", structure, _STRUCTURES)
    _check_structure(bnn, structure)
    num_restarts = _checks.integer("num_restarts", num_restarts, 1)
    search = Search.checked("fit_laplace", max_iterations, tolerance)

    found = optima.find(problem, search, num_restarts, init)
    outcome = _outcome(problem, search, found, (curvature, structure, num_samples))
    options = {"num_samples": num_samples, "curvature": curvature, "structure": structure}
    options |= {"num_restarts": num_restarts, "init": kind_of(init), **search.options}
    fit = build(
        problem,
        outcome,
        method="laplace",
        seconds=time.perf_counter() - began,
        options=options,
        log_likelihood=log_likelihood,
    )
    warn_constant("fit_laplace", problem, fit)
    return fit


def _outcome(problem: Problem, search: Search, found: Found, static: Any) -> Outcome:
    """Draw from the approximations around the best restarts, and find their evidence."""
    curvature, structure, _ = static
    modes = _modes(problem, search, found)
    normals = _approximations(problem, modes, static)
    exact = is_normal(problem.bnn) and structure == "full"
    pairs = zip(problem.tasks, normals, strict=True)
    told = [_evidence(problem, task.prior, one, exact) for task, one in pairs]
    return Outcome(
        weights=[{n: w[None] for n, w in one["weights"].items()} for one in normals],
        stats=[{"log_q": one["log_q"][None]} for one in normals],
        draws="independent",
        exact=exact,
        groups={
            "restarts": (("restart",), found[0]),
            "laplace": ((), [summary for summary, _ in told]),
        },
        evidence=[evidence for _, evidence in told],
        linearised_at=modes if curvature == "ggn" else None,
    )


def _modes(problem: Problem, search: Search, found: Found) -> list[dict[str, np.ndarray]]:
    """Return the best restart of every prior, or raise if it is no optimum."""
    ended = list(zip(problem.labels, *found, strict=True))
    for label, one, noise in ended:
        if not one["converged"][0]:
            exhausted = bool(one["num_iterations"][0] >= search.max_iterations)
            advice = advise(problem, search, exhausted, [noise], f"{_KINKS}: {SMOOTH}, or fit_mcmc")
            raise ValueError(
                f"fit_laplace: expected an optimum; the best restart{under(label)} ended where the "
                f"gradient is {one['gradient_norm'][0]:.2g} per prior sd, above "
                f"tolerance={search.tolerance:g}. {advice}"
            )
    warn_exact(problem, search, [(label, True, noise) for label, _, noise in ended])
    return [{name: one[name][0] for name in problem.bnn.sites} for _, one, _ in ended]


def _approximations(
    problem: Problem, modes: list[dict[str, np.ndarray]], static: Any
) -> list[dict[str, Any]]:
    items = [(task, mode, problem.key) for task, mode in zip(problem.tasks, modes, strict=True)]
    with jax.enable_x64(True):
        found = _batch.run(_approximate, static, problem.data, items)
    for label, one in zip(problem.labels, found, strict=True):
        _check_curvature(label, one["eigenvalues"], static[0])
    return found


def _evidence(
    problem: Problem, prior: Prior, one: dict[str, Any], exact: bool
) -> tuple[dict[str, Any], Evidence]:
    """Return the group `laplace` for one prior, and its evidence."""
    alike = log_num_symmetries(symmetries(problem.bnn, prior))
    summary = {name: one[name] for name in ("log_evidence", "log_joint", "log_determinant")}
    summary["log_num_symmetries"] = alike
    value = float(one["log_evidence"])
    if exact:
        return summary, Evidence(value, 0.0)
    added = "of unknown number" if np.isnan(alike) else (f"which would add {alike:.1f} nats")
    reason = (
        "Laplace's approximation around one mode, with an unknown error; equivalent modes, "
        f"{added}, are not counted: fit_tempered estimates the evidence"
    )
    return summary, Evidence(value, np.nan, reason)


def _approximate(static: Any, shared: Any, item: Any) -> dict[str, Any]:
    """Return the normal distribution around one mode, and draws from it."""
    curvature, structure, num_samples = static
    bnn, x, y = shared
    task, mode, key = item
    coordinates = Standardised(bnn, x, y, task, jnp.float64)
    position = coordinates.position(mode)
    whole = (
        coordinates.precision(position)
        if curvature == "ggn"
        else -jax.hessian(coordinates.log_density)(position)
    )
    free = _free(coordinates, structure)
    # A fixed weight is left out by a one on the diagonal, which adds nothing to the determinant.
    both = free[:, None] & free[None, :]
    diagonal = jnp.eye(coordinates.size, dtype=bool)
    kept = diagonal if structure == "diagonal" else jnp.ones_like(diagonal)
    matrix = jnp.where(both & kept, whole, jnp.where(diagonal, 1.0, 0.0))
    root = jnp.linalg.cholesky(matrix)
    log_determinant = 2 * jnp.log(jnp.diagonal(root)).sum()
    z = free * jax.random.normal(key, (num_samples, coordinates.size), jnp.float64)
    moves = jax.scipy.linalg.solve_triangular(root.T, z.T, lower=False).T
    log_units = coordinates.log_units(position)
    # Corrections for the volume of a step, and for the density of fixed weights.
    log_abs_det_jacobian = (free * log_units).sum()
    constants = 0.5 * (log_determinant - free.sum() * jnp.log(2 * jnp.pi)) - log_abs_det_jacobian
    log_joint = coordinates.log_density(position)
    fixed = 0.5 * jnp.where(free, 0.0, position**2 + jnp.log(2 * jnp.pi)).sum()
    log_of_fixed = -fixed - ((~free) * log_units).sum()
    return {
        "weights": jax.vmap(lambda move: coordinates.weights(position + move))(moves),
        "log_q": constants - 0.5 * (z**2).sum(axis=1),
        "log_joint": log_joint,
        "log_evidence": log_joint - log_of_fixed - constants,
        "log_determinant": log_determinant,
        "eigenvalues": jnp.linalg.eigvalsh(matrix),
    }


def _free(coordinates: Standardised, structure: str) -> jax.Array:
    """Return a mask of the numbers of a position that vary."""
    head = head_of(coordinates.bnn.network)
    if structure != "last_layer" or head is None:
        return jnp.ones(coordinates.size, bool)
    return coordinates.mask({*head.sites, *coordinates.bnn.latents})


def _check_structure(bnn: BNN, structure: str) -> None:
    if structure == "last_layer" and head_of(bnn.network) is None:
        raise ValueError(
            "structure: expected 'full' or 'diagonal' for a network that does not tell its last "
            "linear layer (network(..., readout=...) does); got 'last_layer'."
        )


def _check_curvature(label: Any, eigenvalues: np.ndarray, curvature: str) -> None:
    # NaN if the density overflows.
    if not (eigenvalues > 0).all():
        advice = (
            "the point is no maximum, or a flat one. Use curvature='ggn', or raise num_restarts"
            if curvature == "hessian"
            else "the likelihood does not tell its expected information (`information_root`), and "
            "its curvature there is no information. Use curvature='hessian', or fit_vi"
        )
        raise ValueError(
            "fit_laplace: expected a positive definite matrix at the MAP; "
            f"{curvature!r}{under(label)} has {np.sum(~(eigenvalues > 0))} eigenvalues that "
            f"are not positive, the least {eigenvalues.min():.2g}: {advice}."
        )
