"""Ranks and their uniformity: an exact test, against enumeration and against simulation."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from assertions import assert_estimate
from weightprior.evaluation._ranks import judge_ranks, rank


def uniform_ranks(rng, num_draws, shape):
    return rng.integers(0, num_draws, size=shape, endpoint=True)


class TestRank:
    def test_it_counts_the_draws_below(self):
        rng = np.random.default_rng(0)
        draws, true = rng.normal(size=(4, 25, 3)), np.array([-9.0, 0.1, 9.0])
        found = rank(true, draws, 100, rng)
        np.testing.assert_array_equal(found, (draws < true).sum((0, 1)))

    def test_of_many_draws_some_are_looked_at_from_every_chain(self):
        position = np.arange(4 * 250.0).reshape(4, 250)
        rng = np.random.default_rng(0)
        below = [rank(np.array(truth), position, 100, rng) for truth in range(0, 1000, 25)]
        # Ten draws apart, so that each chain holds a quarter of them.
        np.testing.assert_allclose(below, np.arange(0, 100, 2.5), rtol=0, atol=0.5)

    def test_every_place_among_equals_is_as_likely(self):
        draws = np.array([[0.0, 1.0, 1.0, 1.0, 2.0]])
        rng = np.random.default_rng(0)
        found = rank(np.ones(4000), np.repeat(draws[..., None], 4000, 2), 5, rng)
        counts = np.bincount(found, minlength=6)
        assert counts[[0, 5]].sum() == 0
        assert stats.chisquare(counts[1:5]).pvalue > 1e-6


class TestJudgement:
    @pytest.mark.parametrize(("num_simulations", "num_draws"), [(4, 3), (3, 5), (1, 4), (5, 1)])
    def test_p_values_are_those_of_an_enumeration(self, num_simulations, num_draws):
        ranks = np.array(list(product(range(num_draws + 1), repeat=num_simulations))).T
        found = judge_ranks({"all": ranks}, num_draws, 0.01).p_values["all"]
        # The share of equally likely outcomes that are no more usual; p orders them.
        expected = [(found <= p * (1 + 1e-12)).mean() for p in found]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert len(set(found.round(12))) > 1

    def test_uniform_ranks_are_rejected_as_often_as_is_said(self):
        rng = np.random.default_rng(1)
        num_repeats, level = 2000, 0.05
        # The quantities of one group of three are independent, those of the other one are equal.
        apart = uniform_ranks(rng, 19, (50, num_repeats, 3))
        p_values = judge_ranks({"apart": apart}, 19, level).p_values["apart"]
        together = (p_values.min(1) * 3 <= level).mean()
        # Discrete, so a little below the level: its own distribution says by how much.
        attained = np.max(p_values[p_values <= level / 3])
        expected = 1 - (1 - attained) ** 3
        error = np.sqrt(expected * (1 - expected) / num_repeats)
        assert_estimate(together, expected, error, num_comparisons=2)
        assert 0.9 * level < expected <= level
        alone = (p_values[:, 0] * 3 <= level).mean()  # three times the same quantity
        error = np.sqrt(attained * (1 - attained) / num_repeats)
        assert_estimate(alone, attained, error, num_comparisons=2)

    def test_verdict_band_and_p_value_agree(self):
        rng, verdicts = np.random.default_rng(2), []
        for _ in range(100):
            ranks = {"a": uniform_ranks(rng, 9, (30, 2)), "b": uniform_ranks(rng, 9, (30,))}
            found = judge_ranks(ranks, 9, 0.5)
            middle, half = (found.upper + found.lower) / 2, (found.upper - found.lower) / 2
            inside = all(
                np.all(np.abs(values.T - middle) < half + 1e-12)
                for values in found.ecdf_diff.values()
            )
            smallest = min(np.min(p) for p in found.p_values.values())
            assert found.p_value == min(1, 3 * smallest)
            assert found.uniform == inside == (found.p_value > 0.5)
            verdicts.append(found.uniform)
        assert 20 < sum(verdicts) < 80

    def test_the_ecdf_is_that_of_the_ranks(self):
        ranks = np.array([0, 0, 2, 3])
        found = judge_ranks({"lp": ranks}, 3, 0.01)
        np.testing.assert_allclose(found.ecdf_diff["lp"], [0.5 - 0.25, 0.5 - 0.5, 0.75 - 0.75])

    @pytest.mark.parametrize(
        "shape", [stats.beta(0.5, 0.5), stats.beta(2, 2), stats.beta(1, 1.5), stats.beta(1.5, 1)]
    )
    def test_other_distributions_are_found_out(self, shape):
        # A posterior too narrow, too wide, too high, too low.
        pit = shape.rvs(200, random_state=np.random.default_rng(3))
        assert judge_ranks({"lp": (100 * pit).astype(int)}, 99, 0.01).p_value < 0.01

    @pytest.mark.parametrize("end", [0, 99])
    def test_small_p_values_keep_their_digits(self, end):
        found = judge_ranks({"lp": np.full(50, end)}, 99, 0.01)
        # As extreme as this is only that all ranks are 0, or all 99.
        np.testing.assert_allclose(found.p_value, 2 * 0.01**50, rtol=1e-9)

    def test_few_ranks_leave_the_band_open(self):
        found = judge_ranks({"lp": np.array([0])}, 9, 0.01)
        assert found.uniform
        share = np.arange(1, 10) / 10
        np.testing.assert_allclose(found.lower, -share)
        np.testing.assert_allclose(found.upper, 1 - share)
