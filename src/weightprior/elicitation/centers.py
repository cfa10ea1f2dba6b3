"""Centres of priors: the same scales, hence the same capacity, around different centres."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from scipy import linalg

from weightprior import _arrays, _checks
from weightprior._checks.options import names_its_options
from weightprior.model.adapters import reference_weights
from weightprior.model.priors.normal import NormalPrior, stack_priors
from weightprior.model.priors.normal_prior import normal_prior

__all__ = ["center_path", "matched_centers"]

Weights = dict[str, np.ndarray]


@names_its_options
def matched_centers(bnn, reference: Any, *, scale: Any, rng_key: Any = 0) -> NormalPrior:
    """Put one scale around five centres, to separate the effects of scale and centre.

    A Gaussian prior of a given scale restricts functions as much at any centre. Fits under these
    priors tell if a centre is informative: `random` and `mirrored` are as far from zero as the
    reference, and `permuted` has the same numbers in other places.

    Parameters
    ----------
    bnn : BNN
        The model.
    reference : dict of arrays, DataTree, or trained network
        The network at one of the centres: weights by site; a fit of a single prior (its posterior
        mean; for a MAP, the MAP; for chains it is not meaningful if hidden units can be exchanged,
        see `posterior_as_prior`); or a trained network: a module of flax.nnx or Equinox, parameters
        of flax.linen, a state dict of PyTorch, a perceptron of scikit-learn.
    scale : float or dict
        Standard deviations around every centre, in the forms of `normal_prior`.
    rng_key : int or JAX key
        Decides `random` and `permuted`.

    Returns
    -------
    NormalPrior
        Stacked, with the labels

        - ``"zero"``; gains are 1 there, so that they change nothing;
        - ``"reference"``;
        - ``"random"``: a random direction, with the length of the reference in every site;
        - ``"permuted"``: the reference's numbers, shuffled within each site;
        - ``"mirrored"``: minus the reference.

        Only weights and biases move. The noise has the same centre in all: that of the reference,
        or else that of `normal_prior`.

    Raises
    ------
    TypeError, ValueError
        If the reference is of another architecture or holds NaN, or a scale is not positive.

    References
    ----------
    X. Li, Y. Grandvalet and F. Davoine, Explicit inductive bias for transfer learning with
    convolutional networks, ICML 2018. :doi:`10.48550/arXiv.1802.01483`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(2, hidden=(3,)), wp.Gaussian(noise=1.0))
    >>> rng = np.random.default_rng(0)
    >>> weights = {name: rng.normal(size=site.shape) for name, site in bnn.sites.items()}
    >>> centers = wp.matched_centers(bnn, weights, scale=wp.fan_in_scale(bnn))
    >>> centers.labels
    ('zero', 'reference', 'random', 'permuted', 'mirrored')
    """
    weights = reference_weights(bnn, reference)
    _checks.not_forked()
    with jax.enable_x64(True):
        keys = jax.random.split(_checks.random_key(rng_key))
        chosen = {
            "zero": _each(bnn, weights, np.zeros_like),
            "reference": weights,
            "random": _drawn(bnn, weights, keys[0], _direction),
            "permuted": _drawn(bnn, weights, keys[1], _shuffled),
            "mirrored": _each(bnn, weights, np.negative),
        }
    return _around(bnn, chosen, scale)


@names_its_options
def center_path(bnn, reference: Any, fractions: Sequence[float], *, scale: Any) -> NormalPrior:
    """Put one scale around points of a line from zero to a reference, and beyond.

    Parameters
    ----------
    bnn : BNN
        The model.
    reference : dict of arrays, DataTree, or trained network
        As for `matched_centers`.
    fractions : sequence of float
        Distances along the line: 0 is zero, 1 the reference. They are the labels of the priors.
    scale : float or dict
        Standard deviations around every centre, in the forms of `normal_prior`.

    Returns
    -------
    NormalPrior
        Stacked, by fraction. The noise is centred as in `matched_centers`.

    Raises
    ------
    TypeError, ValueError
        As `matched_centers` raises, and if there are no fractions, or equal ones, or no numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(2, hidden=()), wp.Gaussian(noise=1.0))
    >>> weights = {"output.weight": np.ones((2, 1)), "output.bias": np.ones(1)}
    >>> path = wp.center_path(bnn, weights, (0.0, 0.5, 1.0), scale=1.0)
    >>> path[0.5].loc["output.bias"]
    array([0.5])
    """
    weights = reference_weights(bnn, reference)
    array = _arrays.finite("fractions", _arrays.numbers("fractions", fractions))
    labels = array.tolist()
    if array.ndim != 1 or not labels or len(set(labels)) < len(labels):
        raise ValueError(
            f"fractions: expected a sequence of different numbers, such as (0, 0.5, 1); "
            f"got {fractions!r}."
        )
    chosen = {f: _each(bnn, weights, lambda array, f=f: f * array) for f in labels}
    return _around(bnn, chosen, scale)


def _around(bnn, centers: Mapping[Any, Weights], scale: Any) -> NormalPrior:
    return stack_priors(
        {label: normal_prior(bnn, loc=loc, scale=scale) for label, loc in centers.items()}
    )


def _each(bnn, weights: Weights, change: Callable[[np.ndarray], np.ndarray]) -> Weights:
    """Change weights and biases, each from its neutral value; leave the noise unchanged."""
    return weights | {
        name: site.neutral + change(weights[name] - site.neutral)
        for name, site in bnn.network.sites.items()
    }


def _drawn(bnn, weights: Weights, key: jax.Array, change: Callable) -> Weights:
    sites = bnn.network.sites
    keys = dict(zip(sites, jax.random.split(key, len(sites)), strict=True))
    return weights | {
        name: site.neutral + change(keys[name], weights[name] - site.neutral)
        for name, site in sites.items()
    }


def _direction(key: jax.Array, array: np.ndarray) -> np.ndarray:
    drawn = np.asarray(jax.random.normal(key, array.shape, np.float64))
    # NumPy's norm squares, and would underflow or overflow for tiny or huge arrays.
    length = linalg.norm(array.ravel(), check_finite=False)
    return drawn * (length / linalg.norm(drawn.ravel(), check_finite=False))


def _shuffled(key: jax.Array, array: np.ndarray) -> np.ndarray:
    return np.asarray(jax.random.permutation(key, array.ravel())).reshape(array.shape)
