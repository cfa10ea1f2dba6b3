"""Common base of the two estimators: parameters, choice of a prior, and the fit."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

import weightprior as wp
from weightprior import _checks
from weightprior.evaluation._metrics import log_predictive_density
from weightprior.fits.layout import row_coords
from weightprior.fits.reading import Part, parts_of
from weightprior.model.adapters import reference_weights
from weightprior.sklearn._padding import Padded, padded, size_for
from weightprior.sklearn._selection import CRITERIA, selection
from weightprior.sklearn._standardization import Standardization, moved

__all__ = ["BayesianMLP"]


class _Method(NamedTuple):
    """Facts about a fit function that the estimators need.

    Attributes
    ----------
    at_optimum : bool
        True if it rests on joint optima of all unknowns, noise included.
    tells_evidence : bool
        True if it estimates the evidence; for others Laplace's approximation does.
    """

    at_optimum: bool
    tells_evidence: bool


METHODS = {
    "map": _Method(at_optimum=True, tells_evidence=False),
    "mcmc": _Method(at_optimum=False, tells_evidence=False),
    "laplace": _Method(at_optimum=True, tells_evidence=True),
    "vi": _Method(at_optimum=False, tells_evidence=True),
    "tempered": _Method(at_optimum=False, tells_evidence=True),
    "ensemble": _Method(at_optimum=True, tells_evidence=False),
}
SCALES = (0.3, 0.6, 1.2, 2.4, 4.8)
# Options of fit functions that the estimators set themselves.
_GIVEN = {"prior": "loc and scale", "rng_key": "random_state", "row_weights": "sample_weight"}
# Numbers of a prediction held at once.
_NUMBERS_AT_ONCE = 2**22


class BayesianMLP(BaseEstimator):
    """Perceptron under a Gaussian prior with a given or chosen scale."""

    # The scales to choose from if the fit rests on an optimum.
    scales_of_optima: ClassVar[tuple[float, ...]] = SCALES
    hidden_layer_sizes: Any
    activation: Any
    loc: Any
    scale: Any
    method: Any
    select: Any
    standardize: Any
    random_state: Any
    fit_options: Any

    bnn_: wp.BNN
    prior_: wp.NormalPrior
    fit_: xr.DataTree
    scale_: float
    selection_: xr.Dataset
    standardization_: Standardization
    n_features_in_: int

    def _fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        likelihood: wp.Likelihood,
        num_outputs: int,
        *,
        frame: Any,
        sample_weight: Any,
        target_names: Sequence[Any] | None = None,
    ) -> Self:
        """Choose a scale, and fit; `X` and `y` are checked, `frame` is X as it was passed."""
        row_weights = _counts(sample_weight, X)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        none = Standardization.none(X.shape[1], likelihood.num_targets(num_outputs))
        moves = _in_units(likelihood, none, num_outputs) is not None
        units = none
        if self.standardize:
            units = Standardization.of(X, y if moves else None, row_weights)
        likelihood = _in_units(likelihood, units, num_outputs) or likelihood
        self.bnn_ = self._model(X.shape[1], likelihood, num_outputs)
        data = Padded.of(units.inputs(X), units.targets(y) if moves else y, row_weights)
        if target_names is not None:
            data = data._replace(y=pd.DataFrame(data.y, columns=target_names))
        self.standardization_ = units
        self.prior_ = self._chosen(self._priors(units), data, seed)
        found = self._fit_function(seed)(
            self.bnn_, data.x, data.y, prior=self.prior_, row_weights=data.row_weights
        )
        self.fit_ = data.without_padding(found, row_coords(frame), sample_weight is not None)
        units.write_into(self.fit_)
        return self

    def _model(self, num_features: int, likelihood: wp.Likelihood, num_outputs: int) -> wp.BNN:
        """Return the model, with the names of a data frame's columns."""
        names = getattr(self, "feature_names_in_", None)
        features = num_features if names is None else [str(name) for name in names]
        hidden = self.hidden_layer_sizes
        widths = (int(hidden),) if isinstance(hidden, Integral) else hidden
        network: Any = wp.mlp(features, widths, num_outputs, self.activation)
        return wp.BNN(network, likelihood)

    def _chosen(
        self, priors: Mapping[float, wp.NormalPrior], data: Padded, seed: int
    ) -> wp.NormalPrior:
        """Return the prior with the given scale, or with the one chosen among several."""
        self.scale_ = next(iter(priors))
        if len(priors) == 1:
            if hasattr(self, "selection_"):  # of an earlier fit
                del self.selection_
            return priors[self.scale_]
        found = self._selection(data, wp.stack_priors(priors), seed)
        for total in {"elpd", "log_evidence"} & {*found}:
            found[total] -= data.row_weights.sum() * self.standardization_.log_unit
        self.selection_, self.scale_ = found, float(found["chosen"])
        return priors[self.scale_]

    def _priors(self, units: Standardization) -> dict[float, wp.NormalPrior]:
        """Return the priors to choose from, by scale."""
        loc = self._center(units)
        fan_in = wp.fan_in_scale(self.bnn_)

        def prior(scale: float) -> wp.NormalPrior:
            widths = {name: scale * values for name, values in fan_in.items()}
            return wp.normal_prior(self.bnn_, loc, widths)

        return {scale: prior(scale) for scale in self._scales()}

    def _scales(self) -> list[float]:
        """Return the scales to choose from."""
        _checks.one_of("method", self.method, METHODS)
        default = self.scales_of_optima if METHODS[self.method].at_optimum else SCALES
        scale = default if self.scale is None else self.scale
        given = (scale,) if np.ndim(scale) == 0 else tuple(scale)
        if not given:
            raise ValueError("scale: expected a number, or several to choose among; got none.")
        found = [_checks.number("scale", value, above=0) for value in given]
        if len({*found}) < len(found):
            raise ValueError(f"scale: expected every scale once; got {found}.")
        return found

    def _center(self, units: Standardization) -> Any:
        """Return the centre for standardised rows; convert a network for other rows."""
        loc = self.loc
        numbers = loc.values() if isinstance(loc, Mapping) else [loc]
        if all(isinstance(number, Real) for number in numbers):
            return loc  # by layer or kind, and for standardised rows
        before = getattr(loc, "standardization_", Standardization.written_in(loc))
        if before is None:
            before = Standardization.none(len(units.x_mean), len(units.y_mean))
        self._check_classes(loc)
        weights = reference_weights(self.bnn_, getattr(loc, "fit_", loc), argument="loc")
        if len(before.y_mean) != len(units.y_mean):
            raise ValueError(
                f"loc: expected a network for {len(units.y_mean)} targets; got one for "
                f"{len(before.y_mean)}."
            )
        return moved(self.bnn_, weights, before, units)

    def _check_classes(self, loc: Any) -> None:
        """Raise if a centre is a network for other classes."""

    def _selection(self, data: Padded, prior: wp.NormalPrior, seed: int) -> xr.Dataset:
        _checks.one_of("select", self.select, CRITERIA)
        fit = self._fit_function(seed)
        tells = METHODS[self.method].tells_evidence
        evidence_fit = fit if tells else partial(wp.fit_laplace, rng_key=seed, progress_bar=False)
        return selection(self.select, self.bnn_, data, prior, fit, evidence_fit, seed)

    def _fit_function(self, seed: int) -> Callable[..., xr.DataTree]:
        """Return the fit function with its options."""
        options = {} if self.fit_options is None else dict(self.fit_options)
        for name in _GIVEN.keys() & options:
            raise ValueError(
                f"fit_options: expected none of {_checks.several(_GIVEN)}; got {name!r}. "
                f"It is given by {_GIVEN[name]}."
            )
        function = getattr(wp, f"fit_{self.method}")
        return partial(function, rng_key=seed, **{"progress_bar": False, **options})

    def _inputs(self, X: Any) -> np.ndarray:
        """Return inputs of a prediction, checked and standardised."""
        check_is_fitted(self)
        checked = validate_data(self, X, reset=False, dtype=np.float64)
        return self.standardization_.inputs(checked)

    @property
    def _part(self) -> Part:
        [part] = parts_of(self.bnn_, self.fit_)
        return part

    def _by_blocks(self, function: Callable[..., np.ndarray], *rows: np.ndarray) -> np.ndarray:
        """Call a function of rows block by block, each of a size that has been compiled."""
        draws = self.fit_["posterior"].sizes["chain"] * self.fit_["posterior"].sizes["draw"]
        block = max(1, _NUMBERS_AT_ONCE // (draws * self.bnn_.network.num_outputs))
        block = size_for(block + 1) // 2
        pieces = []
        for start in range(0, len(rows[0]), block):
            chosen = [values[start : start + block] for values in rows]
            pieces.append(function(*map(padded, chosen))[: len(chosen[0])])
        return np.concatenate(pieces)

    def _mean(self, x: np.ndarray) -> np.ndarray:
        """Compute the mean over draws of E[y | weights, x], for standardised inputs."""

        def mean(block: np.ndarray) -> np.ndarray:
            drawn = wp.predict(self.bnn_, self.fit_, block)["mean"]
            return drawn.mean(("chain", "draw")).to_numpy()

        return self._by_blocks(mean, x)

    def log_density(self, X: Any, y: Any) -> np.ndarray:
        """Compute the log predictive density of every row, in nats.

        Parameters
        ----------
        X : array or data frame of shape (rows, features)
            Inputs.
        y : array of shape (rows,) or (rows, targets)
            Targets.

        Returns
        -------
        array of shape (rows,)
            Log of the mean over draws of the density of a row, in units of y; for classes and
            counts, of its probability.
        """
        x = self._inputs(X)
        targets = self._targets(y, len(x))
        part = self._part
        found = self._by_blocks(
            partial(log_predictive_density, part.model, part.weights), x, targets
        )
        return found - self.standardization_.log_unit

    def _targets(self, y: Any, number: int) -> np.ndarray:
        """Return targets as in the model, standardised if the model's are."""
        raise NotImplementedError

    def __sklearn_clone__(self) -> Self:
        """Copy the parameters; a trained network as the centre is not cloned."""
        copied = super().__sklearn_clone__()
        copied.loc = self.loc
        return copied


def _counts(sample_weight: Any, X: np.ndarray) -> np.ndarray:
    """Return the number of times each row counts."""
    row_weights = np.asarray(_check_sample_weight(sample_weight, X, dtype=np.float64))
    if row_weights.min() < 0:
        raise ValueError(
            f"sample_weight: expected numbers of at least 0; got {row_weights.min():g}."
        )
    return row_weights


def _in_units(
    likelihood: wp.Likelihood, units: Standardization, num_outputs: int
) -> wp.Likelihood | None:
    """Return the likelihood of standardised targets; None if they are not standardised."""
    factor = 1.0 / units.y_scale
    told = likelihood.restated(-units.y_mean * factor, factor, num_outputs)
    return None if told is None else told.likelihood
