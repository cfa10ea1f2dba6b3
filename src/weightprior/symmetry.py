"""Symmetries that a network shares with its prior: hidden units exchanged, and mirrored.

Exchanging two units of a hidden layer, with all their weights, leaves the function as it is. So
does turning the signs of all weights of a unit whose activation is odd. The posterior has these
symmetries where the prior has them too.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln

from weightprior.model import BNN
from weightprior.networks import ACTIVATIONS
from weightprior.priors import NormalPrior

__all__ = ["Freedom", "align", "freedoms", "log_num_symmetries"]

Draws = dict[str, np.ndarray]

# Every round brings draws nearer to their reference, so the loops end by themselves. Of 4,000 draws
# of 50 tanh units some still moved after ten; a hundred more took 1 % off the draws' variance.
_MAX_ROUNDS = 10
# Numbers in the matrices of overlaps that are held together.
_AT_ONCE = 2**22
# What rounding may leave of no gain at all: among equals nothing is to move.
_ROUNDING = 1e-12


class Freedom(NamedTuple):
    """What may be done to the units of a hidden layer without changing function or prior.

    Attributes
    ----------
    layer, following : str
        The layer, and the one that it feeds.
    classes : array of int, shape (units,)
        Units of one class may be exchanged. Counted in the order of their first units.
    mirrorable : array of bool, shape (units,)
        Whether the signs of a unit may be turned; the same for all of a class.
    center, unit : array of shape (units, numbers)
        Where the weights of a unit (incoming, bias, outgoing) are counted from, and in what unit.
    """

    layer: str
    following: str
    classes: np.ndarray
    mirrorable: np.ndarray
    center: np.ndarray
    unit: np.ndarray

    def standardised(self, weights: Mapping[str, np.ndarray]) -> np.ndarray:
        """Weights unit by unit, shape (..., units, numbers), as the prior measures them."""
        return (_by_unit(self.layer, self.following, weights) - self.center) / self.unit


def freedoms(
    bnn: BNN,
    prior: NormalPrior,
    *,
    centered: Collection[str] = (),
    distinct: Collection[str] = (),
    proper: Collection[str] = (),
) -> list[Freedom]:
    """Find the symmetries that a network shares with its prior, hidden layer by hidden layer.

    Two units may be exchanged where the prior of their incoming weights, biases and outgoing
    weights is the same. A unit may be mirrored where its activation is odd and its prior is
    centred at zero. Where a prior is flat, its centre does not matter.

    Parameters
    ----------
    bnn : BNN
        The model.
    prior : NormalPrior
        A single prior.
    centered : collection of str
        Sites with a centre that is learned, so that none of their units may be mirrored.
    distinct : collection of str
        Sites whose weights each have a scale of their own, so that no two of them are alike.
    proper : collection of str
        Sites that are flat nowhere: an infinite scale means tails so heavy that there is no sd.

    Returns
    -------
    list of Freedom
        One per hidden layer, inputs first.
    """
    with jax.enable_x64(True):
        units = {name: np.asarray(values) for name, values in bnn.unit(prior).items()}
    flat = {n: np.isinf(prior.scale[n]) & (n not in proper) for n in units}
    centers = {n: np.where(flat[n], 0.0, prior.loc[n]) for n in units}
    network, found = bnn.network, []
    for layers, activation in zip(pairwise(network.layers), network.activations, strict=True):
        center, unit, scale = (_by_unit(*layers, part) for part in (centers, units, prior.scale))
        classes = _number_rows(np.concatenate([center, scale], axis=1))
        mirrorable = _is_odd(activation) & ~center.any(axis=1)
        sites = {f"{layers[0]}.weight", f"{layers[0]}.bias", f"{layers[1]}.weight"}
        if sites & set(distinct):
            classes = np.arange(len(classes))
        if sites & set(centered):
            mirrorable = np.zeros_like(mirrorable)
        found.append(Freedom(*layers, classes, mirrorable, center, unit))
    return found


def log_num_symmetries(found: Sequence[Freedom]) -> float:
    """Log of the number of ways to exchange and mirror units: of a mode, how many are its like."""
    total = 0.0
    for freedom in found:
        _, counts = np.unique(freedom.classes, return_counts=True)
        total += gammaln(counts + 1).sum() + np.log(2) * freedom.mirrorable.sum()
    return float(total)


def _by_unit(layer: str, following: str, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    incoming, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
    outgoing = weights[f"{following}.weight"]
    return np.concatenate([incoming.swapaxes(-1, -2), bias[..., None], outgoing], axis=-1)


def _number_rows(rows: np.ndarray) -> np.ndarray:
    """Give equal rows the same number, counting in the order of first occurrence."""
    _, first, numbers = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers]


def _is_odd(activation: Any) -> bool:
    function = ACTIVATIONS[activation] if isinstance(activation, str) else activation
    signal = np.append(np.geomspace(1e-3, 30.0, 200), 0.0)[:, None]
    with jax.enable_x64(True):
        right, left = (np.asarray(function(jax.numpy.asarray(s))) for s in (signal, -signal))
    # Thousands of times what float64 rounds off, millions of times less than is seen.
    return bool(np.allclose(right, -left, rtol=1e-12, atol=1e-12))


def align(free: list[Freedom], weights: Mapping[str, np.ndarray], lp: np.ndarray) -> Draws:
    """Relabel the hidden units of every draw so that the draws come near one another.

    First near the draw of the highest density, then near their mean, until none moves. With one
    hidden layer that is an assignment problem per draw. Several layers take turns, which ends
    where no layer by itself can improve: not always at the nearest labels.

    Parameters
    ----------
    free : list of Freedom
        What may be done.
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


def _towards(free: list[Freedom], reference: Draws, draws: Draws) -> Draws:
    """Relabel layer by layer until no draw comes nearer to the reference."""
    draws = _upwards(free, reference, draws)
    # A single layer is done by now.
    for _ in range(_MAX_ROUNDS if len(free) > 1 else 0):
        before = draws
        for freedom in free:
            draws = _assign(freedom, freedom.standardised(reference), draws)
        if _equal(before, draws):
            break
    return draws


def _upwards(free: list[Freedom], reference: Draws, draws: Draws) -> Draws:
    """Relabel every layer once, from the inputs up, where that brings a draw nearer.

    Weights to a layer that is yet to be relabelled tell nothing where its labels are far off, so
    each layer is judged without them.
    """
    found = draws
    for freedom in free:
        found = _assign(freedom, _from_below(freedom, reference), found)
    held, gained = (_overlap(free, reference, given) for given in (draws, found))
    nearer = gained - held > _ROUNDING * np.abs(held)
    return {
        name: np.where(nearer.reshape(-1, *[1] * (values.ndim - 1)), found[name], values)
        for name, values in draws.items()
    }


def _overlap(free: list[Freedom], reference: Draws, draws: Draws) -> np.ndarray:
    """Scalar product of each draw with the reference: the larger, the nearer."""
    return sum(
        (
            np.einsum("jn,djn->d", _from_below(freedom, reference), freedom.standardised(draws))
            for freedom in free
        ),
        start=np.zeros(()),
    )


def _from_below(freedom: Freedom, reference: Draws) -> np.ndarray:
    """Units of the reference, their weights to a hidden layer above set to nought."""
    target = freedom.standardised(reference)
    if freedom.following != "output":
        target[:, len(reference[f"{freedom.layer}.weight"]) + 1 :] = 0.0
    return target


def _assign(freedom: Freedom, target: np.ndarray, draws: Draws) -> Draws:
    """Relabel one layer of every draw to come as near to the target's units as it can."""
    units = freedom.standardised(draws)
    order = np.tile(np.arange(len(target)), (len(units), 1))
    signs = np.ones(order.shape)
    for number in range(freedom.classes.max() + 1):
        members = np.flatnonzero(freedom.classes == number)
        mirrorable = bool(freedom.mirrorable[members[0]])
        if len(members) == 1 and not mirrorable:
            continue
        num_blocks = -(-len(units) * len(members) ** 2 // _AT_ONCE)
        for block in np.array_split(np.arange(len(units)), num_blocks):
            here = np.ix_(block, members)
            chosen, signs[here] = _match(target[members], units[here], mirrorable)
            order[here] = members[chosen]
    return _relabel(freedom, draws, order, signs)


def _match(
    target: np.ndarray, units: np.ndarray, mirrorable: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Which unit of each draw is to stand in the target's places, and with what sign.

    Labels do not change lengths, so those of the least squared distance have the largest overlap.
    """
    overlap = target @ units.swapaxes(1, 2)
    value = np.abs(overlap) if mirrorable else overlap
    chosen = np.array([linear_sum_assignment(v, maximize=True)[1] for v in value])
    picked = np.take_along_axis(overlap, chosen[..., None], axis=2)[..., 0]
    signs = np.where(mirrorable & (picked < 0), -1.0, 1.0)
    gain = (signs * picked).sum(axis=1) - np.trace(overlap, axis1=1, axis2=2)
    moves = (gain > _ROUNDING * np.abs(picked).sum(axis=1))[:, None]
    return np.where(moves, chosen, np.arange(len(target))), np.where(moves, signs, 1.0)


def _relabel(freedom: Freedom, draws: Draws, order: np.ndarray, signs: np.ndarray) -> Draws:
    """Give the units of a layer other places, with all their weights, and turn signs."""
    incoming, bias = f"{freedom.layer}.weight", f"{freedom.layer}.bias"
    outgoing = f"{freedom.following}.weight"
    return draws | {
        incoming: np.take_along_axis(draws[incoming], order[:, None, :], 2) * signs[:, None, :],
        bias: np.take_along_axis(draws[bias], order, 1) * signs,
        outgoing: np.take_along_axis(draws[outgoing], order[:, :, None], 1) * signs[:, :, None],
    }
