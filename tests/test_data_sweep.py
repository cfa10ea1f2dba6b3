"""Any container of data times any question: the number of plain arrays, or one clear error."""

import array
import re
import tempfile
import warnings
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from importlib.util import find_spec
from typing import Any, NamedTuple

import hypothesis
import jax.numpy as jnp
import numpy
import numpy as np
import pandas
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr
from hypothesis import strategies as st

import weightprior as wp
from shared_fits import ROUNDING, light_fit, point_fit
from weightprior import _data
from weightprior.fits.problem import Problem

MODELS = {
    name: wp.BNN(wp.mlp(2, hidden=()), likelihood)
    for name, likelihood in {
        "numbers": wp.Gaussian(noise=1.0),
        "counts": wp.Poisson(),
        "classes": wp.Bernoulli(),
        "labels": wp.Bernoulli([0, 1]),
    }.items()
}
BNN = MODELS["numbers"]
FLAT = wp.normal_prior(BNN, scale=np.inf)  # which asks for no scale
CV = {"prior": wp.normal_prior(BNN), "fit": point_fit, "num_folds": 2}
# Whole numbers, exact in every dtype, and times a power of two in most.
X, Y = np.array([[0, 1], [2, 5], [1, 0], [3, 3], [0, 4], [1, 2.0]]), np.array([1, 0, 2, 0, 4, 1.0])
CLASSES, HALVES = np.minimum(Y, 1), np.array([0, 1, 0, 1, 1, 0.0])
WEIGHTS = {"output.weight": np.array([[0.5], [-0.25]]), "output.bias": np.array([1.0])}
FIT = light_fit(BNN, X, Y, {n: w[None, None] for n, w in WEIGHTS.items()}, prior=FLAT)
SCALES = [2.0**power for power in (-30, -10, 0, 10, 30)]


class Question(NamedTuple):
    """One argument of a public function, plain numbers for it, and the answer as an array."""

    argument: str
    plain: np.ndarray
    ask: Callable[[Any], Any]
    scales: bool = True


def log_joint(x=X, y=Y, row_weights=None):
    weights = {name: jnp.asarray(value, jnp.float32) for name, value in WEIGHTS.items()}
    return BNN.log_joint(weights, x, y, FLAT, row_weights)


def validated(**labels):
    found = wp.cross_validate(BNN, X, Y, **CV, **labels)
    of_row = np.unique(found["fold_of_row"], return_inverse=True)[1]
    return np.append(of_row, found["elpd_se"])


QUESTIONS = {
    "x of a problem": Question("x", X, lambda x: Problem.checked(BNN, x, Y, prior=FLAT).x),
    "y of a problem": Question("y", Y, lambda y: Problem.checked(BNN, X, y, prior=FLAT).y),
    "counts": Question("y", Y, lambda y: _data.checked(MODELS["counts"], X, y)[1], False),
    "classes": Question("y", CLASSES, lambda y: _data.checked(MODELS["classes"], X, y)[1], False),
    "labels": Question("y", CLASSES, lambda y: _data.checked(MODELS["labels"], X, y)[1], False),
    "weights of rows": Question(
        "row_weights",
        Y,
        lambda w: Problem.checked(BNN, X, Y, prior=FLAT, row_weights=w).row_weights,
    ),
    "x of a density": Question("x", X, lambda x: log_joint(x=x)),
    "y of a density": Question("y", Y, lambda y: log_joint(y=y)),
    "weights of a density": Question("row_weights", Y, lambda w: log_joint(row_weights=w)),
    "outputs": Question("x", X, lambda x: BNN.outputs(WEIGHTS, x)),
    "new x": Question("x", X, lambda x: wp.predict(BNN, FIT, x)["mean"]),
    "x of a score": Question("x", X, lambda x: wp.score(BNN, FIT, x, Y)["rmse"], False),
    "y of a score": Question("y", Y, lambda y: wp.score(BNN, FIT, X, y)["rmse"], False),
    "weights of a score": Question(
        "row_weights", Y + 1, lambda w: wp.score(BNN, FIT, X, Y, row_weights=w)["elpd"]
    ),
    "groups": Question("groups", Y, lambda g: validated(groups=g), False),
    "folds": Question("folds", HALVES, lambda f: validated(folds=f), False),
}


def frame(a):
    return pd.DataFrame(a, columns=["u", "v"]) if a.ndim == 2 else pd.Series(a)


def memmap(a):
    with tempfile.TemporaryFile() as file:
        found = np.memmap(file, a.dtype, "w+", shape=a.shape)
    found[:] = a
    return found


def read_only(a):
    a.flags.writeable = False
    return a


def objects(a, kind):
    found = np.empty(a.shape, object)
    for index, value in np.ndenumerate(a):
        found[index] = kind(value)
    return found


def broken(a, value):
    """With one entry that is missing or infinite."""
    found = a.astype(object)
    found.flat[1] = value
    return found


def masked(a):
    return np.ma.masked_array(a, np.arange(a.size).reshape(a.shape) == 1)


# Containers that hold plain numbers, as they are.
SAME = {
    "array": lambda a: a,
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(map(tuple, a)) if a.ndim == 2 else tuple(a),
    "deque": lambda a: deque(a.tolist()),
    "buffer": lambda a: array.array("d", a) if a.ndim == 1 else memoryview(a),
    "read-only": read_only,
    "Fortran order": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "byte-swapped": lambda a: a.astype(">f8"),
    "memmap": memmap,
    "longdouble": lambda a: a.astype(np.longdouble),
    "float32": lambda a: a.astype(np.float32),
    "objects": lambda a: a.astype(object),
    "decimals": lambda a: objects(a, Decimal),
    "no mask": lambda a: np.ma.masked_array(a, np.zeros(a.shape, bool)),
    "jax": lambda a: jnp.asarray(a, jnp.float32),
    "xarray": lambda a: xr.DataArray(a, dims=("row", "column")[: a.ndim]),
    "pandas": frame,
    "pandas, nullable": lambda a: frame(a).astype("Float64"),
    "pandas, objects": lambda a: frame(a).astype(object),
    "pandas, sparse": lambda a: frame(a).astype(pd.SparseDtype(float)),
    "pandas, dates for index": lambda a: frame(a).set_axis(
        pd.date_range("2020-03-28", periods=6, tz="Europe/Paris")
    ),
    "pandas, levels": lambda a: frame(a).set_axis(pd.MultiIndex.from_product([[1, 2], [*"abc"]])),
    "pandas, doubled labels": lambda a: frame(a).set_axis([0, 0, 1, 1, 2, 2]),
}
# Of whole numbers, which are of the scale of one.
WHOLE = {
    "float16": lambda a: a.astype(np.float16),
    "bfloat16": lambda a: jnp.asarray(a, jnp.bfloat16),
    "int64": lambda a: a.astype(int),
    "uint8": lambda a: a.astype(np.uint8),
    "integers": lambda a: a.astype(int).tolist(),
    "pandas, integers": lambda a: frame(a).astype("Int64"),
    "pandas, small": lambda a: frame(a).astype("UInt8"),
}
# What is more, or less, than plain numbers: to be refused wherever numbers are asked for.
REFUSED = {
    "mask": masked,
    "list of masked": lambda a: list(masked(a)),
    "NaN": lambda a: broken(a, np.nan).astype(float),
    "None": lambda a: broken(a, None),
    "NA": lambda a: frame(a).astype("Float64").where(a != a.flat[1]),
    "list with None": lambda a: broken(a, None).tolist(),
    "NaN of Python": lambda a: broken(a, float("nan")).tolist(),
    "nothing": lambda a: None,
    "scalar": lambda a: a.flat[0],
    "0-d": lambda a: np.array(a.flat[0]),
    "too short": lambda a: a[:-1],
    "too long": lambda a: np.concatenate([a, a[:1]]),
    "another axis": lambda a: a[..., None],
    "empty": lambda a: a[:0],
    "sparse": scipy.sparse.coo_array,
    "keys": lambda a: scipy.sparse.dok_array(np.atleast_2d(a)),
    "fields": lambda a: np.array([(v,) for v in a.ravel()], [("u", float)]),
    "a dict": lambda a: {"u": a},
    "a set": lambda a: set(a.ravel().tolist()),
    "an iterator": lambda a: iter(a.tolist()),
    "a dataset": lambda a: xr.Dataset({"u": ("row", a.ravel())}),
    "ragged": lambda a: [[1.0], *a.tolist()[1:]],
}
# And what can be no number, but the name of a group.
NO_NUMBERS = {
    "infinite": lambda a: broken(a, np.inf).astype(float),
    "too large": lambda a: broken(a, 10**400),
    "text": lambda a: a.astype(str),
    "bytes": lambda a: a.astype("S"),
    "text, numpy's": lambda a: a.astype(np.dtypes.StringDType()),
    "text among objects": lambda a: objects(a, str),
    "text, pandas'": lambda a: frame(a).astype(str),
    "categories": lambda a: frame(a).astype("category"),
    "dates": lambda a: a.astype("datetime64[D]"),
    "dates among objects": lambda a: broken(a, pd.Timestamp("2020-01-01")),
    "dates, pandas'": lambda a: (
        frame(a).assign(v=pd.date_range("2020", periods=6, tz="UTC"))
        if a.ndim == 2
        else pd.Series(pd.date_range("2020", periods=6, tz="UTC"))
    ),
    "durations": lambda a: frame(a).astype("timedelta64[s]"),
}
NOT_AS_CLASSES = {"complex": lambda a: a + 1j, "complex among objects": lambda a: broken(a, 1j)}

if find_spec("polars"):
    import polars as pl

    def polars_frame(a):
        return pl.DataFrame(a, ["u", "v"]) if a.ndim == 2 else pl.Series("u", a)

    SAME["polars"] = polars_frame
    WHOLE["polars, integers"] = lambda a: polars_frame(a.astype(int))
    WHOLE["polars, decimals"] = lambda a: polars_frame(a).cast(pl.Decimal(10, 3))
    REFUSED["polars, null"] = lambda a: (
        pl.Series([None, *a[1:]]) if a.ndim == 1 else polars_frame(a).with_columns(v=None)
    )
    REFUSED["polars, lazy"] = lambda a: pl.DataFrame(a).lazy()
    NO_NUMBERS["polars, dates"] = lambda a: (
        polars_frame(a).with_columns(v=pl.Series(pd.date_range("2020", periods=6)))
        if a.ndim == 2
        else pl.Series(pd.date_range("2020", periods=6))
    )
    NO_NUMBERS["polars, text"] = lambda a: polars_frame(a).cast(pl.String)
if find_spec("pyarrow"):
    import pyarrow as pa

    def arrow(a, convert=pa.array):
        names = dict(zip("uv", a.T, strict=True)) if a.ndim == 2 else {}
        return pa.table({n: convert(v) for n, v in names.items()}) if names else convert(a)

    SAME["Arrow"] = arrow
    SAME["Arrow, chunks"] = lambda a: arrow(a, lambda v: pa.chunked_array([v[:2], v[2:]]))
    SAME["Arrow, batch"] = lambda a: arrow(a).to_batches()[0] if a.ndim == 2 else arrow(a)
    SAME["pandas, of Arrow"] = lambda a: frame(a).astype(pd.ArrowDtype(pa.float64()))
    REFUSED["Arrow, null"] = lambda a: arrow(a, lambda v: pa.array([None, *v[1:]]))
    NO_NUMBERS["Arrow, text"] = lambda a: arrow(a, lambda v: pa.array([str(w) for w in v]))
    NO_NUMBERS["Arrow, dates"] = lambda a: arrow(
        a, lambda v: pa.array(pd.date_range("2020", periods=6))
    )
    NO_NUMBERS["Arrow, dictionary"] = lambda a: arrow(
        a, lambda v: pa.array([str(w) for w in v]).dictionary_encode()
    )

RIGHT, WRONG = SAME | WHOLE, REFUSED | NO_NUMBERS | NOT_AS_CLASSES
SWEEP = hypothesis.settings(max_examples=100, deadline=None, derandomize=True, database=None)
questions = st.sampled_from(sorted(QUESTIONS))


@pytest.fixture(autouse=True, scope="module")
def _nothing_else_is_said():
    """Neither a warning beside an error, nor one beside an answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@SWEEP
@hypothesis.given(st.sampled_from(sorted(RIGHT)), questions, st.sampled_from(SCALES))
def test_plain_numbers_give_the_same_answer_in_every_container(container, name, scale):
    question = QUESTIONS[name]
    scale = scale if container in SAME and question.scales else 1.0
    plain = scale * question.plain
    answer = np.asarray(question.ask(RIGHT[container](plain.copy())))
    np.testing.assert_allclose(answer, np.asarray(question.ask(plain)), **ROUNDING)


@SWEEP
@hypothesis.given(st.sampled_from(sorted(WRONG)), questions)
def test_what_is_more_than_plain_numbers_is_refused_by_its_name(container, name):
    question = QUESTIONS[name]
    names = question.argument in ("groups", "folds")
    hypothesis.assume(not (names and container not in REFUSED))
    hypothesis.assume(container != "nothing" or question.argument in ("x", "y"))
    given = WRONG[container](question.plain.copy())
    with pytest.raises((TypeError, ValueError), match=rf"^{question.argument}: expected .*got "):
        question.ask(given)


INDEXES = {
    "numbers": pd.RangeIndex(6),
    "text": pd.Index([*"abcdef"]),
    "dates": pd.date_range("2020-01-01", periods=6),
    "dates and zone": pd.date_range("2020-01-01", periods=6, tz="UTC"),
    "levels": pd.MultiIndex.from_product([[1, 2], [*"abc"]]),
    "doubled": pd.Index([0, 0, 1, 1, 2, 2]),
    "categories": pd.CategoricalIndex([*"abcdef"]),
    "periods": pd.period_range("2020-01", periods=6, freq="M"),
}
RETOLD = {
    "numbers": pd.Index(np.arange(6.0)),
    "text": pd.Index([*"abcdef"], dtype=object),
    "dates": pd.date_range("2020-01-01", periods=6).astype("datetime64[s]"),
    "dates and zone": pd.date_range("2020-01-01", periods=6, tz="UTC").tz_convert("Asia/Tokyo"),
    "categories": pd.Index([*"abcdef"]),
}
ORDER = np.array([3, 0, 5, 1, 4, 2])


@pytest.mark.parametrize("name", INDEXES)
@pytest.mark.parametrize("argument", ["y", "row_weights", "groups", "folds"])
def test_rows_that_go_by_another_order_are_never_paired_silently(argument, name):
    x = pd.DataFrame(X, index=INDEXES[name])
    values = pd.Series(CLASSES, index=INDEXES[name])

    def ask(given):
        rows = {"y": given} if argument == "y" else {"y": Y, argument: given}
        return wp.cross_validate(BNN, x, **rows, **CV)["elpd_i"].to_numpy()

    plain = ask(CLASSES)
    np.testing.assert_array_equal(ask(values), plain)
    if name in RETOLD:  # equal labels of another dtype
        np.testing.assert_array_equal(ask(values.set_axis(RETOLD[name])), plain)
    with pytest.raises(ValueError, match=rf"^{argument}: expected the index of x; got its labels"):
        ask(values.iloc[ORDER])
    if INDEXES[name].is_unique:
        np.testing.assert_array_equal(ask(values.iloc[ORDER].loc[x.index]), plain)
    with pytest.warns(UserWarning, match=f"^{argument}: expected the index of x; got other labels"):
        np.testing.assert_array_equal(ask(values.set_axis([*range(10, 16)])), plain)


def advice_of(ask, pattern):
    """The error's advice, by the groups of a pattern in its message."""
    with pytest.raises((TypeError, ValueError)) as caught:
        ask()
    found = re.search(pattern, str(caught.value))
    assert found, str(caught.value)
    return found[1]


FOLLOWED = [
    ("x", scipy.sparse.csr_array(X), r"Pass (.*)\."),
    ("x", scipy.sparse.dok_array(X), r"Pass (.*)\."),
    ("y", scipy.sparse.coo_array(Y), r"Pass (.*)\."),
    ("x", [*np.ma.masked_array(X)], r"Pass (.*)\."),
    ("x", {"u": X[:, 0], "v": X[:, 1]}, r"Pass (.*)\."),
    ("x", xr.Dataset({"u": ("row", X[:, 0]), "v": ("row", X[:, 1])}), r"Pass (.*)\."),
    ("x", iter(X), r"Pass (.*)\."),
    ("y", dict.fromkeys(range(6)).keys(), r"Pass (.*)\."),
    ("x", np.array([*map(tuple, X)], [("u", float), ("v", float)]), r"as columns, (.*)\."),
    ("y", np.array([(v,) for v in Y], [("u", float)]), r"one of them, (.*), or"),
    ("x", X.astype(str), r"spells numbers, pass (.*)\."),
    ("x", frame(X).astype(str), r"spells numbers, pass (.*)\."),
    ("y", Y[:, None], r"Pass (.*), or"),
    ("y", Y[None], r"Pass (.*), or"),
    ("y", np.matrix(Y), r"Pass (.*), or"),
    ("y", Y[:, None].tolist(), r"Pass (.*), or"),
    ("y", frame(Y).to_frame(), r", or (.*) of a data frame\."),
    ("row_weights", Y[:, None], r"Pass (.*)\."),
    ("groups", Y[:, None], r"Pass (.*)\."),
    ("groups", [1, "1", 2, "2", 3, "3"], r"As text they are: (.*)\."),
    ("groups", [[1], [2], [3], [1], [2], [3, 4]], r"As text they are: (.*)\."),
    ("y", Y.astype("datetime64[D]"), r"since the first: (.*)\."),
    ("y", pd.Series(pd.date_range("2020", periods=6, tz="UTC")), r"since the first: (.*)\."),
    ("y", pd.Series(Y).astype("timedelta64[s]"), r"since the first: (.*)\."),
]
if find_spec("polars"):
    FOLLOWED.append(("x", pl.DataFrame(X).lazy(), r"Pass (.*)\."))
    FOLLOWED.append(("x", polars_frame(X).cast(pl.String), r"spells numbers, pass (.*)\."))
if find_spec("pyarrow"):
    FOLLOWED.append(("x", NO_NUMBERS["Arrow, text"](X), r"spells numbers, pass (.*)\."))


@pytest.mark.parametrize(("argument", "given", "pattern"), FOLLOWED)
def test_advice_followed_to_the_letter_works(argument, given, pattern):
    def ask(values):
        rows = {"x": X, "y": Y} | {argument: values}
        return wp.cross_validate(BNN, **rows, **CV)

    code = advice_of(lambda: ask(given), pattern)
    ask(eval(code, {"numpy": numpy, "pandas": pandas, argument: given}))


def test_masked_rows_are_dropped_everywhere():
    x, y = masked(X), Y.copy()
    code = advice_of(lambda: _data.checked(BNN, x, y), r"kept = (.*), then x\[kept\]")
    kept = eval(code, {"x": x})
    np.testing.assert_array_equal(_data.checked(BNN, x[kept], y[kept])[0], X[1:])


def test_a_column_of_dates_or_text_is_named_and_the_way_out_works():
    x = frame(X).assign(v=pd.date_range("2020", periods=6))
    code = advice_of(lambda: _data.checked(BNN, x, Y), r"since the first: (.*)\.")
    x["v"] = eval(code, {"x": x, "numpy": numpy})
    np.testing.assert_array_equal(_data.checked(BNN, x, Y)[0][:, 1], np.arange(6))
    x["v"] = [*"ababab"]
    code = advice_of(lambda: _data.checked(BNN, x, Y), r"column 'v'\)\. .*: x = (.*), in a network")
    x = eval(code, {"x": x, "pandas": pandas})
    _data.checked(wp.BNN(wp.mlp(list(x.columns)), wp.Gaussian()), x, Y)


def test_labels_of_another_kind_are_named_as_they_stand():
    for likelihood, y in ((wp.Bernoulli(["0", "1"]), CLASSES), (wp.Bernoulli([0, 1]), CLASSES)):
        given = y.astype(int) if likelihood.labels[0] == "0" else y.astype(int).astype(str)
        bnn = wp.BNN(wp.mlp(2, hidden=()), likelihood)
        code = advice_of(
            lambda b=bnn, g=given: _data.checked(b, X, g), r"Name the classes: (.*)\.$"
        )
        named = wp.BNN(wp.mlp(2, hidden=()), eval(f"wp.{code}", {"wp": wp}))
        np.testing.assert_array_equal(_data.checked(named, X, given)[1], y)
    code = advice_of(
        lambda: _data.checked(MODELS["classes"], X, np.array([b"no", b"yes"] * 3)), r"first: (.*)\."
    )
    assert eval(code, {"numpy": np, "y": np.array([b"no", b"yes"])}).tolist() == ["no", "yes"]
