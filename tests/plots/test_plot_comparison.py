import numpy as np
import pandas as pd
import pytest

import weightprior as wp
from figures import assert_legible
from fits import case
from weightprior import plots

NAN = np.nan
TABLE = pd.DataFrame(
    {
        "train": [-0.5, -0.8, -0.6],
        "test": [-1.0, -0.9, NAN],
        "test_se": [0.2, NAN, NAN],
        "loo": [-0.9, NAN, NAN],
        "loo_se": [0.1, NAN, NAN],
        "cv": [NAN, NAN, -1.1],
        "cv_se": [NAN, NAN, 0.3],
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
    axis = plots.plot_comparison(TABLE)
    assert [text.get_text() for text in axis.get_yticklabels()] == list(TABLE.index)
    assert axis.yaxis_inverted()
    for name in ("train", "test", "loo", "cv"):
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


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ("LOO unreliable at 1 of 15 rows (k > 0.67)", {"loo": [0]}),
        ("no LOO: fewer than 100 draws; 32 effective draws where 200 are wanted (R-hat 1.06)", ...),
        ("2 of 4 members not converged (gradient 0.1)", ...),
        ("R-hat 1.030 where at most 1.01 is wanted", ...),
        ("3 of 400 transitions diverged", ...),
        ("chain 2 sits away from the others (3.1 sd)", ...),
        ("chains 1, 2 and 4 never moved", ...),
        ("chain 1 explored energies too slowly (BFMI 0.10)", ...),
        (
            "evidence unreliable: Laplace's approximation around one mode, of unknown error",
            {},
        ),
        ("draws from an approximation are independent, not chains", {}),
        ("no LOO: the log likelihood is not converged", {}),
    ],
)
def test_crosses_mark_what_the_notes_doubt(note, expected):
    axis = plots.plot_comparison(TABLE.assign(note=[note, "", ""]))
    everything = {"train": [0], "test": [0], "loo": [0]}
    assert crossed(axis) == (everything if expected is ... else expected)
    [legend] = axis.figure.legends
    told = "not reliable" in [text.get_text() for text in legend.get_texts()]
    assert told == (expected != {})


def test_of_a_real_table():
    made = case("gaussian")
    table = wp.compare(made.bnn, {"made": made.fit}, made.x, made.y)
    assert "LOO unreliable" in table["note"].item()  # Random weights are no posterior.
    axis = plots.plot_comparison(table)
    assert points(axis, "test")[0] == [table["test"].item()]
    assert crossed(axis)["loo"] == [0]


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
    table = table.assign(note="not converged (gradient 1)")
    axis = plots.plot_comparison(table, width=width)
    np.testing.assert_allclose(axis.figure.get_size_inches()[0] * 25.4, width)
    assert_legible(axis.figure)


def test_what_cannot_be_plotted_is_an_error():
    with pytest.raises(TypeError, match="table: expected what compare returns; got dict"):
        plots.plot_comparison({})
    with pytest.raises(ValueError, match="table: expected numbers in one of 'train', 'test'"):
        plots.plot_comparison(TABLE.assign(train=NAN, test=NAN, loo=NAN, cv=NAN))
    with pytest.raises(ValueError, match="width: expected a number above 0"):
        plots.plot_comparison(TABLE, width=0)
