"""Classes that are called by labels: taken as people have them, and what is said of any other."""

import pickle
import re

import jax
import numpy as np
import numpyro
import pandas as pd
import pytest

import weightprior as wp

YES_NO = wp.Bernoulli(["no", "yes"])
ABC = wp.Categorical(["a", "b", "c"])
WORDS, NUMBERS = ["no", "yes", "yes", "no"], [0.0, 1.0, 1.0, 0.0]
ONE_HOT = pd.DataFrame(np.eye(3)[[0, 2, 1, 0]], columns=list("abc"))


class Polars:
    """A column that is an array only by protocol, as polars' are."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)


def check(likelihood, y, num_outputs=None):
    count = likelihood.num_classes if isinstance(likelihood, wp.Categorical) else 1
    return likelihood.check_target(y, len(y), num_outputs or count)


@pytest.mark.parametrize(
    "y",
    [
        WORDS,
        tuple(WORDS),
        np.array(WORDS),
        np.array(WORDS, dtype=object),
        pd.Series(WORDS, index=[3, 1, 2, 9]),
        pd.Series(WORDS, dtype=object),
        pd.Series(WORDS, dtype="string"),
        pd.Series(WORDS, dtype="category"),
        pd.Categorical(WORDS, categories=["yes", "unused", "no"]),
        pd.Index(WORDS),
    ],
    ids=lambda y: f"{type(y).__name__} {getattr(y, 'dtype', '')}",
)
def test_labels_are_numbered_in_their_order(y):
    found = check(YES_NO, y)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, NUMBERS)


def test_columns_of_polars_are_taken():
    polars = pytest.importorskip("polars")
    for dtype in (polars.String, polars.Categorical, polars.Enum(["yes", "no"])):
        np.testing.assert_array_equal(check(YES_NO, polars.Series(WORDS, dtype=dtype)), NUMBERS)


def test_columns_that_are_arrays_by_protocol_are_taken():
    column = Polars(WORDS)
    np.testing.assert_array_equal(YES_NO.check_target(column, 4, 1), NUMBERS)


@pytest.mark.parametrize(
    ("likelihood", "y", "expected"),
    [
        (wp.Categorical([3, 5, 7]), [7, 3, 5, 7.0], [2, 0, 1, 2]),
        (wp.Categorical([3, 5, 7]), np.array([7, 3], np.int8), [2, 0]),
        (wp.Categorical([0.5, 1.5]), [1.5, 0.5], [1, 0]),
        (wp.Bernoulli([True, False]), np.array([True, False]), [0, 1]),
        (wp.Bernoulli([1, 2]), pd.Series([1, 2], dtype="Int64"), [0, 1]),
        # Without labels.
        (wp.Bernoulli(), [True, False], [1, 0]),
        (wp.Bernoulli(), np.array([0, 1], np.int8), [0, 1]),
        (wp.Categorical(3), [1.0, 2.0, 0.0], [1, 2, 0]),
    ],
)
def test_numbers_and_booleans_are_labels_too(likelihood, y, expected):
    np.testing.assert_array_equal(check(likelihood, y), expected)


def test_several_targets_share_two_labels():
    frame = pd.DataFrame({"smokes": WORDS, "drinks": WORDS[::-1]})
    found = check(YES_NO, frame, num_outputs=2)
    np.testing.assert_array_equal(found, np.stack([NUMBERS, NUMBERS[::-1]], axis=1))


@pytest.mark.parametrize(
    "classes",
    [["u", "v"], ("u", "v"), np.array(["u", "v"]), pd.Index(["u", "v"]), pd.Series(["u", "v"])],
    ids=lambda classes: type(classes).__name__,
)
def test_labels_come_in_any_sequence(classes):
    for make in (wp.Categorical, wp.Bernoulli):
        found = make(classes)
        assert found.labels == ("u", "v")
        assert [type(label) for label in found.labels] == [str, str]
        assert found == make(["u", "v"])


def test_numbers_of_numpys_become_pythons():
    labels = wp.Categorical(np.array([1, 2, 4])).labels
    assert [type(label) for label in labels] == [int] * 3
    assert repr(wp.Categorical(np.array([True, False]))) == "Categorical([True, False])"
    assert wp.Categorical(range(3)).labels == (0, 1, 2)
    assert (wp.Categorical(np.int64(4)).num_classes, wp.Categorical(4).labels) == (4, None)


@pytest.mark.parametrize(
    "likelihood", [YES_NO, ABC, wp.Categorical(3), wp.Bernoulli(), wp.Categorical([1, 2])], ids=repr
)
def test_a_likelihood_of_classes_is_one_value(likelihood):
    """By its text, its hash, a copy of another process, and to JAX."""
    again = pickle.loads(pickle.dumps(likelihood))
    leaves, structure = jax.tree.flatten(likelihood)
    for one in (again, jax.tree.unflatten(structure, leaves), eval(f"wp.{likelihood!r}")):
        assert (one, hash(one), repr(one)) == (likelihood, hash(likelihood), repr(likelihood))
    assert leaves == []
    assert likelihood != wp.Categorical(["other", "labels"])


def test_numbers_become_labels_again():
    np.testing.assert_array_equal(YES_NO.decode(np.array([[0, 1], [1, 0]])), [WORDS[:2], WORDS[2:]])
    np.testing.assert_array_equal(wp.Categorical(3).decode(np.array([0, 2])), [0, 2])


def test_densities_and_numpyros_model_take_labels():
    bnn = wp.BNN(wp.mlp(1, hidden=()), YES_NO)
    x, weights = np.ones((4, 1)), {n: np.zeros(s.shape) for n, s in bnn.sites.items()}
    prior = wp.normal_prior(bnn)
    with jax.enable_x64(True):
        np.testing.assert_allclose(bnn.log_likelihood(weights, x, WORDS), 4 * np.log(0.5))
        joint = bnn.log_joint(weights, x, pd.Series(WORDS), prior)
        np.testing.assert_allclose(joint, bnn.log_prior(weights, prior) + 4 * np.log(0.5))
    seeded = numpyro.handlers.seed(bnn.model, 0)
    sites = numpyro.handlers.trace(seeded).get_trace(x, WORDS, prior=prior)
    np.testing.assert_array_equal(sites["y"]["value"], NUMBERS)


# What is no class. Each message is followed by what it advises.


def fails(likelihood, y, message, error=ValueError, num_outputs=None):
    with pytest.raises(error, match=re.escape(message)) as told:
        check(likelihood, y, num_outputs)
    return str(told.value)


def advice(message, pattern, **names):
    """Do what a message says: the expression that a pattern finds in it."""
    [found] = re.findall(pattern, message)
    return eval(found, {"numpy": np, **vars(wp)}, names)


@pytest.mark.parametrize(
    "y",
    [
        ["no", None, "yes"],
        ["no", np.nan, "yes"],
        np.array(["no", np.nan, "yes"], dtype=object),
        pd.Series(["no", pd.NA, "yes"], dtype="string"),
        pd.Series(["no", None, "yes"], dtype="category"),
        np.ma.array(["no", "yes", "yes"], mask=[False, True, False]),
        Polars(["no", None, "yes"]),
    ],
    ids=lambda y: type(y).__name__,
)
def test_a_missing_label_is_refused_by_its_row(y):
    with pytest.raises(
        ValueError, match=r"among 'no', 'yes'; got 1 missing of 3, the first in row 1. Drop"
    ):
        YES_NO.check_target(y, 3, 1)


def test_an_unknown_label_is_named_with_its_row():
    message = fails(
        YES_NO, ["no", "Yes"], "y: expected classes among 'no', 'yes'; got 'Yes' in row 1"
    )
    assert "Did you mean 'yes'?" in message
    fails(ABC, [["a"], ["b"]], "y: expected shape (2,), a target for every row of x; got (2, 1)")
    fails(ABC, ["a", ["b"]], "got ['b'] in row 1")
    # Text is not turned into numbers, nor numbers into text.
    fails(wp.Categorical(["1", "2"]), ["1", 2], "got 2 in row 1")
    fails(wp.Categorical([1, 2]), [1, "2"], "got '2' in row 1")


def test_numbers_in_place_of_labels_are_advised_to_be_decoded():
    y = np.array([0, 1, 1])
    message = fails(YES_NO, y, "got 0 in row 0")
    labels = advice(message, r"by (likelihood\.decode\(y\))", likelihood=YES_NO, y=y)
    np.testing.assert_array_equal(check(YES_NO, labels), y)


@pytest.mark.parametrize(
    ("likelihood", "y"),
    [
        (wp.Bernoulli(), WORDS),
        (wp.Bernoulli(), pd.Series(WORDS, dtype="category")),
        (wp.Bernoulli(), np.array([1, 2, 2])),
        (wp.Bernoulli(), [-1.0, 1.0]),
        (wp.Bernoulli(), list("abca")),
        (wp.Categorical(3), list("abca")),
        (wp.Categorical(3), pd.Series(["b", "c", "a"])),
        (wp.Categorical(2), list("abca")),
        (wp.Categorical(3), [1, 2, 3]),
        (wp.Categorical(3), [0.5, 1.0, 2.0]),
        (wp.Categorical(3), [chr(97 + i) for i in range(20)]),
    ],
)
def test_labels_that_were_not_told_are_advised(likelihood, y):
    text = isinstance(next(iter(y)), str)
    message = fails(
        likelihood, y, "y: expected class labels 0 to", TypeError if text else ValueError
    )
    named = advice(message, r"((?:Bernoulli|Categorical)\(.*\))(?: of a|\.)", y=y)
    labels = named.labels
    assert [labels[int(number)] for number in check(named, y)] == list(y)
    if "num_outputs" in message:
        assert f"num_outputs={named.num_classes}" in message


def test_one_class_alone_is_not_named():
    message = fails(wp.Bernoulli(), ["no", "no"], "got text such as 'no'", TypeError)
    assert "Name all 2 classes, also those that are not among these rows: Bernoulli(" in message


def test_columns_of_different_labels_are_compared():
    y = [["f", "no"], ["m", "yes"], ["f", "yes"]]
    message = fails(wp.Bernoulli(), y, "got text such as 'f'", TypeError, num_outputs=2)
    compared = advice(message, r"its 1: (.*)\.$", y=y)
    expected = [[0, 0], [1, 1], [0, 1]]
    np.testing.assert_array_equal(check(wp.Bernoulli(), compared, num_outputs=2), expected)


@pytest.mark.parametrize(
    ("likelihood", "y"),
    [
        (wp.Categorical(3), ONE_HOT.to_numpy()),
        (wp.Categorical(3), ONE_HOT.to_numpy().tolist()),
        (wp.Categorical(3), ONE_HOT),
        (ABC, ONE_HOT),
        (ABC, ONE_HOT.set_axis(list("xyz"), axis=1)),
        (ABC, ONE_HOT.to_numpy()),
        (wp.Bernoulli(), np.eye(2)[[0, 1, 1]]),
        (YES_NO, pd.get_dummies(pd.Series(WORDS))),
    ],
)
def test_one_hot_columns_are_turned_into_classes(likelihood, y):
    message = fails(likelihood, y, "got one-hot columns")
    expected = np.asarray(y).argmax(axis=1)
    single = advice(message, r"Pass (.*?argmax\(axis=1\)\]?)(?:\.|,)", y=y)
    np.testing.assert_array_equal(check(likelihood, single), expected)
    if "or name" in message:
        named = advice(message, r"classes, (.*\)), and pass", y=y)
        by_column = advice(message, r"and pass (.*)\.$", y=y)
        np.testing.assert_array_equal(check(named, by_column), expected)


def test_proportions_are_advised_to_come_with_their_counts():
    for y, count in (([0, 0.25, 1], 1), ([[0, 0.25], [1, 1]], 2)):
        message = fails(wp.Bernoulli(), y, "got 0.25. Proportions", num_outputs=count)
        assert "pass Binomial() as the likelihood, and two columns as y, successes" in message
        assert "numpy.unique" not in message


def test_numbers_of_many_values_are_no_classes():
    fails(wp.Categorical(3), np.linspace(0, 2, 20), "pass Gaussian() as the likelihood")


@pytest.mark.parametrize("make", [wp.Categorical, wp.Bernoulli])
@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        ("abc", TypeError, "as a list, such as ['no', 'yes']; got str 'abc'"),
        ({"a", "b"}, TypeError, "Pass sorted(classes)."),
        ({"a": 0, "b": 1}, TypeError, "as a list"),
        (["a", "a", "b"], ValueError, "got 'a' 2 times. Pass sorted(set(classes))."),
        (["a", 1], TypeError, "they are: [str(label) for label in classes]."),
        ([pd.Timestamp(0), pd.Timestamp(1)], TypeError, "[str(label) for label in classes]."),
        ([1.0, np.nan], TypeError, "labels of one kind"),
        (["a"], ValueError, "at least two labels; got ['a']"),
        ([], ValueError, "at least two labels; got []"),
        (True, TypeError, "classes: expected "),
        (3.0, TypeError, "classes: expected "),
    ],
)
def test_what_does_not_tell_classes(make, classes, error, message):
    with pytest.raises(error, match=re.escape(message)) as told:
        make(classes)
    assert str(told.value).startswith("classes: expected ")
    if found := re.findall(r"(?:Pass|are:) (.*)\.$", str(told.value)):
        labels = eval(found[0], {}, {"classes": classes})
        assert wp.Categorical(labels).labels == tuple(labels)


def test_two_labels_are_of_bernoulli_and_more_of_categorical():
    with pytest.raises(ValueError, match=r"classes: expected two labels.*got 3. For .*outputs=3"):
        wp.Bernoulli(["a", "b", "c"])
    with pytest.raises(
        ValueError, match=r"network: expected num_outputs=3.*\['a', 'b', 'c'\].*got 2"
    ):
        wp.BNN(wp.mlp(1, num_outputs=2), ABC)
