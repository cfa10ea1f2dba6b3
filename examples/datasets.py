"""Real data that installed packages bring along, split and standardised for the experiments.

Nothing is downloaded. Three sets are scikit-learn's, one is palmerpenguins'.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from palmerpenguins import load_penguins
from sklearn import datasets
from sklearn.linear_model import LinearRegression

import weightprior as wp


class Data(NamedTuple):
    """Rows of one data set.

    Attributes
    ----------
    x : DataFrame
        Inputs.
    y : Series
        Targets: numbers, or classes counted from 0.
    num_classes : int
        0 where targets are numbers.
    """

    x: pd.DataFrame
    y: pd.Series
    num_classes: int = 0

    def rows(self, chosen) -> "Data":
        """Only these rows."""
        return Data(self.x.iloc[chosen], self.y.iloc[chosen], self.num_classes)


def diabetes() -> Data:
    """How far the diabetes of 442 patients progressed in a year, from ten measurements."""
    return Data(*datasets.load_diabetes(return_X_y=True, as_frame=True, scaled=False))


def penguins() -> Data:
    """How heavy 333 penguins of three species are, from bill, flipper and sex."""
    found = load_penguins().dropna()
    x = found[["bill_length_mm", "bill_depth_mm", "flipper_length_mm"]]
    return Data(x.assign(male=(found["sex"] == "male") * 1.0), found["body_mass_g"])


def cancer() -> Data:
    """Whether 569 tumours are benign, from thirty measurements of their cells."""
    return Data(*datasets.load_breast_cancer(return_X_y=True, as_frame=True), num_classes=2)


def wine() -> Data:
    """Which of three growers made 178 wines, from thirteen measurements."""
    return Data(*datasets.load_wine(return_X_y=True, as_frame=True), num_classes=3)


REAL = {"diabetes": diabetes, "penguins": penguins, "cancer": cancer, "wine": wine}


def shuffled(data: Data, sizes: Sequence[int], seed: int) -> list[Data]:
    """Parts of so many rows, chosen by chance, and last a part of all other rows."""
    order = np.random.default_rng(seed).permutation(len(data.y))
    return [data.rows(part) for part in np.split(order, np.cumsum(sizes))]


def standardised(training: Data, *others: Data) -> list[Data]:
    """Put all parts into units in which the training rows have mean 0 and deviation 1.

    Classes stay what they are. So does a column that does not vary over the training rows, but
    for its mean.
    """

    def like(part, reference):
        deviation = reference.std()
        return (part - reference.mean()) / np.where(deviation > 0, deviation, 1.0)

    return [
        part._replace(
            x=like(part.x, training.x),
            y=part.y if part.num_classes else like(part.y, training.y),
        )
        for part in (training, *others)
    ]


def likelihood(training: Data):
    """The likelihood for such targets; the noise of numbers is that of a linear regression."""
    if training.num_classes == 2:
        return wp.Bernoulli()
    if training.num_classes > 2:
        return wp.Categorical(training.num_classes)
    fitted = LinearRegression().fit(training.x, training.y).predict(training.x)
    freedom = len(training.y) - training.x.shape[1] - 1
    return wp.Gaussian(noise=float(np.sqrt(((training.y - fitted) ** 2).sum() / freedom)))
