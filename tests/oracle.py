"""Closed forms of the linear-Gaussian model, in float64 numpy: what every method has to meet.

The model is ``y = X w + b + noise * eps`` with a known noise sd and independent priors
``N(loc, scale^2)`` on every weight and on the bias. Parameters are ordered as the columns of
``X``, then the bias.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats
from scipy.linalg import solve_triangular


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """The exact answers for one data set under one prior.

    Parameters
    ----------
    x, y : array_like
        Inputs ``(rows, features)`` and targets ``(rows,)``. No rows give the prior back.
    noise : float
        Known standard deviation of the noise.
    loc, scale : array_like
        Centre and standard deviation of the prior, broadcast to ``features + 1``; an infinite
        scale is a flat prior (density factor 1), allowed where the posterior is proper.
    """

    x: np.ndarray
    y: np.ndarray
    noise: float
    loc: np.ndarray
    scale: np.ndarray

    def __post_init__(self):
        x, y = np.asarray(self.x, dtype=np.float64), np.asarray(self.y, dtype=np.float64)
        if x.ndim != 2 or y.shape != x.shape[:1]:
            raise ValueError(f"expected x (rows, features) and y (rows,), got {x.shape}, {y.shape}")
        size = x.shape[1] + 1
        loc = np.broadcast_to(np.asarray(self.loc, dtype=np.float64), size)
        scale = np.broadcast_to(np.asarray(self.scale, dtype=np.float64), size)
        if not np.all(np.isfinite(loc)):
            raise ValueError("loc must be finite")
        if not np.all(scale > 0):
            raise ValueError("scale must be positive (inf for a flat prior)")
        if not 0 < self.noise < np.inf:
            raise ValueError("noise must be positive and finite")
        for name, value in {"x": x, "y": y, "loc": loc, "scale": scale}.items():
            object.__setattr__(self, name, value)

    @cached_property
    def _root(self):
        # Upper triangular R with R'R the posterior precision, by QR of the stacked design: the
        # condition number is not squared, as it would be by forming the precision.
        rows = np.vstack([design(self.x) / self.noise, np.diag(1 / self.scale)])
        if np.linalg.matrix_rank(rows) < rows.shape[1]:
            raise ValueError("the posterior is improper: the data do not fix the flat parameters")
        return np.linalg.qr(rows, mode="r")

    @cached_property
    def covariance(self):
        """Posterior covariance, (1/S + D'D / noise^2)^-1, with D = [X, 1] (Bishop 2006, 3.51)."""
        inverse = solve_triangular(self._root, np.eye(self._root.shape[0]))
        return inverse @ inverse.T

    @cached_property
    def mean(self):
        """Posterior mean, ``loc + covariance D'(y - D loc) / noise^2`` (Bishop 2006, eq. 3.50)."""
        d = design(self.x)
        score = d.T @ (self.y - d @ self.loc) / self.noise**2
        half = solve_triangular(self._root, score, trans="T")
        return self.loc + solve_triangular(self._root, half)

    @property
    def map(self):
        """Posterior mode: the mean, since the posterior is Gaussian."""
        return self.mean

    @property
    def sd(self):
        """Posterior standard deviation of every parameter."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def log_evidence(self):
        """Log of p(y), by p(y | w) p(w) / p(w | y) at the mean (Besag 1989)."""
        if np.any(np.isinf(self.scale)):
            raise ValueError("the evidence of a flat prior is not defined")
        log_posterior = np.sum(np.log(np.abs(np.diag(self._root))) - np.log(2 * np.pi) / 2)
        return float(
            self.log_likelihood(self.mean).sum() + self.log_prior(self.mean) - log_posterior
        )

    @cached_property
    def leverage(self):
        """Diagonal of the hat matrix ``D covariance D' / noise^2``."""
        half = solve_triangular(self._root, design(self.x).T, trans="T")
        return np.sum(half**2, axis=0) / self.noise**2

    @property
    def effective_parameters(self):
        """Trace of the hat matrix, MacKay's gamma (MacKay 1992)."""
        return float(self.leverage.sum())

    @property
    def loo(self):
        """Log density of every row given all others.

        Row i without itself is predicted by ``N(y_i - r_i / (1 - h_i), noise^2 / (1 - h_i))``, r
        the residuals at the mean and h the leverages (Vehtari, Gelman and Gabry 2017; for a flat
        prior it is the PRESS residual of Allen 1974).
        """
        left = 1 - self.leverage
        if np.any(left <= 4 * np.finfo(np.float64).eps * self.loc.size):
            raise ValueError("leaving out a row makes the posterior improper")
        residual = self.y - design(self.x) @ self.mean
        return stats.norm.logpdf(residual / left, scale=self.noise / np.sqrt(left))

    def predictive_mean(self, x):
        """Mean of the prediction at new inputs ``(rows, features)``."""
        return design(x) @ self.mean

    def predictive_sd(self, x, *, with_noise=True):
        """Standard deviation at new inputs, of y or of the function (Bishop 2006, eq. 3.59)."""
        half = solve_triangular(self._root, design(x).T, trans="T")
        return np.sqrt(np.sum(half**2, axis=0) + with_noise * self.noise**2)

    def log_predictive(self, x, y):
        """Log density of every new target, one by one."""
        return stats.norm.logpdf(y, self.predictive_mean(x), self.predictive_sd(x))

    def log_likelihood(self, params):
        """Log likelihood of every row, for parameters ``(..., features + 1)``."""
        fitted = np.asarray(params, dtype=np.float64) @ design(self.x).T
        return stats.norm.logpdf(self.y, fitted, self.noise)

    def log_prior(self, params):
        """Log prior density, summed over parameters; a flat one contributes nothing."""
        known = np.isfinite(self.scale)
        params = np.asarray(params, dtype=np.float64)[..., known]
        return stats.norm.logpdf(params, self.loc[known], self.scale[known]).sum(axis=-1)


def design(x):
    """``x`` with a column of ones for the bias."""
    x = np.asarray(x, dtype=np.float64)
    return np.hstack([x, np.ones((x.shape[0], 1))])


def to_sites(params):
    """Parameters ``(..., features + 1)`` by the site names of a network without hidden layers."""
    params = np.asarray(params)
    return {"output.weight": params[..., :-1, None], "output.bias": params[..., -1:]}


def from_sites(sites):
    """The inverse of `to_sites`, for any leading dimensions such as chain and draw."""
    weight, bias = np.asarray(sites["output.weight"]), np.asarray(sites["output.bias"])
    return np.concatenate([weight[..., 0], bias], axis=-1)
