"""Power-scaled priors: against the closed form of the scaled prior, and against ArviZ's psense."""

import json

import arviz as az
import numpy as np
import pytest
import xarray as xr

import shared_fits as fits
import weightprior as wp
from assertions import assert_estimate
from oracle import LinearGaussian, design, to_sites
from shared_fits import EXACT, EXACT_DRAWS, FRAME, LINEAR, REGRESSION, ROUNDING, TARGET, case

SENSITIVITIES = ("prior_sensitivity", "likelihood_sensitivity")
# A squared distance is exact to some 1e-15, so that its root, over log2(1.01), is to some 1e-6.
ROOT = {"rtol": 1e-6, "atol": 1e-5}


def sensitivity(bnn, fit, x, **options):
    return wp.diagnostics.prior_sensitivity(bnn, fit, x, **options)


def psense(bnn, fit, x, **options):
    groups = {name: fit[name].to_dataset() for name in ("log_prior", "log_likelihood")}
    predicted = wp.predict(bnn, fit, x)[["mean"]]
    return az.psense(xr.DataTree.from_dict({"posterior": predicted, **groups}), **options)["mean"]


def line(scale, num_rows=30, noise=0.5, slope=3.0):
    """Independent draws from the exact posterior of a line, and where to look at it."""
    bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=noise))
    x = np.linspace(-1, 1, num_rows)[:, None]
    exact = LinearGaussian(x, slope * x[:, 0], noise, 0.0, scale)
    rng = np.random.default_rng(0)
    draws = to_sites(rng.multivariate_normal(exact.mean, exact.covariance, (4, 500)))
    prior = wp.normal_prior(bnn, scale=scale)
    return bnn, fits.light_fit(bnn, exact.x, exact.y, draws, prior=prior), [[1.0]]


class TestAgainstTheClosedForm:
    ALPHAS = (0.5, 2.0)

    def _assert_means(self, found, k, log_density, scaled):
        """Means under weights in proportion to ``exp((alpha - 1) * log_density)``."""
        draws = EXACT_DRAWS.reshape(-1, 3)
        predicted = draws @ design(FRAME).T
        assert k < 0.5  # of finite variance
        for alpha in self.ALPHAS:
            weights = np.exp((alpha - 1) * (log_density(draws) - log_density(draws).max()))
            weights /= weights.sum()
            assert 1 / np.square(weights).sum() >= 400
            expected = scaled(alpha).predictive_mean(FRAME)
            error = np.sqrt(np.square(weights) @ np.square(predicted - expected))
            assert_estimate(found.sel(alpha=alpha), expected, error, num_comparisons=80)

    def test_less_of_a_prior_is_a_wider_one(self):
        found = sensitivity(LINEAR, fits.exact_fit(), FRAME, alphas=self.ALPHAS)
        self._assert_means(
            found["prior_scaled_mean"],
            found["prior_pareto_k"],
            EXACT.log_prior,
            lambda a: LinearGaussian(FRAME, TARGET, 0.5, EXACT.loc, EXACT.scale / np.sqrt(a)),
        )

    def test_less_of_a_likelihood_is_more_noise(self):
        found = sensitivity(LINEAR, fits.exact_fit(), FRAME, alphas=self.ALPHAS)
        self._assert_means(
            found["likelihood_scaled_mean"],
            found["likelihood_pareto_k"],
            lambda draws: EXACT.log_likelihood(draws).sum(-1),
            lambda a: LinearGaussian(FRAME, TARGET, 0.5 / np.sqrt(a), EXACT.loc, EXACT.scale),
        )

    def test_at_one_it_is_the_fit(self):
        found = sensitivity(LINEAR, fits.exact_fit(), FRAME)
        mean = wp.predict(LINEAR, fits.exact_fit(), FRAME)["mean"].mean(("chain", "draw"))
        for name in ("prior_scaled_mean", "likelihood_scaled_mean"):
            np.testing.assert_allclose(found[name].sel(alpha=1.0), mean, **ROUNDING)


class TestAgainstArviz:
    @pytest.mark.parametrize("alphas", [(0.99, 1.01), (0.8, 1.25)])
    def test_a_line(self, alphas):
        fit = fits.exact_fit()
        found = sensitivity(LINEAR, fit, FRAME, alphas=alphas)
        for group in ("prior", "likelihood"):
            theirs = psense(LINEAR, fit, FRAME, group=group, alphas=alphas)
            np.testing.assert_allclose(found[f"{group}_sensitivity"], theirs, **ROOT)

    def test_a_network_and_its_layers(self):
        bnn, x, _, fit, _ = case("gaussian")
        found = sensitivity(bnn, fit, x)
        for group in ("prior", "likelihood"):
            theirs = psense(bnn, fit, x, group=group)
            np.testing.assert_allclose(found[f"{group}_sensitivity"], theirs, **ROOT)
        layers = {
            "hidden_0": ["hidden_0.weight", "hidden_0.bias"],
            "output": ["output.weight", "output.bias"],
            "log_noise": ["log_noise"],
        }
        assert found["layer"].to_numpy().tolist() == list(layers)
        for layer, names in layers.items():
            theirs = psense(bnn, fit, x, group_var_names=names)
            ours = found["prior_sensitivity_by_layer"].sel(layer=layer)
            np.testing.assert_allclose(ours, theirs, **ROOT)

    @pytest.mark.parametrize(
        ("name", "dims"),
        [
            ("categorical", ("obs_id", "output")),
            ("heteroscedastic", ("obs_id",)),
        ],
    )
    def test_every_kind_of_prediction(self, name, dims):
        given = case(name)
        found = sensitivity(given.bnn, given.fit, given.x)
        assert found["diagnosis"].dims == dims
        assert found["prior_sensitivity_by_layer"].dims == ("layer", *dims)
        for group in ("prior", "likelihood"):
            assert found[f"{group}_scaled_mean"].dims == ("alpha", *dims)
            theirs = psense(given.bnn, given.fit, given.x, group=group)
            np.testing.assert_allclose(found[f"{group}_sensitivity"], theirs, **ROOT)


@pytest.mark.parametrize(
    ("problem", "diagnosis"),
    [
        ({"scale": 0.2}, "potential prior-data conflict"),
        ({"scale": 10.0, "num_rows": 300}, "-"),
        ({"scale": 0.2, "slope": 0.0, "noise": 50.0}, "strong prior or weak likelihood"),
    ],
)
def test_diagnosis(problem, diagnosis):
    given = line(**problem)
    found = sensitivity(*given)
    assert found["diagnosis"].to_numpy().tolist() == [diagnosis]
    prior, likelihood = (found[name].item() for name in SENSITIVITIES)
    assert (prior >= 0.05) == (diagnosis != "-")
    assert (likelihood >= 0.05) == (not diagnosis.startswith("strong"))
    table = az.psense_summary(
        xr.DataTree.from_dict(
            {
                "posterior": wp.predict(*given)[["mean"]],
                "log_prior": given[1]["log_prior"].to_dataset(),
                "log_likelihood": given[1]["log_likelihood"].to_dataset(),
            }
        )
    )
    words = {
        "-": "✓",
        "strong prior or weak likelihood": "potential strong prior / weak likelihood",
    }
    assert table["diagnosis"].tolist() == [words.get(diagnosis, diagnosis)]


def test_weights_that_cannot_be_trusted_allow_no_judgement():
    bnn, fit, at = line(0.2)
    found = sensitivity(bnn, fit, at, alphas=(0.01, 100.0))
    assert found["likelihood_pareto_k"] > 0.7
    assert found["diagnosis"].to_numpy().tolist() == ["unreliable"]


def test_a_chain_that_never_moved_spoils_the_weights():
    draws = EXACT_DRAWS.copy()
    draws[0] = EXACT.loc  # where the prior is highest
    prior = wp.normal_prior(LINEAR, to_sites(EXACT.loc), to_sites(EXACT.scale))
    fit = fits.light_fit(LINEAR, FRAME, TARGET, to_sites(draws), prior=prior)
    found = sensitivity(LINEAR, fit, FRAME)
    assert np.isposinf(found["prior_pareto_k"])
    assert (found["diagnosis"] == "unreliable").all()
    assert np.isfinite(found["prior_sensitivity"]).all()


def test_a_prediction_that_never_varies_has_no_sensitivity():
    weights = {name: w.copy() for name, w in case("gaussian").weights.items()}
    given = case("gaussian")
    for name in given.bnn.network.sites:
        weights[name][:] = weights[name][0, 0]
    fit = fits.light_fit(given.bnn, given.x, given.y, weights)
    found = sensitivity(given.bnn, fit, given.x)
    assert np.isnan(found["likelihood_sensitivity"]).all()
    # The prior of layers that stand still has nothing to weight draws by.
    still = found["prior_sensitivity_by_layer"].sel(layer=["hidden_0", "output"])
    assert (still == 0).all()


def test_flat_sites_contribute_nothing():
    prior = wp.normal_prior(LINEAR, scale={"weight": 0.5, "bias": np.inf})
    fit = fits.light_fit(LINEAR, FRAME, TARGET, to_sites(EXACT_DRAWS), prior=prior)
    names = ["output.weight"]
    np.testing.assert_allclose(
        sensitivity(LINEAR, fit, FRAME)["prior_sensitivity"],
        psense(LINEAR, fit, FRAME, group_var_names=names),
        **ROOT,
    )


def test_a_flat_prior_has_nothing_to_scale_also_within_a_stack():
    priors = {"flat": np.inf, "proper": 0.5}
    stack = wp.stack_priors({k: wp.normal_prior(LINEAR, scale=s) for k, s in priors.items()})
    draws = to_sites(EXACT_DRAWS)
    fit = fits.light_fit(LINEAR, FRAME, TARGET, draws, draws, prior=stack)
    found = sensitivity(LINEAR, fit, FRAME)
    flat = found.sel(prior="flat")
    assert (flat["prior_sensitivity"] == 0).all()
    assert np.isnan(flat["prior_pareto_k"])
    assert (flat["diagnosis"] == "-").all()
    for label, part in wp.unstack_fit(fit).items():
        alone = sensitivity(LINEAR, part, FRAME)
        xr.testing.assert_identical(found.sel(prior=label, drop=True), alone)
    assert found["prior_scaled_mean"].dims == ("prior", "alpha", "obs_id")


def test_rows_count_as_they_were_fitted():
    def made(x, y, **options):
        return fits.light_fit(LINEAR, x, y, to_sites(EXACT_DRAWS), stats=[{}], **options)

    counts = np.repeat([2, 0, 1, 1], 5)
    weighted = sensitivity(LINEAR, made(FRAME, TARGET, row_weights=counts), FRAME)
    rows = np.repeat(np.arange(20), counts)
    repeated = made(FRAME.iloc[rows], TARGET[rows])
    xr.testing.assert_allclose(weighted, sensitivity(LINEAR, repeated, FRAME), **ROOT)
    # Terms that were not stored are not needed.
    without = made(FRAME.iloc[rows], TARGET[rows], log_likelihood=False)
    xr.testing.assert_allclose(weighted, sensitivity(LINEAR, without, FRAME), **ROOT)


def test_of_a_learned_prior_its_own_prior_is_scaled():
    fit = fits.exact_fit().copy()
    above = xr.zeros_like(fit["sample_stats"]["lp"])
    above[:] = np.random.default_rng(2).normal(size=above.shape)
    fit["log_prior"] = fit["log_prior"].assign({"log_scale.output": above})
    fit["sample_stats"] = fit["sample_stats"].assign(lp=fit["sample_stats"]["lp"] + above)
    fit.attrs["prior"] = json.dumps({"components": {"output": ["log_scale.output"]}})
    found = sensitivity(LINEAR, fit, FRAME)
    theirs = psense(LINEAR, fit, FRAME, group_var_names=["log_scale.output"])
    np.testing.assert_allclose(found["prior_sensitivity"], theirs, **ROOT)
    assert found["layer"].to_numpy().tolist() == ["output"]
    before = sensitivity(LINEAR, fits.exact_fit(), FRAME)["likelihood_sensitivity"]
    np.testing.assert_allclose(found["likelihood_sensitivity"], before, **ROOT)


def test_precision_changes_nothing(precision):
    found = sensitivity(LINEAR, fits.exact_fit(), FRAME)
    for name in SENSITIVITIES:
        theirs = psense(LINEAR, fits.exact_fit(), FRAME, group=name.split("_")[0])
        np.testing.assert_allclose(found[name], theirs, **ROOT)


class TestWrongInput:
    def test_a_map_has_no_draws(self):
        one = fits.light_fit(LINEAR, FRAME, TARGET, to_sites(EXACT_DRAWS[:1, :1]))
        with pytest.raises(ValueError, match=r"fit: expected at least 25 draws.*got 1\. A MAP"):
            sensitivity(LINEAR, one, FRAME)

    def test_so_many_draws_are_enough(self):
        few = fits.light_fit(LINEAR, FRAME, TARGET, to_sites(EXACT_DRAWS[:1, :25]))
        found = sensitivity(LINEAR, few, [[0.0, 0.0]])  # of one row
        assert found["prior_sensitivity"].shape == (1,)
        assert np.isfinite(found["prior_sensitivity"]).all()

    def test_a_fit_of_another_model(self):
        with pytest.raises(ValueError, match="fit: expected"):
            sensitivity(REGRESSION, fits.exact_fit(), FRAME)

    def test_inputs(self):
        with pytest.raises(ValueError, match="x: expected finite numbers"):
            sensitivity(LINEAR, fits.exact_fit(), FRAME.where(FRAME > 0))
        with pytest.raises(ValueError, match="Reorder them"):
            sensitivity(LINEAR, fits.exact_fit(), FRAME[["dose", "age"]])

    @pytest.mark.parametrize(
        ("alphas", "message"),
        [
            (0.5, r"alphas: expected \(below 1, above 1\); got 0.5"),
            ((0.9, 1.0, 1.1), r"alphas: expected \(below 1, above 1\)"),
            ((1.01, 0.99), r"alphas\[0\]: expected a number above 0 and below 1; got 1.01"),
            ((0.0, 1.1), r"alphas\[0\]: expected a number above 0"),
            ((0.9, 1.0), r"alphas\[1\]: expected a number above 1"),
            ((0.9, np.inf), r"alphas\[1\]: expected a number above 1"),
        ],
    )
    def test_alphas(self, alphas, message):
        with pytest.raises(ValueError, match=message):
            sensitivity(LINEAR, fits.exact_fit(), FRAME, alphas=alphas)
