"""Directions in which weights under a flat prior can go without end: linear algebra.

A linear model has no finite optimum if its likelihood rises without end along some direction, as
when classes are separated. It has more than one optimum if the likelihood stays constant along some
direction. Both are found without a search.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Design", "blind", "level", "rising"]

# For a direction with a largest component of 1, in units of each column's largest number: how far
# rows may be on its wrong side, and by how much one row must be on the right side.
_FEASIBLE, _RISES = 1e-9, 1e-6
# Rows per weight with which a linear programme begins, and which are added as long as one is
# violated; and the least number of such rows.
_ROWS_PER_WEIGHT, _ROWS_AT_ONCE = 5, 500
# With more weights, decompositions take too long for a check.
_MANY_WEIGHTS = 1000


class Design(NamedTuple):
    """A linear model's inputs, and the weights with a flat prior.

    Attributes
    ----------
    inputs : array of shape (rows, columns)
        Inputs that weights multiply.
    constraints : array of shape (rows, any, outputs)
        Conditions of each row on a direction of its outputs, as in a likelihood's `recession`.
    flat : boolean array of shape (columns, outputs)
        Weights that no prior holds.
    """

    inputs: np.ndarray
    constraints: np.ndarray
    flat: np.ndarray

    def scaled(self) -> "Design":
        """Scale the inputs so that the largest number of each column is 1."""
        size = np.abs(self.inputs).max(axis=0, initial=0.0)
        return self._replace(inputs=self.inputs / np.where(size > 0, size, 1.0))

    def centred(self) -> "Design":
        """Shift columns to a mean of 0, if a constant is free to absorb the change."""
        constant = (self.inputs == 1).all(axis=0)
        if not (self.flat & constant[:, None]).any(axis=0).all():
            return self
        z = self.inputs - self.inputs.mean(axis=0)
        rounding = np.finfo(float).eps * len(z) * np.abs(self.inputs).max(axis=0, initial=0.0)
        z = np.where(np.abs(z).max(axis=0, initial=0.0) > rounding, z, 0.0)
        return self._replace(inputs=np.where(constant, self.inputs, z))

    def along(self, direction: np.ndarray) -> np.ndarray:
        """Multiply the rows' constraints by a direction of the flat weights."""
        full = np.zeros(self.flat.shape)
        full[self.flat] = direction
        return np.einsum("nmk,nk->nm", self.constraints, self.inputs @ full)

    def matrix(self, rows: np.ndarray) -> np.ndarray:
        """Return the constraints that these rows put on the flat weights, one per row."""
        columns, outputs = np.nonzero(self.flat)
        asked = self.constraints[rows][:, :, outputs] * self.inputs[rows][:, None, columns]
        return asked.reshape(-1, len(columns))


def rising(design: Design) -> np.ndarray | None:
    """Find flat weights that the likelihood drives to infinity, by a linear programme.

    Returns
    -------
    boolean array of shape (columns, outputs), or None
        The weights of such a direction, as few as possible. None if there is none, as when the rows
        overlap.

    References
    ----------
    A. Albert and J. A. Anderson, On the existence of maximum likelihood estimates in logistic
    regression models, Biometrika 71, 1984. doi:10.1093/biomet/71.1.1

    K. Konis, Linear programming algorithms for detecting separated data in binary logistic
    regression models, University of Oxford, 2007.
    """
    design = design.centred().scaled()
    count = int(design.flat.sum())
    if not 0 < count <= _MANY_WEIGHTS:
        return None
    at_once = max(_ROWS_AT_ONCE, _ROWS_PER_WEIGHT * count)
    total = np.einsum("nc,nmk->ck", design.inputs, design.constraints)[design.flat] / len(
        design.inputs
    )
    rows = np.arange(min(at_once, len(design.inputs)))
    while True:
        asked = design.matrix(rows)
        asked = asked[asked.any(axis=1)]
        direction = _steepest(total, asked)
        reached = design.along(direction)
        if reached.max(initial=0.0) <= _RISES or total @ direction <= _FEASIBLE:
            return None  # rows that were left out only add constraints
        against = reached.min(axis=1, initial=0.0)
        if against.min() >= -10 * _FEASIBLE:
            break
        worst = np.argsort(against)[:at_once]
        added = np.setdiff1d(worst[against[worst] < 0], rows)
        if not added.size:
            return None
        rows = np.concatenate([rows, added])
    sparse = _sparsest(total, asked)
    found = np.zeros(design.flat.shape, bool)
    found[design.flat] = np.abs(direction if sparse is None else sparse) > _RISES
    return found


def _steepest(total: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Find the direction, with components up to 1, that meets all constraints by the most."""
    from scipy.optimize import linprog  # slow to import: only if it is needed

    found = linprog(
        -total,
        A_ub=-asked,
        b_ub=np.zeros(len(asked)),
        bounds=(-1, 1),
        options={"primal_feasibility_tolerance": _FEASIBLE},
    )
    return np.zeros(len(total)) if found.x is None else found.x


def _sparsest(total: np.ndarray, asked: np.ndarray) -> np.ndarray | None:
    """Find such a direction with the smallest sum of absolute components: few are not 0."""
    from scipy.optimize import linprog

    both = np.concatenate([total, -total])
    found = linprog(
        np.ones(len(both)),
        A_ub=-np.concatenate([asked, -asked], axis=1),
        b_ub=np.zeros(len(asked)),
        A_eq=both[None, :],
        b_eq=[1.0],
        options={"primal_feasibility_tolerance": _FEASIBLE},
    )
    if found.x is None:
        return None
    direction = np.subtract(*np.split(found.x, 2))
    return direction / np.abs(direction).max()


def level(design: Design) -> np.ndarray | None:
    """Find flat weights that can go to infinity together and change no row's density.

    Returns
    -------
    boolean array of shape (columns, outputs), or None
        The weights of such a direction; None if there is none.
    """
    from scipy.linalg import qr, solve_triangular

    design = design.scaled()
    count = int(design.flat.sum())
    if not 0 < count <= _MANY_WEIGHTS:
        return None
    if not design.inputs.any():  # or there are no rows
        return design.flat
    # The triangular factor, with as many rows as columns, holds all that the rows say about the
    # outputs.
    inputs = np.linalg.qr(design.inputs, mode="r")
    columns, outputs = np.nonzero(design.flat)
    seen = _seen(design.constraints)
    matrix = (inputs[:, None, columns] * seen[None, :, outputs]).reshape(-1, count)
    triangle, order = qr(matrix, mode="r", pivoting=True)
    sizes = np.abs(np.diagonal(triangle))
    rank = int((sizes > max(matrix.shape) * np.finfo(float).eps * sizes[0]).sum())
    if rank == count:
        return None
    parts = solve_triangular(triangle[:rank, :rank], triangle[:rank, rank])
    moved = np.zeros(count, bool)
    moved[order[:rank]] = np.abs(parts) > _RISES
    moved[order[rank]] = True
    found = np.zeros(design.flat.shape, bool)
    found[design.flat] = moved
    return found


def blind(constraints: np.ndarray) -> bool:
    """Tell if some direction of the outputs changes no row's density, for any inputs."""
    return len(_seen(constraints)) < constraints.shape[2]


def _seen(constraints: np.ndarray) -> np.ndarray:
    """Return the directions of the outputs that change the density of some row."""
    values, vectors = np.linalg.eigh(np.einsum("nmk,nml->kl", constraints, constraints))
    return vectors[:, values > 1e-9 * max(values.max(), 1e-300)].T
