"""Fits laid side by side are those of a stacked prior."""

from functools import partial

import numpy as np
import pytest

import weightprior as wp
from executors import assert_same_fit
from shared_fits import FITTERS, FRAME, REGRESSION, TARGET, fitted, prior_of

BRIEF = ("map", "mcmc", "laplace")
METHODS = {
    "map": FITTERS["map"],
    "mcmc": FITTERS["hmc"],
    "laplace": wp.fit_laplace,
    "vi": partial(wp.fit_vi, num_steps=100, num_samples=30),
    "ensemble": partial(wp.fit_ensemble, num_members=3),
    "tempered": partial(wp.fit_tempered, num_temperatures=4, num_samples=20, num_chains=4),
}
SINGLE = prior_of(REGRESSION, "single")


def without_attributes():
    fit = fitted("map").copy()
    fit.attrs = {}
    return fit


@pytest.mark.filterwarnings("ignore:fit_")
@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[pytest.mark.slow] * (m not in BRIEF)) for m in METHODS]
)
def test_stacking_undoes_unstacking(method):
    priors = {"a": SINGLE, "b": wp.normal_prior(REGRESSION, scale=0.3)}
    prior = wp.stack_priors(priors, coords={"width": [0.5, 0.3]})
    fit = METHODS[method](REGRESSION, FRAME, TARGET, prior=prior)
    again = wp.stack_fits(wp.unstack_fit(fit), coords={"width": [0.5, 0.3]})
    assert_same_fit(again, fit)
    assert again.attrs["seconds"] == fit.attrs["seconds"]


def test_fits_made_apart_are_a_fit_of_the_stack():
    apart = {s: FITTERS["map"](REGRESSION, FRAME, TARGET, prior=prior_of(REGRESSION, "numbers")[s])
             for s in (0.25, 0.5, 1.0)}  # fmt: skip
    assert_same_fit(wp.stack_fits(apart), fitted("map", "numbers"))


def test_a_stack_of_parts_of_one_call_is_extended():
    halves = wp.unstack_fit(fitted("hmc", "strings"))
    both = wp.stack_fits(halves)
    options = FITTERS["hmc"].keywords | {"num_samples": 160}
    longer = wp.fit_mcmc(
        REGRESSION, FRAME, TARGET, prior=prior_of(REGRESSION, "strings"), init=both, **options
    )
    for name, values in both["posterior"].dataset.items():
        np.testing.assert_array_equal(longer["posterior"][name][:, :150], values)


def test_fits_of_several_calls_have_no_chains_to_go_on():
    fit = FITTERS["hmc"](REGRESSION, FRAME, TARGET, prior=SINGLE)
    other = partial(FITTERS["hmc"], rng_key=6)(REGRESSION, FRAME, TARGET, prior=SINGLE)
    both = wp.stack_fits({"five": fit, "six": other})
    assert "chain_state" not in both.children
    assert "rng_key" not in both.attrs["options"]
    assert wp.predict(REGRESSION, both, FRAME).sizes["prior"] == 2


def test_fits_that_saw_other_rows_keep_their_weights():
    seen = np.arange(len(TARGET)) < 12
    fits = {
        name: wp.fit_map(REGRESSION, FRAME, TARGET, prior=SINGLE, row_weights=weights)
        for name, weights in {"some": 1.0 * seen, "others": 1.0 * ~seen}.items()
    }
    both = wp.stack_fits(fits)
    np.testing.assert_array_equal(
        both["constant_data"]["row_weights"].sel(prior="some"), 1.0 * seen
    )


@pytest.mark.parametrize(
    ("fits", "error", "told"),
    [
        ({}, TypeError, "fits: expected a dict of label to fit, not empty"),
        ([1], TypeError, "fits: expected a dict of label to fit, not empty"),
        ({"a": 3}, TypeError, r"fits\['a'\]: fit: expected the DataTree"),
        (
            {"a": lambda: fitted("map"), 2: lambda: fitted("map")},
            TypeError,
            "fits: expected labels",
        ),
        ({"a": lambda: without_attributes()}, ValueError, r"fits\['a'\]: expected the attributes"),
        ({"a": lambda: fitted("map", "strings")}, ValueError, "Take it apart by unstack_fit"),
        (
            {"a": lambda: fitted("map"), "b": lambda: fitted("hmc")},
            ValueError,
            r"fits\['b'\]: expected the method of fits\['a'\], map; got hmc",
        ),
        (
            {
                "a": lambda: fitted("map"),
                "b": lambda: FITTERS["map"](REGRESSION, FRAME, TARGET + 1, prior=SINGLE),
            },
            ValueError,
            "fits: expected fits of the same data; got several y",
        ),
        (
            {
                "a": lambda: fitted("map"),
                "b": lambda: wp.fit_map(REGRESSION, FRAME[:9], TARGET[:9], prior=SINGLE),
            },
            ValueError,
            r"fits\['b'\]: expected the sizes",
        ),
    ],
)
def test_what_cannot_be_stacked_is_told(fits, error, told):
    made = (
        {label: fit() if callable(fit) else fit for label, fit in fits.items()}
        if isinstance(fits, dict)
        else fits
    )
    with pytest.raises(error, match=told):
        wp.stack_fits(made)
