"""Estimator for classes."""

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d, validate_data

import weightprior as wp
from weightprior import _checks
from weightprior.sklearn._base import BayesianMLP

__all__ = ["BayesianMLPClassifier"]


class BayesianMLPClassifier(ClassifierMixin, BayesianMLP):
    """Perceptron for classes, under a Gaussian prior with a chosen scale.

    Two classes have one output, the logit of the second class. More classes have one output each.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int
        Units of each hidden layer; empty for a linear model.
    activation : str, callable, or a sequence of them
        Activations of the hidden layers, as in `weightprior.mlp`.
    loc : float, dict, or trained network
        Centre of the prior, as in `BayesianMLPRegressor`.
    scale : float, sequence of float, or None
        Scale of the prior, a factor on `weightprior.fan_in_scale`. A number is used as it is. Among
        several, `select` chooses one. None: 0.3, 0.6, 1.2, 2.4 and 4.8.
    method : str
        ``"map"``, ``"mcmc"``, ``"laplace"``, ``"vi"``, ``"tempered"`` or ``"ensemble"``: the fit
        function.
    select : str
        ``"cv"``, ``"one_se"`` or ``"evidence"``, as in `BayesianMLPRegressor`.
    standardize : bool
        True if the prior is for standardised X.
    random_state : int, RandomState or None
        Decides folds, starts and draws. None: a new seed at every call.
    fit_options : dict, optional
        Options of the fit function, such as ``{"num_restarts": 4}``.

    Attributes
    ----------
    classes_ : array of shape (classes,)
        Labels, in ascending order.
    bnn_, prior_, fit_, scale_, selection_, standardization_, n_features_in_, feature_names_in_
        As in `BayesianMLPRegressor`.

    See Also
    --------
    BayesianMLPRegressor : The same for numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from weightprior.sklearn import BayesianMLPClassifier
    >>> X = np.linspace(-1, 1, 30)[:, None]
    >>> y = np.where(X[:, 0] > 0.1, "high", "low")
    >>> model = BayesianMLPClassifier((4,), scale=1.0, random_state=0).fit(X, y)
    >>> model.predict([[-0.8], [0.8]])
    array(['low', 'high'], dtype='<U4')
    >>> float(model.predict_proba([[0.8]]).sum())
    1.0
    """

    classes_: np.ndarray

    def __init__(
        self,
        hidden_layer_sizes: Any = (32,),
        activation: Any = "tanh",
        *,
        loc: Any = 0.0,
        scale: Any = None,
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
        y : array of shape (rows,)
            Classes: text, numbers or booleans.
        sample_weight : array of shape (rows,), optional
            Number of times each row counts: a row of weight 2 is two copies of the row.

        Returns
        -------
        BayesianMLPClassifier
            This estimator.
        """
        checked, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        labels = column_or_1d(labels, warn=True)
        self.classes_ = np.unique(labels)
        number = len(self.classes_)
        if number < 2:
            raise ValueError(f"y: expected at least two classes; got one class, {self.classes_}.")
        names = self.classes_.tolist()
        likelihood = wp.Bernoulli(names) if number == 2 else wp.Categorical(names)
        return self._fit(
            checked,
            labels,
            likelihood,
            1 if number == 2 else number,
            frame=X,
            sample_weight=sample_weight,
        )

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of every class, as a mean over draws.

        Parameters
        ----------
        X : array or data frame of shape (rows, features)
            Inputs.

        Returns
        -------
        array of shape (rows, classes)
        """
        mean = self._mean(self._inputs(X))
        return self.bnn_.likelihood.class_probabilities(mean)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Predict the log of the probability of every class, as in `predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class.

        Parameters
        ----------
        X : array or data frame of shape (rows, features)
            Inputs.

        Returns
        -------
        array of shape (rows,)
            Labels in `classes_`.
        """
        probability = self.predict_proba(X)
        return self.classes_[probability.argmax(axis=1)]

    def _targets(self, y: Any, number: int) -> np.ndarray:
        labels = column_or_1d(y)
        check_consistent_length(np.empty(number), labels)
        likelihood = self.bnn_.likelihood
        return likelihood.check_target(labels, number, self.bnn_.network.num_outputs)

    def _check_classes(self, loc: Any) -> None:
        theirs = getattr(loc, "classes_", self.classes_)
        if not np.array_equal(theirs, self.classes_):
            raise ValueError(
                f"loc: expected a network for classes {_checks.several(self.classes_.tolist())};"
                f" got one for {_checks.several(np.asarray(theirs).tolist())}."
            )
