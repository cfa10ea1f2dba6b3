"""A learned noise that collapsed is told, with advice that works, and an outlier is not one."""

import re
from functools import partial

import numpy as np
import pytest
from scipy import stats

import weightprior as wp
from shared_fits import light_fit
from weightprior.evaluation._collapse import collapse_of, noise_of_draws, warn_collapse

BNN = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian())
RNG = np.random.default_rng(0)
X = np.linspace(-1, 1, 20)[:, None]
Y = RNG.normal(0.0, 0.5, size=20)


def densities(noises, residuals):
    return [stats.norm.logpdf(r, 0.0, s) for s, r in zip(noises, residuals, strict=True)]


def test_folds_with_a_noise_far_below_all_residuals_have_collapsed():
    noises, residuals = [0.5, 1e-4, 0.5], RNG.normal(0.0, 0.5, size=(3, 6))
    found = collapse_of(BNN, noises, densities(noises, residuals))
    assert found.fits.tolist() == [False, True, False]
    assert found.noise == 1e-4
    np.testing.assert_allclose(found.residual, np.median(_seen(noises, residuals)), rtol=1e-6)


def _seen(noises, residuals):
    """The size of every residual: all that a density tells of it."""
    return np.abs(residuals)


@pytest.mark.parametrize("outlier", [10.0, 1e3])
def test_an_outlier_in_a_fold_of_its_own_is_no_collapse(outlier):
    residuals = RNG.normal(0.0, 0.5, size=(20, 1))
    residuals[3] = outlier
    assert not collapse_of(BNN, [0.5] * 20, densities([0.5] * 20, residuals)).any


def test_an_overfit_that_leaves_the_noise_its_meaning_is_no_collapse():
    noises, residuals = [0.1] * 3, RNG.normal(0.0, 0.5, size=(3, 6))
    assert not collapse_of(BNN, noises, densities(noises, residuals)).any


def test_only_a_normal_noise_that_is_learned_can_collapse():
    weights = {"log_noise": np.log([[0.1, 0.2, 0.4]])}
    assert noise_of_draws(BNN, weights) == pytest.approx(0.2)
    known = wp.BNN(BNN.network, wp.Gaussian(noise=1e-4))
    for bnn in (known, wp.BNN(BNN.network, wp.StudentT(df=4.0)), wp.BNN(BNN.network, wp.Poisson())):
        noise = noise_of_draws(bnn, weights)
        assert np.isnan(noise)
        assert collapse_of(bnn, [noise], [np.full(5, -1e9)]) is None


def collapsing(bnn, x, y, *, prior, row_weights):
    """A fit function whose every second fit has next to no noise."""
    points = [
        {
            "output.weight": np.zeros((1, 1, 1, 1)),
            "output.bias": np.zeros((1, 1, 1)),
            "log_noise": np.full((1, 1), -9.0 if i % 2 else -0.7),
        }
        for i in range(len(prior.labels))
    ]
    stats_ = [{"converged": np.full((1, 1), True), "gradient_norm": np.full((1, 1), 1e-9)}]
    own = {"draws": "point", "exact": False, "method": "map", "stats": stats_ * len(points)}
    return light_fit(bnn, x, y, *points, prior=prior, row_weights=row_weights, **own)


def test_cross_validation_tells_the_folds_and_compare_their_number():
    prior = wp.normal_prior(BNN)
    with pytest.warns(UserWarning, match=r"cross_validate: in 2 of 4 folds, a learned noise colla"):
        found = wp.cross_validate(BNN, X, Y, prior=prior, fit=collapsing, num_folds=4)
    assert found["noise_collapsed"].to_numpy().tolist() == [False, True, False, True]
    note = wp.compare(BNN, {"folds": found}).loc["folds", "note"]
    assert "a learned noise collapsed in 2 of 4 fits" in note


def test_a_prequential_code_tells_the_blocks():
    prior = wp.normal_prior(BNN)
    options = {"prior": prior, "fit": collapsing, "blocks": np.repeat([0, 1, 2, 3], 5)}
    found = wp.prequential_code(BNN, X, Y, **options)
    assert not found["reliable"]
    assert "block 2: a learned noise collapsed to 0.00012" in found["reason"].item()
    assert "noise=" in found["reason"].item()


def test_a_score_tells_it_of_the_rows_held_out():
    stack = wp.stack_priors({"good": wp.normal_prior(BNN), "bad": wp.normal_prior(BNN)})
    fit = collapsing(BNN, X, Y, prior=stack, row_weights=None)
    with pytest.warns(UserWarning, match=r"score: a learned noise collapsed to 0.00012 \(held"):
        wp.score(BNN, fit, X, Y[::-1])
    notes = wp.compare(BNN, {"fit": fit}, X, Y[::-1])["note"]
    assert "collapsed" in notes["fit[bad]"]
    assert "collapsed" not in notes["fit[good]"]


def test_several_priors_are_told_once():
    noises = [1e-4, 1e-3]
    found = [
        collapse_of(BNN, [noise] * 2, densities([noise] * 2, np.ones((2, 3)))) for noise in noises
    ]
    with pytest.warns(UserWarning, match=r"under prior 'a', in 2 of 2 folds \(and under 1 more\)"):
        warn_collapse("cross_validate", BNN, ["a", "b"], found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:fit_map. the best restart:UserWarning")  # on its way to 0
def test_the_advice_works():
    """Followed to the letter, each of its two numbers ends the warning."""
    bnn = wp.BNN(wp.mlp(1, hidden=(20,)), wp.Gaussian())
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, size=(20, 1))
    y = np.sin(2 * x[:, 0]) + 0.3 * rng.normal(size=20)
    options = {"num_folds": 5, "fit": partial(wp.fit_map, max_iterations=3000)}
    with pytest.warns(UserWarning, match="cross_validate: in . of 5 folds") as caught:
        found = wp.cross_validate(bnn, x, y, prior=wp.normal_prior(bnn, scale=10.0), **options)
    message = str(caught[-1].message)
    assert found["elpd"] < -1e5
    latents = re.search(r"latents=\{'log_noise': \((\S+), (\S+)\)\}", message)
    prior = wp.normal_prior(
        bnn, scale=10.0, latents={"log_noise": (float(latents[1]), float(latents[2]))}
    )
    assert wp.cross_validate(bnn, x, y, prior=prior, **options)["elpd"] > -1e4
    known = wp.BNN(bnn.network, wp.Gaussian(noise=float(re.search(r"noise=(\S+);", message)[1])))
    options = {"prior": wp.normal_prior(known, scale=10.0), **options}
    assert wp.cross_validate(known, x, y, **options)["elpd"] > -1e4
