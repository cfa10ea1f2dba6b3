"""Samples with bde when asked to, for ``benchmarks/posterior.py``, which starts it.

It runs in an environment of its own: bde (``pip install sklearn-contrib-bde``) is bound to a
blackjax much older than ours. Its model differs in what cannot be chosen: the noise is an output,
as in `wp.HeteroscedasticGaussian`, and the prior is standard normal.
"""

import json
import os
import sys
import time
from pathlib import Path

# As its documentation advises: a device per chain.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")

import numpy as np
from bde import BdeRegressor

# One step is one draw here, against tens of gradients per draw elsewhere.
STEPS_PER_DRAW = 10


def main():
    folder, told = Path(sys.argv[1]), json.loads(sys.argv[2])
    data = np.load(folder / "data.npz")
    for line in sys.stdin:
        began = time.perf_counter()
        model = BdeRegressor(
            n_members=told["num_chains"],
            hidden_layers=told["hidden"],
            activation=told["activation"],
            prior_family="standardnormal",
            n_samples=told["num_samples"] * STEPS_PER_DRAW,
            n_thinning=STEPS_PER_DRAW,
            warmup_steps=told["num_warmup"] * STEPS_PER_DRAW,
            epochs=200,
            seed=int(line),
        ).fit(data["x"], data["y"])
        seconds = time.perf_counter() - began
        np.save(folder / "outputs.npy", np.asarray(model.predict(data["at"], raw=True))[..., :1])
        print(json.dumps({"seconds": seconds, "gradients": 2.0 * STEPS_PER_DRAW}), flush=True)


if __name__ == "__main__":
    main()
