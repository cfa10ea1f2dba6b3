"""The border of fit functions: everything is checked once, and coordinates of the data are kept."""

from functools import partial

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import weightprior as wp
from problems import LINEAR, NET, START
from shared_fits import light_fit, random_weights
from weightprior import _data
from weightprior.fits import reading
from weightprior.fits.layout import row_coords
from weightprior.model.priors.normal import NormalPrior

_chains = {"num_warmup": 50, "num_samples": 5, "num_chains": 2, "init": START}
_chains |= {"progress_bar": False}
FITS = {
    "map": partial(wp.fit_map, num_restarts=4),
    "mcmc": partial(wp.fit_mcmc, **_chains),
    "laplace": wp.fit_laplace,
    "vi": partial(wp.fit_vi, num_steps=20, num_samples=30),
    "tempered": partial(wp.fit_tempered, num_temperatures=4, num_samples=10, num_chains=4),
    "ensemble": partial(wp.fit_ensemble, num_members=2),
}
AT_LEISURE = ("vi", "tempered", "ensemble")


@pytest.fixture
def counted(monkeypatch):
    """How often each check runs."""
    counts = {}

    def spy(owner, name, label):
        check = getattr(owner, name)

        def counting(*args, **options):
            counts[label] = counts.get(label, 0) + 1
            return check(*args, **options)

        monkeypatch.setattr(owner, name, counting)

    spy(_data, "inputs", "x")
    spy(wp.Gaussian, "check_target", "y")
    spy(_data, "row_weights", "row_weights")
    spy(NormalPrior, "check", "prior")
    spy(reading, "check_fit", "fit")
    return counts


def held_by_a_function(array):
    """A compiled function that holds an array, which JAX then takes for one of single precision."""
    function = jax.jit(lambda shift: shift + array)
    function(np.float32(0))
    return function


@pytest.mark.filterwarnings("ignore:fit_vi. far:UserWarning")
@pytest.mark.parametrize(
    "method", [pytest.param(n, marks=[pytest.mark.slow] * (n in AT_LEISURE)) for n in FITS]
)
def test_arrays_that_somebody_else_holds_are_read_in_full(method):
    def fitted(hold):
        x, y, weights = LINEAR.x.copy(), LINEAR.y.copy(), np.linspace(0.5, 1.5, len(LINEAR.y))
        prior = LINEAR.prior(loc=START)
        arrays = [x, y, weights, *prior.loc.values(), *prior.scale.values()]
        functions = [held_by_a_function(a) for a in arrays if hold]
        fit = FITS[method](LINEAR.bnn, x, y, prior=prior, row_weights=weights)
        constants = fit["constant_data"].dataset
        functions += [held_by_a_function(v.to_numpy()) for v in constants.values() if hold]
        return fit, wp.score(LINEAR.bnn, fit, x, y), functions

    expected, scores, _ = fitted(hold=False)
    found, again, _ = fitted(hold=True)
    xr.testing.assert_identical(found["posterior"].dataset, expected["posterior"].dataset)
    assert again["elpd"].item() == scores["elpd"].item()


def test_densities_of_arrays_that_somebody_else_holds_are_of_double_precision():
    bnn, x, y = LINEAR.bnn, LINEAR.x.copy(), LINEAR.y.copy()
    prior = wp.NormalPrior(*(dict(part) for part in (START, LINEAR.prior().scale)))
    weights = {name: np.cos(array + 1.0) for name, array in START.items()}
    arrays = [x, y, *weights.values(), *prior.loc.values(), *prior.scale.values()]
    functions = [held_by_a_function(a) for a in arrays]
    with jax.enable_x64(True):
        found = {
            "outputs": bnn.outputs(weights, x),
            "log_prior": bnn.log_prior(weights, prior),
            "log_likelihood": bnn.log_likelihood(weights, x, y),
            "log_joint": bnn.log_joint(weights, x, y, prior),
        }
    assert functions
    assert {name: str(value.dtype) for name, value in found.items()} == dict.fromkeys(
        found, "float64"
    )


@pytest.mark.filterwarnings("ignore:fit_vi. far:UserWarning")
@pytest.mark.parametrize(
    "method", [pytest.param(n, marks=[pytest.mark.slow] * (n in AT_LEISURE)) for n in FITS]
)
def test_a_fit_checks_everything_once(counted, method):
    weights = np.ones(len(LINEAR.y))
    FITS[method](*LINEAR, prior=LINEAR.prior(), row_weights=weights)
    counted.pop("fit", None)  # the verdict on chains reads the fit that was made
    assert counted == {"x": 1, "y": 1, "row_weights": 1, "prior": 1}


def test_a_table_checks_a_fit_once(counted):
    prior = wp.stack_priors({"a": NET.prior(), "b": NET.prior(scale=0.5)})
    rng = np.random.default_rng(0)
    draws = [random_weights(NET.bnn, rng, (2, 60)) for _ in range(2)]
    fit = light_fit(NET.bnn, NET.x, NET.y, *draws, prior=prior)
    counted.clear()
    wp.compare(NET.bnn, {"fit": fit}, NET.x, NET.y)
    assert counted["fit"] == 1


@pytest.mark.parametrize("method", ["map", pytest.param("mcmc", marks=pytest.mark.slow)])
def test_a_row_that_does_not_count_may_overflow(method):
    """Its gradient would be NaN, and nothing that is multiplied by a weight of 0 undoes that."""
    huge, counts = LINEAR.y.copy(), np.ones(len(LINEAR.y))
    huge[3], counts[3] = 1e30, 0.0  # of which single precision has no square
    plain, spoilt = (
        FITS[method](LINEAR.bnn, LINEAR.x, y, prior=LINEAR.prior(), row_weights=counts)["posterior"]
        for y in (LINEAR.y, huge)
    )
    xr.testing.assert_identical(plain.dataset, spoilt.dataset)


def test_all_fit_functions_take_what_all_could_take():
    import inspect

    for fit in FITS.values():
        names = inspect.signature(fit).parameters
        assert {"prior", "rng_key", "row_weights", "log_likelihood", "progress_bar"} <= {*names}


INDEXES = {
    "integers": pd.Index(np.arange(15) * 3 + 7),
    "strings": pd.Index([f"row {i}" for i in range(15)]),
    "dates": pd.date_range("2020-01-01", periods=15),
}
TEXTS = {
    "doubled": pd.Index([0] * 15),
    "several levels": pd.MultiIndex.from_product([["a", "b", "c"], range(5)]),
    "time zones": pd.date_range("2020-01-01", periods=15, tz="Europe/Paris"),
    "periods": pd.period_range("2020-01", periods=15, freq="M"),
    "intervals": pd.interval_range(0, 15),
    "mixed": pd.Index(["a", 1, 2.5, *range(12)], dtype=object),
    "numbers with a fraction": pd.Index(np.linspace(0, 1, 15)),
    "missing dates": pd.DatetimeIndex([pd.NaT, *pd.date_range("2020-01-01", periods=14)]),
    "categories": pd.CategoricalIndex(list("aabbccddeeffggh")),
}


def fit_with(index, tmp_path):
    """A fit of a data frame with this index, saved and read again."""
    frame = pd.DataFrame(NET.x, columns=["a", "b"], index=index)
    draws = random_weights(NET.bnn, np.random.default_rng(0), (1, 2))
    fit = light_fit(NET.bnn, frame, NET.y, draws)
    fit.to_netcdf(tmp_path / "fit.nc")
    with xr.open_datatree(tmp_path / "fit.nc") as read:
        return frame, fit, read.load()


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_that_netcdf_holds_names_the_rows(name, tmp_path):
    frame, fit, read = fit_with(INDEXES[name], tmp_path)
    for tree in (fit, read):
        for group in ("log_likelihood", "observed_data", "constant_data"):
            held = tree[group]["obs_id"].to_numpy()
            assert list(pd.Index(held)) == list(frame.index)
            assert "row" not in tree[group].coords
    predicted = wp.predict(NET.bnn, read, frame[::-1])
    assert list(pd.Index(predicted["obs_id"].to_numpy())) == list(frame.index[::-1])


@pytest.mark.parametrize("name", TEXTS)
def test_any_other_index_is_kept_as_text(name, tmp_path):
    frame, fit, read = fit_with(TEXTS[name], tmp_path)
    for tree in (fit, read):
        for group in ("log_likelihood", "observed_data", "constant_data"):
            assert tree[group]["obs_id"].to_numpy().tolist() == list(range(15))
            assert tree[group]["row"].to_numpy().tolist() == [str(i) for i in frame.index]
    assert np.isfinite(wp.score(NET.bnn, read, frame, NET.y)["elpd"])


@pytest.mark.parametrize(
    "x", [NET.x, NET.x.tolist(), pd.DataFrame(NET.x)], ids=["array", "list", "frame"]
)
def test_rows_without_names_are_counted(x):
    assert row_coords(x) == {}


def test_names_of_several_targets_are_kept():
    bnn = wp.BNN(wp.mlp(3, hidden=(), num_outputs=2), wp.Gaussian())
    y = pd.DataFrame({"sales": LINEAR.y, "returns": -LINEAR.y})
    fit = light_fit(bnn, LINEAR.x, y, random_weights(bnn, np.random.default_rng(0), (1, 2)))
    for group in ("posterior", "observed_data"):
        assert fit[group]["output"].to_numpy().tolist() == ["sales", "returns"]
    predicted = wp.predict(bnn, fit, LINEAR.x[:3])
    assert predicted["output"].to_numpy().tolist() == ["sales", "returns"]


def test_a_fit_of_a_newer_format_is_refused():
    fit = light_fit(
        NET.bnn, NET.x, NET.y, random_weights(NET.bnn, np.random.default_rng(0), (1, 2))
    )
    assert fit.attrs["format"] == reading.FORMAT == 1
    newer = fit.copy()
    newer.attrs["format"] = 2
    for read in (
        lambda: wp.predict(NET.bnn, newer, NET.x),
        lambda: wp.unstack_fit(newer),
        lambda: wp.compare(NET.bnn, {"fit": newer}),
    ):
        with pytest.raises(ValueError, match=r"fit: expected one of format 1 .* Upgrade"):
            read()
