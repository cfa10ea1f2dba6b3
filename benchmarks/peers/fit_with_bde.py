"""Fits bde's regressor and predicts, for ``benchmarks/estimators.py``, which starts it.

It runs in an environment of its own: bde (``pip install sklearn-contrib-bde``) is bound to a
blackjax much older than ours. Sizes are those of its documentation's examples: eight members,
a hidden layer of 32 relu units, for it has no tanh.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax
import numpy as np
from bde import BdeRegressor
from scipy.special import logsumexp
from scipy.stats import norm


def main():
    folder = Path(sys.argv[1])
    data = np.load(folder / "data.npz")
    x_mean, x_scale = data["x"].mean(0), data["x"].std(0)
    x_scale = np.where(x_scale > 0, x_scale, 1.0)
    y_mean, y_scale = data["y"].mean(), data["y"].std()
    model = BdeRegressor(
        n_members=8,
        hidden_layers=[32],
        activation="relu",
        epochs=1000,
        patience=20,
        warmup_steps=5000,
        n_samples=2000,
        n_thinning=20,
        seed=0,
    ).fit((data["x"] - x_mean) / x_scale, (data["y"] - y_mean) / y_scale)
    raw = np.asarray(model.predict((data["at"] - x_mean) / x_scale, raw=True), float)
    # As in its own predictions: the mean, and a noise behind softplus.
    noise = np.asarray(jax.nn.softplus(raw[..., 1])) + 1e-6
    mean, sd = (v.reshape(-1, v.shape[-1]) * y_scale for v in (raw[..., 0], noise))
    mean = mean + y_mean
    terms = norm.logpdf(data["of"], mean, sd)
    drawn = np.random.default_rng(0).normal(mean, sd)
    np.savez(
        folder / "found.npz",
        log_density=logsumexp(terms, axis=0) - np.log(len(terms)),
        mean=mean.mean(axis=0),
        interval=np.quantile(drawn, [0.05, 0.95], axis=0).T,
    )


if __name__ == "__main__":
    main()
