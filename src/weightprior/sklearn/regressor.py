"""Estimator for real targets and counts."""

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_array, check_consistent_length, validate_data

import weightprior as wp
from weightprior import _checks, _data
from weightprior.evaluation._quantiles import samples
from weightprior.sklearn._base import BayesianMLP
from weightprior.sklearn._likelihoods import likelihood_of, outputs_for

__all__ = ["BayesianMLPRegressor"]


class BayesianMLPRegressor(RegressorMixin, BayesianMLP):
    """Perceptron for real targets or counts, under a Gaussian prior with a chosen scale.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int
        Units of each hidden layer; empty for a linear model.
    activation : str, callable, or a sequence of them
        Activations of the hidden layers, as in `weightprior.mlp`.
    loc : float, dict, or trained network
        Centre of the prior: a number or a dict by layer or kind, as in `weightprior.normal_prior`;
        or a network for X and y as they are passed to `fit`: weights by site, a fitted
        ``MLPRegressor``, a module, a state dict. A fitted estimator of this class, or its `fit_`,
        has its own standardisation, which is used. A network is converted to the standardisation
        of this estimator, with the same predictions.
    scale : float, sequence of float, or None
        Scale of the prior, a factor on `weightprior.fan_in_scale`. A number is used as it is. Among
        several, `select` chooses one. None: 0.3, 0.6, 1.2, 2.4 and 4.8; for optima (``"map"``,
        ``"laplace"``, ``"ensemble"``) 0.3, 0.42, 0.6, 0.85 and 1.2.
    likelihood : str or Likelihood
        ``"gaussian"``, ``"student_t"`` (for outliers), ``"heteroscedastic"`` (noise that depends
        on X), ``"poisson"``, ``"negative_binomial"``, or a likelihood of `weightprior`. A known
        noise is in units of y.
    method : str
        ``"map"``, ``"mcmc"``, ``"laplace"``, ``"vi"``, ``"tempered"`` or ``"ensemble"``: the fit
        function.
    select : str
        ``"cv"``: the scale that predicts best in five folds; ``"one_se"``: the smallest scale that
        falls short of it by no more than one standard error; ``"evidence"``: the scale with the
        largest evidence (estimated by the method itself, else by Laplace's approximation).
    standardize : bool
        True if the prior is for standardised X and y (counts stay as they are).
    random_state : int, RandomState or None
        Decides folds, starts and draws. None: a new seed at every call.
    fit_options : dict, optional
        Options of the fit function, such as ``{"num_restarts": 4}``.

    Attributes
    ----------
    bnn_ : BNN
        The model of standardised rows.
    prior_ : NormalPrior
        The prior of the model.
    fit_ : DataTree
        The fit, of standardised rows.
    scale_ : float
        The scale that was given, or chosen.
    selection_ : Dataset
        If there are several scales: the scores of each, in units of y, with the errors of their
        differences, and the one that was `chosen`. Absent if a single scale was given.
    standardization_ : Standardization
        Means and standard deviations of the standardisation.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : array of str
        Names of the columns, if they are text.

    See Also
    --------
    BayesianMLPClassifier : The same for classes.

    Notes
    -----
    Rows are padded with rows of weight 0: to a power of two, or, for many rows, also to three
    quarters of one. So new numbers of rows compile nothing, and the fit is the same as without
    padding.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> from weightprior.sklearn import BayesianMLPRegressor
    >>> X = np.linspace(-1, 1, 30)[:, None]
    >>> y = 100 + 20 * np.sin(3 * X[:, 0])
    >>> model = BayesianMLPRegressor((8,), scale=1.0, likelihood=wp.Gaussian(2.0), random_state=0)
    >>> model.fit(X, y).predict([[0.5]]).round(-1)
    array([120.])
    >>> mean, sd = model.predict([[0.5]], return_std=True)
    >>> sd.round(3)
    array([2.])
    """

    # The scales at which optima are best on UCI data: a noise that is learned with the weights goes
    # to zero under scales that are twice too large.
    scales_of_optima: ClassVar[tuple[float, ...]] = (0.3, 0.42, 0.6, 0.85, 1.2)

    def __init__(
        self,
        hidden_layer_sizes: Any = (32,),
        activation: Any = "tanh",
        *,
        loc: Any = 0.0,
        scale: Any = None,
        likelihood: Any = "gaussian",
        method: str = "map",
        select: str = "cv",
        standardize: bool = True,
        random_state: Any = None,
        fit_options: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.loc = loc
        self.scale = scale
        self.likelihood = likelihood
        self.method = method
        self.select = select
        self.standardize = standardize
        self.random_state = random_state
        self.fit_options = fit_options

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Choose a scale if several are given, and fit.

        Parameters
        ----------
        X : array or data frame of shape (rows, features)
            Inputs.
        y : array or data frame of shape (rows,) or (rows, targets)
            Targets.
        sample_weight : array of shape (rows,), optional
            Number of times each row counts: a row of weight 2 is two copies of the row.

        Returns
        -------
        BayesianMLPRegressor
            This estimator.
        """
        names = _data.column_names(y)
        checked, targets = validate_data(
            self, X, y, multi_output=True, y_numeric=True, dtype=np.float64
        )
        targets = self._flat(targets, warn=True).astype(np.float64)
        likelihood = likelihood_of(self.likelihood)
        number = 1 if targets.ndim == 1 else targets.shape[1]
        return self._fit(
            checked,
            targets,
            likelihood,
            outputs_for(likelihood, number),
            frame=X,
            sample_weight=sample_weight,
            target_names=names if number > 1 else None,
        )

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the mean of the targets.

        Parameters
        ----------
        X : array or data frame of shape (rows, features)
            Inputs.
        return_std : bool
            If true, return the standard deviation of a new target as well: that of the noise and
            the uncertainty of the network together. With ``method="map"``, which has one network,
            that of the noise alone.

        Returns
        -------
        mean, or (mean, std) : arrays of shape (rows,) or (rows, targets)
        """
        x = self._inputs(X)
        mean = self.standardization_.locations(self._mean(x))
        if not return_std:
            return mean
        spread = self._by_blocks(lambda block: self._summed_up(block, [0.5])["sd"].to_numpy(), x)
        return mean, self.standardization_.distances(spread)

    def predict_quantiles(self, X: Any, q: Any) -> np.ndarray:
        """Predict quantiles of new targets, noise included.

        Parameters
        ----------
        X : array or data frame of shape (rows, features)
            Inputs.
        q : float or sequence of float
            Levels, between 0 and 1.

        Returns
        -------
        array of shape (rows,) or (rows, targets)
            With several levels, one more axis, the last one. Quantiles are estimated from at least
            4,000 targets drawn per row.
        """
        x = self._inputs(X)
        levels = [_checks.number("q", level, above=0, below=1) for level in np.ravel(q).tolist()]

        def quantiles(block: np.ndarray) -> np.ndarray:
            return self._summed_up(block, levels)["quantiles"].to_numpy()

        found = self.standardization_.locations(self._by_blocks(quantiles, x), self._target_axis)
        return found if np.ndim(q) else found[..., 0]

    def predict_interval(self, X: Any, level: float = 0.9) -> np.ndarray:
        """Predict central intervals of new targets, noise included.

        Parameters
        ----------
        X : array or data frame of shape (rows, features)
            Inputs.
        level : float
            Probability of an interval, between 0 and 1.

        Returns
        -------
        array of shape (rows, 2) or (rows, targets, 2)
            The lower and the upper end.
        """
        level = _checks.number("level", level, above=0, below=1)
        return self.predict_quantiles(X, ((1 - level) / 2, (1 + level) / 2))

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """Draw new targets; those of one sample share a network.

        Parameters
        ----------
        X : array or data frame of shape (rows, features)
            Inputs.
        n_samples : int
            Number of samples.
        random_state : int, RandomState or None
            Decides the samples.

        Returns
        -------
        array of shape (rows, samples) or (rows, targets, samples)
        """
        x, number = self._inputs(X), _checks.integer("n_samples", n_samples, 1)
        rng = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
        part = self._part
        total = part.weights.num_chains * part.weights.num_draws
        chosen = rng.choice(total, size=number, replace=number > total)

        def draw(block: np.ndarray) -> np.ndarray:
            key = _checks.random_key(int(rng.integers(2**31)))
            return np.moveaxis(samples(part, block, key, chosen), 0, -1)

        return self.standardization_.locations(self._by_blocks(draw, x), self._target_axis)

    @property
    def _target_axis(self) -> int:
        """Axis of targets in an array with one more axis after it."""
        return -2

    def _summed_up(self, x: np.ndarray, levels: Any) -> Any:
        return wp.predict(self.bnn_, self.fit_, x, quantiles=levels)

    def _targets(self, y: Any, number: int) -> np.ndarray:
        targets = self._flat(check_array(y, ensure_2d=False, dtype=np.float64), warn=False)
        check_consistent_length(np.empty(number), targets)
        network, likelihood = self.bnn_.network, self.bnn_.likelihood
        return likelihood.check_target(
            self.standardization_.targets(targets), number, network.num_outputs
        )

    @staticmethod
    def _flat(y: np.ndarray, warn: bool) -> np.ndarray:
        """Return a single column as a vector, with scikit-learn's warning if `warn`."""
        return column_or_1d(y, warn=warn) if y.ndim == 2 and y.shape[1] == 1 else y

    def __sklearn_tags__(self) -> Any:
        """Return tags that allow several targets."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
