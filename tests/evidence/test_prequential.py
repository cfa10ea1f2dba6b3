"""The prequential code: the evidence by another way, and what is said where it fails."""

from functools import partial

import numpy as np
import pytest
from scipy import stats
from xarray.testing import assert_identical

import weightprior as wp
from assertions import FALSE_ALARM, assert_estimate
from oracle import LinearGaussian, from_sites, to_sites
from problems import LINEAR, LINEAR_PRIORS, NET, exact
from shared_fits import LIKELIHOODS, light_fit, point_fit, random_targets, random_weights
from weightprior.evidence import prequential
from weightprior.evidence._block import weigh
from weightprior.evidence.prequential import _blocks, _code

PROPER = [name for name in LINEAR_PRIORS if name != "flat biases"]
MAP = partial(wp.fit_map, tolerance=1e-9)
NARROW, MOVED = NET.prior(scale=0.3), NET.prior(loc=0.4, scale=0.8)
STACK = wp.stack_priors({"narrow": NARROW, "moved": MOVED})


def coded(problem, prior, **options):
    return wp.prequential_code(problem.bnn, problem.x, problem.y, prior=prior, **options)


def of_rows(rows, prior):
    numbers = from_sites(prior.loc), from_sites(prior.scale)
    return LinearGaussian(LINEAR.x[rows], LINEAR.y[rows], LINEAR.bnn.likelihood.noise, *numbers)


def exact_fit(bnn, x, y, *, prior, row_weights):
    """Independent draws from the exact posterior given the rows that count, by common numbers."""
    noise = np.random.default_rng(0).normal(size=(1, 4000, 4))
    weights = []
    for part, counts in zip(prior.singles(), row_weights, strict=True):
        kept = counts > 0
        known = from_sites(part.loc), from_sites(part.scale)
        posterior = LinearGaussian(x[kept], y[kept], bnn.likelihood.noise, *known)
        root = np.linalg.cholesky(posterior.covariance)
        weights.append(to_sites(posterior.mean + noise @ root.T))
    own = {"row_weights": row_weights, "method": "exact", "draws": "independent"}
    return light_fit(bnn, x, y, *weights, prior=prior, stats=[{}] * len(weights), **own)


def expected_bits(block_of_row, labels, prior):
    upto = [of_rows(block_of_row <= label, prior).log_evidence for label in labels]
    return -np.diff(upto, prepend=0) / np.log(2)


@pytest.mark.parametrize("prior", PROPER)
def test_it_is_the_evidence_block_by_block_and_in_all(prior):
    prior = LINEAR.prior(**LINEAR_PRIORS[prior])
    found = coded(LINEAR, prior, fit=exact_fit)
    assert found["reliable"]
    assert found["reason"] == ""
    expected = expected_bits(found["block_of_row"].to_numpy(), found["block"].to_numpy(), prior)
    np.testing.assert_allclose(expected.sum() * np.log(2), -exact(prior).log_evidence)
    assert_estimate(found["bits_by_block"], expected, found["bits_by_block_error"])
    assert_estimate(found["bits"], expected.sum(), found["bits_error"])
    assert found["bits_error"] < 0.3
    np.testing.assert_allclose(found["bits_by_block"].sum(), found["bits"])
    np.testing.assert_allclose(found["bits_per_observation"] * 40, found["bits"])


def test_another_order_and_other_blocks_have_the_same_length():
    prior = LINEAR.prior(**LINEAR_PRIORS["around a centre per weight"])
    order = np.random.default_rng(1).permutation(40)
    turned = LINEAR._replace(x=LINEAR.x[order], y=LINEAR.y[order])
    found = coded(turned, prior, fit=exact_fit, num_blocks=15)
    assert found.sizes["block"] == 15
    assert_estimate(found["bits"], -exact(prior).log_evidence / np.log(2), found["bits_error"])


@pytest.mark.slow
def test_chains_find_the_evidence_of_blocks_that_are_given():
    """Rows of a block need not follow each other."""
    prior = LINEAR.prior(**LINEAR_PRIORS["around 0"])
    years = np.repeat(["1998", "1999", "2001", "2002", "2003", "2004"], [1, 2, 3, 6, 10, 18])
    blocks = np.concatenate([years[:1], np.random.default_rng(0).permutation(years[1:])])
    found = coded(LINEAR, prior, blocks=blocks, fit=partial(wp.fit_mcmc, progress_bar=False))
    np.testing.assert_array_equal(found["block"], np.unique(years))
    assert found["num_rows"].to_numpy().tolist() == [1, 3, 6, 12, 22, 40]
    np.testing.assert_array_equal(found["block_of_row"], blocks)
    assert found.attrs["fit"] == "hmc"
    expected = expected_bits(blocks, found["block"].to_numpy(), prior)
    assert_estimate(found["bits_by_block"], expected, found["bits_by_block_error"])
    assert_estimate(found["bits"], expected.sum(), found["bits_error"])


@pytest.mark.slow
def test_the_error_of_the_whole_is_as_large_as_it_says():
    """Of a sum of squares of as many standard normals, both tails."""
    prior = LINEAR.prior(**LINEAR_PRIORS["around 0"])
    few = LINEAR._replace(x=LINEAR.x[:12], y=LINEAR.y[:12])
    expected = -of_rows(slice(12), prior).log_evidence / np.log(2)
    scores = []
    for key in range(60):
        fit = partial(wp.fit_laplace, num_samples=1000, num_restarts=1, rng_key=key)
        found = coded(few, prior, fit=fit, num_blocks=5, rng_key=key)
        scores.append((found["bits"] - expected) / found["bits_error"])
    low, high = stats.chi2(60).isf([1 - FALSE_ALARM / 2, FALSE_ALARM / 2])
    assert low < np.square(scores).sum() < high


def test_a_map_codes_by_what_it_predicts():
    prior = LINEAR.prior(**LINEAR_PRIORS["around 0"])
    found = coded(LINEAR, prior, fit=MAP, num_blocks=6)
    block_of_row = found["block_of_row"].to_numpy()
    for block in range(1, 6):
        plugged = of_rows(block_of_row < block, prior).map
        terms = exact(prior).log_likelihood(plugged)[block_of_row == block]
        bits = found["bits_by_block"].sel(block=block)
        np.testing.assert_allclose(bits, -terms.sum() / np.log(2), rtol=1e-6)
    assert (found["bits_by_block_error"][1:] == 0).all()
    assert found["bits_error"] == found["bits_by_block_error"][0]
    assert found["reliable"]
    # The first block is the prior's, not its mode's.
    predicted = of_rows(block_of_row == 0, prior).log_evidence
    assert_estimate(
        found["bits_by_block"][0], -predicted / np.log(2), found["bits_by_block_error"][0]
    )


def test_a_stacked_prior_equals_the_loop_over_its_priors():
    found = coded(NET, STACK, fit=point_fit, num_blocks=4)
    assert found["bits_by_block"].dims == ("prior", "block")
    alone = coded(NET, MOVED, fit=point_fit, num_blocks=4)
    assert_identical(found.sel(prior="moved").drop_vars("prior").drop_attrs(), alone.drop_attrs())


def test_the_shortest_code_at_the_end_of_a_grid_is_noted():
    """Points that the prior scales: the wider it is, the farther from these targets."""
    stack = wp.stack_priors({s: NET.prior(scale=s) for s in (1.0, 3.0, 9.0)})
    found = coded(NET, stack, fit=point_fit, num_blocks=4)
    assert found["bits"].to_numpy().argmin() == 0
    told = "shortest at the lower end of the priors, 1 to 9: extend the grid below 1"
    assert found.attrs["note"] == told
    assert "note" not in coded(NET, MOVED, fit=point_fit, num_blocks=4).attrs


def test_a_key_decides_the_draws_of_the_prior():
    first, again, other = (
        coded(NET, NARROW, fit=point_fit, num_blocks=2, rng_key=key) for key in (3, 3, 4)
    )
    assert_identical(first.drop_attrs(), again.drop_attrs())
    changed = first["bits_by_block"] != other["bits_by_block"]
    assert changed.to_numpy().tolist() == [True, False]


@pytest.mark.parametrize(
    "name",
    # All compile.
    [pytest.param(n, marks=[pytest.mark.slow] * (n != "categorical")) for n in LIKELIHOODS],
)
def test_every_likelihood_has_a_code(name):
    bnn, rng = LIKELIHOODS[name], np.random.default_rng(2)
    x = rng.normal(size=(12, 2))
    y = random_targets(bnn, random_weights(bnn, rng, ()), x, rng)
    # That a MAP of each is found is for `cross_validate` to show.
    found = wp.prequential_code(
        bnn, x, y, prior=wp.normal_prior(bnn, scale=0.5), fit=point_fit, num_blocks=3
    )
    assert np.isfinite(found["bits_by_block"]).all()
    assert np.isfinite(found["bits_error"])


def test_blocks_multiply_the_rows():
    for num_obs in range(2, 60):
        for num_blocks in range(2, num_obs + 1):
            labels, of_row = _blocks(np.zeros(num_obs), num_blocks, None)
            sizes = np.bincount(of_row, minlength=len(labels))
            assert len(labels) == num_blocks
            assert sizes[0] == 1
            assert sizes.sum() == len(of_row) == num_obs
            assert (sizes > 0).all()
            assert (np.diff(of_row) >= 0).all()
    _, of_row = _blocks(np.zeros(1000), 4, None)
    assert np.bincount(of_row).tolist() == [1, 9, 90, 900]


class TestJudgement:
    rng = np.random.default_rng(0)
    calm = rng.normal(0, 0.1, (4, 200))

    def test_draws_that_agree_are_believed(self):
        found = weigh(self.calm)
        assert found.trouble == ""
        assert found.pareto_k < 0.7
        # Independent draws: the relative error of a log-normal's mean.
        expected = np.sqrt(np.expm1(0.01) / 800)
        np.testing.assert_allclose(found.error, expected, rtol=0.2)

    def test_a_draw_that_outweighs_all_others_leaves_no_error(self):
        alone = self.calm.copy()
        alone[1, 7] = 30.0
        found = weigh(alone)
        assert np.isnan(found.error)
        assert "outweigh" in found.trouble
        np.testing.assert_allclose(found.nats, np.log(800) - 30)

    def test_a_heavy_tail_leaves_no_error(self):
        # Weights with a tail of index k = 1.5 have no mean.
        found = weigh(1.5 * self.rng.exponential(size=(4, 1000)))
        assert found.pareto_k > 1
        assert np.isnan(found.error)
        assert "outweigh" in found.trouble

    def test_chains_that_disagree_are_told(self):
        found = weigh(self.calm + np.arange(4)[:, None])
        assert "chains disagree" in found.trouble
        assert found.error > weigh(self.calm).error

    def test_few_draws_are_told(self):
        found = weigh(self.calm[:, :20])
        assert found.trouble == "fewer than 100 draws"
        assert np.isnan(found.pareto_k)

    def test_draws_that_are_all_the_same_have_no_error(self):
        found = weigh(np.full((4, 100), -3.0))
        assert (found.nats, found.error, found.trouble) == (pytest.approx(3.0), 0.0, "")

    def test_no_density_at_all_is_no_code(self):
        found = weigh(np.full((1, 200), -np.inf))
        assert found.nats == np.inf
        assert found.trouble == "no draw gives it a density"
        some = self.calm.copy()
        some[0, :50] = -np.inf
        np.testing.assert_allclose(weigh(some).nats, -np.log(np.exp(some).mean()), rtol=1e-9)

    def test_errors_that_are_shared_add_up_or_cancel(self):
        first, up, down = weigh(np.zeros((1, 200))), weigh(self.calm), weigh(-self.calm)
        twice = _code(np.arange(3), [first, up, up])
        opposite = _code(np.arange(3), [first, up, down])
        np.testing.assert_allclose(twice["bits_error"], 2 * up.error / np.log(2))
        # Squares are left of what cancels, whose sd is a seventh of that of these normals.
        assert opposite["bits_error"] < 0.2 * up.error / np.log(2)

    def test_blocks_with_one_trouble_are_named_together(self):
        blocks = [weigh(self.calm[:, :20]), weigh(self.calm), weigh(-self.calm[:, :20])]
        found = _code(np.array(["a", "b", "c"]), [blocks[1], blocks[0], blocks[2]])
        assert found["reason"] == "blocks b, c: fewer than 100 draws"
        assert not found["reliable"]


def test_outputs_that_overflow_have_no_density():
    bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Poisson())
    x, y = np.array([[1.0], [2.0]]), np.array([3, 5])
    [drawn] = prequential._predict_first(
        bnn, x, y, wp.normal_prior(bnn, scale=1e3), prequential._checks.random_key(0), np.ones(2)
    )
    assert drawn.shape == (1, 10_000)
    assert not np.isnan(drawn).any()
    assert np.isneginf(drawn).any()
    assert np.isfinite(weigh(drawn).nats)


def test_a_search_that_did_not_converge_is_told():
    found = coded(NET, MOVED, num_blocks=3, fit=partial(point_fit, converged=False))
    assert found["reason"] == "blocks 1, 2: the search for the MAP did not converge"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_blocks": 16}, ValueError, "num_blocks: expected at most a block per row, 15"),
        ({"num_blocks": 1}, ValueError, "num_blocks: expected at least 2"),
        ({"blocks": np.zeros(15)}, ValueError, "blocks: expected at least two different blocks"),
        ({"blocks": [0, 1]}, ValueError, "blocks: expected shape"),
        ({"blocks": [0.0, np.nan, *range(13)]}, ValueError, "the block of every row; got nan"),
        ({"fit": wp.predict}, TypeError, "fit: expected a fit function"),
        ({"rng_key": -1}, ValueError, "rng_key"),
        ({"prior": 1.0}, TypeError, "prior"),
        (
            {"prior": NET.prior(scale={"weight": 1.0, "bias": np.inf})},
            ValueError,
            "flat prior.*nothing predicts the first block",
        ),
    ],
)
def test_an_option_that_cannot_be_is_named(options, error, message):
    with pytest.raises(error, match=message):
        coded(NET, **{"prior": NARROW} | options)
