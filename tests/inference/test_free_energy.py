"""Normalisers of a ladder of temperatures, against closed forms."""

import numpy as np
import pytest

import oracle
from assertions import assert_estimate
from weightprior.inference.free_energy import Curve, estimate, next_temperature

_rng = np.random.default_rng(0)
X = _rng.normal(size=(30, 3))
NOISE, LOC, SCALE = 0.5, np.array([1.0, 0.0, -1.0, 2.0]), np.array([1.0, 0.5, 2.0, 1.0])
Y = X @ [1.0, 1.0, 1.0] + NOISE * _rng.normal(size=30)
LADDER = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 12)])


def tempered(beta):
    """The posterior under the likelihood to a power, which is that of a larger noise."""
    data = (X, Y) if beta > 0 else (X[:0], Y[:0])
    return oracle.LinearGaussian(*data, NOISE / np.sqrt(max(beta, 1e-9)), LOC, SCALE)


def log_normaliser(beta):
    """The evidence under that noise, but for the constants of its density."""
    if beta == 0:
        return 0.0
    wide, count = NOISE / np.sqrt(beta), len(Y)
    log_scale = count * np.log(wide * np.sqrt(2 * np.pi))
    return (
        tempered(beta).log_evidence + log_scale - beta * count * np.log(NOISE * 2.5066282746310002)
    )


def curves(energies):
    """Of draws whose log likelihoods these are, nothing integrated out."""
    return [Curve(one, *np.zeros((2, *one.shape, 0))) for one in energies]


def energies(rng, shape, ladder=LADDER):
    """Log likelihoods of independent draws at every temperature."""
    model, drawn = tempered(1.0), []
    for beta in ladder:
        at = tempered(beta)
        weights = rng.multivariate_normal(at.mean, at.covariance, shape)
        drawn.append([[model.log_likelihood(w).sum() for w in chain] for chain in weights])
    return np.array(drawn)


def test_normalisers_meet_their_closed_form():
    found = estimate(LADDER, curves(energies(np.random.default_rng(1), (8, 50))))
    expected = [log_normaliser(beta) for beta in LADDER]
    assert_estimate(found.log_evidence[1:], expected[1:], found.error[1:], num_comparisons=1000)
    assert (found.overlap > 0.2).all()


@pytest.mark.slow
def test_errors_cover_as_often_as_they_say():
    rng, expected = np.random.default_rng(2), log_normaliser(1.0)
    ladder = LADDER[::3]
    scores = []
    for _ in range(200):
        found = estimate(ladder, curves(energies(rng, (8, 10), ladder)))
        scores.append((found.log_evidence[-1] - expected) / found.error[-1])
    # Student's t of seven degrees of freedom: its 95 % are within 2.36.
    inside = np.mean(np.abs(scores) < 2.36)
    assert abs(inside - 0.95) < 5 * np.sqrt(0.95 * 0.05 / 200)


def test_errors_count_chains_not_draws():
    """Draws that only repeat their chain's first say no more than it does."""
    one = energies(np.random.default_rng(3), (40, 1))
    alone, repeated = (
        estimate(LADDER, curves(drawn)) for drawn in (one, np.repeat(one, 20, axis=2))
    )
    np.testing.assert_allclose(repeated.log_evidence, alone.log_evidence, atol=1e-6)
    np.testing.assert_allclose(repeated.error, alone.error, rtol=1e-4)


def test_two_temperatures_are_bennetts_acceptance_ratio():
    ladder = np.array([0.3, 1.0])
    low, high = energies(np.random.default_rng(4), (4, 100), ladder)
    found = estimate(ladder, curves([low, high]))
    ratio = found.log_evidence[1]
    upward = 1 / (1 + np.exp(-(0.7 * low - ratio)))
    downward = 1 / (1 + np.exp(0.7 * high - ratio))
    np.testing.assert_allclose(upward.sum(), downward.sum(), rtol=1e-6)
    np.testing.assert_allclose(found.overlap, [upward.mean()], rtol=1e-6)


def test_overlap_of_what_is_alike_is_a_half_and_of_strangers_nought():
    same = np.random.default_rng(5).normal(size=(3, 4, 50))
    found = estimate(np.array([0.0, 1e-9, 2e-9]), curves(same))
    np.testing.assert_allclose(found.overlap, 0.5, atol=1e-6)
    apart = same + np.array([-1e5, 0.0, 1e5])[:, None, None]
    assert (estimate(np.array([0.0, 0.5, 1.0]), curves(apart)).overlap < 1e-6).all()


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_the_next_temperature_keeps_its_share_of_draws(share):
    drawn = 1e4 * np.random.default_rng(6).normal(size=(4, 1000))
    step = next_temperature(0.25, *curves([drawn]), share) - 0.25
    weights = np.exp(step * (drawn - drawn.max()))
    assert weights.sum() ** 2 / (weights**2).sum() == pytest.approx(share * drawn.size, rel=1e-3)


def test_where_data_say_nothing_one_step_is_enough():
    assert next_temperature(0.0, *curves([np.full((4, 10), -3.0)]), 0.5) > 1


def integrated(rng, shape, ladder=LADDER):
    """Curves of the last weight's draws, all others integrated out: exact at every temperature."""
    design = oracle.design(X)
    kept, out = design[:, -1:], design[:, :-1] * SCALE[:-1] / NOISE
    eigenvalues, vectors = np.linalg.eigh(out.T @ out)
    found = []
    for beta in ladder:
        at = tempered(beta)
        last = rng.normal(at.mean[-1], at.sd[-1], (*shape, 1))
        residual = (Y - design[:, :-1] @ LOC[:-1] - last @ kept.T) / NOISE
        linear = -0.5 * (residual**2).sum(-1) - len(Y) * np.log(NOISE * np.sqrt(2 * np.pi))
        found.append(
            Curve(linear, np.broadcast_to(eigenvalues, (*shape, 3)), residual @ out @ vectors)
        )
    return found


def test_weights_may_be_integrated_out():
    """The same normalisers, by a third of the error at the most."""
    known = np.array([log_normaliser(beta) for beta in LADDER])
    found = estimate(LADDER, integrated(np.random.default_rng(7), (8, 50)))
    plain = estimate(LADDER, curves(energies(np.random.default_rng(7), (8, 50))))
    assert_estimate(found.log_evidence[1:], known[1:], found.error[1:], num_comparisons=1000)
    assert found.error[-1] < plain.error[-1] / 1.5


def test_the_slope_is_the_derivative():
    curve, step = integrated(np.random.default_rng(8), (2, 3))[-1], 1e-5
    difference = (curve.at(0.3 + step) - curve.at(0.3 - step)) / (2 * step)
    # A central difference of a curve whose third derivative is about 1e3 times its slope.
    np.testing.assert_allclose(curve.slope(0.3), difference, rtol=1e-6)
