import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

from figures import assert_legible
from weightprior import plots

SCALES = [0.1, 0.3, 1.0, 3.0]
CENTERS = ["zero", "reference"]
GRID = [(loc, scale) for loc in CENTERS for scale in SCALES]


def made(labels=SCALES, steep=1.0, criteria=("evidence", "loo", "cv")):
    """Make what `compare_priors` returns, of which each criterion prefers another prior."""
    places, best = np.arange(len(labels)), np.arange(len(criteria))
    difference = -3.0 * steep * np.abs(places - best[:, None])
    of_each = {
        "difference": difference,
        "difference_se": np.where(difference < 0, 0.5, 0.0),
        "close": difference > -4,
    }
    found = xr.Dataset(
        {name: (("criterion", "prior"), values) for name, values in of_each.items()},
        {"criterion": list(criteria), "prior": labels},
        {"function": "compare_priors"},
    )
    found["best"] = ("criterion", [labels[i] for i in best])
    doubted = np.array([3, 0, -1])[: len(criteria)]
    return found.assign(doubtful=(("criterion", "prior"), places == doubted[:, None]))


def at(axis, label):
    """Points of a kind."""
    [points] = [line for line in axis.lines if line.get_label() == label]
    return list(points.get_xdata()), list(points.get_ydata())


def test_points_are_what_was_found():
    found = made()
    axes = plots.plot_evidence(found)
    for number, (axis, name) in enumerate(zip(axes, ("evidence", "loo", "cv"), strict=True)):
        one = found.sel(criterion=name)
        [bars] = axis.containers
        np.testing.assert_array_equal(bars.lines[0].get_xdata(), SCALES)
        np.testing.assert_array_equal(bars.lines[0].get_ydata(), one["difference"])
        [segments] = bars.lines[2]
        reach = np.array([segment[:, 1] for segment in segments.get_segments()])
        for side, sign in enumerate((-2, 2)):
            expected = one["difference"] + sign * one["difference_se"]
            np.testing.assert_allclose(reach[:, side], expected)
        assert at(axis, "best") == ([SCALES[number]], [0.0])
        near = [SCALES[i] for i in (number - 1, number + 1) if 0 <= i < 4]
        assert at(axis, "close to the best")[0] == near
        far = [scale for scale in SCALES if scale not in (*near, SCALES[number])]
        assert at(axis, "not close")[0] == far
        assert axis.get_xscale() == "log"
    assert at(axes[0], "not reliable")[0] == [3.0]
    assert at(axes[1], "not reliable")[0] == [0.1]
    assert at(axes[2], "not reliable")[0] == []


def test_the_best_of_each_criterion_is_marked_in_all_panels():
    axes = plots.plot_evidence(made())
    for own, axis in enumerate(axes):
        lines = [line for line in axis.lines if len(set(line.get_xdata())) == 1]
        marks = [line for line in lines if list(line.get_ydata()) == [0, 1]]
        assert [mark.get_xdata()[0] for mark in marks] == SCALES[:3]
        assert len({mark.get_color() for mark in marks}) == 3
        styles = [mark.get_linestyle() for mark in marks]
        assert styles == ["-" if i == own else ":" for i in range(3)]


def test_where_criteria_agree_there_is_one_mark():
    found = made()
    for axis in plots.plot_evidence(found.assign(best=found["best"].copy(data=[SCALES[0]] * 3))):
        assert [
            line.get_linestyle() for line in axis.lines if list(line.get_ydata()) == [0, 1]
        ] == ["-"]
        assert "best by another" not in {text.get_text() for text in axis.figure.legends[0].texts}


@pytest.mark.parametrize(("steep", "scale"), [(1.0, "linear"), (30.0, "symlog")])
def test_large_differences_leave_room_for_small_ones(steep, scale):
    axes = plots.plot_evidence(made(steep=steep))
    assert {axis.get_yscale() for axis in axes} == {scale}
    assert ("logarithmic" in axes[0].figure.get_supylabel()) == (scale == "symlog")


def test_two_criteria_take_two_panels():
    assert len(plots.plot_evidence(made(criteria=("evidence", "loo")))) == 2


# Where there is room, differences of one size show what differs.
@pytest.mark.parametrize(
    ("width", "steep"), [(85, 0.01), (85, 1.0), (85, 300.0), (170, 300.0)], ids=str
)
@pytest.mark.parametrize(
    "labels",
    [
        SCALES,
        [-1.0, 0.0, 1.0, 2.0],
        ["zero", "reference", "random", "permuted"],
        ["posterior of last year", "the same, wider", "pretrained", "zero"],
        [f"{loc}, {scale}" for loc, scale in GRID],
    ],
    ids=["scales", "centres", "words", "long words", "grid"],
)
def test_everything_is_legible_at_the_width_of_a_column(labels, steep, width):
    figure = plots.plot_evidence(made(labels, steep), width=width)[0].figure
    np.testing.assert_allclose(figure.get_size_inches()[0] * 25.4, width)
    assert_legible(figure)


def test_a_map_has_a_cell_for_every_prior():
    labels = [f"{loc}, {scale}" for loc, scale in GRID]
    found = made(labels).sel(prior=labels[::-1])  # In any order.
    loc, scale = ([cell[i] for cell in GRID[::-1]] for i in (0, 1))
    [axis] = plots.plot_evidence_map(found, loc=loc, scale=scale)
    written = {text.get_position(): text.get_text() for text in axis.texts}
    assert len(written) == len(axis.patches) == 8
    rows = [tick.get_text() for tick in axis.get_yticklabels()]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0.1", "0.3", "1", "3"]
    for number, (where, width) in enumerate(GRID):
        text = written[SCALES.index(width), rows.index(where)]
        expected = f"−{3 * number:.1f}\n± 0.5" if number else "★ best"  # noqa: RUF001
        assert text == expected
    hatched = [patch.get_xy() for patch in axis.patches if patch.get_hatch()]
    assert hatched == [(2.5, rows.index("zero") - 0.5)]
    dots = [(line.get_xdata()[0] + 0.4, line.get_ydata()[0] - 0.3) for line in axis.lines]
    np.testing.assert_allclose(dots, [(1, rows.index("zero"))])


def test_a_map_of_another_criterion_and_numbers():
    found = made()
    loc, scale = [0.5, 0.0, 0.5, 0.0], [1.0, 1.0, 0.1, 0.2]
    coords = {"fraction": ("prior", loc), "scale": ("prior", scale)}
    given = {"loc": "fraction", "criterion": "loo"}
    [axis] = plots.plot_evidence_map(found.assign_coords(coords), **given)
    with pytest.raises(ValueError, match=r"loc: expected a coordinate among .*got 'fraction'"):
        plots.plot_evidence_map(found, **given)
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["0", "0.5"]
    assert len(axis.patches) == 4  # Of six cells.
    written = {text.get_text(): text.get_position() for text in axis.texts}
    assert written["★ best"] == (2, 0)
    assert "PSIS-LOO" in axis.get_title(loc="left")


def test_colours_and_ink_differ_enough_to_read():
    labels = [f"{loc}, {scale}" for loc, scale in GRID]
    found = made(labels, steep=20.0)
    loc, scale = zip(*GRID, strict=True)
    [axis] = plots.plot_evidence_map(found, loc=loc, scale=scale)
    for patch, text in zip(axis.patches, axis.texts, strict=True):
        inks = [_luminance(color) for color in (patch.get_facecolor(), text.get_color())]
        # 4.5 is what the Web Content Accessibility Guidelines ask of small text.
        assert (max(inks) + 0.05) / (min(inks) + 0.05) > 4.5
    shades = [_luminance(patch.get_facecolor()) for patch in axis.patches]
    assert (np.diff(shades) < 0).all()


def _luminance(color):
    """Relative luminance, by the same guidelines."""
    channels = np.array(mpl.colors.to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize(("width", "columns"), [(85, 4), (85, 7), (170, 12)])
def test_a_map_is_legible_at_the_width_of_a_column(width, columns):
    cells = [(loc, scale) for loc in CENTERS for scale in np.geomspace(0.05, 2, columns)]
    found = made([str(i) for i in range(len(cells))], steep=20.0)
    loc, scale = zip(*cells, strict=True)
    [axis] = plots.plot_evidence_map(
        found, loc=loc, scale=[round(s, 2) for s in scale], width=width
    )
    assert_legible(axis.figure)


@pytest.mark.parametrize("plot", [plots.plot_evidence, plots.plot_evidence_map])
@pytest.mark.parametrize(
    ("found", "error", "message"),
    [
        (None, TypeError, "found: expected a result of compare_priors; got NoneType"),
        (made().assign_attrs(function="other"), TypeError, "a result of compare_priors"),
        (made().isel(prior=0), ValueError, "for a stacked prior"),
    ],
)
def test_what_cannot_be_plotted_is_an_error(plot, found, error, message):
    places = {} if plot is plots.plot_evidence else {"loc": SCALES, "scale": SCALES}
    with pytest.raises(error, match=message):
        plot(found, **places)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loc": [0.0]}, ValueError, "loc: expected one for each of the 4 priors"),
        ({"scale": [0.0, np.nan, 1.0, 2.0]}, ValueError, "scale: .*got NaN"),
        ({"scale": [1.0, 1.0, 2.0, 3.0]}, ValueError, "loc and scale: .*got the same for 0.1, 0.3"),
        ({"criterion": "waic"}, ValueError, "criterion: expected one of 'evidence', 'loo', 'cv'"),
        ({"width": 0}, ValueError, "width: expected a number above 0"),
    ],
)
def test_an_option_that_cannot_be_is_named(options, error, message):
    given = {"loc": [0.0] * 4, "scale": SCALES} | options
    with pytest.raises(error, match=message):
        plots.plot_evidence_map(made(), **given)
