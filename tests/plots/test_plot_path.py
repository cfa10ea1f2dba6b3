import numpy as np
import pytest

import weightprior as wp
from figures import assert_legible
from problems import NET
from shared_fits import point_fit
from weightprior import plots

SCALES = (0.05, 0.2, 1.0)


@pytest.fixture(scope="module")
def found():
    return validated({scale: NET.prior(scale=scale) for scale in SCALES})


def validated(priors):
    return of_prior(wp.stack_priors(priors))


def of_prior(prior):
    return wp.cross_validate(NET.bnn, NET.x, NET.y, prior=prior, fit=point_fit, num_folds=3)


def line(axis, label):
    [line] = [line for line in axis.lines if line.get_label() == label]
    return line.get_xdata(), line.get_ydata()


def test_lines_are_what_was_found(found):
    scores, norms, numbers = plots.plot_path(found)
    for axis, label, expected in (
        (scores, "fitted rows", found["train"]),
        (scores, "held-out rows", found["elpd"] / 15),
    ):
        x, y = line(axis, label)
        np.testing.assert_array_equal(x, SCALES)
        np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(norms.lines[0].get_ydata(), found["norm"])
    np.testing.assert_array_equal(numbers.lines[0].get_ydata(), found["effective_parameters"])
    best, one_se = found["best"].item(), found["one_se"].item()
    if best == one_se:
        assert line(scores, "best, and strongest\nwithin 1 s.e.")[0] == [best] * 2
    else:
        assert line(scores, "best")[0] == [best] * 2
        assert line(scores, "strongest within 1 s.e.")[0] == [one_se] * 2
    assert numbers.get_xscale() == "log"


def test_lengths_from_zero_and_from_a_centre_are_two_lines_where_they_differ(found):
    names = {"norm from zero", "norm from the centre"}
    assert not names & told(plots.plot_path(found))
    moved = validated({scale: NET.prior(loc=0.5, scale=scale) for scale in SCALES})
    axes = plots.plot_path(moved)
    np.testing.assert_array_equal(line(axes[1], "norm from zero")[1], moved["norm"])
    y = line(axes[1], "norm from the centre")[1]
    np.testing.assert_array_equal(y, moved["distance"])
    assert names <= told(axes)


def test_lines_run_in_the_order_of_the_labels(found):
    order = [2, 0, 1]
    moved = found.isel(prior=order)
    x, y = line(plots.plot_path(moved)[0], "fitted rows")
    np.testing.assert_array_equal(x, SCALES)
    np.testing.assert_array_equal(y, found["train"])


def test_a_centre_path_is_on_a_linear_axis_in_order():
    fractions = [-0.5, 0.0, 1.0]
    reference = point_fit(NET.bnn, NET.x, NET.y, prior=NET.prior())
    path = wp.center_path(NET.bnn, reference, fractions, scale=0.3)
    axes = plots.plot_path(of_prior(path))
    assert axes[2].get_xscale() == "linear"
    np.testing.assert_array_equal(line(axes[0], "held-out rows")[0], fractions)


def told(axes):
    """Return what the legend explains."""
    [legend] = axes[0].figure.legends
    return {text.get_text() for text in legend.get_texts()}


@pytest.mark.parametrize("one_se", SCALES[:2])
def test_the_choice_is_marked_once_or_twice(found, one_se):
    chosen = found.assign(best=SCALES[1], one_se=one_se)
    axis = plots.plot_path(chosen)[0]
    marks = [
        line for line in axis.lines if "best" in line.get_label() or "1 s.e." in line.get_label()
    ]
    assert [mark.get_xdata()[0] for mark in marks] == sorted({SCALES[1], one_se}, reverse=True)


def test_scores_on_test_rows_can_be_added(found):
    path = wp.stack_priors({scale: NET.prior(scale=scale) for scale in SCALES})
    fit = point_fit(NET.bnn, NET.x, NET.y, prior=path)
    test = wp.score(NET.bnn, fit, NET.x[:5], NET.y[:5])
    axis = plots.plot_path(found, test=test)[0]
    np.testing.assert_array_equal(line(axis, "test rows")[1], test["elpd"] / 5)


@pytest.mark.parametrize(
    ("labels", "scale", "ticks"),
    [(("a", "b"), "linear", ["a", "b"]), ((-1.0, 0.0), "linear", None)],
)
def test_other_labels_stand_on_a_linear_axis(labels, scale, ticks):
    axis = plots.plot_path(validated({label: NET.prior() for label in labels}))[2]
    assert axis.get_xscale() == scale
    if ticks:
        assert [text.get_text() for text in axis.get_xticklabels()] == ticks


@pytest.mark.parametrize("width", [85, 170])
@pytest.mark.parametrize("labels", [SCALES, (0.0, 0.5, 1.0), ("zero", "reference", "permuted")])
@pytest.mark.parametrize("apart", [False, True])
def test_everything_is_legible(found, labels, apart, width):
    other = found.assign(best=labels[1], one_se=labels[0 if apart else 1])
    other = other.assign(distance=found["norm"] * (2 if apart else 1))
    other = other.assign_coords(prior=list(labels))
    test = other[["elpd"]].assign(elpd_i=other["elpd_i"])
    axes = plots.plot_path(other, test=test, width=width)
    size = axes[0].figure.get_size_inches() * 25.4
    np.testing.assert_allclose(size, [width, 1.3 * width])
    assert_legible(axes[0].figure)


def test_what_cannot_be_plotted_is_an_error(found):
    with pytest.raises(ValueError, match="width: expected a number above 0"):
        plots.plot_path(found, width=0)
    with pytest.raises(TypeError, match="found: expected a result of cross_validate"):
        plots.plot_path(wp.prior_summary(NET.bnn, NET.prior()))
    single = of_prior(NET.prior())
    with pytest.raises(ValueError, match="for a stacked prior"):
        plots.plot_path(single)
    with pytest.raises(ValueError, match=r"test: expected scores of the priors \d"):
        plots.plot_path(found, test=wp.score(NET.bnn, found).isel(prior=[0]))
