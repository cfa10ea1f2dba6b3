"""Networks from elsewhere, as arrays by site: from fits, scikit-learn or PyTorch."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from weightprior import _arrays, _checks
from weightprior.model.activations import activation_function
from weightprior.model.foreign.form import comes_from
from weightprior.model.foreign.libraries import outputs_of, trained
from weightprior.model.foreign.parameters import Parameter, turned
from weightprior.model.foreign.sites import kind_of
from weightprior.model.network import (
    constants_of,
    dense_layers_of,
    hidden_layers_of,
    output_first_of,
)
from weightprior.model.posterior_means import posterior_means
from weightprior.model.sites import Site

__all__ = ["reference_weights"]

# Number of rows on which outputs are compared, and how far apart these may be: this share of their
# spread, plus this many units of rounding of their size.
_NUM_ROWS, _ALIKE, _ROUNDINGS = 16, 5e-3, 16


def reference_weights(bnn, reference: Any, *, argument: str = "reference") -> dict[str, np.ndarray]:
    """Return the weights and biases of a network from elsewhere, by site of this model.

    Parameters
    ----------
    bnn : BNN
        The model.
    reference : dict of arrays, DataTree, or trained network
        A dict by site (``"hidden_0.weight"``); a fit of a single prior, for its posterior mean; a
        module of flax.nnx or Equinox; parameters of flax.linen; a state dict of PyTorch, with
        weights that are transposed if this model has the inputs first; or a fitted ``MLPRegressor``
        or ``MLPClassifier``.
    argument : str
        Name of the argument in messages.

    Returns
    -------
    dict of str to array
        Every site of the network, and latents of the likelihood if the reference has them.

    Raises
    ------
    TypeError, ValueError
        If the reference is none of these, is of another architecture, or holds NaN.

    Warns
    -----
    UserWarning
        If a perceptron of scikit-learn has other hidden units than this model, or if a module's
        outputs differ from those of this model with its weights.
    """
    _checks.model(bnn)
    means = posterior_means(argument, reference, bnn.sites)
    if means is not None:
        arrays, source = means, "a fit"
    elif hasattr(reference, "coefs_") and hasattr(reference, "intercepts_"):
        arrays = _of_scikit_learn(bnn, argument, reference)
        source = f"a {type(reference).__name__}"
    elif _is_by_site(bnn, reference):
        _checks.known_names(argument, reference, bnn.sites)
        arrays, source = dict(reference), "a dict"
    else:
        held = constants_of(bnn.network)
        given = [p for p in trained(argument, reference) if p.name not in held]
        arrays, source = _of_layers(bnn, argument, given), f"a {type(reference).__name__}"
    found = {name: np.shape(a) for name, a in arrays.items() if name not in bnn.latents}
    expected = {name: site.shape for name, site in bnn.network.sites.items()}
    if found != expected:
        raise ValueError(_about_shapes(argument, source, found, expected))
    sites = {name: site for name, site in bnn.sites.items() if name in arrays}
    weights = {n: _numbers(argument, n, arrays[n], site) for n, site in sites.items()}
    _warn_of_another_function(bnn.network, argument, reference, weights)
    return weights


def _warn_of_another_function(
    network: Any, argument: str, module: Any, weights: Mapping[str, np.ndarray]
) -> None:
    """Warn if a module's weights give another function here, as with other activations."""
    _checks.not_forked()  # before JAX holds any number
    num_features = len(network.feature_names)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(_NUM_ROWS, num_features)))
    theirs = outputs_of(module, x)
    if theirs is None:
        return
    single = {name: jnp.asarray(weights[name], x.dtype) for name in network.sites}
    rounding = _ROUNDINGS * float(jnp.finfo(theirs.dtype).eps)
    found = [network.apply(single, x), theirs]
    ours, theirs = (np.asarray(outputs, float).reshape(_NUM_ROWS, -1) for outputs in found)
    if _alike(ours, theirs, rounding):
        return
    _checks.warn(
        f"{argument}: expected a network that is the same function of x as this one with these "
        f"weights; got a {type(module).__name__} with other outputs, as from other "
        "activations. Give this network the same ones, or make the module itself a model: "
        f"BNN(network(module, {num_features}), ...)."
    )


def _alike(ours: np.ndarray, theirs: np.ndarray, rounding: float) -> bool:
    """Tell if outputs are equal up to rounding, and not finite in the same places."""
    if ours.shape != theirs.shape or np.any(np.isfinite(ours) != np.isfinite(theirs)):
        return False
    numbers = np.isfinite(ours)
    if not numbers.any():
        return True
    ours, theirs = ours[numbers], theirs[numbers]
    within = _ALIKE * np.ptp(ours) + rounding * np.abs(ours).max()
    return bool(np.all(np.abs(ours - theirs) <= within))


def _is_by_site(bnn, reference: Any) -> bool:
    """Tell if this is a dict by site; tensors of PyTorch are a state dict, whatever the names."""
    if not isinstance(reference, Mapping) or not any(name in bnn.sites for name in reference):
        return False
    return not any(comes_from(values, "torch") for values in reference.values())


def _about_shapes(argument: str, source: str, found: dict, expected: dict) -> str:
    """Name the first parameter that is missing, surplus, or of another shape."""
    name = next(n for n in (*expected, *found) if found.get(n) != expected.get(n))
    wanted, got = (
        f"shape {shapes[name]}" if name in shapes else "none" for shapes in (expected, found)
    )
    return (
        f"{argument}: expected a network of this architecture, for {name!r} {wanted}; got {got} "
        f"in {source} with {_checks.several(found)}."
    )


def _of_scikit_learn(bnn, argument: str, perceptron: Any) -> dict[str, np.ndarray]:
    # For two classes it fits one logit, as Bernoulli does; for more, one per class.
    layers = _dense_layers(bnn, argument, "a perceptron of scikit-learn")
    num_layers = len(perceptron.coefs_)
    if num_layers != len(layers):
        names = [bnn.network.sites[weight].layer for weight, _ in layers]
        raise ValueError(
            f"{argument}: expected the layers {_checks.several(names)}; got a "
            f"{type(perceptron).__name__} of {num_layers}. It must have this architecture."
        )
    _warn_of_other_units(bnn.network, argument, perceptron)
    given = zip(layers, perceptron.coefs_, perceptron.intercepts_, strict=True)
    return {
        name: array for sites, *arrays in given for name, array in zip(sites, arrays, strict=True)
    }


def _warn_of_other_units(network: Any, argument: str, perceptron: Any) -> None:
    """Warn if hidden units differ, so that the weights give another function here."""
    theirs = "sigmoid" if perceptron.activation == "logistic" else perceptron.activation
    at = jnp.linspace(-3.0, 3.0, 13)
    for layer in hidden_layers_of(network) or ():
        pair = (activation_function(one)(at) for one in (layer.activation, theirs))
        if not np.allclose(*pair, atol=1e-5):
            _checks.warn(
                f"{argument}: expected a perceptron with the hidden units of this network; got a "
                f"{type(perceptron).__name__} with activation={perceptron.activation!r}, so that "
                "its weights give another function here. "
                f"mlp(..., activation={theirs!r}) has the same."
            )
            return


def _dense_layers(bnn, argument: str, source: str) -> list[tuple[str, str]]:
    layers = dense_layers_of(bnn.network)
    if layers is None:
        raise ValueError(
            f"{argument}: expected a dict by site, or a fit; got {source}. Its layers can only "
            "be matched with those of a perceptron, as weightprior.mlp makes."
        )
    return layers


def _of_layers(bnn, argument: str, given: Sequence[Parameter]) -> dict[str, Any]:
    """Match parameters with sites: by name, by layer, or as layers of a perceptron.

    A weight with its axes in the other order is transposed.
    """
    sites = bnn.network.sites
    by_layer: dict[str, list[Parameter]] = {}
    for parameter in given:
        by_layer.setdefault(parameter.layer, []).append(parameter)
    own = dict.fromkeys(site.layer for site in sites.values())
    layers = {name: name for name in by_layer}
    if {*own} != {*by_layer}:
        layers = _layers_of_perceptron(bnn.network, argument, by_layer)
    found = {
        name: _parameter(bnn.network, name, argument, by_layer[layers[site.layer]])
        for name, site in sites.items()
    }
    used = {id(parameter) for parameter in found.values()}
    if others := [parameter.name for parameter in given if id(parameter) not in used]:
        raise ValueError(
            f"{argument}: expected a network of this architecture; got {_checks.several(others)} "
            "besides, for which this model has no site. Leave these out, in "
            f"a dict by site: {_checks.several(sites)}."
        )
    return {name: _oriented(bnn.network, name, parameter) for name, parameter in found.items()}


def _layers_of_perceptron(
    network: Any, argument: str, given: Mapping[str, Sequence[Parameter]]
) -> dict[str, str]:
    """Return for each layer of a perceptron the given layer that matches it by another name.

    Layers are matched by shape and, among equal shapes, by the numbers in their names. Their order
    does not count, since JAX sorts the keys of a dict.
    """
    dense, sites = dense_layers_of(network), network.sites
    own = dict.fromkeys(site.layer for site in sites.values())
    if dense is None or len(dense) != len(given):
        raise ValueError(
            f"{argument}: expected the layers {_checks.several(own)}; got "
            f"{_checks.several(given)}. Give a dict by site: {_checks.several(sites)}."
        )
    places = _by_shape(
        (sites[weight].layer, sites[weight].shape, weight in output_first_of(network))
        for weight, _ in dense
    )
    weights = {name: max(layer, key=lambda p: p.value.ndim) for name, layer in given.items()}
    found = _by_shape((name, p.value.shape, p.output_first) for name, p in weights.items())
    if {shape: len(names) for shape, names in found.items()} != {
        shape: len(names) for shape, names in places.items()
    }:
        # The first parameter of another shape is named later.
        return dict(zip(own, sorted(given, key=_numbered), strict=True))
    for names in found.values():
        if len({re.sub(r"\d+", "", name) for name in names}) > 1:
            raise ValueError(
                f"{argument}: expected layers that shape or number tells apart; got "
                f"{_checks.several(names)}, of one shape. Give a dict by site: "
                f"{_checks.several(sites)}."
            )
    return {
        place: name
        for shape, names in found.items()
        for place, name in zip(places[shape], sorted(names, key=_numbered), strict=True)
    }


def _by_shape(layers: Iterable[tuple[str, tuple[int, ...], bool]]) -> dict[Any, list[str]]:
    """Return names of layers by the shape of their weight, inputs first."""
    found: dict[Any, list[str]] = {}
    for name, shape, output_first in layers:
        found.setdefault(shape[::-1] if output_first else shape, []).append(name)
    return found


def _numbered(name: str) -> list[Any]:
    """Return a sort key that puts 10 after 2."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _parameter(network: Any, name: str, argument: str, layer: Sequence[Parameter]) -> Parameter:
    """Return the parameter of a layer for a site: its bias, or the other one."""
    is_bias = network.sites[name].kind == "bias"
    found = [p for p in layer if p.path[-1] == name.split(".")[-1]]
    found = found or [p for p in layer if (kind_of(p) == "bias") == is_bias]
    if is_bias and not found:
        raise ValueError(
            f"{argument}: expected a bias beside {layer[0].name!r}; got none. Every layer of this "
            "model has one: give zeros if there is none."
        )
    if len(found) != 1:
        raise ValueError(
            f"{argument}: expected one parameter for {name!r}; got {len(found)} in the layer "
            f"{layer[0].layer!r}, of {_checks.several(p.name for p in layer)}."
        )
    return found[0]


def _oriented(network: Any, name: str, one: Parameter) -> np.ndarray:
    """Return a parameter's numbers, with axes in the order of this site."""
    turn = one.value.ndim > 1 and one.output_first != (name in output_first_of(network))
    if not turn:
        return one.value
    return turned(one.value, to_output_first=not one.output_first)


def _numbers(argument: str, name: str, values: Any, site: Site) -> np.ndarray:
    array = _arrays.numbers(f"{argument}[{name!r}]", values)
    if array.shape != site.shape:
        raise ValueError(f"{argument}[{name!r}]: expected shape {site.shape}; got {array.shape}.")
    return _arrays.finite(f"{argument}[{name!r}]", array, "Train it again, with smaller steps.")
