"""Judging chains: synthetic draws of a linear model whose outputs have a known convergence."""

import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy.signal import lfilter

import weightprior as wp
from shared_fits import made_fit
from weightprior.fits import convergence
from weightprior.fits.reading import parts_of

BNN = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
X = np.linspace(-1.0, 1.0, 41)[:, None]
Y = np.sin(3 * X[:, 0])
AUTOCORRELATION = 0.98


def autoregressive(rng, correlation, shape):
    """A stationary series of unit variance along the second axis."""
    noise = rng.normal(size=shape) * np.sqrt(1 - correlation**2)
    noise[:, 0] /= np.sqrt(1 - correlation**2)
    return lfilter([1.0], [1.0, -correlation], noise, axis=1)


def draws(seed=0, *, chains=4, num_draws=500, correlation=0.0):
    rng = np.random.default_rng(seed)
    slope, bias = (autoregressive(rng, correlation, (chains, num_draws)) for _ in range(2))
    return {"output.weight": slope[..., None, None], "output.bias": bias[..., None]}


def shifted(weights, chain, sds):
    bias = weights["output.bias"].copy()
    bias[chain] += sds
    return weights | {"output.bias": bias}


def stuck(weights, chain):
    return {name: _held(w, chain) for name, w in weights.items()}


def _held(array, chain):
    array = array.copy()
    array[chain] = array[chain, :1]
    return array


def fit_of(*weights, stats=None, kind="chains", options=None, labels=None):
    prior = wp.normal_prior(BNN)
    if labels is not None:
        prior = wp.stack_priors(dict.fromkeys(labels, prior))
    about = {"stats": [stats or {}] * len(weights), "draws": kind, "options": options}
    return made_fit(BNN, X, Y, *weights, prior=prior, **about)


def judge(fit, x):
    return [convergence.assess(part, x) for part in parts_of(BNN, fit)]


def assess(weights, **given):
    [found] = judge(fit_of(weights, **given), X[::2])
    return found


class TestVerdict:
    def test_independent_draws_have_converged(self):
        found = assess(draws(), stats={"diverging": np.zeros((4, 500), bool)})
        assert found.converged
        assert found.findings == ()
        rhat = max(found.numbers["rhat"].max(), found.numbers["rhat_lp"])
        names = ("ess_bulk", "ess_tail", "ess_bulk_lp", "ess_tail_lp")
        ess = min(found.numbers[name].min() for name in names)
        assert found.verdict == (
            f"Converged: R-hat at most {rhat:.3f}, at least {int(ess):,} effective draws."
        )

    def test_a_chain_in_another_mode_is_named(self):
        found = assess(shifted(draws(), 2, 5.0))
        assert not found.converged
        # Of a chain's mean the error is 1 / sqrt(500) of an sd, and the others' mean has less.
        assert found.numbers["separation"][2] == pytest.approx(5.0, abs=0.5)
        size = f"{found.numbers['separation'][2]:.2g}"
        assert found.findings == (f"chain 2 stays away from the others ({size} sd)",)
        assert found.verdict.startswith(f"Not converged: {found.findings[0]}; start chains at")

    def test_chains_in_two_modes_stay_apart(self):
        found = assess(shifted(draws(), [1, 3], 5.0))
        [finding] = found.findings
        assert finding.startswith("chains stay apart (3.")  # 5 sd from two of three others

    def test_two_of_many_chains_are_both_named(self):
        [finding] = assess(shifted(draws(chains=8), [1, 6], 5.0)).findings
        assert finding.startswith("chains 1 and 6 stay away from the others")

    def test_slow_chains_are_too_few_draws_and_are_told_how_many_would_do(self):
        found = assess(draws(num_draws=4000, correlation=AUTOCORRELATION))
        assert not found.converged
        assert found.verdict.startswith("Too few draws: ")
        assert " effective draws where 400 are wanted" in found.verdict
        advised = int(found.verdict.split("num_samples to ")[1].rstrip(".").replace(",", ""))
        # A draw in so many is worth an independent one. The sum of correlations up to some two
        # hundred lags, from 16,000 draws, has a relative error of sqrt(2 * 401 / 16000) = 0.22;
        # thrice that is a factor of two.
        needed = 100 * (1 + AUTOCORRELATION) / (1 - AUTOCORRELATION)
        assert 0.5 < advised / needed < 2.0

    def test_drifting_chains_are_not_said_to_sit_in_modes(self):
        # The correlation does not decay within a chain, so that no chain knows its own mean.
        found = assess(draws(num_draws=500, correlation=0.999))
        assert found.numbers["separation"].max() > 1.0
        assert found.verdict.startswith("Too few draws: ")

    def test_a_chain_that_never_moved_is_named(self):
        found = assess(stuck(draws(), 1))
        assert not found.converged
        assert found.findings == ("chain 1 never moved",)

    def test_no_chain_moved(self):
        # All alike: ArviZ finds as many effective draws as there are draws.
        weights = {name: np.ones((4, 500, *s.shape)) for name, s in BNN.sites.items()}
        found = assess(weights)
        assert found.numbers["ess_bulk"].min() == 2000
        assert not found.converged
        assert found.findings == ("chains 0, 1, 2 and 3 never moved",)

    def test_no_chain_moved_from_where_it_started(self):
        weights = {name: w[:, :1].repeat(500, axis=1) for name, w in draws().items()}
        found = assess(weights)
        assert found.findings == ("chains 0, 1, 2 and 3 never moved",)

    def test_divergences_are_counted_per_chain(self):
        diverging = np.zeros((4, 500), bool)
        diverging[1, :30] = diverging[3, 7] = True
        found = assess(draws(), stats={"diverging": diverging})
        assert found.numbers["divergences"].tolist() == [0, 30, 0, 1]
        assert found.verdict == (
            "Not converged: 31 of 2000 transitions diverged; raise target_accept_prob to 0.95."
        )

    def test_energies_that_hardly_change(self):
        # The squared difference of neighbours is 2 (1 - correlation) variances.
        rng = np.random.default_rng(1)
        energy = autoregressive(rng, 0.0, (4, 500))
        energy[2] = autoregressive(rng, 0.95, (1, 500))
        found = assess(draws(), stats={"energy": energy})
        np.testing.assert_allclose(found.numbers["bfmi"], array_stats.bfmi(energy))
        assert found.numbers["bfmi"][2] < 0.3 < np.delete(found.numbers["bfmi"], 2).min()
        [finding] = found.findings
        assert finding == (
            f"chain 2 explored energies too slowly (BFMI {found.numbers['bfmi'][2]:.2f})"
        )

    def test_several_problems_make_one_sentence_the_gravest_first(self):
        diverging = np.zeros((4, 500), bool)
        diverging[0, 0] = True
        energy = autoregressive(np.random.default_rng(1), 0.99, (4, 500))
        found = assess(shifted(draws(), 2, 5.0), stats={"diverging": diverging, "energy": energy})
        away, diverged, slow = found.findings
        assert away.startswith("chain 2 stays away")
        assert diverged == "1 of 2000 transitions diverged"
        assert slow.startswith("chains 0, 1, 2 and 3 explored energies too slowly")
        assert found.verdict.startswith(f"Not converged: {away}, {diverged}, {slow}; start chains")
        assert ". " not in found.verdict

    def test_one_chain_cannot_be_judged(self):
        found = assess(draws(chains=1))
        assert not found.converged
        assert np.isnan(found.numbers["rhat"]).all()
        assert np.isnan(found.numbers["separation"]).all()
        assert found.verdict == (
            "Not converged: one chain alone cannot be judged; run at least two chains."
        )

    @pytest.mark.parametrize("num_draws", [1, 2, 3])
    def test_a_handful_of_draws_is_too_few_to_judge(self, num_draws):
        stats = {"diverging": np.zeros((4, num_draws), bool), "energy": np.ones((4, num_draws))}
        found = assess(draws(num_draws=num_draws), stats=stats)
        assert not found.converged
        for name in ("rhat", "ess_bulk", "ess_tail", "separation", "bfmi"):
            assert np.isnan(found.numbers[name]).all()
        assert found.verdict == (
            f"Too few draws to judge: {num_draws} per chain where at least 100 are wanted; "
            "raise num_samples to 1,000."
        )

    @pytest.mark.parametrize("num_draws", [4, 5, 20])
    @pytest.mark.parametrize("seed", range(3))
    def test_few_draws_are_not_said_to_disagree(self, num_draws, seed):
        stats = {"energy": autoregressive(np.random.default_rng(seed), 0.9, (4, num_draws))}
        found = assess(draws(seed, num_draws=num_draws, correlation=0.9), stats=stats)
        assert not found.converged
        assert found.verdict.startswith("Too few draws to judge: ")

    def test_what_diverged_is_said_of_few_draws_too(self):
        found = assess(draws(num_draws=2), stats={"diverging": np.ones((4, 2), bool)})
        assert found.findings[0] == "8 of 8 transitions diverged"

    @pytest.mark.parametrize("kind", ["point", "members", "independent"])
    def test_draws_that_are_no_chains_are_not_judged(self, kind):
        found = assess(draws(chains=1), kind=kind)
        assert not found.converged
        assert found.verdict == f"Not judged: {found.findings[0]}."

    def test_chains_are_called_by_their_names(self):
        fit = fit_of(stuck(draws(), 1)).map_over_datasets(
            lambda group: group.assign_coords(chain=[10, 11, 12, 13]) if group.sizes else group
        )
        assert judge(fit, X)[0].findings == ("chain 11 never moved",)


class TestNumbers:
    def test_separation_is_the_farthest_output_or_log_density(self):
        weights = shifted(draws(), 0, 1.0)
        found = assess(weights)
        outputs = X[::2, 0] * weights["output.weight"][..., 0] + weights["output.bias"]
        lp = fit_of(weights)["sample_stats"]["lp"].to_numpy()
        series = np.concatenate([outputs, lp[..., None]], axis=2)
        within = series.var(axis=1, ddof=1).mean(axis=0) ** 0.5
        for chain in range(4):
            others = np.delete(series, chain, axis=0).mean(axis=(0, 1))
            apart = np.abs(series[chain].mean(axis=0) - others) / within
            np.testing.assert_allclose(found.numbers["separation"][chain], apart.max())

    def test_the_log_density_is_watched(self):
        # Outputs at zero are the biases, which agree; slopes differ, and with them the density.
        weights = draws()
        slope = weights["output.weight"].copy()
        slope[3] += 8.0
        [found] = judge(fit_of(weights | {"output.weight": slope}), np.zeros((1, 1)))
        assert found.numbers["rhat"].max() < 1.01 < found.numbers["rhat_lp"]
        [finding] = found.findings
        assert finding.startswith("chain 3 stays away")

    def test_what_a_method_has_not_is_absent(self):
        assert not {"divergences", "bfmi"} & assess(draws()).numbers.keys()


class TestComplaint:
    def test_none_where_chains_have_converged(self):
        assert convergence.convergence_warning(BNN, fit_of(draws())) is None

    def test_the_verdict_otherwise(self):
        fit = fit_of(stuck(draws(), 0))
        assert convergence.convergence_warning(BNN, fit) == judge(fit, X)[0].verdict

    def test_of_a_stacked_prior_it_says_which(self):
        fit = fit_of(draws(0), shifted(draws(1), 2, 5.0), labels=["good", "bad"])
        good, bad = judge(fit, convergence.watched_inputs(fit, 20))
        assert (good.label, good.converged) == ("good", True)
        assert (bad.label, bad.converged) == ("bad", False)
        assert (
            convergence.convergence_warning(BNN, fit)
            == f"1 of 2 priors in doubt. 'bad': {bad.verdict}"
        )

    def test_of_many_priors_it_names_three(self):
        labels = [0.1, 0.2, 0.3, 0.4, 0.5]
        fit = fit_of(*[stuck(draws(i, num_draws=10), 0) for i in range(5)], labels=labels)
        said = convergence.convergence_warning(BNN, fit)
        assert said.startswith("5 of 5 priors in doubt. 0.1: Not converged: chain 0 never moved")
        assert [f" {label}: " in said for label in labels] == [True] * 3 + [False] * 2
        assert said.endswith("For the others see diagnostics.convergence.")

    @pytest.mark.parametrize(("num_series", "rows"), [(400, 20), (20, 10), (2, 5)])
    def test_the_more_parts_the_fewer_rows(self, monkeypatch, num_series, rows):
        seen, assess_one = [], convergence.assess
        monkeypatch.setattr(convergence, "_NUM_SERIES", num_series)
        monkeypatch.setattr(
            convergence, "assess", lambda part, x: seen.append(len(x)) or assess_one(part, x)
        )
        convergence.convergence_warning(BNN, fit_of(draws(0), draws(1), labels=["one", "other"]))
        assert seen == [rows, rows]

    def test_rows_are_spread_evenly(self):
        np.testing.assert_array_equal(convergence.watched_inputs(fit_of(draws()), 5), X[::10])
        np.testing.assert_array_equal(convergence.watched_inputs(fit_of(draws()), 100), X)
