"""Translations of libraries' penalties on the weights into priors, and back.

Every library minimises a multiple of the negative log likelihood plus a multiple of the squared
weights. The ratio of the two multiples is the prior's squared scale.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from weightprior import _arrays, _checks
from weightprior.model.priors.normal import NormalPrior
from weightprior.model.priors.normal_prior import normal_prior, resolve

__all__ = ["l2_from_prior", "prior_from_l2"]


class _Convention(NamedTuple):
    """Objective of a library: a loss plus ``decay * penalty / 2`` times the squared weights."""

    losses: tuple[str, ...]  # names as in likelihoods; all losses if empty
    squares: int = 1  # halves of a squared residual in the loss of a Gaussian
    decay: int = 1
    biases: bool = False  # true if one number penalises them too
    by_site: bool = False
    one_logit: bool = False  # true if two classes have a single logit
    # Reductions for which a row's loss is the mean over its targets, if there are any.
    averaged: tuple[str, ...] = ()


_SQUARED, _NORMAL = "squared error", "Gaussian negative log likelihood"
_PER_TARGET = (_SQUARED, "binary cross entropy", "Poisson")
_CROSS_ENTROPY = "cross entropy"
_CONVENTIONS = {
    "sum": _Convention((), biases=True, by_site=True),
    "ridge": _Convention((_SQUARED,), squares=2, decay=2),
    # Loss and penalty are both divided by the number of rows, which cancels.
    "sklearn_mlp": _Convention((*_PER_TARGET, _CROSS_ENTROPY), one_logit=True),
    "logistic_C": _Convention(("binary cross entropy", _CROSS_ENTROPY), one_logit=True),
    "torch": _Convention(
        (*_PER_TARGET, _CROSS_ENTROPY, _NORMAL),
        squares=2,
        biases=True,
        by_site=True,
        averaged=("mean",),
    ),
    "keras": _Convention(
        (*_PER_TARGET, _CROSS_ENTROPY),
        squares=2,
        decay=2,
        by_site=True,
        averaged=("mean", "sum"),
    ),
}
# Decoupled weight decay, and the reason why it is no prior.
_RESCALED = (
    "which decays weights after the optimiser has rescaled the gradient: where it stops depends on "
    "the optimiser's state, its running second moments, and not on the loss alone, so no Gaussian "
    "prior has that optimum"
)
_DECOUPLED = dict.fromkeys(("adamw", "nadamw", "lion", "decoupled"), _RESCALED) | {
    "sgdw": "which decays weights by a share that its learning rate does not scale"
}


def prior_from_l2(
    bnn,
    penalty: Any,
    *,
    convention: str,
    num_obs: int | None = None,
    noise: float | None = None,
    loc: Any = 0.0,
    reduction: str = "mean",
    batch_size: int | None = None,
) -> NormalPrior:
    """Translate a library's penalty on weights into the prior with its optimum as the MAP.

    Parameters
    ----------
    bnn : BNN
        The model.
    penalty : float or dict
        The library's number: `alpha`, `C`, `weight_decay` or the argument of ``regularizers.L2``.
        Not negative; a penalty of 0 (a `C` of infinity) is a flat prior. If a library can have
        several, a dict by site, layer or kind, as in `normal_prior`.
    convention : str
        The function that the library minimises: ``"sum"`` (half the squared residuals, or else the
        negative log likelihood, plus half the squared weights), ``"ridge"``, ``"sklearn_mlp"``,
        ``"logistic_C"``, ``"torch"`` (SGD or Adam), or ``"keras"`` (biases are free and a layer
        means its kernel unless a dict names ``"bias"`` or, say, ``"hidden_0.bias"``).
    num_obs : int, optional
        Number of rows of the training data, not of a batch. Needed if the loss is a mean over rows
        and the penalty is not, and if `batch_size` is given.
    noise : float, optional
        Standard deviation of Gaussian noise, if the likelihood learns it: squared error leaves it
        out. The prior of `log_noise` is then centred at its log, with a scale of 1, unless `loc`
        names it.
    loc : float, dict, DataTree, or trained network
        Centre that the weights are pulled to, as in `normal_prior`.
    reduction : str
        ``"mean"`` or ``"sum"``, that of the loss, for ``"torch"`` and ``"keras"``.
    batch_size : int, optional
        Rows of a mini-batch, if the penalty counts in full for every batch and the loss is a sum:
        scikit-learn's solvers ``"sgd"`` and ``"adam"``, or a `reduction` of ``"sum"``.

    Returns
    -------
    NormalPrior

    Raises
    ------
    ValueError, TypeError
        For a convention without such a prior or such a loss, a negative penalty, weights missing
        in a dict, an unknown noise, or a missing `num_obs`.

    References
    ----------
    X. Li, Y. Grandvalet and F. Davoine, Explicit Inductive Bias for Transfer Learning with
    Convolutional Networks, 2018 (a `loc` other than 0). :doi:`10.48550/arXiv.1802.01483`

    I. Loshchilov and F. Hutter, Decoupled Weight Decay Regularization, 2019 (why AdamW has no
    such prior). :doi:`10.48550/arXiv.1711.05101`

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(3, hidden=(4,)), wp.Gaussian(noise=0.5))
    >>> prior = wp.prior_from_l2(bnn, 0.25, convention="sklearn_mlp")
    >>> print(prior.scale["output.weight"][0, 0], prior.scale["output.bias"][0])
    1.0 inf
    """
    ratio = _ratio(bnn, convention, num_obs, noise, reduction, batch_size)
    penalties = _penalties(bnn, penalty, convention)
    with np.errstate(divide="ignore", over="ignore"):
        scale = {name: np.sqrt(ratio / values) for name, values in penalties.items()}
    centers = {} if noise is None else bnn.likelihood.noise_centers(noise)
    latents = {name: (center, 1.0) for name, center in centers.items()}
    return normal_prior(bnn, loc, scale, latents=latents)


def l2_from_prior(
    bnn,
    prior: NormalPrior,
    *,
    convention: str,
    num_obs: int | None = None,
    noise: float | None = None,
    reduction: str = "mean",
    batch_size: int | None = None,
) -> Any:
    """Translate a prior into a library's penalty on the weights: the inverse of `prior_from_l2`.

    Parameters
    ----------
    bnn : BNN
        The model.
    prior : NormalPrior
        A single prior. Its centre is not part of a penalty, and neither is the noise's prior.
    convention, num_obs, noise, reduction, batch_size
        As for `prior_from_l2`.

    Returns
    -------
    float or dict of str to float or array
        A number if the convention describes the whole prior with one; otherwise a dict by site,
        with an array for a site with different scales.

    Raises
    ------
    ValueError
        As `prior_from_l2`; and if the convention has one number and the prior needs more.

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(3, hidden=(4,)), wp.Gaussian(noise=0.5))
    >>> wp.l2_from_prior(bnn, wp.normal_prior(bnn, scale=0.5), convention="torch", num_obs=100)
    0.02
    """
    ratio = _ratio(bnn, convention, num_obs, noise, reduction, batch_size)
    _checks.prior(bnn, prior, stacked=False)
    rule, sites, root = _CONVENTIONS[convention], bnn.network.sites, np.sqrt(ratio)
    penalties = {name: (root / np.asarray(prior.scale[name])) ** 2 for name in sites}
    decayed = [name for name, site in sites.items() if rule.biases or site.kind == "weight"]
    number = penalties[decayed[-1]].flat[0].item() if decayed else 0.0
    said = {name: number if name in decayed else 0.0 for name in sites}
    if all(np.all(values == said[name]) for name, values in penalties.items()):
        return _inverse(number) if convention == "logistic_C" else number
    if not rule.by_site:
        got = {k: f"{np.min(prior.scale[k]):g} to {np.max(prior.scale[k]):g}" for k in sites}
        raise ValueError(
            f"prior: expected one scale for all weights and inf for all biases, since "
            f"convention={convention!r} has one number, and none for biases; got {got}. "
            "By site: convention='sum', 'torch' or 'keras'."
        )
    return {
        name: values.flat[0].item() if np.ptp(values) == 0 else values
        for name, values in penalties.items()
    }


def _inverse(number: float) -> float:
    return 1 / number if number else np.inf


def _ratio(bnn, convention, num_obs, noise, reduction, batch_size) -> float:
    """Return the squared scale of the prior for a penalty of 1."""
    _checks.model(bnn)
    rule = _rule(bnn, convention)
    _checks.one_of("reduction", reduction, ("mean", "sum"))
    if reduction == "sum" and not rule.averaged:
        raise ValueError(
            f"reduction: expected none since convention={convention!r} has a fixed loss; "
            f"got {reduction!r}. It is for 'torch' and 'keras'."
        )
    means = bool(rule.averaged) and reduction == "mean"
    num_obs = None if num_obs is None else _checks.integer("num_obs", num_obs, 1)
    if batch_size is not None:
        batch_size = _checks.integer("batch_size", batch_size, 1)
        if convention != "sklearn_mlp" and reduction == "mean":
            raise ValueError(
                f"batch_size: expected None for convention={convention!r} with "
                f"reduction={reduction!r}, since it has no effect; got {batch_size}."
            )
    share = 1.0
    if means or batch_size:
        if num_obs is None:
            loss = "a mean over them" if means else "a sum over a batch of them"
            raise ValueError(
                f"num_obs: expected the number of training rows, since the loss is {loss} and the "
                "penalty counts in full; got None."
            )
        share = min((batch_size or 1) / num_obs, 1.0)
    if reduction in rule.averaged:
        share /= bnn.likelihood.num_targets(bnn.network.num_outputs)
    sd = _noise(bnn.likelihood, noise)
    return share * (1.0 if sd is None else rule.squares * sd**2) / rule.decay


def _rule(bnn, convention: Any) -> _Convention:
    reason = _DECOUPLED.get(str(convention).lower())
    if reason:
        raise ValueError(
            f"convention: expected one of {_checks.several(_CONVENTIONS)}; got {convention!r}, "
            f"{reason}. Use the weight_decay of plain Adam or SGD: convention='torch'."
        )
    _checks.one_of("convention", convention, _CONVENTIONS)
    rule, likelihood = _CONVENTIONS[convention], bnn.likelihood
    if rule.losses and likelihood.loss not in rule.losses:
        names = ", ".join(rule.losses)
        raise ValueError(
            f"convention: expected one with the loss of {likelihood!r}; got {convention!r}, "
            f"which is for {names}. The convention 'sum' is for all."
        )
    if rule.one_logit and likelihood.loss == _CROSS_ENTROPY and bnn.network.num_outputs == 2:
        raise ValueError(
            f"convention: expected more than two classes for {convention!r} with Categorical; "
            "got 2. scikit-learn uses one logit for them. Use Bernoulli()."
        )
    return rule


def _noise(likelihood: Any, noise: Any) -> float | None:
    """Return the sd that turns squared error into nats; None for another likelihood."""
    if noise is not None:
        noise = _checks.number("noise", noise, above=0)
    if likelihood.loss != _SQUARED:
        if noise is not None:
            raise ValueError(
                f"noise: expected None, since it does not matter to the loss of {likelihood!r}; "
                f"got {noise}. Leave it out."
            )
        return None
    known = getattr(likelihood, "noise", None)
    if known is None and noise is None:
        raise ValueError(
            f"noise: expected the standard deviation that {likelihood!r} learns, since a penalty "
            "is a prior only relative to the noise; got None."
        )
    if None not in (known, noise) and known != noise:
        raise ValueError(f"noise: expected that of the model, {known}; got {noise}. Leave it out.")
    return known if noise is None else noise


def _penalties(bnn, penalty: Any, convention: str) -> dict[str, np.ndarray]:
    """Return the penalty of every weight of every site, 0 without one."""
    rule = _CONVENTIONS[convention]
    if not isinstance(penalty, Mapping):
        number = _number(penalty, convention)
        kinds = {site.kind for site in bnn.network.sites.values()}
        penalty = {k: number if rule.biases or k == "weight" else 0.0 for k in sorted(kinds)}
    elif not rule.by_site:
        raise TypeError(
            f"penalty: expected a number, since convention={convention!r} has one for all "
            "weights; got a dict. By site: convention='sum', 'torch' or 'keras'."
        )
    elif not rule.biases:
        sites = bnn.network.sites.items()
        layers = [key for key in penalty if key in {site.layer for _, site in sites}]
        kernels = {
            name: penalty[site.layer]
            for name, site in sites
            if site.layer in layers and site.kind == "weight"
        }
        rest = {key: value for key, value in penalty.items() if key not in layers}
        free = {site.kind: 0.0 for _, site in sites if site.kind != "weight"}
        penalty = {**free, **kernels, **rest}
    penalties = resolve("penalty", penalty, bnn.network.sites)
    for name, values in penalties.items():
        _not_negative(f"penalty[{name!r}]", values)
    return {name: np.abs(values) for name, values in penalties.items()}  # not -0.0


def _number(penalty: Any, convention: str) -> float:
    """Return a penalty that is one number; larger means stronger."""
    array = _arrays.numbers("penalty", penalty)
    if array.ndim:
        by_site = " or a dict by site" if _CONVENTIONS[convention].by_site else ""
        raise TypeError(f"penalty: expected a number{by_site}; got shape {array.shape}.")
    if convention == "logistic_C":
        if not array > 0:
            raise ValueError(f"penalty: expected a C above 0 (inf: a flat prior); got {array:g}.")
        return _inverse(array.item())
    _not_negative("penalty", array)
    return array.item()


def _not_negative(argument: str, values: np.ndarray) -> None:
    bad = values[~((values >= 0) & np.isfinite(values))]
    if bad.size:
        raise ValueError(
            f"{argument}: expected finite numbers of at least 0 (0 for a flat prior); "
            f"got {bad.flat[0]:g}."
        )
