"""Conflict between data and a prior: a check for an informative centre that is wrong."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import xarray as xr

from weightprior import _data
from weightprior._checks.options import names_its_options
from weightprior.diagnostics.align import align
from weightprior.diagnostics.contraction import contraction
from weightprior.elicitation.prior_predictive import prior_predictive
from weightprior.fits.evaluate import evaluate
from weightprior.fits.inputs import new_inputs
from weightprior.fits.layout import lay_out
from weightprior.fits.reading import Part, parts_of, prior_description, same_rows
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.network import chained_layers_of
from weightprior.model.priors.normal import NormalPrior
from weightprior.model.trials import counted

__all__ = ["prior_data_conflict"]

# Data contradict a prior if a smaller share of its own data sets is as far out.
_MAX_P_VALUE = 0.05
# If a layer is this far from its centre, in prior sds, the prior's scale is too narrow.
_MAX_Z_SCORE = 2.0
# Smaller differences, of discrepancies or of probabilities, are rounding.
_TIES_BY_ROUNDING = 1e-9


@names_its_options
def prior_data_conflict(
    bnn: BNN,
    fit: xr.DataTree,
    x: Any,
    y: Any,
    *,
    num_samples: int = 1000,
    rng_key: Any = 0,
) -> xr.Dataset:
    """Check if data contradict a prior, and give advice.

    A prior centred at weights from elsewhere helps if they suit the data. It harms if they do not,
    and its scale is too narrow to leave them: negative transfer. This function checks if the data
    are further from the predictions of the network at the prior's centre than data sets drawn from
    the prior are.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted.
    fit : DataTree
        The fit. Its prior is checked, and must be flat nowhere. A MAP is enough.
    x : array or data frame of shape (rows, features)
        Inputs of the rows that were fitted.
    y : array of shape (rows,) or (rows, outputs)
        Their targets.
    num_samples : int
        Data sets to draw from the prior: ``1 / (num_samples + 1)`` is the smallest p-value.
    rng_key : int or JAX key
        Decides the draws.

    Returns
    -------
    Dataset
        With the dim `prior` if the fit has it:

        - `discrepancy`, the distance of the data from the centre: minus their log likelihood, in
          nats, with weights (and noise) at the prior's centre. `discrepancy_expected` is the
          median over data sets of the prior;
        - `p_value`: the probability under the prior that a data set has a discrepancy at least as
          large; `p_value_se`, its Monte-Carlo standard error. For data from the prior all p-values
          are equally likely; below 0.05 is called a conflict. NaN if the network at the centre
          gives all classes the same probability, as a network of zeros does: then all data are
          equally far;
        - `p_value_at_zero`: the same for a prior with the same scales and with weights and biases
          centred at zero;
        - `z_score` (dim `layer`): distance of the posterior mean from the centre, root mean
          square over the layer's weights and biases in prior standard deviations; about 1 at most
          if the prior is right. Draws are aligned first, as far as the prior permits;
        - `log_bayes_factor` and `log_bayes_factor_se`, in nats, for an exact fit with an evidence
          (`fit_tempered`) of a stacked prior with a part of the same scales centred at zero: the
          log evidence minus that part's. Above zero the data favour the centre; NaN if there is
          no such part;
        - `verdict`: a sentence with the finding and advice; `conflict`: true if the p-value is
          below 0.05.

    Raises
    ------
    ValueError, TypeError
        If the prior is flat somewhere or was learned, the data do not suit the model, or the fit
        is of another model.

    Notes
    -----
    The p-value is that of Box's prior predictive check, with the likelihood at the centre in place
    of the marginal likelihood, since draws from the prior estimate the latter badly. It is exact
    for any number of draws: it is the rank of the data among them. It checks the whole model: a
    noise that is too small is a conflict, too. In a wide layer, a long distance is shared among
    many weights, and each has a small z-score.

    With `row_weights`, rows count towards the discrepancy as in the fit.

    References
    ----------
    G. E. P. Box, Sampling and Bayes' inference in scientific modelling and robustness, JRSS A 143,
    1980. :doi:`10.2307/2982063`

    M. Evans and H. Moshonov, Checking for prior-data conflict, Bayesian Analysis 1, 2006.
    :doi:`10.1214/06-BA129`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=0.5))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> path = wp.center_path(
    ...     bnn, {"output.weight": [[3.0]], "output.bias": [0.0]}, [0.0, 1.0], scale=0.5
    ... )
    >>> fit = wp.fit_map(bnn, x, -0.5 * x[:, 0], prior=path)
    >>> found = wp.diagnostics.prior_data_conflict(bnn, fit, x, -0.5 * x[:, 0])
    >>> found["conflict"].to_numpy().tolist()
    [False, True]
    >>> found["verdict"][1].item()
    "Conflict: 0.1 % of ... lie as far from its centre; move the centre to zero, or widen ..."
    """
    parts = parts_of(bnn, fit)
    if prior_description(fit):
        raise ValueError(
            "fit: expected one with a NormalPrior; got one with learned centres and scales. "
            "Look at their posterior instead."
        )
    new_inputs(bnn, fit, x)
    inputs, targets = _data.checked(bnn, x, y)
    options = {"num_samples": num_samples, "rng_key": rng_key}
    pieces = [
        _check(
            replace(bnn, likelihood=part.model.likelihood),
            part.prior,
            inputs,
            targets,
            same_rows(part, inputs),
            options,
        )
        for part in parts
    ]
    coords = dict(fit["posterior"].coords)
    checked = lay_out(pieces, (), {}, coords)
    aligned = fit if chained_layers_of(bnn.network) is None else align(bnn, fit)
    checked["z_score"] = contraction(bnn, aligned)["distance_by_layer"]
    told = [
        _judge(checked.isel(prior=i) if "prior" in coords else checked, _is_zero(bnn, part.prior))
        for i, part in enumerate(parts)
    ]
    checked = checked.merge(lay_out(told, (), {}, coords), compat="equals")
    if not (fit.attrs["exact"] and "evidence" in fit.children):
        return checked
    return checked.merge(lay_out(_against_zero(bnn, parts), (), {}, coords), compat="equals")


def _against_zero(bnn: BNN, parts: list[Part]) -> list[dict[str, Any]]:
    """Compute log Bayes factors of parts of a stacked prior against equal parts around zero."""
    known = [part.fit["evidence"].dataset for part in parts]
    values, errors = ([float(one[name]) for one in known] for name in ("log_evidence", "error"))
    pieces = []
    for number, part in enumerate(parts):
        like = [
            i
            for i, other in enumerate(parts)
            if _is_zero(bnn, other.prior) and _alike(part.prior, other.prior)
        ]
        factor = values[number] - values[like[0]] if like else np.nan
        own = like and like[0] == number
        error = (0.0 if own else np.hypot(errors[number], errors[like[0]])) if like else np.nan
        pieces.append({"log_bayes_factor": factor, "log_bayes_factor_se": error})
    return pieces


def _alike(prior: NormalPrior, other: NormalPrior) -> bool:
    return all(np.array_equal(prior.scale[name], other.scale[name]) for name in prior.scale)


def _check(
    bnn: BNN,
    prior: NormalPrior,
    x: np.ndarray,
    y: np.ndarray,
    counts: np.ndarray,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Compute all results for one prior except the z-scores."""
    observed, drawn = _discrepancies(bnn, prior, x, y, counts, options)
    p_value = _p_value(bnn, prior, x, observed, drawn)
    at_zero = p_value
    if not _is_zero(bnn, prior):
        moved = _at_zero(bnn, prior)
        at_zero = _p_value(bnn, moved, x, *_discrepancies(bnn, moved, x, y, counts, options))
    return {
        "discrepancy": observed,
        "discrepancy_expected": np.median(drawn),
        "p_value": p_value,
        "p_value_se": np.sqrt(p_value * (1 - p_value) / len(drawn)),
        "p_value_at_zero": at_zero,
    }


def _discrepancies(
    bnn: BNN,
    prior: NormalPrior,
    x: np.ndarray,
    y: np.ndarray,
    counts: np.ndarray,
    options: dict[str, Any],
) -> tuple[float, np.ndarray]:
    """Compute distances from the prior's centre, of the data and of data sets from the prior."""
    bnn, y = counted(bnn, y)
    drawn = prior_predictive(bnn, x, prior=prior, **options)["prior_predictive"]["y"].to_numpy()
    together = np.concatenate([y[None, None], drawn], axis=1)
    found = evaluate(_discrepancy, bnn, together, x, prior.loc, counts)[0]
    # An overflow, such as from counts of an enormous rate, is infinitely far.
    found = np.where(np.isnan(found), np.inf, found)
    return float(found[0]), found[1:]


def _discrepancy(bnn: BNN, y: Any, x: Any, center: Any, counts: Any) -> jax.Array:
    return -density.log_likelihood(bnn, center, x, y, counts)


def _p_value(
    bnn: BNN, prior: NormalPrior, x: np.ndarray, observed: float, drawn: np.ndarray
) -> float:
    """Compute the share of data sets at least as far as the data; the data are one of them."""
    if _calls_all_classes_equal(bnn, prior, x):
        return np.nan
    as_far = (drawn > observed) | np.isclose(
        drawn, observed, rtol=_TIES_BY_ROUNDING, atol=_TIES_BY_ROUNDING
    )
    return (1 + np.sum(as_far)) / (1 + len(drawn))


def _calls_all_classes_equal(bnn: BNN, prior: NormalPrior, x: np.ndarray) -> bool:
    if not bnn.likelihood.has_classes:
        return False
    center = {name: np.asarray(values)[None, None] for name, values in prior.loc.items()}
    probabilities = bnn.likelihood.class_probabilities(evaluate(_mean, bnn, center, x))
    share = 1 / probabilities.shape[-1]
    return bool(np.all(np.abs(probabilities - share) < _TIES_BY_ROUNDING))


def _mean(bnn: BNN, weights: Any, x: Any) -> jax.Array:
    return density.mean(bnn, weights, x)


def _at_zero(bnn: BNN, prior: NormalPrior) -> NormalPrior:
    """Centre the prior's weights and biases at zero; leave the noise unchanged."""
    zeros = {name: np.zeros(site.shape) for name, site in bnn.network.sites.items()}
    return NormalPrior({**prior.loc, **zeros}, prior.scale)


def _is_zero(bnn: BNN, prior: NormalPrior) -> bool:
    return not any(np.any(prior.loc[name]) for name in bnn.network.sites)


def _judge(found: xr.Dataset, at_zero: bool) -> dict[str, Any]:
    """Return the verdict, one sentence, and the conflict."""
    p_value, p_at_zero = float(found["p_value"]), float(found["p_value_at_zero"])
    z_score = found["z_score"].to_numpy()
    layer = str(found["layer"].to_numpy()[z_score.argmax()])
    place = f"layer {layer!r} ({z_score.max():.2g} prior sds from its centre)"
    conflict = p_value < _MAX_P_VALUE
    share = f"{_percent(p_value)} of the prior's data sets lie as far from its centre"
    if conflict and not at_zero and not p_at_zero < _MAX_P_VALUE:
        verdict = f"Conflict: {share}; move the centre to zero, or widen the scale of {place}."
    elif conflict:
        verdict = f"Conflict: {share}; widen the scale, first that of {place}."
    elif z_score.max() > _MAX_Z_SCORE:
        checked = "Data not checked" if np.isnan(p_value) else f"No conflict in the data: {share}"
        verdict = f"{checked}; but widen the scale of {place}."
    elif np.isnan(p_value):
        verdict = "Not checked: at the prior's centre all classes are equally likely."
    else:
        verdict = f"No conflict: {share}."
    return {"verdict": np.array(verdict), "conflict": np.array(conflict)}


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
