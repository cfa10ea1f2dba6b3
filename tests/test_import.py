"""What importing the package loads, and that every public name is there and described."""

import json
import subprocess
import sys
from functools import cache

import pytest

import weightprior as wp

HEAVY = ("numpyro", "jax", "xarray", "arviz", "pandas", "matplotlib", "blackjax", "arviz_plots")
# Libraries whose networks are read, by their modules alone.
OTHERS = ("flax", "equinox", "torch", "sklearn")
OF_A_FUNCTION = (
    "wp.network(lambda p, x: x @ p['w'], 1, params={'w': __import__('numpy').ones((1, 1))})"
)
STEPS = ("import weightprior as wp", "wp.mlp", OF_A_FUNCTION, "wp.fit_map", "wp.compare")


@cache
def loaded():
    """Which heavy packages are loaded after each step, in a process of its own."""
    lines = ["import json, sys", "loaded = {}"]
    for step in STEPS:
        lines += [step, f"loaded[{step!r}] = [n for n in {HEAVY + OTHERS} if n in sys.modules]"]
    # By now every module has been imported, whose names those of functions are.
    lines += ["assert all(callable(f) for f in (wp.score, wp.predict, wp.compare))"]
    lines += ["print(json.dumps(loaded))"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("step", "absent"),
    [
        (STEPS[0], HEAVY),
        ("wp.mlp", ("xarray", "arviz", "pandas", "matplotlib", "blackjax", "arviz_plots")),
        (OF_A_FUNCTION, OTHERS),
        ("wp.fit_map", ("matplotlib", "arviz_plots", "blackjax", *OTHERS)),
        ("wp.compare", ("matplotlib", "arviz_plots", *OTHERS)),
    ],
)
def test_a_step_does_not_load(step, absent):
    assert not {*absent} & {*loaded()[step]}


def test_what_is_used_is_loaded():
    # Otherwise the names above could be misspelt.
    assert {"jax", "xarray", "pandas"} <= {*loaded()["wp.compare"]}


MODULES = (wp, wp.diagnostics, wp.sklearn)


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module in MODULES for name in module.__all__]
)
def test_every_public_name_is_there_and_described(module, name):
    assert getattr(module, name).__doc__.strip()
    assert name in dir(module)


@pytest.mark.parametrize("module", MODULES)
def test_an_unknown_name_raises(module):
    with pytest.raises(AttributeError, match="fit_magic"):
        _ = module.fit_magic


def test_without_scikit_learn_the_error_names_the_extra():
    code = (
        "import sys, weightprior as wp; sys.modules['sklearn'] = None; wp.sklearn; "
        "wp.sklearn.BayesianMLPRegressor"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, timeout=300
    )
    assert done.stderr.splitlines()[-1] == (
        "ImportError: weightprior.sklearn: expected sklearn; got none installed. "
        "Install the extra: pip install 'weightprior[sklearn]'."
    )
