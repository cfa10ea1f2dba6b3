"""Sensitivity of predictions to small changes of the prior's power, without another fit."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from arviz_stats.base.array import array_stats

from weightprior import _checks
from weightprior.fits.evaluate import evaluate
from weightprior.fits.importance import largest_good_k, pareto_smoothed
from weightprior.fits.inputs import new_inputs
from weightprior.fits.layout import SAMPLE_DIMS, lay_out, prediction_coords
from weightprior.fits.reading import Part, parts_of, prior_description
from weightprior.fits.validate import validate
from weightprior.model import density
from weightprior.model.bnn import BNN

__all__ = ["prior_sensitivity"]

_stats: Any = array_stats  # its annotations are too narrow

# Kallioinen et al. 2024: changes this large matter, per doubling of a component's power.
_THRESHOLD = 0.05
# A generalised Pareto distribution is fitted to a fifth of the draws, and needs five.
_MIN_DRAWS = 25
_CONFLICT, _STRONG = "potential prior-data conflict", "strong prior or weak likelihood"


def prior_sensitivity(
    bnn: BNN, fit: xr.DataTree, x: Any, *, alphas: tuple[float, float] = (0.99, 1.01)
) -> xr.Dataset:
    """Measure how predictions change with slightly more or less prior, and likelihood.

    The prior's density is raised to a power `alpha` near 1, and the fit's draws are reweighted
    accordingly. For a Gaussian prior on weights, this divides its scales by the root of alpha. The
    same is done with the likelihood, and with the prior of each layer alone. Nothing is fitted
    again.

    If both the prior and the likelihood move a prediction, they may be in conflict, or the prior is
    narrow and right: use `prior_data_conflict` to distinguish these. If the prior alone moves a
    prediction, the prior determines it, and the data say little there.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted.
    fit : DataTree
        A fit with draws that have converged.
    x : array or data frame of shape (rows, features)
        Inputs to predict at; about twenty are enough.
    alphas : (float, float)
        The powers, one below and one above 1. The further from 1, the less reliable the weights.

    Returns
    -------
    Dataset
        With the dim `prior` if the fit has it. For each row, and each output or class if there are
        several (dims `obs_id`, `output`), of E[y | weights, x]:

        - `prior_sensitivity` and `likelihood_sensitivity`: cumulative Jensen-Shannon distance
          between its posteriors before and after, per doubling of the power; 0.05 or more
          matters. NaN if a prediction never varies;
        - `diagnosis`: ``"potential prior-data conflict"`` if both matter, ``"strong prior or
          weak likelihood"`` if the prior's alone does, ``"unreliable"`` if a Pareto k below is too
          high for a diagnosis, ``"-"`` otherwise;
        - `prior_scaled_mean` and `likelihood_scaled_mean` (dim `alpha`; 1 is the fit itself): its
          posterior mean, in the units of y;
        - `prior_sensitivity_by_layer` (dim `layer`, with `log_noise` as a layer): that with the
          prior of one layer alone scaled.

        And `prior_pareto_k`, `likelihood_pareto_k` and `prior_pareto_k_by_layer`: the Pareto k of
        the weights, the larger of those for both alphas. Above 0.7, or with less than 2,200 draws
        above 1 - 1 / log10(draws), results from these weights are not reliable. A flat prior has
        nothing to scale: its sensitivity is 0, its k NaN.

    Raises
    ------
    ValueError, TypeError
        If the fit is of another model or has fewer than 25 draws, such as a MAP, or if `x` does not
        match the inputs of the fit.

    Notes
    -----
    The measure, its limits and the smoothed weights are those of `arviz.psense`. The likelihood is
    the one that was fitted, with `row_weights` if there were any. If centres and scales were
    learned, their prior is scaled, by their groups, and not the prior of the weights given them.

    References
    ----------
    N. Kallioinen, T. Paananen, P.-C. Bürkner and A. Vehtari, Detecting and diagnosing prior and
    likelihood sensitivity with power-scaling, Statistics and Computing 34, 2024.
    :doi:`10.1007/s11222-023-10366-5`

    A. Vehtari, D. Simpson, A. Gelman, Y. Yao and J. Gabry, Pareto smoothed importance sampling,
    JMLR 25, 2024. :doi:`10.48550/arXiv.1507.02646`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=0.5))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> stubborn, open_minded = (wp.normal_prior(bnn, scale=s) for s in (0.2, 10.0))
    >>> path = wp.stack_priors({"stubborn": stubborn, "open-minded": open_minded})
    >>> fit = wp.fit_mcmc(bnn, x, 3 * x[:, 0], prior=path)
    >>> found = wp.diagnostics.prior_sensitivity(bnn, fit, [[1.0]])
    >>> found["diagnosis"][:, 0].to_numpy().tolist()
    ['potential prior-data conflict', '-']
    """
    powers = _checked_alphas(alphas)
    parts = parts_of(bnn, fit)
    validate(fit)
    inputs = new_inputs(bnn, fit, x)
    num_draws = parts[0].weights.num_chains * parts[0].weights.num_draws
    if num_draws < _MIN_DRAWS:
        raise ValueError(
            f"fit: expected at least {_MIN_DRAWS} draws to reweight; got {num_draws}. A MAP is one "
            "point: fit with fit_mcmc."
        )
    components = _components(bnn, fit)
    pieces = [_of_part(part, components, inputs, powers) for part in parts]
    coords = {
        **prediction_coords(bnn, fit, x),
        "layer": list(components),
        "alpha": [powers[0], 1.0, powers[1]],
    }
    return lay_out(pieces, (), _dims(pieces[0]), coords)


class _Scaled(NamedTuple):
    """Effect of scaling one component.

    Attributes
    ----------
    sensitivity : array of shape (rows, ...)
        Sensitivity of every prediction.
    pareto_k : float
        The larger of both sets of weights.
    mean : array of shape (3, rows, ...)
        Posterior means with less of the component, unchanged, and with more of it.
    """

    sensitivity: np.ndarray
    pareto_k: float
    mean: np.ndarray


def _checked_alphas(alphas: Any) -> tuple[float, float]:
    if np.shape(alphas) != (2,):
        raise ValueError(f"alphas: expected (below 1, above 1); got {alphas!r}.")
    lower = _checks.number("alphas[0]", alphas[0], above=0.0, below=1.0)
    return lower, _checks.number("alphas[1]", alphas[1], above=1.0)


def _components(bnn: BNN, fit: xr.DataTree) -> dict[str, list[str]]:
    """Return the names of log prior terms to scale together: by layer, or as a prior defines."""
    told = prior_description(fit).get("components")
    if told is not None:
        return told
    names: dict[str, list[str]] = {}
    for name, site in bnn.sites.items():
        names.setdefault(site.layer, []).append(name)
    return names


def _of_part(
    part: Part,
    components: Mapping[str, Sequence[str]],
    x: np.ndarray,
    alphas: tuple[float, float],
) -> dict[str, Any]:
    """Compute all results for one prior."""
    # Draws on the last axis, chain after chain.
    predicted = evaluate(_predict_draw, part.model, part.weights, x)
    predicted = np.moveaxis(predicted.reshape(-1, *predicted.shape[2:]), 0, -1)
    terms = {str(name): _flat(term) for name, term in part.fit["log_prior"].data_vars.items()}
    # As fitted: with row weights, and even if its terms were not stored.
    log_likelihood = _flat(part.stats["lp"]) - sum(terms.values())
    log_priors = [np.sum([terms[name] for name in names], axis=0) for names in components.values()]

    whole = _scale(predicted, np.sum(log_priors, axis=0), alphas)
    likelihood = _scale(predicted, log_likelihood, alphas)
    layers = [_scale(predicted, log_prior, alphas) for log_prior in log_priors]
    return {
        "prior_sensitivity": whole.sensitivity,
        "likelihood_sensitivity": likelihood.sensitivity,
        "diagnosis": _diagnose(whole, likelihood, predicted.shape[-1]),
        "prior_scaled_mean": whole.mean,
        "likelihood_scaled_mean": likelihood.mean,
        "prior_sensitivity_by_layer": np.stack([layer.sensitivity for layer in layers]),
        "prior_pareto_k": whole.pareto_k,
        "likelihood_pareto_k": likelihood.pareto_k,
        "prior_pareto_k_by_layer": np.array([layer.pareto_k for layer in layers]),
    }


def _predict_draw(bnn: BNN, weights: Any, x: Any) -> jax.Array:
    return density.mean(bnn, weights, x)


def _flat(values: xr.DataArray) -> np.ndarray:
    return values.transpose(*SAMPLE_DIMS).to_numpy().astype(np.float64).ravel()


def _scale(predicted: np.ndarray, log_density: np.ndarray, alphas: tuple[float, float]) -> _Scaled:
    """Scale a component, given its log density under every draw."""
    mean = predicted.mean(axis=-1)
    if np.ptp(log_density) == 0:
        return _Scaled(np.zeros(mean.shape), np.nan, np.stack([mean] * 3))
    (lower, k_lower), (upper, k_upper) = (_weights(log_density, alpha) for alpha in alphas)
    with np.errstate(divide="ignore", invalid="ignore"):  # a prediction that never varies
        sensitivity = _stats.power_scale_sense(
            predicted[..., None, :],
            *(np.broadcast_to(w, predicted.shape)[..., None, :] for w in (lower, upper)),
            *alphas,
        )
    return _Scaled(
        np.asarray(sensitivity),
        max(k_lower, k_upper),
        np.stack([predicted @ lower, mean, predicted @ upper]),
    )


def _weights(log_density: np.ndarray, alpha: float) -> tuple[np.ndarray, float]:
    """Compute smoothed weights of all draws, with sum 1, and their Pareto k."""
    log_ratio = (alpha - 1) * log_density
    efficiency = _stats.ess(
        log_density[None],
        chain_axis=0,
        draw_axis=1,
        method="tail",
        prob=(0.05, 0.95),
        relative=True,
    )
    smoothed, k = pareto_smoothed(log_ratio, float(efficiency))
    weights = np.exp(smoothed)
    return weights / weights.sum(), k


def _diagnose(prior: _Scaled, likelihood: _Scaled, num_draws: int) -> np.ndarray:
    """Name the diagnosis of every prediction."""
    strong = prior.sensitivity >= _THRESHOLD
    informed = likelihood.sensitivity >= _THRESHOLD
    found = np.where(strong, np.where(informed, _CONFLICT, _STRONG), "-")
    limit = largest_good_k(num_draws)
    # A component without a Pareto k has nothing to scale.
    doubtful = prior.pareto_k > limit or likelihood.pareto_k > limit
    return np.full_like(found, "unreliable") if doubtful else found


def _dims(piece: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    rows = ("obs_id", "output")[: piece["prior_sensitivity"].ndim]
    return {
        **dict.fromkeys(("prior_sensitivity", "likelihood_sensitivity", "diagnosis"), rows),
        **dict.fromkeys(("prior_scaled_mean", "likelihood_scaled_mean"), ("alpha", *rows)),
        "prior_sensitivity_by_layer": ("layer", *rows),
        "prior_pareto_k": (),
        "likelihood_pareto_k": (),
        "prior_pareto_k_by_layer": ("layer",),
    }
