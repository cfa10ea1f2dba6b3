"""Codes in two parts: by hand, against the evidence, and what no code may depend on."""

import numpy as np
import pytest
from scipy import integrate, stats

import oracle
import weightprior as wp
from problems import CENTRE, LINEAR, LINEAR_PRIORS, NET, Problem, exact
from shared_fits import REGRESSION, drawn, light_fit
from weightprior.evidence.two_part_code import _WIDTHS, _log_mass

# Two weights and three rows.
NOISE, LOC, SCALE = 0.5, np.array([0.4, -0.2]), np.array([1.5, 0.8])
TINY = Problem(
    wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=NOISE)),
    np.array([[-1.0], [0.2], [1.5]]),
    np.array([-1.3, 0.7, 2.2]),
)
TINY_PRIOR = wp.normal_prior(TINY.bnn, *(oracle.to_sites(a) for a in (LOC, SCALE)))
KNOWN = oracle.LinearGaussian(TINY.x, TINY.y, NOISE, LOC, SCALE)


def map_at(weights, problem, prior, row_weights=None):
    """A fit laid out as a MAP whose search has ended at these weights."""
    return light_fit(
        problem.bnn, problem.x, problem.y, {n: w[None, None] for n, w in weights.items()},
        prior=prior, row_weights=row_weights, method="map", draws="point", exact=False,
        groups={"restarts": (("restart",), [{n: w[None] for n, w in weights.items()}])},
    )  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    return map_at(oracle.to_sites(KNOWN.map), TINY, TINY_PRIOR)


def cells(width, index):
    """Edges of cells, in prior sds."""
    return (index - 0.5) * width, (index + 0.5) * width


@pytest.mark.parametrize("width", [4.0, 1.0, 0.3, 0.01])
def test_by_hand(tiny, width):
    index = np.rint((KNOWN.map - LOC) / SCALE / width)
    low, high = cells(width, index)
    weights = -np.log2(stats.norm.cdf(high) - stats.norm.cdf(low)).sum()
    residuals = -KNOWN.log_likelihood(LOC + SCALE * width * index).sum() / np.log(2)
    found = wp.two_part_code(TINY.bnn, tiny, precision=width)
    np.testing.assert_allclose(found["bits_weights"], weights, rtol=1e-9)
    np.testing.assert_allclose(found["bits_residuals"], residuals, rtol=1e-9)
    np.testing.assert_allclose(found["bits"], weights + residuals, rtol=1e-9)
    np.testing.assert_allclose(found["bits_per_observation"] * 3, found["bits"])
    np.testing.assert_allclose(oracle.from_sites(_precisions(found)), width * SCALE)
    assert found["precision"] == width
    assert found["bits_precision"] == 0


def _precisions(found):
    return {name: found[f"precision.{name}"] for name in ("output.weight", "output.bias")}


@pytest.mark.parametrize("width", [2.0, 0.5, 0.1])
def test_it_is_longer_than_the_evidence_on_the_grid(tiny, width):
    """It takes one of the terms whose sum that evidence is; here those within six sds."""
    index = np.arange(-int(6 / width) - 1, int(6 / width) + 2)
    low, high = cells(width, index)
    mass = stats.norm.cdf(high) - stats.norm.cdf(low)
    grid = np.stack(np.meshgrid(index, index, indexing="ij"), axis=-1) * width * SCALE + LOC
    terms = np.log(mass)[:, None] + np.log(mass) + KNOWN.log_likelihood(grid).sum(axis=-1)
    found = wp.two_part_code(TINY.bnn, tiny, precision=width)
    assert found["bits"] > -np.log2(np.exp(terms).sum())


@pytest.mark.parametrize("width", [2.0, 0.5, 0.1, 1e-3])
def test_it_is_longer_than_the_evidence_but_for_what_varies_within_a_cell(tiny, width):
    """By Jensen's inequality, from the evidence of the cell alone.

    With the prior confined to the cell, ``log p(y) >= log mass + E[log p(y | w)]``, and for a
    quadratic log likelihood the mean is ``log p(y | w_c) + g m - tr(H M) / 2``: the gradient, the
    curvature, and the first two moments of w around the cell's centre w_c.
    """
    index = np.rint((KNOWN.map - LOC) / SCALE / width)
    low, high = cells(width, index)
    confined = stats.truncnorm(low, high)
    mean = confined.mean() - index * width
    columns = oracle.design(TINY.x) * SCALE / NOISE
    residual = (TINY.y - oracle.design(TINY.x) @ (LOC + SCALE * width * index)) / NOISE
    moments = np.outer(mean, mean) + np.diag(confined.var())
    within = residual @ columns @ mean - 0.5 * np.trace(columns.T @ columns @ moments)
    found = wp.two_part_code(TINY.bnn, tiny, precision=width)
    assert found["bits"] * np.log(2) > -KNOWN.log_evidence + within


def test_of_all_precisions_the_best_is_chosen_and_paid_for(tiny):
    found = wp.two_part_code(TINY.bnn, tiny)
    bits = [wp.two_part_code(TINY.bnn, tiny, precision=p)["bits"].item() for p in _WIDTHS]
    assert found["precision"] == _WIDTHS[np.argmin(bits)]
    np.testing.assert_allclose(found["bits"], min(bits) + np.log2(34))
    np.testing.assert_allclose(found["bits_precision"], np.log2(34))
    assert found["bits"] * np.log(2) > -KNOWN.log_evidence


def test_the_coarsest_cells_say_nothing_but_the_prior(tiny):
    found = wp.two_part_code(TINY.bnn, tiny, precision=16.0)
    np.testing.assert_allclose(found["bits_weights"], 0, atol=1e-14)
    nothing = -KNOWN.log_likelihood(LOC).sum() / np.log(2)
    np.testing.assert_allclose(found["bits_residuals"], nothing)


@pytest.mark.parametrize("width", [8.0, 1.0, 0.05])
def test_cells_hold_all_of_the_prior(width):
    index = np.arange(-int(40 / width) - 1, int(40 / width) + 2)
    mass = np.exp(_log_mass(np.abs(index), np.float64(width)))
    np.testing.assert_allclose(mass.sum(), 1, rtol=1e-12)


@pytest.mark.parametrize("place", [0.0, 1.0, 7.0, 90.0])
@pytest.mark.parametrize("width", [2.0, 0.1, 1e-4, 1e-6, 1e-9])
def test_cells_keep_their_digits_in_the_tails(place, width):
    index = np.rint(place / width)
    place = index * width
    # The density within the cell in units of that at its centre.
    share, _ = integrate.quad(
        lambda t: np.exp(-place * width * t - 0.5 * (width * t) ** 2), -0.5, 0.5, epsabs=0
    )
    expected = stats.norm.logpdf(place) + np.log(width) + np.log(share)
    # Tails are known to the precision of their logarithm, whose differences over the width of a
    # cell in units of their slope are the mass; in narrow cells the density is off by 1e-8 / 24.
    rounding = 4 * np.finfo(float).eps * max(1.0, place**2 / 2)
    allowed = max(rounding / min(1.0, 1e-4), 5e-10)
    np.testing.assert_allclose(_log_mass(index, np.float64(width)), expected, rtol=0, atol=allowed)


def test_a_translation_changes_nothing():
    """The grid is centred where the prior is."""
    prior, moved = LINEAR.prior(scale=0.7), LINEAR.prior(loc=CENTRE, scale=0.7)
    centre = oracle.from_sites(moved.loc)
    here, there = (
        wp.two_part_code(LINEAR.bnn, map_at(oracle.to_sites(mode), LINEAR._replace(y=y), given))
        for mode, y, given in (
            (exact(prior).map, LINEAR.y, prior),
            (exact(prior).map + centre, LINEAR.y + oracle.design(LINEAR.x) @ centre, moved),
        )
    )
    for name in here:
        np.testing.assert_allclose(here[name], there[name], rtol=1e-9)


def test_a_stacked_prior_equals_the_loop_over_its_priors():
    fit = drawn("map", "strings")
    found = wp.two_part_code(REGRESSION, fit)
    assert found["layer"].to_numpy().tolist() == ["hidden_0", "output", "log_noise"]
    assert found["prior"].to_numpy().tolist() == ["narrow", "moved"]
    np.testing.assert_allclose(found["bits_weights_by_layer"].sum("layer"), found["bits_weights"])
    assert (found["bits_weights_by_layer"] > 0).all()
    for label, part in wp.unstack_fit(fit).items():
        alone = wp.two_part_code(REGRESSION, part)
        for name in alone:
            np.testing.assert_array_equal(alone[name], found[name].sel(prior=label))


def test_rows_cost_as_often_as_they_count():
    counts = np.repeat([2.0, 0.0, 1.0], 5)
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=site.shape) for name, site in NET.bnn.sites.items()}
    fit = map_at(weights, NET, NET.prior(), row_weights=counts)
    found = wp.two_part_code(NET.bnn, fit, precision=1e-9)
    # Cells so narrow leave the weights where they were.
    terms = fit["log_likelihood"]["y"].to_numpy()[0, 0]
    np.testing.assert_allclose(found["bits_residuals"], -(counts @ terms) / np.log(2), rtol=1e-6)
    np.testing.assert_allclose(found["bits_per_observation"] * 15, found["bits"])


def test_of_laplaces_fit_the_map_is_sent_by_the_network_itself():
    options = {"prior": NET.prior(), "rng_key": 3}
    fits = (f(NET.bnn, NET.x, NET.y, **options) for f in (wp.fit_map, wp.fit_laplace))
    ours, laplaces = (wp.two_part_code(NET.bnn, fit, precision=2.0**-6) for fit in fits)
    np.testing.assert_array_equal(ours["bits"], laplaces["bits"])


@pytest.mark.parametrize(
    ("precision", "error", "message"),
    [(0.0, ValueError, "precision"), (np.inf, ValueError, "precision"), ("1", TypeError, "preci")],
)
def test_a_precision_that_cannot_be_is_named(tiny, precision, error, message):
    with pytest.raises(error, match=message):
        wp.two_part_code(TINY.bnn, tiny, precision=precision)


def test_what_has_no_such_code_is_refused():
    prior = LINEAR.prior(**LINEAR_PRIORS["flat biases"])
    flat = map_at(oracle.to_sites(exact(prior).map), LINEAR, prior)
    with pytest.raises(ValueError, match=r"prior: .* flat .*'output.bias': a weight without"):
        wp.two_part_code(LINEAR.bnn, flat)
    with pytest.raises(ValueError, match="expected one with a MAP"):
        wp.two_part_code(REGRESSION, drawn("hmc"))
    with pytest.raises(TypeError, match="DataTree"):
        wp.two_part_code(REGRESSION, None)
