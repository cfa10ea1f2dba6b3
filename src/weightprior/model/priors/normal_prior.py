"""`normal_prior`: centres and scales in any of the forms that a user may write."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weightprior import _arrays, _checks
from weightprior._checks.options import names_its_options
from weightprior.model.adapters import reference_weights
from weightprior.model.priors.normal import NormalPrior, check_scale
from weightprior.model.sites import Site

__all__ = ["fan_in_scale", "normal_prior", "resolve"]


@names_its_options
def normal_prior(
    bnn,
    loc: Any = 0.0,
    scale: Any = 1.0,
    *,
    latents: Mapping[str, tuple[float, float]] | None = None,
) -> NormalPrior:
    """Put a Gaussian on every latent: the prior whose MAP is L2 regularisation.

    Parameters
    ----------
    bnn : BNN
        The model. The prior covers all its sites.
    loc : float, dict, DataTree, or trained network
        Centre. A number. Or a dict by site (``"hidden_0.weight"``), layer (``"hidden_0"``) or kind
        (``"weight"``, ``"bias"``): the most specific entry wins, and a value is a number or, for a
        site, an array of its shape. A dict must cover every weight and bias. Or a fit, for the
        posterior mean of every site, with the noise if this model learns it. Or a trained network,
        for its parameters: a module of flax.nnx or Equinox, parameters of flax.linen, a state dict
        of PyTorch, a perceptron of scikit-learn.
    scale : float or dict
        Standard deviation, in the same forms. ``inf`` is a flat prior.
    latents : dict of str to (float, float), optional
        Centre and scale of the likelihood's own latents, such as ``{"log_noise": (-1, 1)}``, the
        log of the noise in log units of y. By default those of the likelihood, which ``repr(bnn)``
        shows; `loc` and `scale` win if they name a latent.

    Returns
    -------
    NormalPrior

    Raises
    ------
    ValueError
        For an unknown or uncovered site, a wrong shape, a scale that is not positive, or NaN.

    Notes
    -----
    The default priors of latents of likelihoods: `log_noise` is normal around -1 with a scale of 1,
    `log_df` is normal around 2.5 with a scale of 0.8, and `log_concentration` is normal around 1
    with a scale of 1.5. `Gaussian`, `StudentT` and `NegativeBinomial` explain these.

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(3, hidden=(4,)), wp.Gaussian(noise=1.0))
    >>> prior = wp.normal_prior(bnn, scale={"weight": 0.5, "output": 0.2, "bias": float("inf")})
    >>> float(prior.scale["output.weight"][0, 0])
    0.2
    """
    _checks.model(bnn)
    defaults = _latent_priors(bnn, latents)
    centers, widths = ({n: pair[i] for n, pair in defaults.items()} for i in (0, 1))
    if _is_trained(bnn, loc):
        loc = reference_weights(bnn, loc, argument="loc")
    loc = resolve("loc", loc, bnn.sites, centers)
    scale = resolve("scale", scale, bnn.sites, widths)
    for name, values in loc.items():
        _arrays.finite(f"loc[{name!r}]", values)
    for name, values in scale.items():
        check_scale(name, values)
    _warn_of_gains(bnn.sites, loc, scale)
    return NormalPrior(loc, scale)


def _warn_of_gains(
    sites: Mapping[str, Site], loc: Mapping[str, np.ndarray], scale: Mapping[str, np.ndarray]
) -> None:
    """Warn of gains with a prior around 0, which switches their layer off."""
    gains = [name for name, site in sites.items() if site.neutral]
    off = [n for n in gains if not loc[n].any() and np.isfinite(scale[n]).any()]
    if off:
        _checks.warn(
            f"loc: 0 is the centre of {_checks.several(off)}, gains that multiply the signal of a "
            "layer: the prior switches the layer off. Centre gains at 1, by "
            'loc={"weight": 0, "bias": 0, "gain": 1}.'
        )


def _is_trained(bnn, loc: Any) -> bool:
    """Tell if a centre is a trained network, and not a number or a dict by site, layer or kind."""
    if isinstance(loc, Mapping):
        known = {n for name, s in bnn.sites.items() for n in (name, s.layer, s.kind)}
        foreign = not known & {*loc} and any(str(name).endswith(".weight") for name in loc)
        return foreign or any(isinstance(v, Mapping) or _holds_arrays(v) for v in loc.values())
    if hasattr(loc, "sites"):
        raise TypeError(
            "loc: expected a number, a dict of arrays by site, a fit, or a trained network; got "
            f"{type(loc).__name__}, which holds no weights. Pass a fit of it, or such a dict."
        )
    if isinstance(loc, Sequence):
        return _holds_arrays(loc)
    return not (np.isscalar(loc) or hasattr(loc, "shape") or loc is None)


def _holds_arrays(values: Any) -> bool:
    """Tell if this is a list or tuple, not an array, with arrays in it or in its lists."""
    listed = isinstance(values, list | tuple)
    return listed and any(hasattr(v, "shape") or _holds_arrays(v) for v in values)


def _latent_priors(bnn, given: Any) -> dict[str, tuple[float, float]]:
    """Return the centre and scale of every latent of the likelihood."""
    found = {name: latent.prior for name, latent in bnn.latents.items()}
    if given is None:
        return found
    if not isinstance(given, Mapping):
        raise TypeError(
            "latents: expected a dict of (centre, scale) by the name of a latent, such as "
            f"{{'log_noise': (-1, 1)}}; got {given!r}."
        )
    _checks.known_names("latents", given, found)
    for name, pair in given.items():
        if _checks.shape(pair) != (2,):
            raise ValueError(f"latents[{name!r}]: expected (centre, scale); got {pair!r}.")
    return found | {name: tuple(pair) for name, pair in given.items()}


def resolve(
    argument: str,
    value: Any,
    sites: Mapping[str, Site],
    defaults: Mapping[str, float] | None = None,
) -> dict[str, np.ndarray]:
    """Make an array for every site, from any of the forms that a user may write.

    `defaults` has numbers for sites that may be left out.
    """
    defaults = defaults or {}
    own = [site for name, site in sites.items() if name not in defaults]
    kinds = dict.fromkeys(["weight", "bias", *(site.kind for site in own)])
    if not isinstance(value, Mapping):
        if np.ndim(value) > 0:
            raise TypeError(
                f"{argument}: expected a number or a dict of arrays by site; got an array, which "
                f"does not say which site it is for. The sites are {_checks.several(sites)}."
            )
        value = dict.fromkeys(kinds, value)
    layers = dict.fromkeys(site.layer for site in own)
    _checks.known_names(argument, value, dict.fromkeys([*sites, *layers, *kinds]))
    value = {**defaults, **value}
    resolved, missing = {}, []
    for name, site in sites.items():
        key = next((key for key in (name, site.layer, site.kind) if key in value), None)
        if key is None:
            missing.append(name)
        else:
            resolved[name] = _site_array(f"{argument}[{key!r}]", value[key], site, key == name)
    if missing:
        raise ValueError(
            f"{argument}: expected a value for every site; got none for {_checks.several(missing)}."
            f" Name the site, its layer ({_checks.several(layers)}) or its kind "
            f"({_checks.several(kinds)})."
        )
    return resolved


def _site_array(argument: str, value: Any, site: Site, is_site: bool) -> np.ndarray:
    array = _arrays.numbers(argument, value)
    if array.ndim and not (is_site and array.shape == site.shape):
        expected = f"a number or an array of shape {site.shape}" if is_site else "a number"
        raise ValueError(f"{argument}: expected {expected}; got shape {array.shape}.")
    if np.any(np.isnan(array)):
        raise ValueError(f"{argument}: expected numbers; got NaN.")
    return np.array(np.broadcast_to(array, site.shape))


def fan_in_scale(bnn, gain: float = 1.0) -> dict[str, float]:
    """Compute scales that keep a layer's inputs at the same size, however wide the layer below is.

    Parameters
    ----------
    bnn : BNN
        The model.
    gain : float
        Scale of a unit's whole input. Positive.

    Returns
    -------
    dict of str to float
        By site: ``gain / sqrt(fan_in)`` for weights, `gain` for all others. For `normal_prior`'s
        `scale`.

    Raises
    ------
    ValueError
        If a network does not tell the fan-in of a weight.

    References
    ----------
    R. M. Neal, Bayesian Learning for Neural Networks, 1996. :doi:`10.1007/978-1-4612-0745-0`

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(4, hidden=(16,)), wp.Bernoulli())
    >>> wp.fan_in_scale(bnn)["output.weight"]
    0.25
    """
    _checks.model(bnn)
    gain = _checks.number("gain", gain, above=0)
    sites = bnn.network.sites.items()
    if unknown := [name for name, site in sites if site.kind == "weight" and not site.fan_in]:
        raise ValueError(
            "bnn: expected a network that tells the fan-in of every weight; got none for "
            f"{_checks.several(unknown)}. Give its Site one, or write scales by site."
        )
    return {
        name: gain / np.sqrt(site.fan_in).item() if site.kind == "weight" else gain
        for name, site in sites
    }
