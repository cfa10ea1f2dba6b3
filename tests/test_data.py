"""Data as people hold them: what is passed counts, or is refused with advice that works."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr

import weightprior as wp
from weightprior import _data

BNN = wp.BNN(wp.mlp(2, hidden=()), wp.Gaussian(noise=1.0))
ONE = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
X = np.arange(12.0).reshape(6, 2)
Y = np.arange(6.0)
LABELS = list("abcdef")
FRAME, SERIES = pd.DataFrame(X, LABELS, ["u", "v"]), pd.Series(Y, LABELS)
MASK = np.arange(12).reshape(6, 2) == 5


def checked(x=X, y=Y, bnn=BNN):
    return _data.checked(bnn, x, y)


@pytest.mark.parametrize(
    "x",
    [
        X,
        X.tolist(),
        FRAME,
        FRAME.astype("Float64"),
        FRAME.astype({"u": "Int64"}),
        FRAME.astype(object),
        FRAME.astype(pd.SparseDtype(float)),
        np.ma.masked_array(X, np.zeros_like(X, bool)),
        xr.DataArray(X, dims=("row", "column")),
    ],
)
def test_containers_without_a_catch_are_arrays(x):
    np.testing.assert_array_equal(checked(x)[0], X)


@pytest.mark.parametrize(
    ("x", "message", "way_out"),
    [
        (np.ma.masked_array(X, MASK), "got 1 masked of 12", lambda x: x.filled(x.mean())),
        (scipy.sparse.csr_array(X), "got a sparse csr_array", lambda x: x.toarray()),
        (scipy.sparse.coo_matrix(X), "got a sparse coo_matrix", lambda x: x.toarray()),
        (
            FRAME.assign(v=pd.Categorical([1, 2] * 3)),
            "got the categorical column 'v'",
            lambda x: x.astype({"v": float}),
        ),
    ],
)
def test_what_would_be_lost_is_refused_and_the_way_out_works(x, message, way_out):
    with pytest.raises((ValueError, TypeError), match=f"^x: expected .*{message}"):
        checked(x)
    checked(way_out(x))


def test_a_column_per_category_goes_into_a_network_with_these_columns():
    x = FRAME.assign(v=pd.Categorical(["low", "high"] * 3))
    with pytest.raises(TypeError, match=r"pandas\.get_dummies\(x, columns=\['v'\], dtype=float\)"):
        checked(x)
    x = pd.get_dummies(x, columns=["v"], dtype=float)
    _data.checked(wp.BNN(wp.mlp(list(x.columns)), wp.Gaussian()), x, Y)


@pytest.mark.parametrize(
    "y",
    [
        np.ma.masked_array(Y, Y == 2),
        pd.Series(Y).astype("category"),
        [None, *Y[1:]],
        pd.Series([pd.NA, *Y[1:]], dtype="Float64"),
        np.array([pd.NaT, *Y[1:]], dtype=object),
    ],
)
def test_targets_that_are_not_there_are_refused(y):
    with pytest.raises((ValueError, TypeError), match=r"^y: expected"):
        checked(y=y)


def test_a_series_is_made_a_frame():
    with pytest.raises(ValueError, match=r"Pass x\.to_frame\(\)"):
        checked(FRAME["u"], bnn=ONE)
    checked(FRAME["u"].to_frame(), bnn=ONE)


SHUFFLED = SERIES.iloc[[3, 0, 5, 1, 4, 2]]


@pytest.mark.parametrize("argument", ["y", "row_weights"])
def test_an_index_in_another_order_is_refused(argument):
    def pass_on(values):
        if argument == "y":
            return checked(FRAME, values)
        return _data.row_weights(values, FRAME)

    with pytest.raises(ValueError, match=rf"^{argument}: expected the index of x.*{argument}\.loc"):
        pass_on(SHUFFLED)
    found = pass_on(SHUFFLED.loc[FRAME.index])
    np.testing.assert_array_equal(found[1] if argument == "y" else found, Y)
    pass_on(SHUFFLED.to_numpy())


def test_a_labelled_array_in_another_order_is_refused():
    x = xr.DataArray(X, dims=("row", "column"), coords={"row": LABELS})
    y = xr.DataArray(Y, dims="row", coords={"row": LABELS})[::-1]
    with pytest.raises(ValueError, match=r"Pass y\.reindex_like\(x\)"):
        checked(x, y)
    np.testing.assert_array_equal(checked(x, y.reindex_like(x))[1], Y)


def test_doubled_labels_cannot_be_looked_up():
    x, y = FRAME.set_axis(list("aabbcc")), SERIES.set_axis(list("abcabc"))
    with pytest.raises(ValueError, match=r"Sort both .* or y\.to_numpy\(\)"):
        checked(x, y)


def test_other_labels_are_warned_of_once_and_rows_go_by_position():
    y = SERIES.set_axis(range(10, 16))
    with pytest.warns(UserWarning, match=r"got other labels \(10 where x has 'a'\)") as caught:
        fit = wp.fit_laplace(BNN, FRAME, y, prior=wp.normal_prior(BNN), num_samples=5)
    assert len(caught) == 1
    np.testing.assert_array_equal(fit["observed_data"]["y"], Y)
    assert fit["observed_data"]["obs_id"].to_numpy().tolist() == LABELS


@pytest.mark.parametrize("y", [SERIES, Y, SERIES.tolist()])
def test_equal_indexes_and_none_are_silent(y):
    np.testing.assert_array_equal(checked(FRAME, y)[1], Y)


def test_an_index_of_another_dtype_with_equal_labels_is_equal():
    x, y = FRAME.set_axis(range(6)), SERIES.set_axis(np.arange(6.0))
    np.testing.assert_array_equal(checked(x, y)[1], Y)


def test_the_density_checks_as_fits_do():
    weights = {name: np.zeros(site.shape, np.float32) for name, site in BNN.sites.items()}
    with pytest.raises(ValueError, match="its labels in another order"):
        BNN.log_likelihood(weights, FRAME, SHUFFLED)


@pytest.mark.parametrize("likelihood", [wp.Poisson(), wp.NegativeBinomial()])
def test_counts_are_not_to_be_standardised(likelihood):
    bnn, counts = wp.BNN(wp.mlp(2, hidden=()), likelihood), np.arange(6)
    with pytest.raises(ValueError, match="Pass counts as they are, without standardising them"):
        checked(y=counts - counts.mean(), bnn=bnn)
    with pytest.raises(ValueError, match="For rates pass the counts, and the log of the exposure"):
        checked(y=counts / 7, bnn=bnn)
    checked(y=counts, bnn=bnn)
