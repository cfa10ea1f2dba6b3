"""What holds for every method, shown on the problems that all of them share."""

import warnings

import jax
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import oracle
import weightprior as wp
from assertions import assert_mean, assert_sd
from problems import BRIEF, FITTERS, HALF_THE_DIGITS, KERNELS, LINEAR, NET, fit
from weightprior.inference import _batch

_short = {"num_warmup": 50, "num_samples": 40, "num_chains": 3}
SHORT = {name: {} for name in FITTERS} | dict.fromkeys(KERNELS, _short)
# A target that keeps these few draws free of divergences.
SHORT["nuts"] = _short | {"target_accept_prob": 0.95}
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
PROBLEMS = {"linear": LINEAR, "net": NET}

# Each kind of method once, and hidden units where they matter most: the others at leisure.
_AT_ONCE = {"map": "net", "hmc": "net", "laplace": "linear", "vi": "linear", "tempered": "linear"}
CASES = [
    pytest.param(
        method,
        problem,
        id=f"{method}-{name}",
        marks=[pytest.mark.slow] * (_AT_ONCE.get(method) != name),
    )
    for method in FITTERS
    for name, problem in PROBLEMS.items()
]

pytestmark = [
    pytest.mark.parametrize(("method", "problem"), CASES),
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


def priors_of(problem):
    return {
        "narrow": problem.prior(scale=0.3),
        "moved": problem.prior(loc=0.4, scale={"weight": 0.8, "bias": 0.5}),
        "wide": problem.prior(loc={"weight": -0.2, "bias": 0.0}),
    }


def stack_of(problem):
    return wp.stack_priors(priors_of(problem))


def vague(problem):
    """Shapes of a problem, with data that say nothing."""
    return problem._replace(bnn=wp.BNN(problem.bnn.network, wp.Gaussian(noise=1e8)))


def short_fit(method, problem, prior, **options):
    if method in KERNELS:
        # A given start compiles sooner than the search for one, whose program is that of a MAP.
        sites = problem.bnn.sites.items()
        options = {"init": {name: np.full(site.shape, 0.1) for name, site in sites}} | options
    return fit(method, problem, prior, **SHORT[method] | options)


def test_a_stacked_prior_equals_the_loop_over_its_priors(method, problem):
    parts = wp.unstack_fit(short_fit(method, problem, stack_of(problem), rng_key=3))
    assert list(parts) == list(priors_of(problem))
    for label, prior in priors_of(problem).items():
        alone = short_fit(method, problem, prior, rng_key=3)
        assert set(parts[label].children) == set(alone.children)
        for group in alone.children:
            xr.testing.assert_identical(parts[label][group].dataset, alone[group].dataset)


def test_numbers_never_compile(method, problem, compiled):
    short_fit(method, problem, problem.prior())
    # A fit that says little is looked at for why, by another program; numbers decide on its need.
    short_fit(method, problem, problem.prior(loc=0.1, scale=0.5), rng_key=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        short_fit(method, problem, problem.prior(scale=0.01), rng_key=1)
    jax.jit(lambda a: a + 1)(1)
    assert compiled[-1] == "jit(<lambda>)"  # the counter counts
    compiled.clear()
    for i in range(3):
        short_fit(method, problem, problem.prior(loc=i / 10, scale=1 / (i + 1)), rng_key=i)
    short_fit(method, problem, stack_of(problem))
    short_fit(method, problem._replace(x=2 * problem.x, y=-problem.y), problem.prior())
    short_fit(method, vague(problem), problem.prior())
    assert compiled == []


def test_the_length_of_a_run_never_compiles(method, problem, compiled):
    if method == "laplace":
        pytest.skip("a search has the length that it needs")
    short_fit(method, problem, problem.prior())
    compiled.clear()
    short_fit(method, problem, problem.prior(), **LONGER[method])
    assert compiled == []


def test_another_number_of_draws_compiles_nothing(method, problem, compiled):
    if method in ("map", "vi", "laplace"):
        pytest.skip("a MAP fit has one draw; an approximation is drawn from in its own program")
    short_fit(method, problem, problem.prior())
    compiled.clear()
    option = "num_members" if method == "ensemble" else "num_samples"
    short_fit(method, problem, problem.prior(), **{option: 41})
    assert compiled == []


def test_without_data_the_answer_is_the_prior(method, problem):
    """And the evidence, where a method has one, is that of the noise."""
    nothing = vague(problem)
    priors = {
        "one centre": nothing.prior(loc=0.7, scale=0.3),
        "two": nothing.prior(
            loc={"weight": -3.0, "bias": 5.0}, scale={"weight": 2.0, "bias": 0.01}
        ),
    }
    stack = wp.stack_priors(priors)
    options = {"ensemble": {"num_members": 1000}, "tempered": {"num_samples": 1000}}.get(method, {})
    if method in KERNELS:
        options = {"init": fit("map", nothing, stack)}
    found = fit(method, nothing, stack, **options)
    num_weights = sum(np.prod(site.shape, dtype=int) for site in nothing.bnn.sites.values())
    parts, total = wp.unstack_fit(found), 2 * 2 * num_weights
    for label, prior in priors.items():
        for name in nothing.bnn.sites:
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
        of_noise = stats.norm.logpdf(nothing.y, 0.0, 1e8).sum()
        evidence = wp.log_evidence(found)["log_evidence"]
        np.testing.assert_allclose(evidence, of_noise, rtol=0, atol=EVIDENCE_ERROR[method])


@pytest.mark.slow
def test_tasks_side_by_side_give_what_tasks_in_threads_give(method, problem, monkeypatch):
    """What an accelerator would run, on the CPU."""
    if problem is not LINEAR:
        pytest.skip("rounding would grow with the curvature of hidden units")
    with jax.enable_x64(True):
        threaded = fit(method, LINEAR, LINEAR.prior(), **BRIEF[method])
        monkeypatch.setattr(_batch, "_on_accelerator", lambda: True)
        vmapped = fit(method, LINEAR, LINEAR.prior(), **BRIEF[method])
    ours, theirs = (oracle.from_sites(f["posterior"]) for f in (vmapped, threaded))
    np.testing.assert_allclose(ours, theirs, **HALF_THE_DIGITS)


def test_row_weights_of_a_stack_go_with_its_parts(method, problem, compiled):
    number = len(problem.x)
    counts = np.stack(
        [np.ones(number), np.resize([0.0, 1.0, 2.0], number), np.resize([1.0, 0.5, 0.0], number)]
    )
    short_fit(method, problem, problem.prior())
    compiled.clear()
    parts = wp.unstack_fit(short_fit(method, problem, stack_of(problem), row_weights=counts))
    assert compiled == []
    for (label, prior), weights in zip(priors_of(problem).items(), counts, strict=True):
        alone = short_fit(method, problem, prior, row_weights=weights)
        for group in alone.children:
            xr.testing.assert_identical(parts[label][group].dataset, alone[group].dataset)


@pytest.mark.parametrize(
    ("row_weights", "message"),
    [
        (np.ones(39), r"expected shape \(\d+,\)"),
        (np.ones((3, 40)), r"expected shape \(\d+,\)"),
        (-1.0, "at least 0; got -1"),
        (np.nan, "NaN"),
        ("many", "row_weights"),
    ],
)
def test_row_weights_that_cannot_be_are_refused(method, problem, row_weights, message):
    if np.isscalar(row_weights) and not isinstance(row_weights, str):
        row_weights = np.full(len(problem.x), row_weights)
    with pytest.raises((ValueError, TypeError), match=f"row_weights.*{message}|{message}"):
        short_fit(method, problem, problem.prior(), row_weights=row_weights)
    with pytest.raises(ValueError, match=r"or \(3, \d+\)"):
        short_fit(method, problem, stack_of(problem), row_weights=np.ones((2, 40)))


def test_the_same_key_gives_the_same_fit_and_another_key_another(method, problem):
    by_int, by_key, other = (
        short_fit(method, problem, problem.prior(), rng_key=key)
        for key in (3, jax.random.key(3), 4)
    )
    group = "restarts" if method == "map" else "posterior"
    xr.testing.assert_identical(by_int[group].dataset, by_key[group].dataset)
    assert not by_int[group].dataset.equals(other[group].dataset)


def test_more_chains_or_restarts_leave_the_first_ones_as_they_were(method, problem):
    if method in ("laplace", "vi", "tempered"):
        pytest.skip("there is one search; and all chains find a ladder together")
    # Chains that learn their lengths do so together.
    alone = {"num_warmup": 0} if method in ("hmc", "mclmc") else {}
    option, group = {
        "map": ("num_restarts", "restarts"),
        "ensemble": ("num_members", "posterior"),
    }.get(method, ("num_chains", "posterior"))
    with warnings.catch_warnings():
        if alone:  # lengths that nobody has learned let chains diverge
            warnings.filterwarnings("ignore", message="fit_mcmc: Not converged")
        few, more = (
            short_fit(method, problem, problem.prior(), **{option: n}, **alone)[group].to_dataset()
            for n in (2, 5)
        )
    if method == "map":  # the best comes first, wherever it started, and no two end at one bit
        ends = [
            {tuple(w.ravel()) for w in held["output.weight"].to_numpy()} for held in (few, more)
        ]
        assert ends[0] < ends[1]
        assert len(ends[0]) == 2
    else:
        xr.testing.assert_identical(few, more.isel(chain=slice(2)))


def test_jax_is_left_as_it_was(method, problem):
    before = dict(jax.config.values)
    short_fit(method, problem, problem.prior())
    assert dict(jax.config.values) == before
    assert jax.numpy.zeros(1).dtype == "float32"
