"""What holds for every method, shown on the problems that all of them share."""

import jax
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import oracle
import weightprior as wp
from assertions import assert_mean, assert_sd
from problems import BRIEF, FITTERS, HALF_THE_DIGITS, KERNELS, LINEAR, NET, VAGUE, fit
from weightprior.inference import _batch

_short = {"num_warmup": 50, "num_samples": 40, "num_chains": 3}
SHORT = {name: {} for name in FITTERS} | dict.fromkeys(KERNELS, _short)
SHORT["vi"] = {"num_steps": 20}
SHORT["tempered"] = {"num_samples": 20}
# Other lengths of a run, which are numbers to its programs.
_longer = {"num_samples": 24, "num_chains": 5, "thinning": 3, "target_accept_prob": 0.9}
LONGER = {
    "map": {"tolerance": 1e-3, "max_iterations": 900, "num_restarts": 7},
    "ensemble": {"tolerance": 1e-3, "max_iterations": 900},  # members are draws: see below
    "hmc": _longer | {"num_warmup": 90},
    "nuts": _longer,  # whose warm-up is compiled into NumPyro's kernel
    "mclmc": _longer,
    "vi": {"num_steps": 30},
    "tempered": {"num_samples": 90, "num_chains": 5, "num_temperatures": 5},
}
# In nats: but for rounding there is none, and what Adam leaves is a tenth at most.
EVIDENCE_ERROR = {"laplace": 2e-7, "tempered": 2e-7, "vi": 0.1}
# What evaluates other numbers of draws, and makes their keys.
SMALL = {f"jit({name})" for name in ("_evaluate_all", "stack", "reshape")}
SMALL |= {"jit(_threefry_fold_in)", "jit(_threefry_split)"}
PRIORS = {
    "narrow": NET.prior(scale=0.3),
    "moved": NET.prior(loc=0.4, scale={"weight": 0.8, "bias": 0.5}),
    "wide": NET.prior(loc={"weight": -0.2, "bias": 0.0}),
}

# Kernels share what surrounds them, and ensembles what makes a MAP: these at leisure.
_AT_LEISURE = ("nuts", "mclmc", "ensemble")
METHODS = [pytest.param(name, marks=[pytest.mark.slow] * (name in _AT_LEISURE)) for name in FITTERS]

pytestmark = [
    pytest.mark.parametrize("method", METHODS),
    pytest.mark.filterwarnings("ignore:fit_vi. far from the posterior"),  # after so few steps
]


@pytest.fixture
def compiled():
    """Names of the programs that were compiled so far."""
    names = []

    def listen(event, duration, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(about["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def short_fit(method, problem, prior, **options):
    return fit(method, problem, prior, **SHORT[method] | options)


def test_a_stacked_prior_equals_the_loop_over_its_priors(method):
    parts = wp.unstack_fit(short_fit(method, NET, wp.stack_priors(PRIORS), rng_key=3))
    assert list(parts) == list(PRIORS)
    for label, prior in PRIORS.items():
        alone = short_fit(method, NET, prior, rng_key=3)
        assert set(parts[label].children) == set(alone.children)
        for group in alone.children:
            xr.testing.assert_identical(parts[label][group].dataset, alone[group].dataset)


def test_numbers_never_compile(method, compiled):
    short_fit(method, NET, PRIORS["wide"])
    jax.jit(lambda a: a + 1)(1)
    assert compiled[-1] == "jit(<lambda>)"  # the counter counts
    compiled.clear()
    for i in range(6):
        short_fit(method, NET, NET.prior(loc=i / 10, scale=1 / (i + 1)), rng_key=i)
    short_fit(method, NET, wp.stack_priors(PRIORS))
    short_fit(method, NET._replace(x=2 * NET.x, y=-NET.y), PRIORS["wide"])
    short_fit(method, VAGUE, PRIORS["wide"])
    assert compiled == []


def test_the_length_of_a_run_never_compiles(method, compiled):
    if method == "laplace":
        pytest.skip("a search has the length that it needs")
    short_fit(method, NET, PRIORS["wide"])
    compiled.clear()
    short_fit(method, NET, PRIORS["wide"], **LONGER[method])
    assert set(compiled) <= SMALL if method == "tempered" else not compiled


def test_another_number_of_draws_compiles_nothing_but_their_densities(method, compiled):
    if method in ("map", "vi", "laplace"):
        pytest.skip("a MAP fit has one draw; an approximation is drawn from in its own program")
    short_fit(method, NET, PRIORS["wide"])
    compiled.clear()
    option = "num_members" if method == "ensemble" else "num_samples"
    short_fit(method, NET, PRIORS["wide"], **{option: 41})
    assert set(compiled) <= {"jit(_evaluate_all)"}


def test_without_data_the_answer_is_the_prior(method):
    """And the evidence, where a method has one, is that of the noise."""
    priors = {
        "one centre": VAGUE.prior(loc=0.7, scale=0.3),
        "two": VAGUE.prior(loc={"weight": -3.0, "bias": 5.0}, scale={"weight": 2.0, "bias": 0.01}),
    }
    many = {"ensemble": {"num_members": 1000}, "tempered": {"num_samples": 1000}}.get(method, {})
    found = fit(method, VAGUE, wp.stack_priors(priors), **many)
    parts, total = wp.unstack_fit(found), 2 * 2 * 13
    for label, prior in priors.items():
        for name in VAGUE.bnn.sites:
            draws, loc = parts[label]["posterior"][name].to_numpy(), prior.loc[name]
            if method == "ensemble":  # independent, as the draws of a single chain
                draws = draws.swapaxes(0, 1)
            about = {"num_comparisons": total, "label": f"{label}, {name}"}
            if method == "map":
                np.testing.assert_allclose(draws[0, 0], loc, rtol=1e-15, atol=1e-8)
            else:
                assert_mean(draws, loc, **about)
                assert_sd(draws, prior.scale[name], **about)
    if method in EVIDENCE_ERROR:
        nothing = stats.norm.logpdf(VAGUE.y, 0.0, 1e8).sum()
        evidence = wp.log_evidence(found)["log_evidence"]
        np.testing.assert_allclose(evidence, nothing, rtol=0, atol=EVIDENCE_ERROR[method])


@pytest.mark.slow
def test_tasks_side_by_side_give_what_tasks_in_threads_give(method, monkeypatch):
    """What an accelerator would run, on the CPU."""
    with jax.enable_x64(True):
        threaded = fit(method, LINEAR, LINEAR.prior(), **BRIEF[method])
        monkeypatch.setattr(_batch, "_threaded", _batch._vectorised)
        vmapped = fit(method, LINEAR, LINEAR.prior(), **BRIEF[method])
    ours, theirs = (oracle.from_sites(f["posterior"]) for f in (vmapped, threaded))
    np.testing.assert_allclose(ours, theirs, **HALF_THE_DIGITS)


def test_row_weights_of_a_stack_go_with_its_parts(method, compiled):
    counts = np.stack([np.ones(15), np.repeat([0.0, 1.0, 2.0], 5), np.repeat([1.0, 0.5, 0.0], 5)])
    short_fit(method, NET, PRIORS["wide"])
    compiled.clear()
    parts = wp.unstack_fit(short_fit(method, NET, wp.stack_priors(PRIORS), row_weights=counts))
    assert compiled == []
    for (label, prior), weights in zip(PRIORS.items(), counts, strict=True):
        alone = short_fit(method, NET, prior, row_weights=weights)
        for group in alone.children:
            xr.testing.assert_identical(parts[label][group].dataset, alone[group].dataset)


@pytest.mark.parametrize(
    ("row_weights", "message"),
    [
        (np.ones(14), r"expected shape \(15,\)"),
        (np.ones((3, 15)), r"expected shape \(15,\)"),
        (-np.ones(15), "at least 0; got -1"),
        (np.full(15, np.nan), "NaN"),
        ("many", "row_weights"),
    ],
)
def test_row_weights_that_cannot_be_are_refused(method, row_weights, message):
    with pytest.raises((ValueError, TypeError), match=f"row_weights.*{message}|{message}"):
        short_fit(method, NET, PRIORS["wide"], row_weights=row_weights)
    with pytest.raises(ValueError, match=r"or \(3, 15\)"):
        short_fit(method, NET, wp.stack_priors(PRIORS), row_weights=np.ones((2, 15)))


def test_the_same_key_gives_the_same_fit_and_another_key_another(method):
    by_int, by_key, other = (
        short_fit(method, NET, PRIORS["wide"], rng_key=key) for key in (3, jax.random.key(3), 4)
    )
    group = "restarts" if method == "map" else "posterior"
    xr.testing.assert_identical(by_int[group].dataset, by_key[group].dataset)
    assert not by_int[group].dataset.equals(other[group].dataset)


def test_more_chains_or_restarts_leave_the_first_ones_as_they_were(method):
    if method in ("laplace", "vi", "tempered"):
        pytest.skip("there is one search; and the ladder of all chains is found by all of them")
    option, group = {
        "map": ("num_restarts", "restarts"),
        "ensemble": ("num_members", "posterior"),
    }.get(method, ("num_chains", "posterior"))
    few, more = (
        short_fit(method, NET, PRIORS["wide"], **{option: n})[group].to_dataset() for n in (2, 5)
    )
    if method == "map":  # the best comes first, wherever it started
        assert set(few["lp"].to_numpy()) <= set(more["lp"].to_numpy())
    else:
        xr.testing.assert_identical(few, more.isel(chain=slice(2)))


def test_jax_is_left_as_it_was(method):
    before = dict(jax.config.values)
    short_fit(method, NET, PRIORS["wide"])
    assert dict(jax.config.values) == before
    assert jax.numpy.zeros(1).dtype == "float32"
