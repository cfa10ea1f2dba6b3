"""The binomial likelihood: successes among trials."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from weightprior import _arrays, _checks
from weightprior.model._distributions import BinomialLogits, log_binomial
from weightprior.model.likelihoods._counts import check_counts
from weightprior.model.likelihoods.base import Likelihood
from weightprior.model.likelihoods.terms import RandomTerms, Recession

__all__ = ["Binomial"]

_TWO_COLUMNS = "numpy.column_stack([successes, trials - successes])"


@dataclass(frozen=True)
class Binomial(Likelihood):
    """Successes and failures of each row's trials: the output is the logit of a success.

    Targets have two columns of counts, successes and failures. The number of trials of a row is
    given, and not modelled. Functions that predict or simulate without y use one trial per row, or
    the numbers in their argument `trials`.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Binomial())
    >>> x, successes = np.linspace(-1, 1, 20)[:, None], np.arange(20)
    >>> y = np.column_stack([successes, 20 - successes])
    >>> fit = wp.fit_map(bnn, x, y, prior=wp.normal_prior(bnn, scale=10.0))
    >>> found = wp.predict(bnn, fit, x, trials=np.full(20, 100))
    >>> found["mean"][0, 0, ::10].round().to_numpy()  # of 100
    array([ 7., 49.])
    """

    columns: ClassVar[tuple[str, ...]] = ("success", "failure")

    @property
    def discrete(self) -> bool:
        """True: both columns are counts."""
        return True

    def check_outputs(self, num_outputs: int) -> None:
        if num_outputs != 1:
            raise ValueError(
                "network: expected num_outputs=1 for Binomial, the logit of a success; got "
                f"{num_outputs}."
            )

    def check_target(self, y, num_obs, num_outputs):
        array = _arrays.finite("y", y)
        if array.shape in ((num_obs,), (num_obs, 1)):
            raise ValueError(_about_one_column(array))
        _checks.target_shape(array.shape, (num_obs, 2))
        check_counts(array, f"Pass counts: {_TWO_COLUMNS}.")
        empty = np.flatnonzero(array.sum(axis=1) == 0)
        if empty.size:
            raise ValueError(
                "y: expected at least one trial in every row; got none in "
                f"{empty.size} of {num_obs}, the first row {empty[0]}. Drop rows without a trial."
            )
        return array

    def distribution(self, output, weights):
        return _SuccessesAndFailures(output[:, 0])

    def mean(self, output, weights):
        return jax.nn.sigmoid(output[:, 0])

    def curvature(self, output, weights, y):
        # This equals the expected information, for the row's number of trials.
        return y.sum() * (jax.nn.sigmoid(output) * jax.nn.sigmoid(-output))[:, None]

    def recession(self, y, num_outputs):
        none = y == 0
        apart = "rows without a success or without a failure are separated from the others"
        empty = "all trials ended alike"
        return Recession.of_each(none[:, 1:], none[:, :1], apart, empty)

    def random_terms(self, output, weights, y):
        root = 2 * jnp.arctan(jnp.tanh(output / 4))  # as for one trial, Bernoulli's
        return RandomTerms(jnp.sqrt(y.sum(axis=1, keepdims=True)) * root, output[:, :0])

    def of_trials(self, trials):
        return _Successes(trials)

    def counted(self, y):
        return _Successes(y.sum(axis=1)), y[:, 0]


@dataclass(frozen=True)
class _Successes(Likelihood):
    """The number of successes in given trials of each row."""

    trials: Any
    step: ClassVar[float] = 1.0

    def distribution(self, output, weights):
        return BinomialLogits(output[:, 0], jnp.asarray(self.trials, output.dtype))

    def mean(self, output, weights):
        return jnp.asarray(self.trials, output.dtype) * jax.nn.sigmoid(output[:, 0])

    def fitted(self, y):
        return np.stack([y, np.asarray(self.trials) - y], axis=-1)


class _SuccessesAndFailures(dist.Distribution):
    """Both counts of a row, with a given sum; draws are of one trial."""

    support = dist.constraints.independent(dist.constraints.nonnegative_integer, 1)
    pytree_data_fields = ("logits",)

    def __init__(self, logits: jax.Array) -> None:
        self.logits = logits
        super().__init__(jnp.shape(logits), (2,), validate_args=False)

    @property
    def mean(self):
        return jax.nn.sigmoid(jnp.stack([self.logits, -self.logits], axis=-1))

    def sample(self, key, sample_shape=()):
        one = jnp.ones_like(self.logits)
        successes = BinomialLogits(self.logits, one).sample(key, sample_shape)
        return jnp.stack([successes, 1 - successes], axis=-1)

    def log_prob(self, value):
        successes, failures = jnp.moveaxis(jnp.asarray(value, self.logits.dtype), -1, 0)
        return log_binomial(self.logits, successes, failures)


def _about_one_column(array: np.ndarray) -> str:
    """Say what to do with a single column, by its values."""
    expected = "y: expected two columns of counts, successes and failures; got "
    if np.isin(array, (0, 1)).all():
        return f"{expected}one of zeros and ones. For a single trial per row use Bernoulli()."
    if np.all((array >= 0) & (array <= 1)):
        return f"{expected}one of proportions. Pass counts: {_TWO_COLUMNS}."
    return f"{expected}shape {array.shape}. Pass both: {_TWO_COLUMNS}."
