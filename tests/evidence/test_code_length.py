"""Code lengths as read off a fit, and the two parts of the bits-back code."""

import numpy as np
import pytest

import oracle
import weightprior as wp
from assertions import assert_estimate
from problems import CENTRE, LINEAR, NET, SHARED, exact
from shared_fits import light_fit, point_fit
from weightprior.fits.outcome import Evidence
from weightprior.inference import vi

PRIORS = {
    "a": LINEAR.prior(scale=0.7),
    "b": LINEAR.prior(loc=CENTRE, scale={"weight": 0.7, "bias": 2.0}),
}


def exact_approximation(prior, num_draws=2000):
    """A variational fit that found the posterior: independent draws, and their log density."""
    rng, known = np.random.default_rng(0), exact(prior)
    root = np.linalg.cholesky(known.covariance)
    z = rng.standard_normal((num_draws, 4))
    draws = known.mean + z @ root.T
    constant = 2 * np.log(2 * np.pi) + np.log(np.diag(root)).sum()
    log_q = -0.5 * np.square(z).sum(axis=1) - constant
    lp = known.log_prior(draws) + known.log_likelihood(draws).sum(axis=-1)
    return (
        {n: w[None] for n, w in oracle.to_sites(draws).items()},
        log_q[None],
        vi._summary(lp - log_q),
    )


@pytest.fixture(scope="module")
def approximated():
    weights, log_q, summaries = zip(*map(exact_approximation, PRIORS.values()), strict=True)
    return light_fit(
        LINEAR.bnn,
        LINEAR.x,
        LINEAR.y,
        *weights,
        prior=wp.stack_priors(PRIORS),
        stats=[{"log_q": values} for values in log_q],
        draws="independent",
        method="vi",
        exact=False,
        groups={"vi": ((), list(summaries))},
        evidence=[Evidence(one["elbo"], one["elbo_se"], "a bound", True) for one in summaries],
    )


def test_bits_back_of_the_posterior_are_those_of_the_evidence(approximated):
    """The divergence of nearest from exact is zero, and that of exact from prior has its form."""
    found = wp.code_length(approximated)
    assert found["prior"].to_numpy().tolist() == ["a", "b"]
    for label, prior in PRIORS.items():
        known, code = exact(prior), found.sel(prior=label)
        # The same for every draw, but for rounding.
        np.testing.assert_allclose(code["bits"] * np.log(2), -known.log_evidence, rtol=1e-9)
        _, log_determinant = np.linalg.slogdet(known.covariance)
        moved = (known.mean - known.loc) / known.scale
        divergence = 0.5 * (
            np.sum(known.sd**2 / known.scale**2 + moved**2 - 1)
            + 2 * np.log(known.scale).sum()
            - log_determinant
        )
        assert_estimate(code["bits_weights"], divergence / np.log(2), code["bits_weights_error"])
        residuals = -known.log_likelihood(known.mean).sum() + known.effective_parameters / 2
        assert_estimate(code["bits_residuals"], residuals / np.log(2), code["bits_residuals_error"])
        assert 0 < code["bits_weights_error"] < 0.1
    assert "upper bound" in found.attrs["code"]
    assert not found["reliable"].any()


def test_the_parts_are_the_whole_and_alone_what_they_are_stacked(approximated):
    found = wp.code_length(approximated)
    whole = found["bits_residuals"] + found["bits_weights"]
    np.testing.assert_allclose(whole, found["bits"], rtol=1e-12)
    alone = wp.code_length(wp.unstack_fit(approximated)["b"])
    for name in alone:
        here, there = alone[name].item(), found[name].sel(prior="b").item()
        assert here == (there if name == "reason" else pytest.approx(there, rel=1e-12))


@pytest.mark.parametrize("prior", [PRIORS["b"], SHARED], ids=["fixed", "learned"])
def test_residuals_are_those_of_the_rows_as_they_count(prior):
    """Latents above the weights are paid for with these."""
    counts = np.where(np.arange(40) < 20, 2.0, 0.5)
    brief = {"num_steps": 500, "num_samples": 30, "row_weights": counts}
    fit = wp.fit_vi(LINEAR.bnn, LINEAR.x, LINEAR.y, prior=prior, **brief)
    found = wp.code_length(fit)
    expected = -(fit["log_likelihood"]["y"].to_numpy() * counts).sum(-1)[0] / np.log(2)
    np.testing.assert_allclose(found["bits_residuals"], expected.mean(), rtol=1e-9)
    error = expected.std(ddof=1) / np.sqrt(30)
    np.testing.assert_allclose(found["bits_residuals_error"], error, rtol=1e-9)
    whole = found["bits_residuals"] + found["bits_weights"]
    np.testing.assert_allclose(whole, found["bits"], rtol=1e-9)
    np.testing.assert_allclose(found["bits_per_observation"] * 50, found["bits"])


def test_a_code_tells_which_it_is():
    weights, _, _ = exact_approximation(PRIORS["a"], 10)
    made = {"prior": PRIORS["a"], "stats": None, "evidence": [Evidence(-30.0, 0.1)]}
    fit = light_fit(LINEAR.bnn, LINEAR.x, LINEAR.y, weights, **made)
    found = wp.code_length(fit)
    assert found["bits"] == 30 / np.log(2)
    assert "minus the log evidence" in found.attrs["code"]
    assert "bits_weights" not in found
    assert found["reliable"]
    assert found["reason"] == ""


def test_a_map_is_told_where_its_code_is():
    fit = point_fit(NET.bnn, NET.x, NET.y, prior=NET.prior())
    with pytest.raises(ValueError, match=r"two_part_code.*fit_tempered"):
        wp.code_length(fit)
