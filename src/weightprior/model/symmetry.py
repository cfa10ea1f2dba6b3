"""Symmetries that a network shares with its prior: hidden units exchanged, and mirrored.

Exchanging two units of a hidden layer, with all their weights, does not change the function. Nor
does changing the signs of all weights of a unit with an odd activation. The posterior has these
symmetries if the prior has them too.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln

from weightprior.model.activations import is_odd
from weightprior.model.network import HiddenLayer, chained_layers_of
from weightprior.model.priors.base import Prior

__all__ = ["LayerSymmetry", "align", "log_num_symmetries", "symmetries"]

Draws = dict[str, np.ndarray]

# Every round brings draws nearer to their reference, so the loops end by themselves. With 4,000
# draws of 50 tanh units, some draws still moved after ten rounds. A hundred more rounds lowered the
# draws' variance by 1 %.
_MAX_ROUNDS = 10
# Largest number of entries in the matrices of overlaps that are held together.
_OVERLAPS_AT_ONCE = 2**22
# Gain that may be only rounding: equal units do not move.
_GAIN_BY_ROUNDING = 1e-12


class LayerSymmetry(NamedTuple):
    """Exchanges and mirrors of a hidden layer's units that do not change function and prior.

    Attributes
    ----------
    layer : HiddenLayer
        The layer.
    classes : array of int, shape (units,)
        Number of the class of each unit. Units of one class may be exchanged. Classes are numbered
        in the order of their first units.
    mirrorable : array of bool, shape (units,)
        True if the signs of a unit may be changed; equal within a class.
    center, unit : array of shape (units, numbers)
        Origin and unit of the weights of a hidden unit (incoming, bias, outgoing).
    """

    layer: HiddenLayer
    classes: np.ndarray
    mirrorable: np.ndarray
    center: np.ndarray
    unit: np.ndarray

    def standardised(self, weights: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return weights by unit, shape (..., units, numbers), in the prior's units."""
        return (_by_unit(self.layer, weights) - self.center) / self.unit


def symmetries(
    bnn,
    prior: Prior,
    *,
    learned_loc: Collection[str] = (),
    own_scale: Collection[str] = (),
    proper: Collection[str] = (),
) -> list[LayerSymmetry] | None:
    """Find the symmetries that a network shares with its prior, hidden layer by hidden layer.

    Two units may be exchanged if their incoming weights, biases and outgoing weights have the same
    prior. A unit may be mirrored if its activation is odd and its prior is centred at zero. The
    centre of a flat prior does not matter.

    Parameters
    ----------
    bnn : BNN
        The model.
    prior : NormalPrior
        A single prior.
    learned_loc : collection of str
        Sites with a learned centre, so that none of their units may be mirrored.
    own_scale : collection of str
        Sites with a separate scale for each weight, so that no two units are alike.
    proper : collection of str
        Sites with a proper prior: an infinite scale means tails so heavy that there is no sd.

    Returns
    -------
    list of LayerSymmetry or None
        One per hidden layer, inputs first; None for a network that does not tell its layers.
    """
    layers = chained_layers_of(bnn.network)
    if layers is None:
        return None
    with jax.enable_x64(True):
        scales = prior.length_scale(bnn.sites)
        units = {name: np.asarray(values) for name, values in scales.items()}
    flat = {n: np.isinf(prior.scale[n]) & (n not in proper) for n in units}
    centers = {n: np.where(flat[n], 0.0, prior.loc[n]) for n in units}
    found = []
    for layer in layers:
        center, unit, scale = (_by_unit(layer, part) for part in (centers, units, prior.scale))
        classes = _number_rows(np.concatenate([center, scale], axis=1))
        mirrorable = is_odd(layer.activation) & ~center.any(axis=1)
        sites = {layer.incoming, layer.bias, layer.outgoing}
        if sites & set(own_scale):
            classes = np.arange(len(classes))
        if sites & set(learned_loc):
            mirrorable = np.zeros_like(mirrorable)
        found.append(LayerSymmetry(layer, classes, mirrorable, center, unit))
    return found


def log_num_symmetries(found: Sequence[LayerSymmetry] | None) -> float:
    """Compute the log of the number of equivalent modes; NaN if layers are not known."""
    if found is None:
        return float("nan")
    total = 0.0
    for symmetry in found:
        _, counts = np.unique(symmetry.classes, return_counts=True)
        total += gammaln(counts + 1).sum() + np.log(2) * symmetry.mirrorable.sum()
    return float(total)


def _by_unit(layer: HiddenLayer, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    incoming, bias, outgoing = (weights[n] for n in (layer.incoming, layer.bias, layer.outgoing))
    return np.concatenate([incoming.swapaxes(-1, -2), bias[..., None], outgoing], axis=-1)


def _number_rows(rows: np.ndarray) -> np.ndarray:
    """Give equal rows the same number, counting in the order of first occurrence."""
    _, first, numbers = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers]


def align(
    free: Sequence[LayerSymmetry] | None, weights: Mapping[str, np.ndarray], lp: np.ndarray
) -> Draws:
    """Relabel the hidden units of every draw so that the draws come near one another.

    Draws are first moved near the draw with the highest density, then near their mean, until none
    moves. With one hidden layer this is an assignment problem per draw. Several layers take turns
    until no single layer can improve: the labels are then not always the nearest.

    Parameters
    ----------
    free : list of LayerSymmetry or None
        Symmetries that may be used; None if they are not known.
    weights : mapping of str to array
        Every site, with the axes chain and draw in front.
    lp : array of shape (chain, draw)
        Log density of the draws.

    Returns
    -------
    dict of str to array
        The same weights, relabelled.

    References
    ----------
    M. Stephens, Dealing with label switching in mixture models, JRSS B 62, 2000.
    :doi:`10.1111/1467-9868.00265`

    S. K. Ainsworth, J. Hayase and S. Srinivasa, Git Re-Basin: merging models modulo permutation
    symmetries, ICLR 2023. :doi:`10.48550/arXiv.2209.04836`
    """
    if not free:
        return dict(weights)
    draws = {name: values.reshape(-1, *values.shape[2:]) for name, values in weights.items()}
    draws = _towards(free, {name: values[np.argmax(lp)] for name, values in draws.items()}, draws)
    for _ in range(_MAX_ROUNDS):
        before = draws
        mean = {name: values.mean(axis=0) for name, values in before.items()}
        draws = _towards(free, mean, before)
        if _equal(before, draws):
            break
    return {name: values.reshape(weights[name].shape) for name, values in draws.items()}


def _equal(some: Draws, others: Draws) -> bool:
    return all(np.array_equal(values, others[name]) for name, values in some.items())


def _towards(free: Sequence[LayerSymmetry], reference: Draws, draws: Draws) -> Draws:
    """Relabel layer by layer until no draw comes nearer to the reference."""
    draws = _upwards(free, reference, draws)
    # A single layer is done by now.
    for _ in range(_MAX_ROUNDS if len(free) > 1 else 0):
        before = draws
        for symmetry in free:
            draws = _assign(symmetry, symmetry.standardised(reference), draws)
        if _equal(before, draws):
            break
    return draws


def _upwards(free: Sequence[LayerSymmetry], reference: Draws, draws: Draws) -> Draws:
    """Relabel every layer once, from the inputs up, if that brings a draw nearer.

    Weights to a layer that is not relabelled yet mean nothing if its labels are far off, so each
    layer is judged without them.
    """
    found = draws
    for symmetry in free:
        found = _assign(symmetry, _from_below(symmetry, reference), found)
    held, gained = (_overlap(free, reference, given) for given in (draws, found))
    nearer = gained - held > _GAIN_BY_ROUNDING * np.abs(held)
    return {
        name: np.where(nearer.reshape(-1, *[1] * (values.ndim - 1)), found[name], values)
        for name, values in draws.items()
    }


def _overlap(free: Sequence[LayerSymmetry], reference: Draws, draws: Draws) -> np.ndarray:
    """Compute the scalar product of each draw with the reference: the larger, the nearer."""
    return sum(
        (
            np.einsum("jn,djn->d", _from_below(symmetry, reference), symmetry.standardised(draws))
            for symmetry in free
        ),
        start=np.zeros(()),
    )


def _from_below(symmetry: LayerSymmetry, reference: Draws) -> np.ndarray:
    """Return the reference's units, with weights to a hidden layer above set to zero."""
    target = symmetry.standardised(reference)
    if symmetry.layer.above is not None:
        target[:, len(reference[symmetry.layer.incoming]) + 1 :] = 0.0
    return target


def _assign(symmetry: LayerSymmetry, target: np.ndarray, draws: Draws) -> Draws:
    """Relabel one layer of every draw to bring it as near as possible to the target's units."""
    units = symmetry.standardised(draws)
    order = np.tile(np.arange(len(target)), (len(units), 1))
    signs = np.ones(order.shape)
    for number in range(symmetry.classes.max() + 1):
        members = np.flatnonzero(symmetry.classes == number)
        mirrorable = bool(symmetry.mirrorable[members[0]])
        if len(members) == 1 and not mirrorable:
            continue
        num_blocks = -(-len(units) * len(members) ** 2 // _OVERLAPS_AT_ONCE)
        for block in np.array_split(np.arange(len(units)), num_blocks):
            here = np.ix_(block, members)
            chosen, signs[here] = _match(target[members], units[here], mirrorable)
            order[here] = members[chosen]
    return _relabel(symmetry, draws, order, signs)


def _match(
    target: np.ndarray, units: np.ndarray, mirrorable: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return which unit of each draw should take each place of the target, and with which sign.

    Labels do not change lengths, so the labels of the least squared distance have the largest
    overlap.
    """
    overlap = target @ units.swapaxes(1, 2)
    value = np.abs(overlap) if mirrorable else overlap
    chosen = np.array([linear_sum_assignment(v, maximize=True)[1] for v in value])
    picked = np.take_along_axis(overlap, chosen[..., None], axis=2)[..., 0]
    signs = np.where(mirrorable & (picked < 0), -1.0, 1.0)
    gain = (signs * picked).sum(axis=1) - np.trace(overlap, axis1=1, axis2=2)
    moves = (gain > _GAIN_BY_ROUNDING * np.abs(picked).sum(axis=1))[:, None]
    return np.where(moves, chosen, np.arange(len(target))), np.where(moves, signs, 1.0)


def _relabel(symmetry: LayerSymmetry, draws: Draws, order: np.ndarray, signs: np.ndarray) -> Draws:
    """Move the units of a layer to other places, with all their weights, and change signs."""
    layer = symmetry.layer
    incoming, bias, outgoing = layer.incoming, layer.bias, layer.outgoing
    return draws | {
        incoming: np.take_along_axis(draws[incoming], order[:, None, :], 2) * signs[:, None, :],
        bias: np.take_along_axis(draws[bias], order, 1) * signs,
        outgoing: np.take_along_axis(draws[outgoing], order[:, :, None], 1) * signs[:, :, None],
    }
