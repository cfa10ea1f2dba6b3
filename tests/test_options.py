"""An option that a function does not have is answered by the one that was meant."""

import inspect
from functools import partial
from typing import Any

import pytest

import weightprior as wp

FITS = (wp.fit_map, wp.fit_mcmc, wp.fit_laplace, wp.fit_vi, wp.fit_tempered, wp.fit_ensemble)


@pytest.mark.parametrize("function", [*FITS, wp.cross_validate, wp.prior_predictive])
@pytest.mark.parametrize("option", ["seed", "random_seed", "random_state", "key"])
def test_the_key_has_other_names_elsewhere(function: Any, option):
    with pytest.raises(TypeError, match=rf"^{function.__name__}: .*'rng_key'.*\?$"):
        function(None, None, None, **{option: 1})


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("draws", "num_samples"),
        ("tune", "num_warmup"),
        ("chains", "num_chains"),
        ("sample_weight", "row_weights"),
        ("num_sample", "num_samples"),
    ],
)
def test_the_option_that_was_meant_is_named(option, meant):
    # Through a partial as well, which is how fits are passed on.
    calls: list[Any] = [wp.fit_mcmc, partial(wp.fit_mcmc, num_chains=2)]
    for call in calls:
        with pytest.raises(TypeError, match=rf"got '{option}'\. Did you mean '{meant}'\?$"):
            call(None, None, None, **{option: 1})


def test_only_what_the_function_has_is_suggested():
    """A MAP has no chains."""
    fit_map: Any = wp.fit_map
    with pytest.raises(TypeError, match=r"got 'chains'\.$"):
        fit_map(None, None, None, chains=2)


@pytest.mark.parametrize("function", FITS)
def test_its_signature_and_its_words_are_its_own(function):
    assert "options" not in inspect.signature(function).parameters
    assert "Examples" in function.__doc__
    assert function.__module__.startswith("weightprior.inference.")
