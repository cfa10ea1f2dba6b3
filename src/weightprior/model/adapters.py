"""Networks from elsewhere, as arrays by site: of fits, of scikit-learn, of PyTorch."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from weightprior import _arrays, _checks
from weightprior.model.network import dense_layers_of
from weightprior.model.sites import Site

__all__ = ["posterior_means", "reference_weights"]


def reference_weights(bnn, reference: Any) -> dict[str, np.ndarray]:
    """Weights and biases of a network that stands somewhere else, by site of this model.

    Parameters
    ----------
    bnn : BNN
        The model.
    reference : dict of arrays, DataTree, or scikit-learn MLP
        By site (``"hidden_0.weight"``, input first); a fit of a single prior, which stands for its
        posterior mean; a fitted ``MLPRegressor`` or ``MLPClassifier``; or the arrays of a PyTorch
        state dict, of which ``"....weight"`` (output first) and ``"....bias"`` are taken layer by
        layer in their order.

    Returns
    -------
    dict of str to array
        Every site of the network, and those latents of the likelihood that the reference has.

    Raises
    ------
    TypeError, ValueError
        Where the reference is none of these, is of another architecture, or holds NaN.
    """
    _checks.model(bnn)
    means = posterior_means("reference", reference, bnn.sites)
    if means is not None:
        arrays, source = means, "a fit"
    elif hasattr(reference, "coefs_") and hasattr(reference, "intercepts_"):
        arrays, source = _of_scikit_learn(bnn, reference), f"a {type(reference).__name__}"
    elif isinstance(reference, Mapping):
        arrays, source = _of_dict(bnn, reference), "a dict"
    else:
        raise TypeError(
            "reference: expected a dict of arrays, a fit, or a fitted MLP of scikit-learn; got "
            f"{type(reference).__name__}. Of a PyTorch module pass its state_dict()."
        )
    found = {name: np.shape(a) for name, a in arrays.items() if name not in bnn.latents}
    expected = {name: site.shape for name, site in bnn.network.sites.items()}
    if found != expected:
        raise ValueError(
            f"reference: expected the sites and shapes {expected}; got {source} with {found}. "
            "It has to be a network of this architecture."
        )
    sites = {name: site for name, site in bnn.sites.items() if name in arrays}
    return {name: _numbers(name, arrays[name], site) for name, site in sites.items()}


def posterior_means(
    argument: str, fit: Any, sites: Mapping[str, Site]
) -> dict[str, np.ndarray] | None:
    """Posterior mean of every site where `fit` is a fit; read without importing xarray.

    `sites` are those of the model at hand, beside which the fit tells the weights of its own.
    """
    if not hasattr(fit, "children"):
        return None
    if "posterior" not in fit.children:
        raise ValueError(
            f"{argument}: expected a fit with a `posterior` group; got a DataTree without one."
        )
    posterior = fit["posterior"].dataset
    if "prior" in posterior.dims:
        raise ValueError(
            f"{argument}: expected the fit of a single prior; got a stacked one. "
            "Choose a part of it: weightprior.unstack_fit(fit)[label]."
        )
    if absent := [dim for dim in ("chain", "draw") if dim not in posterior.dims]:
        raise ValueError(
            f"{argument}: expected a fit with the axes chain and draw; got one without "
            f"{absent[0]!r}. Keep it: fit.isel({absent[0]}=[0])."
        )
    told = _told(fit)
    # Latents of another likelihood than the model's have no place in it; weights must have theirs.
    foreign = {*told.get("latents", ())} - {*sites}
    own = {*sites, *told.get("sites", {})} - foreign
    means = posterior.mean(("chain", "draw"))
    return {str(name): means[name].to_numpy() for name in means if name in own}


def _told(fit: Any) -> dict[str, Any]:
    """Return what a fit says of its model."""
    return json.loads(fit.attrs.get("model", "{}"))


def _of_scikit_learn(bnn, perceptron: Any) -> dict[str, np.ndarray]:
    # Of two classes it fits one logit, as Bernoulli does; of more, one for each class.
    layers, num_layers = _dense_layers(bnn, "a perceptron of scikit-learn"), len(perceptron.coefs_)
    if num_layers != len(layers):
        names = [bnn.network.sites[weight].layer for weight, _ in layers]
        raise ValueError(
            f"reference: expected the layers {_checks.several(names)}; got a "
            f"{type(perceptron).__name__} of {num_layers}. It has to be of this architecture."
        )
    given = zip(layers, perceptron.coefs_, perceptron.intercepts_, strict=True)
    return {
        name: array for sites, *arrays in given for name, array in zip(sites, arrays, strict=True)
    }


def _dense_layers(bnn, source: str) -> list[tuple[str, str]]:
    layers = dense_layers_of(bnn.network)
    if layers is None:
        raise ValueError(
            f"reference: expected a dict by site, or a fit; got {source}, whose layers can only be "
            "matched with those of a perceptron, as weightprior.mlp makes."
        )
    return layers


def _of_dict(bnn, arrays: Mapping[Any, Any]) -> dict[str, Any]:
    """By site, or by the names of PyTorch's modules."""
    modules = [str(name)[: -len(".weight")] for name in arrays if str(name).endswith(".weight")]
    ours = any(name in bnn.sites for name in arrays)
    layers = dense_layers_of(bnn.network) or []
    if ours or len(modules) != len(layers):
        _checks.known_names("reference", arrays, bnn.sites)
        return dict(arrays)
    found = {}
    for sites, module in zip(layers, modules, strict=True):
        if f"{module}.bias" not in arrays:
            raise ValueError(
                f"reference: expected a bias beside {module + '.weight'!r}; got none. Every layer "
                "of this model has one: give zeros where there is none."
            )
        weight = _arrays.numbers(f"reference[{module + '.weight'!r}]", arrays[f"{module}.weight"])
        found |= dict(zip(sites, (weight.T, arrays[f"{module}.bias"]), strict=True))
    return found


def _numbers(name: str, values: Any, site: Site) -> np.ndarray:
    array = _arrays.numbers(f"reference[{name!r}]", values)
    if array.shape != site.shape:
        raise ValueError(f"reference[{name!r}]: expected shape {site.shape}; got {array.shape}.")
    _arrays.finite(f"reference[{name!r}]", array)
    return array
