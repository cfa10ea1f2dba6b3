"""Fits of NumPyro models that contain networks: their own densities, and what cannot be told."""

from functools import cache, partial

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro.infer import MCMC, NUTS, log_likelihood
from numpyro.infer.util import potential_energy, unconstrain_fn

import weightprior as wp

RNG = np.random.default_rng(0)
ROWS, GROUPS, DRAWS = 24, 4, 30
X, GROUP = RNG.normal(size=(ROWS, 2)), np.arange(ROWS) % GROUPS
Y = X[:, 0] + 0.5 * RNG.normal(size=GROUPS)[GROUP] + 0.2 * RNG.normal(size=ROWS)
LINE = wp.BNN(wp.mlp(2, ()), wp.Gaussian())
NET = wp.BNN(wp.mlp(2, (3,)), wp.Gaussian(noise=1.0))
LINE_PRIOR, NET_PRIOR = wp.normal_prior(LINE, scale=0.7), wp.normal_prior(NET, scale=0.8)


def mixed(x, group, y=None):
    """Two networks, for location and log scale, and an effect of each group."""
    location = NET.outputs(NET.sample_weights(NET_PRIOR, name="location"), x)[:, 0]
    log_scale = LINE.outputs(LINE.sample_weights(LINE_PRIOR, name="scale"), x)[:, 0]
    spread = numpyro.sample("spread", dist.HalfNormal(1.0))
    with numpyro.plate("group", GROUPS):
        effect = numpyro.sample("effect", dist.Normal(0.0, spread))
    with numpyro.plate("row", len(x)):
        numpyro.sample("y", dist.Normal(location + effect[group], jnp.exp(log_scale)), obs=y)


class Ran:
    """A run whose draws are those of the prior."""

    def __init__(self, model, without=()):
        self.sampler, self._states, self._args, self._kwargs = self, {}, (X, Y), {}
        self.model = model
        found = numpyro.infer.Predictive(model, num_samples=DRAWS)(jax.random.key(0), X)
        self.draws = {n: v[None] for n, v in found.items() if n not in ("y", "z", *without)}

    def get_samples(self, group_by_chain):
        return self.draws

    def get_extra_fields(self, group_by_chain):
        return {}


@cache
def run_mixed():
    mcmc = MCMC(NUTS(mixed), num_warmup=10, num_samples=DRAWS, progress_bar=False)
    mcmc.run(jax.random.key(0), X, GROUP, Y)
    return mcmc


@cache
def run_alone():
    return Ran(partial(LINE.model, prior=LINE_PRIOR))


def of_mixed():
    return wp.from_numpyro(NET, run_mixed(), X, Y, prior=NET_PRIOR, name="location")


def of_alone():
    return wp.from_numpyro(LINE, run_alone(), X, Y, prior=LINE_PRIOR)


def test_a_model_of_its_own_has_the_densities_of_any_fit():
    fit, draws = of_alone(), run_alone().draws
    assert fit.attrs["likelihood_elsewhere"] == 0
    with jax.enable_x64(True):
        weights = [
            {n: jnp.asarray(draws[n][0, i], float) for n in LINE.sites} for i in range(DRAWS)
        ]
        lp = [LINE.log_joint(one, X, Y, LINE_PRIOR) for one in weights]
    # NumPyro computes them in single precision.
    np.testing.assert_allclose(fit["sample_stats"]["lp"][0], lp, rtol=1e-5)
    scores = wp.score(LINE, fit, X, Y)
    terms = fit["log_likelihood"]["y"].to_numpy()[0]
    expected = (np.logaddexp.reduce(terms, axis=0) - np.log(DRAWS)).sum()
    assert float(scores["elpd"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_densities_are_those_of_the_larger_model():
    fit, mcmc = of_mixed(), run_mixed()
    draws = mcmc.get_samples()
    terms = log_likelihood(mixed, draws, X, GROUP, Y)["y"]
    np.testing.assert_allclose(fit["log_likelihood"]["y"][0], terms, rtol=1e-5, atol=1e-5)
    for i in (0, DRAWS - 1):
        draw = {name: values[i] for name, values in draws.items()}
        moved = unconstrain_fn(mixed, (X, GROUP, Y), {}, draw)
        energy = potential_energy(mixed, (X, GROUP, Y), {}, moved)
        assert fit["sample_stats"]["lp"][0, i].item() == pytest.approx(-float(energy), rel=1e-5)


def test_further_sites_are_kept_with_their_plates():
    posterior = of_mixed()["posterior"].dataset
    assert posterior["effect"].dims == ("chain", "draw", "group")
    assert posterior["spread"].dims == ("chain", "draw")
    draws = run_mixed().get_samples(group_by_chain=True)
    np.testing.assert_array_equal(posterior["scale.output.weight"], draws["scale.output.weight"])
    np.testing.assert_array_equal(
        posterior["hidden_0.weight"], draws["location.hidden_0.weight"].astype(float)
    )


def test_the_other_network_is_read_beside_it():
    fit = wp.from_numpyro(LINE, run_mixed(), X, Y, prior=LINE_PRIOR, name="scale")
    draws = run_mixed().get_samples(group_by_chain=True)
    np.testing.assert_array_equal(fit["posterior"]["output.bias"], draws["scale.output.bias"])
    # Of its likelihood the noise was sampled, and plays no part.
    assert fit.attrs["likelihood_elsewhere"] == 1


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
def test_what_the_network_decides_alone_is_told(tmp_path):
    of_mixed().to_netcdf(tmp_path / "fit.nc")
    with xr.open_datatree(tmp_path / "fit.nc") as fit:
        fit.load()
    with pytest.warns(UserWarning, match="the network's outputs alone"):
        predicted = wp.predict(NET, fit, X[:5])
    weights = {n: fit["posterior"][n].to_numpy()[0, 3] for n in NET.sites}
    np.testing.assert_allclose(
        predicted["outputs"].to_numpy()[0, 3], NET.outputs(weights, X[:5]), rtol=1e-5, atol=1e-6
    )
    assert "y" not in predicted
    with pytest.raises(ValueError, match=r"quantiles: expected None .* got \(0\.1, 0\.9\)\. Leave"):
        wp.predict(NET, fit, X[:5], quantiles=(0.1, 0.9))
    table = wp.compare(NET, {"mixed": fit})
    assert "written elsewhere" in table["note"].item()
    terms = fit["log_likelihood"]["y"].to_numpy()[0]
    train = (np.logaddexp.reduce(terms, axis=0) - np.log(DRAWS)).mean()
    assert table["lpd_train"].item() == pytest.approx(train)
    assert np.isfinite(az.loo(fit).elpd)
    assert np.isfinite(wp.diagnostics.saturation(NET, fit, X)["saturated_by_layer"]).all()


@pytest.mark.parametrize(
    "ask",
    [
        wp.score,
        wp.diagnostics.unit_ablation,
        wp.diagnostics.effective_parameters,
        wp.diagnostics.prior_data_conflict,
        lambda bnn, fit, x, y: wp.compare(bnn, {"fit": fit}, x, y),
    ],
)
def test_what_needs_the_likelihood_is_refused(ask):
    with pytest.raises(ValueError, match="expected targets that follow the likelihood of bnn"):
        ask(NET, of_mixed(), X, Y)


def test_there_is_no_evidence():
    with pytest.raises(ValueError, match="evidence"):
        wp.log_evidence(of_mixed())


def summed_out(x, y=None):
    weights = LINE.sample_weights(LINE_PRIOR)
    numpyro.sample("kind", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
    numpyro.sample("y", dist.Normal(LINE.outputs(weights, x)[:, 0], 1.0), obs=y)


def two_observed(x, y=None):
    weights = LINE.sample_weights(LINE_PRIOR)
    for name in ("y", "z"):
        numpyro.sample(name, dist.Normal(LINE.outputs(weights, x)[:, 0], 1.0), obs=y)


def named_alike(x, y=None):
    weights = LINE.sample_weights(LINE_PRIOR, name="line")
    numpyro.sample("output.bias", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(LINE.outputs(weights, x)[:, 0], 1.0), obs=y)


def every_pair(x, y=None):
    outputs = LINE.outputs(LINE.sample_weights(LINE_PRIOR), x)
    numpyro.sample("y", dist.Normal(outputs, 1.0).to_event(1), obs=y)


def counted_thrice(x, y=None):
    with numpyro.handlers.scale(scale=3.0):
        weights = LINE.sample_weights(LINE_PRIOR)
    numpyro.sample("y", dist.Normal(LINE.outputs(weights, x)[:, 0], 1.0), obs=y)


def likelihood_cubed(x, y=None):
    weights = LINE.sample_weights(LINE_PRIOR)
    effect = numpyro.handlers.scope(lambda: numpyro.sample("e", dist.Normal(0, 1)), prefix="m")()
    with numpyro.handlers.scale(scale=3.0):
        numpyro.sample("y", dist.Normal(LINE.outputs(weights, x)[:, 0] + effect, 1.0), obs=y)


def test_a_likelihood_that_counts_more_than_once_is_that_models_own():
    ran = Ran(likelihood_cubed)
    fit = wp.from_numpyro(LINE, ran, X, Y, prior=LINE_PRIOR)
    assert fit.attrs["likelihood_elsewhere"] == 1
    weight, bias, effect = (ran.draws[n][0] for n in ("output.weight", "output.bias", "m/e"))
    outputs, effect = weight[:, :, 0] @ X.T + bias, effect[:, None]
    terms = 3.0 * dist.Normal(outputs + effect, 1.0).log_prob(Y)
    np.testing.assert_allclose(fit["log_likelihood"]["y"][0], terms, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(fit["posterior"]["m.e"], ran.draws["m/e"])


REFUSED = {
    "every row with every other": (lambda: Ran(every_pair), {}, r"write outputs\[:, 0\]"),
    "a prior that counts more than once": (lambda: Ran(counted_thrice), {}, "expected that of"),
    "no run": (lambda: MCMC(NUTS(mixed), num_warmup=1, num_samples=1), {}, "Call mcmc.run"),
    "no MCMC": (lambda: run_alone().draws, {}, "numpyro.infer.MCMC"),
    "another prior": (run_alone, {"prior": wp.normal_prior(LINE)}, "prior: expected that of"),
    "another name": (run_alone, {"name": "line"}, "pass its name here"),
    "rows in another order": (run_alone, {"y": Y[::-1]}, "same order of the rows"),
    "other rows": (run_alone, {"x": X[:5], "y": Y[:5]}, "log density per row"),
    "several priors": (
        run_alone,
        {"prior": wp.stack_priors({0: LINE_PRIOR, 1: LINE_PRIOR})},
        "Choose one",
    ),
    "a site that was summed out": (lambda: Ran(summed_out, ["kind"]), {}, "'kind'"),
    "two observed sites": (lambda: Ran(two_observed), {}, "one observed site"),
    "a name twice": (lambda: Ran(named_alike), {"name": "line"}, "Rename that site"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused(case):
    make, changed, told = REFUSED[case]
    options = {"x": X, "y": Y, "prior": LINE_PRIOR} | changed
    with pytest.raises((TypeError, ValueError), match=told):
        wp.from_numpyro(LINE, make(), options.pop("x"), options.pop("y"), **options)
