"""A call of a fit function, taken apart into parts that can be fitted anywhere."""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cloudpickle
import jax
import numpy as np
import xarray as xr

from weightprior import _checks
from weightprior.fits import fingerprint
from weightprior.fits.layout import prior_coords
from weightprior.fits.problem import Problem
from weightprior.fits.reading import check_tree, unstack_fit
from weightprior.fits.stacking import join
from weightprior.inference._distribution.identity import told
from weightprior.inference._distribution.store import NoStore, Store, file_name
from weightprior.model.bnn import BNN
from weightprior.model.priors.base import Prior

__all__ = ["Call", "Code", "Part", "name_of"]


@dataclass(frozen=True)
class Code:
    """A fit function and a model, pickled: what workers compile for.

    Attributes
    ----------
    digest : str
        By which a worker knows them again.
    pickled : bytes
        Both.
    bnn : BNN
        The model.
    """

    digest: str
    pickled: bytes
    bnn: BNN

    @classmethod
    def of(cls, fit: Callable[..., Any], bnn: BNN) -> "Code":
        """Pickle a function and a model."""
        pickled = cloudpickle.dumps((fit, bnn))
        return cls(hashlib.sha256(pickled).hexdigest(), pickled, bnn)


@dataclass(frozen=True)
class Part:
    """A call for one prior of a stack.

    Attributes
    ----------
    label : object
        Label of the prior; None where it is the only one.
    name : str
        A text that two parts share where they do the same, for files.
    given : bytes
        Data that a worker needs besides the code, pickled.
    """

    label: Any
    name: str
    given: bytes


@dataclass(frozen=True)
class Call:
    """A call of a fit function.

    Attributes
    ----------
    function : str
        Name of the function, which its warnings begin with.
    code : Code
        The function, and the model.
    parts : list of Part
        One per prior.
    prior : Prior
        Prior of the call.
    apart : tuple of str
        Constants that each prior has for itself.
    """

    function: str
    code: Code
    parts: list[Part]
    prior: Prior
    apart: tuple[str, ...]

    @classmethod
    def checked(
        cls,
        fit: Callable[..., Any],
        code: Code,
        x: Any,
        y: Any,
        options: Mapping[str, Any],
        store: Store | NoStore,
    ) -> "Call":
        """Check the arguments of a call, and take it apart.

        Raises
        ------
        ValueError, TypeError
            As the fit function would for data and a prior, and for a `checkpoint` of the user's.
        """
        if options.get("checkpoint") is not None:
            raise ValueError(
                "checkpoint: expected None beside distribute, whose parts are runs of their own. "
                "Pass folder to distribute, which keeps them all."
            )
        names = inspect.signature(fit).parameters
        problem = _problem(code.bnn, x, y, options, names)
        weights = problem.row_weights
        several = weights is not None and weights.ndim == 2
        all_options = _options(options, problem, names)
        digests, parts = _digests(fit, problem, all_options), []
        for label, digest, own in zip(problem.labels, digests, all_options, strict=True):
            name = file_name(label, digest)
            if "checkpoint" in names and (folder := store.checkpoint(name)) is not None:
                own["checkpoint"] = folder
            given = (x, y, own), jax.config.jax_enable_x64, fingerprint.versions()
            parts.append(Part(label, name, cloudpickle.dumps(given)))
        apart = ("row_weights",) if several else ()
        return cls(name_of(fit), code, parts, problem.prior, apart)

    def joined(self, fits: list[xr.DataTree], seconds: float) -> xr.DataTree:
        """Make one fit of the parts', which took so long."""
        stacked = self.prior.labels is not None
        tree = join(fits, prior_coords(self.prior), self.apart) if stacked else fits[0]
        tree.attrs["seconds"] = max(seconds, tree.attrs["seconds"])
        return tree


def name_of(fit: Any) -> str:
    """Name of a function, or of the class of an object that is called as one."""
    return getattr(fit, "__name__", type(fit).__name__)


def _problem(
    bnn: BNN, x: Any, y: Any, options: Mapping[str, Any], names: Mapping[str, inspect.Parameter]
) -> Problem:
    """Check the data here, before anything travels."""
    given = {"rng_key": 0, "row_weights": None}
    for name in given:
        usual = names[name].default if name in names else inspect.Parameter.empty
        if usual is not inspect.Parameter.empty:
            given[name] = usual
    given |= {name: options[name] for name in given if name in options}
    with _checks.held_warnings():  # the parts warn of the same
        return Problem.checked(bnn, x, y, prior=options.get("prior"), learned=True, **given)


def _options(
    options: Mapping[str, Any], problem: Problem, names: Mapping[str, inspect.Parameter]
) -> list[dict[str, Any]]:
    """Options of the call for every prior."""
    common = dict(options)
    if "rng_key" in options:  # keys do not travel, their words do
        common["rng_key"] = np.asarray(jax.random.key_data(problem.key))
    if "progress_bar" in names:
        common["progress_bar"] = False
    singles, found = problem.prior.singles(), []
    weights, inits = problem.row_weights, _inits(options.get("init"), len(singles))
    for i, prior in enumerate(singles):
        own = common | {"prior": prior}
        if weights is not None and weights.ndim == 2:
            own["row_weights"] = weights[i]
        if "init" in options:
            own["init"] = inits[i]
        found.append(own)
    return found


def _inits(init: Any, number: int) -> list[Any]:
    """Start of every prior's fit: of a fit of as many priors, the part that is its own."""
    if not isinstance(init, xr.DataTree):
        return [init] * number
    check_tree(init)
    trees = list(unstack_fit(init).values())
    return trees if len(trees) == number > 1 else [init] * number


def _digests(
    fit: Callable[..., Any], problem: Problem, options: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Digests of all that decides the fit of each part."""
    call = fingerprint.of_call(problem, {"fit": told(fit)})
    coords = {n: v for n, v in problem.coords.items() if getattr(v, "dims", ()) != ("prior",)}
    coords.pop("prior", None)
    common = [call.run, told(coords), told(problem.target_coords)]
    known = {"prior", "rng_key", "row_weights", "progress_bar"}
    digests = []
    for part, own in zip(call.parts, options, strict=True):
        others = {name: told(value) for name, value in own.items() if name not in known}
        text = json.dumps([*common, part, others])
        digests.append(hashlib.sha256(text.encode()).hexdigest()[:16])
    return digests
