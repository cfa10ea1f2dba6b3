import numpy as np
import pandas as pd
import pytest

import weightprior as wp
from figures import assert_legible
from shared_fits import case
from weightprior import plots

NAN = np.nan
TABLE = pd.DataFrame(
    {
        "lpd_train": [-0.5, -0.8, -0.6],
        "lpd_test": [-1.0, -0.9, NAN],
        "lpd_test_se": [0.2, NAN, NAN],
        "elpd_loo": [-0.9, NAN, NAN],
        "elpd_loo_se": [0.1, NAN, NAN],
        "loo_reliable": pd.array([True, pd.NA, pd.NA], dtype="boolean"),
        "elpd_cv": [NAN, NAN, -1.1],
        "elpd_cv_se": [NAN, NAN, 0.3],
        "converged": pd.array([True, True, True], dtype="boolean"),
        "note": ["", "no LOO, R-hat or ESS: a MAP is one point", "5-fold cross-validation"],
    },
    index=["posterior", "map", "cv"],
)


def points(axis, label):
    [line] = [line for line in axis.lines if line.get_label() == label]
    return line.get_xdata(), line.get_ydata()


def crossed(axis):
    """Scores with a cross, and the rows that have one."""
    found = {}
    for line in axis.lines:
        if "not reliable" in str(line.get_label()) and len(line.get_xdata()):
            name = line.get_label().removesuffix(", not reliable")
            found[name] = np.round(line.get_ydata()).astype(int).tolist()
    return found


def test_points_and_bars_are_the_table():
    [axis] = plots.plot_comparison(TABLE)
    assert [text.get_text() for text in axis.get_yticklabels()] == list(TABLE.index)
    assert axis.yaxis_inverted()
    for name in ("lpd_train", "lpd_test", "elpd_loo", "elpd_cv"):
        x, y = points(axis, name)
        np.testing.assert_array_equal(x, TABLE[name])
        np.testing.assert_array_equal(np.round(y), [0, 1, 2])
    reach = {}
    for bars in axis.containers:
        for segment in bars.lines[2][0].get_segments():
            if len(segment) and not np.isnan(segment).any():
                reach[round(segment[:, 0].mean(), 9)] = np.ptp(segment[:, 0])
    assert reach == pytest.approx({-1.0: 0.8, -0.9: 0.4, -1.1: 1.2})
    assert crossed(axis) == {}


EVERYTHING = {"lpd_train": [0], "lpd_test": [0], "elpd_loo": [0]}


@pytest.mark.parametrize(
    ("column", "said", "expected"),
    [
        ("loo_reliable", True, {}),
        ("loo_reliable", False, {"elpd_loo": [0]}),
        ("loo_reliable", pd.NA, {}),
        ("converged", True, {}),
        ("converged", False, EVERYTHING),
        ("converged", pd.NA, {}),
    ],
)
def test_crosses_mark_what_the_table_says_is_not_reliable(column, said, expected):
    table = TABLE.assign(note="not converged; LOO unreliable")  # Words are for readers.
    table.loc["posterior", column] = said
    [axis] = plots.plot_comparison(table)
    assert crossed(axis) == expected
    [legend] = axis.figure.legends
    told = "not reliable" in [text.get_text() for text in legend.get_texts()]
    assert told == (expected != {})


def test_every_fit_has_crosses_of_its_own():
    table = TABLE.assign(converged=pd.array([True, False, False], dtype="boolean"))
    table.loc["posterior", "loo_reliable"] = False
    [axis] = plots.plot_comparison(table)
    expected = {"lpd_train": [1, 2], "lpd_test": [1], "elpd_loo": [0], "elpd_cv": [2]}
    assert crossed(axis) == expected


def test_of_a_real_table():
    made = case("gaussian")
    table = wp.compare(made.bnn, {"made": made.fit}, made.x, made.y)
    assert not table["loo_reliable"].item()  # Random weights are no posterior.
    [axis] = plots.plot_comparison(table)
    assert points(axis, "lpd_test")[0] == [table["lpd_test"].item()]
    assert crossed(axis)["elpd_loo"] == [0]


@pytest.mark.parametrize("width", [85, 170])
@pytest.mark.parametrize(
    "names",
    [
        ["a", "b", "c"],
        ["posterior[reference, 0.25]", "the posterior of last year as prior, wider", "cv"],
        [f"map[{i}]" for i in range(15)],
    ],
)
def test_everything_is_legible(names, width):
    table = TABLE.iloc[np.arange(len(names)) % 3].set_axis(names)
    table = table.assign(converged=pd.array([False] * len(names), dtype="boolean"))
    [axis] = plots.plot_comparison(table, width=width)
    np.testing.assert_allclose(axis.figure.get_size_inches()[0] * 25.4, width)
    assert_legible(axis.figure)


def test_what_cannot_be_plotted_is_an_error():
    with pytest.raises(TypeError, match="table: expected a result of compare; got dict"):
        plots.plot_comparison({})
    for column in ("lpd_train", "converged"):
        with pytest.raises(TypeError, match="table: expected a result of compare; got DataFrame"):
            plots.plot_comparison(TABLE.drop(columns=column))
    blank = dict.fromkeys(("lpd_train", "lpd_test", "elpd_loo", "elpd_cv"), NAN)
    with pytest.raises(ValueError, match="table: expected numbers in one of 'lpd_train', "):
        plots.plot_comparison(TABLE.assign(**blank))
    with pytest.raises(ValueError, match="width: expected a number above 0"):
        plots.plot_comparison(TABLE, width=0)
