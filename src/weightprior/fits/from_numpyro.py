"""`from_numpyro`: fits of NumPyro models that contain a network."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import log_density

from weightprior import _checks
from weightprior._checks.options import names_its_options
from weightprior.fits.layout import SAMPLE_DIMS
from weightprior.fits.outcome import Outcome
from weightprior.fits.problem import Problem
from weightprior.fits.results import build
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.priors.base import Prior

__all__ = ["from_numpyro"]

# Number of draws at which a model is compared with its description.
_NUM_COMPARED = 5
# Data may have been passed in single precision. A sum over a row amplifies its rounding.
_TOLERANCE = 1e-4
# Statistics of NumPyro's kernels, and their names in a fit.
_STATS = {"accept_prob": "acceptance_rate", "num_steps": "n_steps"}
_STATS |= {name: name for name in ("diverging", "energy")}


class _Run(NamedTuple):
    """A model after sampling, with its arguments and draws.

    Attributes
    ----------
    model : callable
        A NumPyro model.
    args, kwargs
        Arguments of the call.
    draws : dict of str to array
        By site, (chain, draw, ...).
    trace : dict
        Trace of the model at the first draw.
    """

    model: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    draws: dict[str, np.ndarray]
    trace: dict[str, Any]

    @classmethod
    def of(cls, mcmc: Any) -> "_Run":
        """Read a run, or raise if there is none."""
        model = getattr(getattr(mcmc, "sampler", None), "model", None)
        if model is None or not hasattr(mcmc, "get_samples"):
            raise TypeError(
                "mcmc: expected numpyro.infer.MCMC with a kernel of a model; got "
                f"{type(mcmc).__name__}."
            )
        if getattr(mcmc, "_states", None) is None:
            raise ValueError("mcmc: expected one that has run; got no draws. Call mcmc.run(...).")
        draws = mcmc.get_samples(group_by_chain=True)
        args, kwargs = mcmc._args, mcmc._kwargs
        first = {name: values[0, 0] for name, values in draws.items()}
        held = handlers.substitute(handlers.seed(model, 0), first)
        trace = handlers.trace(held).get_trace(*args, **kwargs)
        unknown = [
            name
            for name, site in trace.items()
            if site["type"] == "sample" and not site["is_observed"] and name not in draws
        ]
        if unknown:
            raise ValueError(
                f"mcmc: expected draws of every site; got none of {_checks.several(unknown)}. With "
                "sites that were summed out, or subsampled rows, a draw has no density."
            )
        own = {name: np.asarray(values) for name, values in draws.items()}
        return cls(model, args, kwargs, own, trace)

    def compared(self) -> dict[str, np.ndarray]:
        """Take some draws, far from each other, with one axis in front."""
        flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in self.draws.items()}
        count = len(next(iter(flat.values())))
        chosen = np.unique(np.linspace(0, count - 1, _NUM_COMPARED).astype(int))
        return {name: values[chosen] for name, values in flat.items()}

    def observed(self, y: np.ndarray) -> str:
        """Return the name of the site with a density per row; raise if its rows are others."""
        sites = {
            name: site
            for name, site in self.trace.items()
            if site["type"] == "sample" and site["is_observed"]
        }
        for name, site in sites.items():
            expected, got = site["fn"].shape(), np.shape(site["value"])
            if expected != got:
                raise ValueError(
                    f"mcmc: expected a distribution at {name!r} of the shape of the observed "
                    f"values, {got}; got {expected}. With one output per row, write outputs[:, 0]."
                )
        found = {name: np.shape(_log_prob(site)) for name, site in sites.items()}
        if [*found.values()] != [(len(y),)]:
            raise ValueError(
                f"mcmc: expected a model with one observed site, with a log density per row of x, "
                f"({len(y)},); got {found or 'none'}. Make the axes of a row its event, by "
                "distribution.to_event(1), and write a distribution in place of numpyro.factor."
            )
        [name] = found
        seen = np.asarray(self.trace[name]["value"], np.float64)
        if not np.allclose(seen.reshape(len(y), -1), y.reshape(len(y), -1), rtol=_TOLERANCE):
            raise ValueError(
                f"y: expected what the model observed at {name!r}; got other numbers. Pass x and y "
                "as they were passed to mcmc.run, in the same order of the rows."
            )
        return name


@names_its_options
def from_numpyro(
    bnn: BNN, mcmc: Any, x: Any, y: Any, *, prior: Prior, name: str | None = None
) -> xr.DataTree:
    """Make a fit of the chains of a NumPyro model that contains a network.

    The model samples the network's weights by `BNN.sample_weights`. The fit holds the log
    likelihood and log density of that model, so ArviZ's functions are right.

    Parameters
    ----------
    bnn : BNN
        The network, and a likelihood.
    mcmc : numpyro.infer.MCMC
        The sampler, after its run.
    x : array or data frame of shape (rows, features)
        Inputs of the network.
    y : array of shape (rows,) or (rows, outputs)
        Targets that were observed.
    prior : NormalPrior or HierarchicalPrior
        The prior that was passed to `BNN.sample_weights`.
    name : str, optional
        The name that was passed to `BNN.sample_weights`: the prefix of its sites.

    Returns
    -------
    DataTree
        A fit. Further sites of the model are in `posterior`, with the names of their plates as
        dims, and `lp` is minus NumPyro's potential energy. If the targets depend on more than the
        likelihood of `bnn`, the attribute `likelihood_elsewhere` is 1. `predict` and diagnostics of
        predictions then give the network's outputs. Functions that need the likelihood (`score`,
        the evidence) raise.

    Raises
    ------
    TypeError, ValueError
        If nothing has run, if a site of the network is missing, if the prior is not that of the
        model, or if no observed site has a density per row.

    Examples
    --------
    >>> import jax
    >>> import numpy as np
    >>> import weightprior as wp
    >>> from numpyro.infer import MCMC, NUTS
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> y, prior = x[:, 0], wp.normal_prior(bnn)
    >>> mcmc = MCMC(NUTS(bnn.model), num_warmup=200, num_samples=200, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), x, y, prior=prior)
    >>> fit = wp.from_numpyro(bnn, mcmc, x, y, prior=prior)
    >>> fit["posterior"]["output.weight"].shape
    (1, 200, 1, 1)
    """
    problem = Problem.checked(bnn, x, y, prior=prior, learned=True)
    if prior.labels is not None:
        raise ValueError("prior: expected a single prior; got a stacked one. Choose one of it.")
    run, prefix = _Run.of(mcmc), "" if name is None else f"{name}."
    names = {prefix + site: site for site in (*prior.sites, *bnn.sites)}
    if missing := [site for site in names if site not in run.draws]:
        raise ValueError(
            f"mcmc: expected the sites {_checks.several(names)}; got none for "
            f"{_checks.several(missing)} among {_checks.several(run.draws)}. Sample the weights by "
            "bnn.sample_weights(prior), and pass its name here."
        )
    _check_prior(run, prior, bnn, names)
    observed = run.observed(problem.y)
    terms, lp = _densities(run, observed)
    outcome = Outcome(
        weights=[{own: run.draws[site].astype(np.float64) for site, own in names.items()}],
        stats=[_stats(mcmc)],
        draws="chains",
        exact=True,
    )
    tree = build(problem, outcome, method="numpyro", seconds=float("nan"), options={})
    same = np.allclose(terms, tree["log_likelihood"]["y"], rtol=_TOLERANCE, atol=_TOLERANCE)
    for group, variable, values in (("log_likelihood", "y", terms), ("sample_stats", "lp", lp)):
        held = tree[group].dataset[variable]
        tree[group] = tree[group].dataset.assign({variable: held.copy(data=values)})
    posterior = tree["posterior"].dataset
    tree["posterior"] = posterior.assign(_further(run, {*names}, posterior))
    tree.attrs["likelihood_elsewhere"] = int(not same)
    tree.attrs["options"] = json.dumps({"name": name})
    return tree


def _check_prior(run: _Run, prior: Prior, bnn: BNN, names: Mapping[str, str]) -> None:
    """Raise if the model's density of a weight is not that of the prior."""
    compared = run.compared()
    for i in range(len(next(iter(compared.values())))):
        draw = {name: values[i] for name, values in compared.items()}
        held = handlers.substitute(handlers.seed(run.model, 0), draw)
        trace = handlers.trace(held).get_trace(*run.args, **run.kwargs)
        weights = {own: jnp.asarray(draw[site]) for site, own in names.items()}
        expected = density.log_prior_by_site(bnn, weights, prior)
        for site, own in names.items():
            if trace[site]["type"] != "sample":
                raise ValueError(
                    f"mcmc: expected {site!r} to be sampled; got a value that is computed from "
                    "others. Leave the network's sites out of handlers.reparam."
                )
            found = jnp.sum(_log_prob(trace[site]))
            if not np.allclose(found, jnp.sum(expected[own]), rtol=_TOLERANCE, atol=_TOLERANCE):
                raise ValueError(
                    f"prior: expected that of the model; got the log density "
                    f"{float(expected[own]):.4g} of {site!r} at a draw, where the model has "
                    f"{float(found):.4g}. Pass the prior that was passed to bnn.sample_weights."
                )


def _densities(run: _Run, observed: str) -> tuple[np.ndarray, np.ndarray]:
    """Compute the log likelihood of every row and the log density of all sites, by draw."""

    def of_draw(draw):
        joint, trace = log_density(run.model, run.args, dict(run.kwargs), draw)
        site = trace[observed]
        return _log_prob(site), joint + sum(map(_log_volume, trace.values()))

    lead = next(iter(run.draws.values())).shape[:2]
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in run.draws.items()}
    found = jax.jit(partial(jax.lax.map, of_draw))(flat)
    terms, joint = (np.asarray(a, np.float64).reshape(*lead, *a.shape[1:]) for a in found)
    return terms, joint


def _log_prob(site: dict[str, Any]) -> Any:
    """Compute the log density of a site, multiplied by the factor of handlers.scale."""
    found = site["fn"].log_prob(site["value"])
    return found if site["scale"] is None else site["scale"] * found


def _log_volume(site: dict[str, Any]) -> Any:
    """Compute the log Jacobian from NumPyro's unconstrained value of a site to the site itself."""
    if site["type"] != "sample" or site["is_observed"]:
        return 0.0
    transform = biject_to(site["fn"].support)
    moved = transform.inv(site["value"])
    return jnp.sum(transform.log_abs_det_jacobian(moved, site["value"]))


def _stats(mcmc: Any) -> dict[str, np.ndarray]:
    extra = mcmc.get_extra_fields(group_by_chain=True)
    return {own: np.asarray(extra[name]) for name, own in _STATS.items() if name in extra}


def _further(run: _Run, known: set[str], posterior: xr.Dataset) -> dict[str, Any]:
    """Return the model's sites besides the network's, with the names of their plates as dims."""
    found = {}
    for name, values in run.draws.items():
        written = name.replace("/", ".")  # handlers.scope writes slashes, which a fit cannot hold
        if name in known or _is_there(written, values, posterior):
            continue
        dims = [f"{written}_dim_{i}" for i in range(values.ndim - 2)]
        event = getattr(run.trace[name].get("fn"), "event_dim", 0)
        for plate in run.trace[name].get("cond_indep_stack", ()):
            axis = len(dims) - event + plate.dim
            if 0 <= axis < len(dims) and plate.name not in (*posterior.dims, *run.draws):
                dims[axis] = plate.name.replace("/", ".")
        found[written] = ((*SAMPLE_DIMS, *dims), values)
    return found


def _is_there(name: str, values: np.ndarray, posterior: xr.Dataset) -> bool:
    """Tell if the fit has this value of the network already; raise if it has another."""
    if name not in posterior.variables:
        return False
    held = posterior[name].to_numpy()
    if held.shape != values.shape or not np.allclose(held, values, rtol=_TOLERANCE):
        raise ValueError(
            f"mcmc: expected names that a fit of this network does not have; got {name!r}. Rename "
            "that site of the model."
        )
    return True
