"""What a fit holds, that ArviZ's functions run on it, and that it survives being saved."""

import json
import subprocess
import sys
from functools import cache
from importlib.metadata import version

import arviz as az
import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import shared_fits as fits
import weightprior as wp
from shared_fits import (
    FRAME,
    REGRESSION,
    ROUNDING,
    TARGET,
    TWO_OUTPUTS,
    TWO_TARGETS,
    drawn,
)
from weightprior.fits.validate import validate

SITES = {
    REGRESSION: {
        "hidden_0.weight": ("feature", "hidden_0"),
        "hidden_0.bias": ("hidden_0",),
        "output.weight": ("hidden_0", "output"),
        "output.bias": ("output",),
        "log_noise": (),
    },
    TWO_OUTPUTS: {
        "output.weight": ("feature", "output"),
        "output.bias": ("output",),
        "log_noise": ("output",),
    },
}
MCMC_STATS = {"lp", "diverging", "acceptance_rate", "n_steps", "step_size", "energy"}
STATS = {
    "map": {"lp", "converged", "gradient_norm", "num_iterations"},
    "hmc": MCMC_STATS,
    "nuts": MCMC_STATS,
}
LABELS = {"strings": ["narrow", "moved"], "numbers": [0.25, 0.5, 1.0]}
FITS = [
    ("map", "single", REGRESSION),
    ("map", "strings", REGRESSION),
    ("map", "numbers", REGRESSION),
    ("hmc", "single", TWO_OUTPUTS),
    ("hmc", "strings", TWO_OUTPUTS),
    ("nuts", "single", TWO_OUTPUTS),
    ("nuts", "strings", TWO_OUTPUTS),
]
# Made-up draws take the same way from a method's arrays to a fit.
MADE = [
    ("map", "strings", TWO_OUTPUTS),
    ("hmc", "single", REGRESSION),
    ("nuts", "single", REGRESSION),
]


def named(kinds):
    return [f"{m}, {p}, {'one output' if b is REGRESSION else 'two outputs'}" for m, p, b in kinds]


every_fit = pytest.mark.parametrize(("method", "prior", "bnn"), FITS, ids=named(FITS))


@cache
def fitted(method, prior="single", bnn=REGRESSION):
    """A real fit; NUTS begins at a place given, which compiles sooner than the search for one."""
    if method != "nuts":
        return fits.fitted(method, prior, bnn)
    init = {name: np.zeros(site.shape) for name, site in bnn.sites.items()}
    given, y = fits.prior_of(bnn, prior), TARGET if bnn is REGRESSION else TWO_TARGETS
    return fits.FITTERS["nuts"](bnn, FRAME.to_numpy(), y, prior=given, init=init)


def any_fit(*kind):
    return drawn(*kind) if kind in MADE else fitted(*kind)


def expected_dims(method, prior, bnn):
    stacked = () if prior == "single" else ("prior",)
    lead = ("chain", "draw", *stacked)
    sites, several = SITES[bnn], ("output",) if bnn is TWO_OUTPUTS else ()
    latents = {**sites, "noise": sites["log_noise"]}
    groups = {
        "posterior": {name: (*lead, *dims) for name, dims in latents.items()},
        "sample_stats": dict.fromkeys(STATS[method], lead),
        "log_likelihood": {"y": (*lead, "obs_id")},
        "log_prior": dict.fromkeys(sites, lead),
        "observed_data": {"y": ("obs_id", *several)},
        "constant_data": {
            "x": ("obs_id", "feature"),
            **{
                f"prior_{part}.{n}": (*stacked, *sites[n])
                for n in sites
                for part in ("loc", "scale")
            },
        },
    }
    if method == "map":
        held = sites | dict.fromkeys(STATS["map"], ())
        groups["restarts"] = {n: ("restart", *stacked, *dims) for n, dims in held.items()}
    else:
        # The state is the kernel's own affair.
        state = any_fit(method, prior, bnn)["chain_state"].data_vars.items()
        own = {
            n: ("chain", *stacked, *(f"{n}_dim_{i}" for i in range(v.ndim - 1 - len(stacked))))
            for n, v in state
        }
        groups["chain_state"] = own | {"part": stacked}
    return groups


@pytest.mark.parametrize(("method", "prior", "bnn"), FITS + MADE, ids=named(FITS + MADE))
def test_groups_variables_dims_and_coordinates(method, prior, bnn):
    fit, expected = any_fit(method, prior, bnn), expected_dims(method, prior, bnn)
    found = {
        group: {name: values.dims for name, values in fit[group].data_vars.items()}
        for group in fit.children
    }
    assert found == expected

    chains, draws = (1, 1) if method == "map" else (2, 150)
    coords = {
        "chain": list(range(chains)),
        "draw": list(range(draws)),
        "prior": LABELS.get(prior),
        "restart": [0, 1, 2],
        "obs_id": list(range(len(FRAME))),
        "feature": ["age", "dose"] if bnn is REGRESSION else [0, 1],
        "hidden_0": [0, 1, 2],
        "output": list(range(bnn.network.num_outputs)),
    }
    for group, variables in expected.items():
        used = {dim for dims in variables.values() for dim in dims if dim in coords}
        assert {d: c.to_numpy().tolist() for d, c in fit[group].coords.items()} == {
            dim: coords[dim] for dim in used
        }


@pytest.mark.parametrize(
    "kind",
    [("map", "strings"), ("hmc", "strings", TWO_OUTPUTS), ("nuts", "single", TWO_OUTPUTS)],
    ids=str,
)
def test_made_up_fits_are_laid_out_as_real_ones(kind):
    """So that tests of what reads a fit may read these."""
    real, made = (laid_out(fit(*kind)) for fit in (fitted, drawn))
    assert made == real
    assert set(drawn(*kind).attrs) == set(fitted(*kind).attrs)
    for name in ("method", "draws", "exact", "format", "model"):
        assert drawn(*kind).attrs[name] == fitted(*kind).attrs[name]


def test_densities_by_numpy_are_those_of_a_fit():
    light, made = (
        make(REGRESSION, FRAME, TARGET, fits.sites(drawn("hmc")))
        for make in (fits.light_fit, fits.made_fit)
    )
    xr.testing.assert_allclose(light, made, **ROUNDING)


def laid_out(fit):
    """Dims, type and shape of all that is in a fit, but for the state, the kernel's own affair."""
    return {
        group: {name: (v.dims, v.dtype, v.shape) for name, v in fit[group].variables.items()}
        for group in fit.children
        if group != "chain_state"
    } | {"chain_state": "chain_state" in fit.children}


@every_fit
def test_attributes_say_how_the_fit_was_made(method, prior, bnn):
    attrs = dict(fitted(method, prior, bnn).attrs)
    assert attrs.pop("seconds") > 0
    settings = {
        "map": {"num_restarts": 3, "max_iterations": 5000, "tolerance": 1e-6},
        "hmc": {"num_warmup": 200, "num_samples": 150, "thinning": 1, "target_accept_prob": 0.9},
        "nuts": {"num_warmup": 200, "num_samples": 150, "thinning": 1, "target_accept_prob": 0.95},
    }
    decoded = {n: json.loads(attrs.pop(n)) for n in ("options", "model", "versions")}
    start = {"map": {"init": "prior"}, "hmc": {"init": "prior"}, "nuts": {"init": "weights"}}
    assert decoded["options"] == settings[method] | start[method] | {"rng_key": [0, 5]}
    assert decoded["model"] == {
        "network": {"activations": ["tanh"] * len(bnn.network.hidden)},
        "likelihood": "Gaussian(noise=None)",
        "sites": {name: list(site.shape) for name, site in bnn.sites.items()},
        "latents": ["log_noise"],
    }
    assert decoded["versions"] == {n: version(n) for n in ("jax", "numpyro", "arviz")}
    assert attrs == {
        "method": method,
        "draws": "point" if method == "map" else "chains",
        "exact": method != "map",
        "format": 1,
        "inference_library": "weightprior",
        "inference_library_version": version("weightprior"),
    }


@every_fit
def test_numbers_are_those_of_the_model(method, prior, bnn):
    y = TARGET if bnn is REGRESSION else TWO_TARGETS
    fit, given = fitted(method, prior, bnn), fits.prior_of(bnn, prior)
    np.testing.assert_array_equal(fit["observed_data"]["y"], y)
    np.testing.assert_array_equal(fit["constant_data"]["x"], FRAME)
    for name in bnn.sites:
        np.testing.assert_array_equal(fit["constant_data"][f"prior_loc.{name}"], given.loc[name])
        np.testing.assert_array_equal(
            fit["constant_data"][f"prior_scale.{name}"], given.scale[name]
        )
    for part, single in zip(wp.unstack_fit(fit).values(), given.singles(), strict=True):
        weights = fits.sites(part)
        np.testing.assert_allclose(
            part["posterior"]["noise"], np.exp(weights["log_noise"]), **ROUNDING
        )
        np.testing.assert_allclose(
            part["log_likelihood"]["y"], fits.log_density(bnn, weights, FRAME, y), **ROUNDING
        )
        for name, w in weights.items():
            terms = stats.norm.logpdf(w, single.loc[name], single.scale[name])
            np.testing.assert_allclose(
                part["log_prior"][name], terms.reshape(*w.shape[:2], -1).sum(-1), **ROUNDING
            )


@every_fit
def test_lp_is_the_sum_of_log_prior_and_log_likelihood(method, prior, bnn):
    fit = fitted(method, prior, bnn)
    total = sum(fit["log_prior"].data_vars.values()) + fit["log_likelihood"]["y"].sum("obs_id")
    np.testing.assert_allclose(fit["sample_stats"]["lp"], total, **ROUNDING)


@pytest.mark.parametrize("prior", ["single", "strings"])
def test_a_map_is_its_best_restart(prior):
    fit = fitted("map", prior)
    restarts, best = fit["restarts"].dataset, fit["restarts"].dataset.isel(restart=0, drop=True)
    assert bool((restarts["lp"].diff("restart") <= 0).all())
    for name in REGRESSION.sites:
        np.testing.assert_array_equal(fit["posterior"][name][0, 0], best[name])
    for name in STATS["map"] - {"lp"}:
        np.testing.assert_array_equal(fit["sample_stats"][name][0, 0], best[name])
    np.testing.assert_allclose(fit["sample_stats"]["lp"][0, 0], best["lp"], **ROUNDING)


NEEDED = ["posterior", "sample_stats", "log_prior", "observed_data", "constant_data"]


class TestValidate:
    @pytest.mark.parametrize("group", NEEDED)
    def test_a_missing_group_is_named(self, group):
        children = drawn("nuts").children
        fit = xr.DataTree.from_dict({g: t for g, t in children.items() if g != group})
        with pytest.raises(ValueError, match=f"none of the name '{group}'"):
            validate(fit)

    @pytest.mark.parametrize("group", ["log_likelihood", "chain_state"])
    def test_a_group_may_be_missing(self, group):
        children = drawn("nuts").children
        validate(xr.DataTree.from_dict({g: t for g, t in children.items() if g != group}))

    @pytest.mark.parametrize("number", [np.nan, np.inf])
    @pytest.mark.parametrize("group", [*NEEDED, "log_likelihood"])
    def test_nan_and_infinity_are_found_and_named(self, group, number):
        fit = drawn("nuts").copy(deep=True)
        name = next(n for n, v in fit[group].data_vars.items() if v.dtype.kind == "f")
        fit[group][name].to_numpy().flat[-1] = number
        with pytest.raises(ValueError, match=f"got {number} in {group}\\['{name}'\\]"):
            validate(fit)

    @every_fit
    def test_every_fit_passes(self, method, prior, bnn):
        validate(fitted(method, prior, bnn))


class TestSplit:
    @pytest.mark.parametrize(
        ("method", "bnn"),
        [("map", REGRESSION), ("hmc", TWO_OUTPUTS), ("nuts", TWO_OUTPUTS)],
        ids=["map", "hmc", "nuts"],
    )
    def test_a_part_equals_the_fit_of_its_prior_exactly(self, method, bnn):
        part = wp.unstack_fit(fitted(method, "strings", bnn))["moved"]
        single = fitted(method, "single", bnn)
        assert part.attrs.pop("seconds") > 0
        part.attrs["seconds"] = single.attrs["seconds"]
        xr.testing.assert_identical(part, single)

    @pytest.mark.parametrize("labels", ["strings", "numbers"])
    def test_parts_go_by_their_labels(self, labels):
        whole = fitted("map", labels)
        parts = wp.unstack_fit(whole)
        assert list(parts) == LABELS[labels]
        for label, part in parts.items():
            validate(part)
            xr.testing.assert_equal(
                part["posterior"].to_dataset(),
                whole["posterior"].to_dataset().sel(prior=label, drop=True),
            )

    def test_a_single_fit_comes_back_as_it_is(self):
        assert wp.unstack_fit(drawn("nuts")) == {"fit": drawn("nuts")}

    def test_something_else_raises(self):
        with pytest.raises(TypeError, match="fit: expected the DataTree"):
            wp.unstack_fit(drawn("nuts")["posterior"].dataset)


SAMPLED = [("nuts", "single", REGRESSION), ("hmc", "strings", TWO_OUTPUTS)]


@pytest.mark.parametrize(("method", "prior", "bnn"), SAMPLED, ids=named(SAMPLED))
class TestArviZ:
    def test_summary_has_a_row_per_number(self, method, prior, bnn):
        posterior = any_fit(method, prior, bnn)["posterior"]
        size = sum(v[0, 0].size for v in posterior.data_vars.values())
        table = az.summary(any_fit(method, prior, bnn))
        assert len(table) == size
        assert "hidden_0.weight[age, 0]" in table.index or prior == "strings"
        assert not table.isna().any(axis=None)

    # A large Pareto k is a finding about few draws, and ArviZ gives it as a warning.
    @pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
    def test_loo(self, method, prior, bnn):
        for part in wp.unstack_fit(any_fit(method, prior, bnn)).values():
            found = az.loo(part, pointwise=True)
            assert (found.n_data_points, found.n_samples) == (20, 300)
            assert np.isfinite(found.elpd_i).all()

    def test_psense_finds_prior_and_likelihood(self, method, prior, bnn, capsys):
        for part in wp.unstack_fit(any_fit(method, prior, bnn)).values():
            table = az.psense_summary(part)
            assert np.isfinite(table[["prior", "likelihood"]].to_numpy(dtype=float)).all()
        capsys.readouterr()  # it prints advice

    @pytest.mark.parametrize("plot", [az.plot_forest, az.plot_trace_dist])
    def test_plots(self, method, prior, bnn, plot):
        plt.switch_backend("agg")
        plot(
            any_fit(method, prior, bnn), var_names=["output.weight", "noise"], backend="matplotlib"
        )
        assert plt.get_fignums()
        plt.close("all")


def test_arviz_takes_a_map_as_one_point():
    table = az.summary(fitted("map"), kind="stats")
    np.testing.assert_allclose(
        table["mean"].astype(float).loc["log_noise"],
        fitted("map")["posterior"]["log_noise"].item(),
        rtol=0.05,  # a table shows two digits
    )


SAVED = [
    ("map", "numbers", REGRESSION),
    ("hmc", "single", TWO_OUTPUTS),
    ("nuts", "strings", TWO_OUTPUTS),
]


class TestSaving:
    @pytest.mark.parametrize(("method", "prior", "bnn"), SAVED, ids=named(SAVED))
    def test_netcdf_gives_back_the_same(self, tmp_path, method, prior, bnn):
        fit = fitted(method, prior, bnn)
        fit.to_netcdf(tmp_path / "fit.nc")
        back = read(tmp_path / "fit.nc")
        xr.testing.assert_identical(back, fit)
        validate(back)

    def test_predictions_of_another_process_are_the_same(self, tmp_path):
        fit = drawn("nuts", "strings")
        fit.to_netcdf(tmp_path / "fit.nc")
        command = [sys.executable, "-W", "error", "-c", PREDICT]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
        here = wp.predict(REGRESSION, fit, FRAME, rng_key=3)
        for double in (False, True):
            with xr.open_dataset(tmp_path / f"{double}.nc") as there:
                xr.testing.assert_identical(there.load(), here)

    def test_predictions_of_this_process_do_not_depend_on_its_precision(self):
        fit = drawn("nuts")
        with jax.enable_x64(True):
            double = wp.predict(REGRESSION, fit, FRAME)
        xr.testing.assert_identical(wp.predict(REGRESSION, fit, FRAME), double)


PREDICT = """
import jax, xarray as xr
import weightprior as wp

fit = xr.open_datatree("fit.nc")
bnn = wp.BNN(wp.mlp(["age", "dose"], hidden=(3,)), wp.Gaussian())
for double in (False, True):
    jax.config.update("jax_enable_x64", double)
    predicted = wp.predict(bnn, fit, fit["constant_data"]["x"].to_numpy(), rng_key=3)
    predicted.to_netcdf(f"{double}.nc")
"""


def read(path):
    tree = az.from_netcdf(path)
    tree.load()
    tree.close()
    return tree
