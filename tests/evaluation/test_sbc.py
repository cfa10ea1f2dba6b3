"""Simulation-based calibration: exact draws pass, and every way to be wrong is found out."""

import warnings
from functools import cache, partial

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import weightprior as wp
from oracle import LinearGaussian, from_sites, to_sites
from problems import EXACT_KERNELS, FITTERS, LINEAR_PRIORS, NET
from problems import LINEAR as UNNAMED
from shared_fits import LIKELIHOODS, case, light_fit, log_density, outputs, random_weights

# Names, for the test of data frames.
LINEAR = UNNAMED._replace(
    bnn=wp.BNN(wp.mlp(["age", "dose", "time"], hidden=()), UNNAMED.bnn.likelihood)
)
PROPER = [name for name in LINEAR_PRIORS if name != "flat biases"]
CENTRED = LINEAR.prior(**LINEAR_PRIORS["around a centre per weight"])


def closed_form(bnn, x, y, *, prior, rng_key, narrowing=1.0, shift=0.0, of_prior=False, repeat=1):
    """Independent draws from the exact posterior of the linear model, or from one that is wrong."""
    known = from_sites(prior.loc), from_sites(prior.scale)
    exact = LinearGaussian(x, y, bnn.likelihood.noise, *known)
    mean = exact.mean + shift * exact.sd
    root = np.linalg.cholesky(exact.covariance) / narrowing
    if of_prior:
        mean, root = exact.loc, np.diag(exact.scale)
    rng = generator(rng_key)
    draws = mean + rng.normal(size=(4, 60 // repeat, 4)) @ root.T
    return linear_fit(x, y, to_sites(draws.repeat(repeat, axis=1)))


@cache
def laid_out():
    """A fit of the linear model, whatever its draws, and its arrays by group."""
    nothing = np.zeros((4, 60, 4))
    x, y = LINEAR.x.copy(), LINEAR.y.copy()
    tree = light_fit(LINEAR.bnn, x, y, to_sites(nothing), prior=CENTRED)
    return tree, {group: {n: v.to_numpy() for n, v in tree[group].items()} for group in tree}


def linear_fit(x, y, draws):
    """The one fit with these draws written into it, which takes half as long as another would.

    Calibration keeps none, and computes densities by itself.
    """
    tree, arrays = laid_out()
    for group, given in (
        ("posterior", draws),
        ("constant_data", {"x": x}),
        ("observed_data", {"y": y}),
    ):
        for name, values in given.items():
            arrays[group][name][...] = values
    return tree


def calibrated(fit=closed_form, prior=CENTRED, problem=LINEAR, **options):
    """Few simulations of few inputs: enough for errors as plain as those made here."""
    options = {"num_simulations": 40, "at": LINEAR.x[:3], "num_draws": 49} | options
    return wp.simulation_based_calibration(problem.bnn, problem.x, prior=prior, fit=fit, **options)


@cache
def exact(prior):
    """Twice as many simulations, which what is right has to stand."""
    return calibrated(prior=LINEAR.prior(**LINEAR_PRIORS[prior]), num_simulations=80)


@cache
def too_narrow():
    return calibrated(partial(closed_form, narrowing=1.5))


def one_of(*others):
    """A fit function that leaves a simulation to each of the others in turn."""
    left = list(others)
    return lambda *args, **options: left.pop(0)(*args, **options)


def generator(rng_key):
    return np.random.default_rng(np.asarray(jax.random.key_data(rng_key)))


def made_of_prior(bnn, x, y, *, prior, rng_key):
    rng = generator(rng_key)
    return light_fit(bnn, x, y, random_weights(bnn, rng, (4, 250)), prior=prior)


class TestVerdict:
    @pytest.mark.parametrize("prior", PROPER)
    def test_exact_draws_are_calibrated(self, prior):
        found = exact(prior)
        assert found["calibrated"]
        assert found["p_value"] > found.attrs["level"] == 0.01

    def test_too_narrow_a_posterior_is_found_out(self):
        found = too_narrow()
        assert not found["calibrated"]
        middle = found["ecdf_diff.outputs"].sel(probability=[0.1, 0.9]).mean(("obs_id", "output"))
        assert middle[0] > 0 > middle[1]

    @pytest.mark.parametrize("shift", [-0.8, 0.8])
    def test_a_biased_posterior_is_found_out(self, shift):
        found = calibrated(partial(closed_form, shift=shift))
        assert not found["calibrated"]
        biased = found["ecdf_diff.outputs"].sel(probability=0.5).mean()
        assert np.sign(biased) == np.sign(shift)

    def test_the_prior_is_found_out_by_the_log_densities_alone(self):
        found = calibrated(partial(closed_form, of_prior=True))
        assert not found["calibrated"]
        assert found["p_value.log_likelihood"] < 1e-6
        assert found["p_value.outputs"].min() > 0.01 / 5

    def test_verdict_and_band_agree(self):
        for found in (exact("around a centre per weight"), too_narrow()):
            inside = all(
                ((found[name] >= found["band_lower"]) & (found[name] <= found["band_upper"])).all()
                for name in ("ecdf_diff.outputs", "ecdf_diff.lp", "ecdf_diff.log_likelihood")
            )
            assert inside == found["calibrated"] == (found["p_value"] > 0.01)


class TestRanks:
    @pytest.mark.parametrize(
        "name",
        # All compile.
        [pytest.param(n, marks=[pytest.mark.slow] * (n != "gaussian")) for n in LIKELIHOODS],
    )
    def test_are_of_every_quantity_of_every_likelihood(self, name):
        bnn, x = LIKELIHOODS[name], case(name).x
        prior, seen = wp.normal_prior(bnn, scale=0.5), []

        def fit(bnn, x, y, *, prior, rng_key):
            seen.append((y, made_of_prior(bnn, x, y, prior=prior, rng_key=rng_key)))
            return seen[-1][1]

        found = wp.simulation_based_calibration(
            bnn, x, prior=prior, fit=fit, num_simulations=3, num_draws=1000
        )
        key = jax.random.split(jax.random.key(0), 3)[0]
        truths = wp.prior_predictive(bnn, x, prior=prior, num_samples=3, rng_key=key)
        for i, (y, tree) in enumerate(seen):
            true = {site: truths["prior"][site][0, i].to_numpy() for site in bnn.sites}
            drawn = {site: tree["posterior"][site].to_numpy() for site in bnn.sites}
            np.testing.assert_array_equal(y, truths["prior_predictive"]["y"][0, i])
            rows = found["obs_id"].to_numpy()
            for quantity, function in {
                "outputs": lambda w, rows=rows: outputs(bnn, w, x[rows]),
                "log_likelihood": lambda w, y=y: log_density(bnn, w, x, y).sum(-1),
                "lp": lambda w, y=y: log_density(bnn, w, x, y).sum(-1) + log_prior(bnn, w),
                "noise": lambda w: w.get("log_noise"),
            }.items():
                if quantity == "noise" and "log_noise" not in bnn.sites:
                    assert f"rank.{quantity}" not in found
                    continue
                expected = (function(drawn) < function(true)).sum((0, 1))
                np.testing.assert_array_equal(found[f"rank.{quantity}"][i], expected)

    def test_inputs_are_rows_of_x_or_those_given(self):
        found = calibrated(at=None, num_simulations=5)
        assert found["obs_id"].to_numpy().tolist() == [0, 4, 9, 13, 17, 22, 26, 30, 35, 39]
        chosen = calibrated(at=LINEAR.x[[9, 4, 30]], num_simulations=5)
        assert chosen["obs_id"].to_numpy().tolist() == [0, 1, 2]
        np.testing.assert_array_equal(
            chosen["rank.outputs"], found["rank.outputs"].sel(obs_id=[9, 4, 30])
        )

    def test_the_key_decides_them(self):
        first, again, other = (calibrated(num_simulations=5, rng_key=key) for key in (3, 3, 4))
        xr.testing.assert_identical(first.assign_attrs(seconds=0), again.assign_attrs(seconds=0))
        assert not np.array_equal(first["rank.lp"], other["rank.lp"])


def log_prior(bnn, weights):
    """Of independent normals with sd 0.5 around 0; of the noise with sd 1 around -1."""
    total = 0.0
    for name, site in bnn.sites.items():
        loc, scale = (-1.0, 1.0) if name == "log_noise" else (0.0, 0.5)
        terms = -0.5 * ((weights[name] - loc) / scale) ** 2
        total = total + terms.sum(tuple(range(-len(site.shape), 0)))
    return total


def test_what_is_returned(tmp_path):
    found = calibrated(num_simulations=5)
    sizes = {"simulation": 5, "obs_id": 3, "output": 1, "probability": 49}
    assert dict(found.sizes) == sizes
    assert found["rank.outputs"].dims == ("simulation", "obs_id", "output")
    assert found["rank.lp"].dims == ("simulation",)
    assert found["p_value.outputs"].dims == ("obs_id", "output")
    assert found["ecdf_diff.lp"].dims == ("probability",)
    np.testing.assert_allclose(found["probability"], np.arange(1, 50) / 50)
    expected = (found["rank.lp"] / 50 < found["probability"]).mean("simulation")
    np.testing.assert_allclose(found["ecdf_diff.lp"], expected - found["probability"])
    assert (found.attrs["function"], found.attrs["fit"]) == ("simulation_based_calibration", "made")
    assert (found.attrs["num_simulations"], found.attrs["num_draws"]) == (5, 49)
    # Independent draws: as many effective ones, but for the error of an estimate.
    assert 180 < found["ess.lp"].median() < 300
    found.to_netcdf(tmp_path / "found.nc")
    with xr.open_dataset(tmp_path / "found.nc") as read:
        xr.testing.assert_identical(read.load(), found)


def test_a_data_frame_reaches_the_fit_as_it_is():
    frame = pd.DataFrame(LINEAR.x, columns=["age", "dose", "time"])

    def fit(bnn, x, y, *, prior, rng_key):
        assert x is frame
        return closed_form(bnn, LINEAR.x, y, prior=prior, rng_key=rng_key)

    framed = LINEAR._replace(x=frame)
    found = calibrated(fit, problem=framed, num_simulations=5, at=frame[:3])
    xr.testing.assert_identical(
        found.assign_attrs(seconds=0), calibrated(num_simulations=5).assign_attrs(seconds=0)
    )
    with pytest.raises(ValueError, match="x: expected the columns 'age', 'dose'"):
        calibrated(fit, problem=framed._replace(x=frame[["dose", "age", "time"]]))


@pytest.mark.slow
def test_chains_compile_once():
    names, counts = [], []

    def listen(event, duration, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(about["fun_name"])

    def fit(*args, **options):
        counts.append(len(names))
        return wp.fit_mcmc(*args, num_samples=40, num_chains=3, progress_bar=False, **options)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with warnings.catch_warnings():  # of so few draws
            warnings.simplefilter("ignore", UserWarning)
            calibrated(fit, NET.prior(scale=0.3), NET, num_simulations=4, at=None, num_draws=9)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert counts[0] < counts[1] == counts[2] == counts[3]


class TestTrouble:
    @pytest.mark.parametrize("how", ["raised", "told"])
    def test_an_interrupt_returns_what_is_complete(self, how):
        def told(*args, **options):
            fit = closed_form(*args, **options).copy()
            fit.attrs["interrupted"] = 1
            return fit

        fit = one_of(closed_form, closed_form, {"raised": interrupt, "told": told}[how])
        with pytest.warns(UserWarning, match="interrupted; returning the 2 of 80 simulations"):
            found = calibrated(fit, num_simulations=80)
        assert found.sizes["simulation"] == found.attrs["num_simulations"] == 2
        assert found.attrs["interrupted"] == 1
        np.testing.assert_array_equal(
            found["rank.lp"], exact("around a centre per weight")["rank.lp"][:2]
        )

    def test_an_interrupt_of_the_first_fit_is_one(self):
        with pytest.raises(KeyboardInterrupt):
            calibrated(interrupt)

    def test_warnings_of_fits_are_told_once(self):
        def fit(*args, **options):
            warnings.warn("this fit is poor", stacklevel=1)
            return closed_form(*args, **options)

        with pytest.warns(UserWarning, match="2 of 5 fits warned, the first: this fit is") as told:
            calibrated(one_of(closed_form, fit, fit, closed_form, closed_form), num_simulations=5)
        assert [warning.filename for warning in told] == [__file__]

    def test_correlated_draws_are_told(self):
        with pytest.warns(UserWarning, match=r"effective draws of .*num_draws=49 are ranked"):
            found = calibrated(partial(closed_form, repeat=20), num_simulations=5)
        assert found["ess.lp"].max() < 49

    def test_draws_that_never_move_count_as_one(self):
        with pytest.warns(UserWarning, match="the fits hold 1 effective draws"):
            found = calibrated(partial(closed_form, narrowing=np.inf), num_simulations=5)
        assert (found["ess.outputs"] == 1).all()
        assert not found["calibrated"]

    def test_an_error_tells_its_simulation(self):
        keys = []

        def fail(bnn, x, y, *, prior, rng_key):
            keys.append((jax.random.key_data(rng_key).tolist(), y))
            raise ZeroDivisionError("by zero")

        with pytest.raises(ZeroDivisionError, match="by zero") as caught:
            calibrated(one_of(closed_form, closed_form, fail))
        (note,) = caught.value.__notes__
        ((words, y),) = keys
        assert "simulation 2 of simulation_based_calibration" in note
        assert f"fitted with rng_key=np.uint32({words})" in note
        # The note is the recipe.
        recipe = note.split("draw 2 of ")[1].split(", fitted")[0]
        known = {"bnn": LINEAR.bnn, "x": LINEAR.x, "prior": CENTRED, "np": np}
        drawn = eval(f"wp.{recipe}", known | {"wp": wp})
        np.testing.assert_array_equal(drawn["prior_predictive"]["y"][0, 2], y)

    def test_nothing_is_printed_where_nobody_looks(self, capsys):
        calibrated(num_simulations=5)
        assert capsys.readouterr() == ("", "")


def interrupt(*args, **options):
    raise KeyboardInterrupt


def other_y(bnn, x, y, **options):
    return closed_form(bnn, x, y + 1, **options)


def other_x(bnn, x, y, **options):
    return closed_form(bnn, x[::-1], y, **options)


def other_model(bnn, x, y, *, prior, rng_key):
    return case("gaussian").fit


def one_point(*args, **options):
    return closed_form(*args, **options).isel(chain=[0], draw=[0])


def stacked(bnn, x, y, *, prior, rng_key):
    drawn = random_weights(bnn, np.random.default_rng(0), (2, 50))
    return light_fit(bnn, x, y, drawn, drawn, prior=wp.stack_priors({"a": prior, "b": prior}))


FLAT = LINEAR.prior(**LINEAR_PRIORS["flat biases"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"prior": FLAT},
            ValueError,
            "expected finite scales; .* 'output.bias': nothing can be drawn",
        ),
        ({"prior": wp.stack_priors({"a": CENTRED})}, ValueError, r"Choose one: prior\[label\]"),
        ({"prior": NET.prior()}, ValueError, "prior.loc: expected the sites"),
        ({"prior": 1.0}, TypeError, "prior: expected a NormalPrior"),
        ({"fit": "hmc"}, TypeError, "fit: expected a fit function"),
        ({"fit": one_point}, ValueError, "(?s)at least num_draws=49 .* a MAP.*simulation 0"),
        ({"num_draws": 241}, ValueError, "num_draws=241 draws; got one with 240"),
        ({"fit": lambda *a, **o: 1.0}, TypeError, "(?s)the DataTree .*; got float.*simulation 0"),
        ({"fit": other_y}, ValueError, "expected fits of the y passed in"),
        ({"fit": other_x}, ValueError, "expected fits of the x passed in"),
        ({"fit": other_model}, ValueError, "expected the sites and shapes of this model"),
        ({"fit": stacked}, ValueError, "fits of the single prior"),
        ({"num_simulations": 0}, ValueError, "num_simulations: expected at least 1"),
        ({"num_draws": 2.5}, TypeError, "num_draws: expected a whole number"),
        ({"level": 1.0}, ValueError, "level: expected a number above 0 and below 1"),
        ({"at": LINEAR.x[:, :2]}, ValueError, r"expected shape \(rows, 3\)"),
        ({"rng_key": -1}, ValueError, "rng_key"),
    ],
)
def test_what_cannot_be_is_named(options, error, message):
    with pytest.raises(error, match=message):
        calibrated(**options)


# Shifts that differ in every weight, so that no two units can be exchanged.
_rng = np.random.default_rng(0)
SHIFTED = {name: _rng.normal(size=site.shape) for name, site in NET.bnn.sites.items()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:fit_mcmc:UserWarning")  # ranks need fewer draws
@pytest.mark.parametrize("loc", [0.0, SHIFTED], ids=["around 0", "around a centre per weight"])
@pytest.mark.parametrize("method", EXACT_KERNELS)
def test_exact_kernels_are_calibrated(method, loc):
    fit = partial(
        FITTERS[method],
        num_warmup=300,
        num_samples=250,
        target_accept_prob=0.95,
        progress_bar=False,
    )
    found = wp.simulation_based_calibration(
        NET.bnn, NET.x, prior=NET.prior(loc=loc), fit=fit, level=1e-3
    )
    assert found["calibrated"], found[[name for name in found if "p_value" in str(name)]]
