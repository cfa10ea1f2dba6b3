"""What all plot functions have in common, and how they load."""

import inspect
import json
import subprocess
import sys
from functools import cache

import pytest

from weightprior import plots
from weightprior._checks.extras import needs_extra

# What is drawn, which comes first; all else has a name.
FIRST = (["found"], ["table"], ["bnn", "fit"], ["found", "x"])


@pytest.mark.parametrize("name", plots.__all__)
def test_every_plot_is_there_and_described_and_called_alike(name):
    plot = getattr(plots, name)
    assert plot.__doc__.startswith("Plot ")
    parameters = inspect.signature(plot).parameters
    options = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert [name for name in parameters if name not in options] in FIRST
    assert options[-1] == "width"
    assert parameters["width"].default == 85.0


def test_an_unknown_name_raises():
    with pytest.raises(AttributeError, match="plot_magic"):
        _ = plots.plot_magic


_CODE = """
import json, sys
import weightprior as wp

told = {"names": dir(wp.plots), "early": "matplotlib" in sys.modules}
sys.modules["matplotlib"] = None  # As if it were not installed.
try:
    wp.plots.plot_path
except ImportError as error:
    told["attribute"] = str(error)
try:
    from weightprior.plots import plot_weights
except ImportError as error:
    told["from"] = str(error)
del sys.modules["matplotlib"]
told["late"] = wp.plots.plot_path.__name__, "matplotlib" in sys.modules
print(json.dumps(told))
"""


@cache
def told():
    """Run the code in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout)


def test_names_are_there_before_matplotlib_is_and_load_it_with_their_use():
    assert told()["names"] == plots.__all__
    assert not told()["early"]
    assert told()["late"] == ["plot_path", True]


@pytest.mark.parametrize("way", ["attribute", "from"])
def test_without_matplotlib_the_error_names_the_extra(way):
    assert told()[way] == (
        "weightprior.plots: expected matplotlib; got none installed. "
        "Install the extra: pip install 'weightprior[plots]'."
    )


def test_that_another_module_is_missing_is_said_as_it_is():
    def missing(name):
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

    load = needs_extra(missing, "plots", ("matplotlib",))
    with pytest.raises(ModuleNotFoundError, match="No module named 'scipy'"):
        load("plot_other")
