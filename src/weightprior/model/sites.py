"""Named arrays of latent numbers, and their descriptions in a model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import jax

__all__ = ["Site", "Weights", "check_latents", "check_sites"]

Weights = Mapping[str, jax.Array]

# Axes that a fit puts in front of a site's own; and the name of the targets in NumPyro's model.
_AXES = ("chain", "draw", "prior", "obs_id")
_TARGETS = "y"
# Variables and further axes of fits and results. An axis has coordinates of its own name, which
# would clash with these.
_RESULTS = frozenset(
    """
    x y lp log_likelihood restart key fold fold_of_row level alpha quantile temperature row_weights
    converged diverging acceptance_rate n_steps energy energy_variance step_size num_iterations
    gradient_norm mean sd elpd elpd_i elpd_se elpd_diff elpd_diff_se prob_best best one_se rmse r2
    crps brier accuracy coverage calibration_error norm distance effective_parameters train
    noise_collapsed
    """.split()  # noqa: SIM905, a list would take a line for every word
)


@dataclass(frozen=True)
class Site:
    """One named array of latent numbers.

    Attributes
    ----------
    shape : tuple of int
        Shape of the array.
    dims : tuple of str
        Names of its axes, as in a fit's ``posterior``.
    fan_in : int or None
        Number of inputs that a unit of this layer sums up, for weights; None for latents of a
        likelihood or of a prior.
    kind : str
        ``"weight"``, ``"bias"``, ``"gain"`` (which multiplies a signal, as in LayerNorm) or a word
        of a network's own; ``"latent"`` for latents outside the network.
    layer : str
        Name of its layer; for a latent, its own name.

    Examples
    --------
    >>> import weightprior as wp
    >>> wp.mlp(3, hidden=(8,)).sites["hidden_0.bias"].layer
    'hidden_0'
    """

    shape: tuple[int, ...]
    dims: tuple[str, ...]
    fan_in: int | None
    kind: str
    layer: str

    @property
    def neutral(self) -> float:
        """Value that leaves a signal unchanged: 1 for a gain, otherwise 0."""
        return 1.0 if self.kind == "gain" else 0.0


def check_sites(
    sites: Mapping[str, Site], derived: Iterable[str], sizes: Mapping[str, int]
) -> None:
    """Raise if a fit cannot hold the sites of a model together.

    Parameters
    ----------
    sites : mapping of str to Site
        All sites of the model.
    derived : iterable of str
        Names of variables that are computed from them.
    sizes : mapping of str to int
        Known sizes of axes of the model.
    """
    known = dict(sizes)
    for name, site in sites.items():
        if not isinstance(site, Site):
            raise TypeError(f"sites[{name!r}]: expected a weightprior.Site; got {site!r}.")
        _check_dims(name, site)
        for dim, size in zip(site.dims, site.shape, strict=True):
            if known.setdefault(dim, size) != size:
                raise ValueError(
                    f"sites[{name!r}]: expected the axis {dim!r} to have the size {known[dim]}, as "
                    f"elsewhere in the model; got {size}. Give it another name."
                )
    reserved, seen = {*_AXES, _TARGETS, *known}, set()
    for name in (*sites, *derived):
        if name in reserved or name in seen:
            taken = "is taken by a site" if name in seen else "is that of an axis or of the targets"
            raise ValueError(
                f"sites: expected names of their own; got {name!r}, which {taken}. Rename it."
            )
        seen.add(name)


def _check_dims(name: str, site: Site) -> None:
    if len(site.dims) != len(site.shape) or len({*site.dims}) < len(site.dims):
        raise ValueError(
            f"sites[{name!r}]: expected a name for every axis of {site.shape}, each its own; got "
            f"{site.dims}."
        )
    if both := [dim for dim in site.dims if dim in _AXES or dim in _RESULTS]:
        raise ValueError(
            f"sites[{name!r}]: expected axes of other names than those in fits and results, such "
            f"as {', '.join(_AXES)}; got {both[0]!r}. Rename it."
        )


def check_latents(latents: Iterable[str], sites: Mapping[str, Site]) -> None:
    """Raise if a latent of the likelihood has the name of a site, layer or kind of the network."""
    words = {word for name, site in sites.items() for word in (name, site.layer, site.kind)}
    if both := [name for name in latents if name in words]:
        raise ValueError(
            f"likelihood: expected latents with names of their own; got {both[0]!r}, which is "
            "a site, layer or kind of the network. Rename one of them."
        )
