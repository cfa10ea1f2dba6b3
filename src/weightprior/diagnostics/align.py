"""Alignment of draws: hidden units are relabelled as far as the prior allows."""

import xarray as xr
from arviz_stats.sampling_diagnostics import rhat

from weightprior.fits.layout import SAMPLE_DIMS, lay_out
from weightprior.fits.reading import Part, parts_of, prior_description
from weightprior.fits.validate import validate
from weightprior.model import symmetry
from weightprior.model.bnn import BNN

__all__ = ["align"]


def align(bnn: BNN, fit: xr.DataTree) -> xr.DataTree:
    """Relabel hidden units so that single weights can be compared across draws.

    The units of a hidden layer can be exchanged without changing the function. Units of an odd
    activation (tanh) can also be mirrored: all their weights, and the bias, change sign. So the
    label of a unit has no meaning in a chain, nor has `az.summary` of its weights. This function
    chooses labels and signs for every draw such that all draws are close to one another, with
    weights in units of the prior's scales. It uses only the symmetries of the prior: units are
    exchanged if their priors are equal, and mirrored if their prior is centred at zero. Under a
    centre that differs between units there is nothing to align, and the draws are returned
    unchanged.

    Densities and predictions do not depend on labels. Use `convergence` to see if chains have
    converged: relabelling hides that chains were in different, equivalent places, and it cannot
    bring together places that are not equivalent.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted.
    fit : DataTree
        The fit. It is not changed.

    Returns
    -------
    DataTree
        The fit with the posterior's weights relabelled, and one more group, `alignment`:

        - every site: R-hat (rank-normalised, split) of its values, by the dim `when`, `before`
          and `after`; NaN if there are too few chains or draws for an R-hat;
        - ``classes.<layer>``: a number per unit, the same for units that could be exchanged; as
          many numbers as units if no two units have the same prior;
        - ``mirrorable.<layer>``: true for every unit that could be mirrored.

        With the dim `prior` if the fit has it: the draws of each prior are aligned separately.

    Raises
    ------
    TypeError, ValueError
        If `fit` is not a fit of this model.

    References
    ----------
    J. G. Wiese et al., Towards efficient MCMC sampling in Bayesian neural networks by exploiting
    symmetry, ECML PKDD 2023. :doi:`10.1007/978-3-031-43412-9_27`

    M. Stephens, Dealing with label switching in mixture models, JRSS B 62, 2000.
    :doi:`10.1111/1467-9868.00265`

    S. K. Ainsworth, J. Hayase and S. Srinivasa, Git Re-Basin: merging models modulo permutation
    symmetries, ICLR 2023. :doi:`10.48550/arXiv.2209.04836`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(5,)), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_ensemble(bnn, x, np.sin(3 * x[:, 0]), prior=wp.normal_prior(bnn))
    >>> aligned = wp.diagnostics.align(bnn, fit)
    >>> aligned["alignment"]["classes.hidden_0"].to_numpy().tolist()
    [0, 0, 0, 0, 0]
    >>> aligned["alignment"]["mirrorable.hidden_0"].to_numpy().tolist()
    [True, True, True, True, True]
    """
    parts = parts_of(bnn, fit)
    validate(fit)
    allowed = [_symmetries(bnn, part) for part in parts]
    pieces = [
        symmetry.align(own, part.weights, part.stats["lp"].transpose(*SAMPLE_DIMS).to_numpy())
        for own, part in zip(allowed, parts, strict=True)
    ]
    coords = dict(fit["posterior"].coords)
    dims = {name: site.dims for name, site in bnn.sites.items()}
    held = [part.weights for part in parts]
    before, after = (lay_out(given, SAMPLE_DIMS, dims, coords) for given in (held, pieces))
    when = xr.Variable("when", ["before", "after"])
    found = rhat(
        xr.concat([before, after], when, data_vars="all", coords="different", compat="equals")
    )

    aligned = fit.copy()
    aligned["posterior"] = xr.DataTree(_relabelled(fit["posterior"].to_dataset(), after))
    aligned["alignment"] = xr.DataTree(found.assign(_allowed(allowed, coords).data_vars))
    return aligned


def _symmetries(bnn: BNN, part: Part) -> list[symmetry.LayerSymmetry]:
    told = prior_description(part.fit)
    names = ("learned_loc", "own_scale", "proper")
    found = symmetry.symmetries(bnn, part.prior, **{name: told.get(name, ()) for name in names})
    if found is None:
        raise ValueError(
            "bnn: expected a network that describes its hidden units (`hidden_layers`, see "
            f"weightprior.Network); got {type(bnn.network).__name__}, which does not, so its "
            "symmetries are not known. Compare outputs instead of weights."
        )
    return found


def _relabelled(posterior: xr.Dataset, weights: xr.Dataset) -> xr.Dataset:
    """Return the posterior with other values; their precision and all else stay the same."""
    changed = {}
    for name, values in weights.data_vars.items():
        held = posterior[name]
        numbers = values.transpose(*held.dims).to_numpy()
        changed[name] = held.copy(data=numbers.astype(held.dtype))
    return posterior.assign(changed)


def _allowed(free: list[list[symmetry.LayerSymmetry]], coords: dict) -> xr.Dataset:
    pieces = [
        {f"classes.{one.layer.name}": one.classes for one in part}
        | {f"mirrorable.{one.layer.name}": one.mirrorable for one in part}
        for part in free
    ]
    return lay_out(pieces, (), {name: (name.split(".")[1],) for name in pieces[0]}, coords)
