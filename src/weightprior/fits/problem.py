"""The problem to fit: checked once, at the start of every fit function, and never again."""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from weightprior import _arrays, _checks, _data
from weightprior._data import column_names
from weightprior.fits.layout import named_outputs, prior_coords, row_coords
from weightprior.fits.scales import scale_doubt
from weightprior.fits.task import Task
from weightprior.model.bnn import BNN
from weightprior.model.devices import collected, devices_of, rows_on
from weightprior.model.network import check_inputs, input_columns
from weightprior.model.priors.base import Prior

__all__ = ["Problem", "fit_coords", "target_coords", "under"]

# Coordinates that have a value for each row.
_OF_ROWS = ("obs_id", "row")


@dataclass(frozen=True)
class Problem:
    """A model, its data and its prior, checked. Made by `Problem.checked`.

    Attributes
    ----------
    bnn : BNN
        The model.
    x, y : array
        Inputs and targets, in double precision. If the table stays on a disk, `x` is its reader.
    prior : Prior
        A single or a stacked prior.
    row_weights : array or None
        Number of times each row counts, (rows,) or (priors, rows); None if that was not said.
    key : JAX key
        Source of all random numbers.
    coords : dict
        Coordinates of a fit: names of columns and outputs, the rows' index, the priors' labels.
    target_coords : dict
        Coordinates of the targets, with their own names along `output`.
    digest : str
        Digest of a table that stays on a disk; empty for one in memory.
    devices : tuple of jax.Device
        Devices among which the rows are divided; empty if they are all in one place.
    """

    bnn: BNN
    x: Any
    y: np.ndarray
    prior: Prior
    row_weights: np.ndarray | None
    key: jax.Array
    coords: dict[Any, Any]
    target_coords: dict[Any, Any]
    digest: str = ""
    devices: tuple[Any, ...] = ()

    @classmethod
    def checked(
        cls,
        bnn: Any,
        x: Any,
        y: Any,
        *,
        prior: Any,
        rng_key: Any = 0,
        row_weights: Any = None,
        learned: bool = False,
        proper: str = "",
        by_blocks: bool = False,
    ) -> Self:
        """Check what a user passed to a fit function, or raise.

        Parameters
        ----------
        bnn, x, y, prior, rng_key, row_weights
            Arguments of a fit function.
        learned : bool
            True if a prior may have hyperparameters.
        proper : str
            Reason why the prior must not be flat anywhere; empty if it may be.
        by_blocks : bool
            True if a table may stay on a disk.
        """
        _checks.model(bnn)
        devices, x, y = devices_of("x", x), collected(x), collected(y)
        on_disk = by_blocks and _data.is_stored(x)
        inputs: Any = (_data.readable if on_disk else _data.inputs)(x, bnn.network.feature_names)
        targets = _data.targets(bnn, x, y)
        reason = getattr(prior, "no_joint_mode", "")
        if reason and not learned:
            raise TypeError(
                "prior: expected a NormalPrior; got one with learned centres and scales. " + reason
            )
        _checks.prior(bnn, prior, learned=learned, proper=proper)
        check, digest = partial(check_inputs, bnn.network), ""
        if on_disk:
            digest = inputs.read_once(check)
        else:
            check(inputs)
        key = _checks.random_key(rng_key)
        counts = None
        if row_weights is not None:
            num_sets = None if prior.labels is None else len(prior.labels)
            counts = _data.row_weights(collected(row_weights), x, num_sets)
        coords = fit_coords(bnn, x, y, prior), target_coords(bnn, x, y, prior)
        of_data = counts, key, *coords, digest, devices
        problem = cls(bnn, inputs, targets, _arrays.own(prior), *of_data)
        if problem.doubt:
            _checks.warn(problem.doubt)
        return problem

    @cached_property
    def doubt(self) -> str:
        """Message that the data are far from the scale of the prior; empty if they are not."""
        seen = self.seen
        counts = np.any(seen._sets > 0, axis=0)
        columns = self.coords["column"]
        x, y = (_data.select_rows(values, counts) for values in (seen.x, seen.y))
        return scale_doubt(self.bnn, x, y, self.prior, columns)

    @cached_property
    def seen(self) -> "Problem":
        """The problem as far as its rows are read into memory: a sample for a table on a disk."""
        if not self.digest:
            return self
        rows = self.x.spread()
        along = {name: self.coords[name][rows] for name in _OF_ROWS if name in self.coords}
        return replace(
            self,
            x=self.x[rows],
            y=self.y[rows],
            row_weights=None if self.row_weights is None else self.row_weights[..., rows],
            coords=self.coords | along,
            target_coords=self.target_coords | along,
            digest="",
        )

    @property
    def data(self) -> tuple[BNN, Any, Any]:
        """Model, inputs and targets: all that tasks have in common.

        Rows that are divided among devices are placed there, in JAX's precision.
        """
        if not self.devices:
            return self.bnn, *self.rows
        # Cast here, since a placed array keeps its dtype.
        rows = [np.asarray(array, jnp.result_type(float)) for array in self.rows]
        return self.bnn, *jax.device_put(rows, rows_on(self.devices))

    @property
    def rows(self) -> tuple[Any, np.ndarray]:
        """Inputs and targets in double precision.

        A row that counts in no task gets the target of one that does. If a density overflows, its
        gradient is NaN, even if it is multiplied by 0.
        """
        counts = np.any(self._sets > 0, axis=0)
        if counts.all():
            return self.x, self.y
        return self.x, self.y[np.where(counts, np.arange(len(counts)), counts.argmax())]

    @property
    def seed(self) -> tuple[int, ...]:
        """Words of the key, for NumPy's generators, which compile nothing."""
        return tuple(np.asarray(jax.random.key_data(self.key)).ravel().tolist())

    @property
    def labels(self) -> tuple[Any, ...]:
        """Labels of the priors; None for a single one."""
        return self.prior.labels or (None,)

    @property
    def tasks(self) -> list[Task]:
        """Every single prior with its row weights: one set for all, or one for each."""
        return [Task(*task) for task in zip(self.prior.singles(), self._sets, strict=True)]

    @property
    def _sets(self) -> np.ndarray:
        """Row weights of every task, of shape (priors, rows)."""
        counts = np.ones(1) if self.row_weights is None else self.row_weights
        return np.broadcast_to(counts, (len(self.labels), len(self.x)))


def fit_coords(bnn: BNN, x: Any, y: Any, prior: Prior) -> dict[Any, Any]:
    """Return a fit's coordinates that are not simply counted, from data as a user passed them."""
    columns = list(column_names(x) or bnn.network.feature_names)
    inputs = [columns[i] for i in input_columns(bnn.network)]
    coords = {"feature": inputs, "column": columns, **row_coords(x), **prior_coords(prior)}
    names = bnn.likelihood.output_names(column_names(y), bnn.network.num_outputs)
    return named_outputs(coords, names)


def target_coords(bnn: BNN, x: Any, y: Any, prior: Prior) -> dict[Any, Any]:
    """Return the coordinates of targets and predictions: the fit's, with the targets' names."""
    columns, likelihood = column_names(y), bnn.likelihood
    names = likelihood.target_names(columns, bnn.network.num_outputs)
    coords = named_outputs(fit_coords(bnn, x, y, prior), names)
    if likelihood.columns:
        coords["outcome"] = list(columns or likelihood.columns)
    return coords


def under(label: Any) -> str:
    """Name one prior of a stack in a message; empty without a label."""
    return "" if label is None else f" under prior {label!r}"
