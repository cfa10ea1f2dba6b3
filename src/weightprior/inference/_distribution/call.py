"""A call of a fit function, split into parts that can be fitted anywhere."""

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
    """A fit function and a model, pickled. Workers compile once for each.

    Attributes
    ----------
    digest : str
        Digest by which a worker recognises them.
    pickled : bytes
        Function and model.
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
        Label of the prior; None if it is the only one.
    name : str
        A text for file names; parts that do the same have the same name.
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
        Name of the function, with which its warnings begin.
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
        """Check the arguments of a call, and split it into parts.

        Raises
        ------
        ValueError, TypeError
            As by the fit function for data and a prior, and if the user passed a `checkpoint`.
        """
        if options.get("checkpoint") is not None:
            raise ValueError(
                "checkpoint: expected None with distribute, since each part is a run of its own. "
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
        """Join the fits of the parts, which took `seconds`."""
        stacked = self.prior.labels is not None
        tree = join(fits, prior_coords(self.prior), self.apart) if stacked else fits[0]
        tree.attrs["seconds"] = max(seconds, tree.attrs["seconds"])
        return tree


def name_of(fit: Any) -> str:
    """Return the name of a function, or of the class of a callable object."""
    return getattr(fit, "__name__", type(fit).__name__)


def _problem(
    bnn: BNN, x: Any, y: Any, options: Mapping[str, Any], names: Mapping[str, inspect.Parameter]
) -> Problem:
    """Check the data here, before anything is sent."""
    given = {"rng_key": 0, "row_weights": None}
    for name in given:
        usual = names[name].default if name in names else inspect.Parameter.empty
        if usual is not inspect.Parameter.empty:
            given[name] = usual
    given |= {name: options[name] for name in given if name in options}
    with _checks.held_warnings():  # the parts give the same warnings
        return Problem.checked(bnn, x, y, prior=options.get("prior"), learned=True, **given)


def _options(
    options: Mapping[str, Any], problem: Problem, names: Mapping[str, inspect.Parameter]
) -> list[dict[str, Any]]:
    """Return the options of the call for every prior."""
    common = dict(options)
    if "rng_key" in options:  # keys cannot be pickled, but their words can
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
    """Return the start of every prior's fit: its own part if `init` has as many priors."""
    if not isinstance(init, xr.DataTree):
        return [init] * number
    check_tree(init)
    trees = list(unstack_fit(init).values())
    return trees if len(trees) == number > 1 else [init] * number


def _digests(
    fit: Callable[..., Any], problem: Problem, options: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Compute digests of all that decides the fit of each part."""
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
