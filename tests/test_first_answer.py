"""A first call waits for the compiler, whose time follows the fusions of what it compiles."""

import json
import subprocess
import sys

import pytest

# Of 10-32-1 with a known noise on scikit-learn's diabetes data, in jaxlib 0.12: half of what was
# compiled while the gradient stood in each program several times, and noise came from JAX's
# generator. Another version fuses otherwise.
MOST = {"fit_map": 442 // 2, "fit_mcmc": 650 // 2}
MOST_AFTER = {"fit_map": 79 // 2, "fit_mcmc": 83 // 2}
COUNT = """
import json, sys, warnings
import numpy as np
from jax._src import compiler
from sklearn.datasets import load_diabetes
import weightprior as wp

compile_program, fusions = compiler.backend_compile_and_load, 0

def counted(*args, **options):
    global fusions
    executable = compile_program(*args, **options)
    fusions += sum(module.to_string().count(" fusion(") for module in executable.hlo_modules())
    return executable

compiler.backend_compile_and_load = counted
warnings.simplefilter("ignore")
x, y = load_diabetes(return_X_y=True)
x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
bnn = wp.BNN(wp.mlp(10, hidden=(32,)), wp.Gaussian(noise=0.7))
prior = wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn))
fit = getattr(wp, sys.argv[1])(bnn, x[:350], y[:350], prior=prior, **json.loads(sys.argv[2]))
of_fit = fusions
wp.predict(bnn, fit, x[350:])
wp.score(bnn, fit, x[350:], y[350:])
wp.compare(bnn, {"fit": fit}, x[350:], y[350:])
print(of_fit, fusions - of_fit)
"""


@pytest.mark.parametrize(
    ("method", "options"),
    [("fit_map", {"num_restarts": 1}), ("fit_mcmc", {"num_warmup": 20, "num_samples": 10})],
)
def test_a_first_fit_and_what_is_asked_of_it_compile_few_fusions(method, options):
    command = [sys.executable, "-c", COUNT, method, json.dumps(options)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    of_fit, after = map(int, done.stdout.splitlines()[-1].split())
    assert 0 < of_fit <= MOST[method]
    assert 0 < after <= MOST_AFTER[method]
