"""The one place that makes fits into DataTrees, in ArviZ's schema, and checks them.

Everything derived from draws (log densities, the noise) is computed here, in double precision, so
that every method reports the same quantities.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
import xarray as xr

from weightprior.fits.evaluate import evaluate
from weightprior.fits.evaluate import prepare as prepare_evaluation
from weightprior.fits.layout import (
    SAMPLE_DIMS,
    lay_out,
    lay_out_targets,
    prior_arrays,
    prior_dims,
    site_dims,
)
from weightprior.fits.outcome import ChainState, Outcome
from weightprior.fits.problem import Problem
from weightprior.fits.reading import FORMAT
from weightprior.fits.task import Task
from weightprior.fits.validate import validate
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.linearised import linearised
from weightprior.model.network import offset_of
from weightprior.model.priors.base import Prior

__all__ = ["build", "build_prior", "prepare"]

# Rows of a table on a disk that are evaluated at once.
_ROWS_AT_ONCE = 2**16

_OF_WEIGHTED_ROWS = "each row once: arviz.loo ignores row_weights; weightprior.compare does not"


def prepare(problem: Problem, num_draws: int, log_likelihood: bool) -> None:
    """Begin to compile what `build` needs for this many draws of each part of the prior."""
    if problem.digest:
        return
    task = problem.tasks[0]
    sites = {**task.prior.sites, **problem.bnn.sites}
    draw = {name: jax.ShapeDtypeStruct(site.shape, np.float64) for name, site in sites.items()}
    given = problem.bnn, draw, problem.x, problem.y, *task
    prepare_evaluation(_OF_DRAW[bool(log_likelihood)], *given, count=num_draws)
    xr.Dataset({"lp": ("draw", np.zeros(1))})  # the first Dataset triggers slow imports of xarray


def build(
    problem: Problem,
    outcome: Outcome,
    *,
    method: str,
    seconds: float,
    options: Mapping[str, Any],
    log_likelihood: bool = True,
) -> xr.DataTree:
    """Lay out a fit as a DataTree.

    Parameters
    ----------
    problem : Problem
        The problem that was fitted.
    outcome : Outcome
        The result of the method.
    method : str
        Name of the method.
    seconds : float
        Wall-clock time of the fit.
    options : mapping
        The method's options, stored as JSON.
    log_likelihood : bool
        If true, store the log likelihood of every row under every draw.
    """
    densities = _densities(problem, outcome, log_likelihood)
    groups = _groups_of_draws(problem, outcome, densities)
    groups |= _further_groups(problem, outcome)
    coords = _without_prior(problem.target_coords)
    groups["observed_data"] = lay_out_targets(problem.bnn, [{"y": problem.y}], (), coords)
    groups["constant_data"] = _constants(problem)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = {
        "method": method,
        "draws": outcome.draws,
        "exact": int(outcome.exact),  # netCDF has no booleans among attributes
        "seconds": seconds,
        "options": json.dumps({**options, "rng_key": jax.random.key_data(problem.key).tolist()}),
        **_origin(problem.bnn, problem.prior),
    }
    validate(tree)
    return tree


def _densities(problem: Problem, outcome: Outcome, log_likelihood: bool) -> list[dict[str, Any]]:
    """Compute all quantities that follow from the draws, per part of the prior."""
    bnn, tasks = problem.bnn, problem.tasks
    models = [bnn] * len(tasks)
    if outcome.linearised_at is not None:
        models = [linearised(bnn, center) for center in outcome.linearised_at]
    function = _OF_DRAW[bool(log_likelihood)]
    of_part = _by_blocks if problem.digest else _at_once
    return [
        of_part(function, model, _double(weights), problem, task)
        for model, weights, task in zip(models, outcome.weights, tasks, strict=True)
    ]


def _at_once(function, model: BNN, weights, problem: Problem, task: Task) -> dict[str, Any]:
    return evaluate(function, model, weights, problem.x, problem.y, *task)


def _by_blocks(function, model: BNN, weights, problem: Problem, task: Task) -> dict[str, Any]:
    """Evaluate a table by blocks: densities of targets add up, that of the weights counts once."""
    x, found = problem.x, []
    for rows, new in x.blocks(_ROWS_AT_ONCE):
        counts = np.where(new, task.row_weights[rows], 0.0)
        given = x[rows], problem.y[rows], task.prior, counts
        found.append(evaluate(function, model, weights, *given))
    lp_prior = sum(found[0]["log_prior"].values())
    lp = lp_prior + sum(one["lp"]["lp"] - lp_prior for one in found)
    terms: dict[str, Any] = {"lp": {"lp": lp}}
    if "log_likelihood" in found[0]:
        rows = np.concatenate([one["log_likelihood"]["y"] for one in found], axis=2)
        terms["log_likelihood"] = {"y": rows[:, :, : len(x)]}
    return found[0] | terms


def _groups_of_draws(
    problem: Problem, outcome: Outcome, densities: list[dict[str, Any]]
) -> dict[str, xr.Dataset]:
    dims = site_dims(problem.bnn, problem.prior) | {"y": ("obs_id",)}

    def along_draws(key: str, pieces: list[dict[str, Any]] | None = None) -> xr.Dataset:
        known = pieces or [{}] * len(densities)
        merged = [piece | found[key] for piece, found in zip(known, densities, strict=True)]
        return lay_out(merged, SAMPLE_DIMS, dims, problem.coords)

    groups = {
        "posterior": along_draws("derived", outcome.weights),
        "sample_stats": along_draws("lp", outcome.stats),
        "log_prior": along_draws("log_prior"),
    }
    if "log_likelihood" in densities[0]:
        groups["log_likelihood"] = along_draws("log_likelihood")
        if problem.row_weights is not None:
            groups["log_likelihood"].attrs["note"] = _OF_WEIGHTED_ROWS
    return groups


def _further_groups(problem: Problem, outcome: Outcome) -> dict[str, xr.Dataset]:
    dims, coords = site_dims(problem.bnn, problem.prior), problem.coords
    groups = {
        group: lay_out(pieces, axes, dims, coords)
        for group, (axes, pieces) in outcome.groups.items()
    }
    if outcome.evidence is not None:
        groups["evidence"] = lay_out([one._asdict() for one in outcome.evidence], (), {}, coords)
    if outcome.linearised_at is not None:
        groups["linearised_at"] = lay_out(outcome.linearised_at, (), dims, coords)
    if outcome.chain_state is not None:
        groups["chain_state"] = _chain_state(outcome.chain_state, coords)
    return groups


def build_prior(
    bnn: BNN,
    inputs: np.ndarray,
    prior: Prior,
    pieces: list[dict[str, dict[str, np.ndarray]]],
    coords: Mapping[Any, Any],
    target_coords: Mapping[Any, Any],
) -> xr.DataTree:
    """Lay out draws from a prior: per part of it, the groups `prior` and `prior_predictive`."""
    weights, drawn = ([piece[name] for piece in pieces] for name in ("prior", "prior_predictive"))
    groups = {
        "prior": lay_out(weights, SAMPLE_DIMS, site_dims(bnn, prior), coords),
        "prior_predictive": lay_out_targets(bnn, drawn, SAMPLE_DIMS, target_coords),
    }
    groups["constant_data"] = _inputs_and_prior(bnn, inputs, prior, coords)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = _origin(bnn, prior)
    return tree


def _joint_of_draw(bnn: BNN, weights, x, y, prior, row_weights) -> dict[str, Any]:
    return {
        "lp": {"lp": density.log_joint(bnn, weights, x, y, prior, row_weights)},
        "log_prior": density.log_prior_by_site(bnn, weights, prior),
        "derived": density.derived(bnn, weights),
    }


def _densities_of_draw(bnn: BNN, weights, x, y, prior, row_weights) -> dict[str, Any]:
    terms = {"y": density.pointwise_log_likelihood(bnn, weights, x, y)}
    joint = _joint_of_draw(bnn, weights, x, y, prior, row_weights)
    return {"log_likelihood": terms, **joint}


# True if the log likelihood is kept.
_OF_DRAW = {True: _densities_of_draw, False: _joint_of_draw}


def _double(weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(values, dtype=np.float64) for name, values in weights.items()}


def _chain_state(state: ChainState, coords: Mapping[Any, Any]) -> xr.Dataset:
    first = state.chains[0].items()
    dims = {name: tuple(f"{name}_dim_{i}" for i in range(a.ndim - 1)) for name, a in first}
    arrays = lay_out(state.chains, ("chain",), dims, coords)
    arrays = arrays.drop_vars([dim for names in dims.values() for dim in names])
    # By part, so that a part taken out of a stacked fit equals a separate fit of it.
    texts = lay_out([{"part": json.dumps(part)} for part in state.parts], (), {}, coords)
    return xr.merge([arrays, texts], compat="equals").assign_attrs(run=json.dumps(state.run))


def _constants(problem: Problem) -> xr.Dataset:
    # For a table on a disk, its axes, shape and digest are kept.
    x = np.broadcast_to(0.0, problem.x.shape) if problem.digest else problem.x
    found = _inputs_and_prior(problem.bnn, x, problem.prior, problem.coords)
    if problem.digest:
        found = found.drop_vars("x").assign_attrs(x_shape=x.shape, x_digest=problem.digest)
    if problem.row_weights is not None:
        names = ("prior", "obs_id")[-problem.row_weights.ndim :]
        found["row_weights"] = (names, problem.row_weights)
    return found


def _inputs_and_prior(
    bnn: BNN, x: np.ndarray, prior: Prior, coords: Mapping[Any, Any]
) -> xr.Dataset:
    # With an offset, the axis `feature` of the weights belongs to the inputs alone.
    columns = "feature" if offset_of(bnn.network) is None else "column"
    inputs = lay_out([{"x": x}], (), {"x": ("obs_id", columns)}, _without_prior(coords))
    pieces = [prior_arrays(bnn, part) for part in prior.singles()]
    return xr.merge([inputs, lay_out(pieces, (), prior_dims(bnn), coords)], compat="equals")


def _without_prior(coords: Mapping[Any, Any]) -> dict[Any, Any]:
    return {name: values for name, values in coords.items() if name != "prior"}


def _origin(bnn: BNN, prior: Prior) -> dict[str, Any]:
    """Name the model and the software that fitted it."""
    described = prior.describe()
    return {
        "format": FORMAT,
        "model": json.dumps(bnn.describe()),
        **({"prior": json.dumps(described)} if described else {}),
        "inference_library": "weightprior",
        "inference_library_version": _installed("weightprior"),
        "versions": json.dumps({name: _installed(name) for name in ("jax", "numpyro", "arviz")}),
    }


@cache
def _installed(package: str) -> str:
    """Return the version of a package, which is read from the disk once."""
    return version(package)
