"""Posteriors sampled by Radford Neal's FBM, read into this package's names.

FBM shares no code with this package. Each file holds the data, the prior, moments of the network's
output with their Monte-Carlo errors, and a few states with FBM's own log densities, all constants
included. Files whose data may be redistributed lie in `references/`; the others are looked for in a
folder `shared/references` beside the checkout, and tests that need an absent one are skipped.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

NAMES = (
    "sk_diab1d",
    "sk_iris",
    "neal1d",
    "neal1d_small",
    "neal1d_deep",
    "neal1d_softplus",
    "neal1d_t4",
    "neal1d_shifted",
    "neal_binary",
    "neal_class3",
)
MOMENTS = ("mean", "sd", "mcse_mean", "mcse_sd", "ess")

_HERE = Path(__file__).resolve().parent
FOLDERS = (_HERE / "references", _HERE.parent.parent / "shared" / "references")


@dataclass(frozen=True, eq=False)
class Reference:
    """One posterior sampled by FBM.

    `f_*` are moments of the network's output at `test_x` (noise not included) and `prob_*` those of
    the probabilities (None where there are none): ``(rows,)``, or ``(rows, classes)`` for classes.
    `functionals` holds, by name, the same moments (`MOMENTS`) of scalars: ``log_likelihood``,
    ``log_prior``, and ``mean_square.SITE`` (over a site's elements); or, where the file has the
    parameters themselves, ``SITE[i, j]``. `num_draws` is how many draws all moments come from.
    """

    name: str
    num_features: int
    hidden: tuple[int, ...]
    num_outputs: int
    activation: str
    likelihood: str
    likelihood_options: dict[str, float]
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    prior_loc: dict[str, np.ndarray]
    prior_scale: dict[str, np.ndarray]
    states: tuple[dict[str, np.ndarray], ...]
    state_loglik: np.ndarray
    state_logprior: np.ndarray
    num_draws: int
    f_mean: np.ndarray
    f_sd: np.ndarray
    f_mcse_mean: np.ndarray
    f_mcse_sd: np.ndarray
    f_ess: np.ndarray
    prob_mean: np.ndarray | None
    prob_sd: np.ndarray | None
    prob_mcse_mean: np.ndarray | None
    prob_mcse_sd: np.ndarray | None
    prob_ess: np.ndarray | None
    functionals: dict[str, dict[str, float]]


def find(name):
    """Path of a reference file, or None where it is absent."""
    paths = (folder / f"fbm_reference_{name}.npz" for folder in FOLDERS)
    return next((path for path in paths if path.is_file()), None)


def load(name):
    """The `Reference` of that name; `FileNotFoundError` where its file is absent."""
    path = find(name)
    if path is None:
        raise FileNotFoundError(f"no fbm_reference_{name}.npz in {', '.join(map(str, FOLDERS))}")
    with np.load(path) as file:
        return _read({key: file[key] for key in file.files})


def load_or_skip(name):
    """The `Reference` of that name; the calling test is skipped where its file is absent."""
    if find(name) is None:
        pytest.skip(f"fbm_reference_{name}.npz is not distributed with the package")
    return load(name)


def site_shapes(sizes):
    """Shape of every site of an MLP with these layer sizes, input and output included."""
    shapes = {}
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        layer = f"hidden_{i}" if i < len(sizes) - 2 else "output"
        shapes[f"{layer}.weight"] = (fan_in, fan_out)
        shapes[f"{layer}.bias"] = (fan_out,)
    return shapes


def by_site(flat, shapes):
    """A flat vector (per layer: weight row-major, input first, then bias) as arrays by site."""
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes.values()])
    if flat.shape != (ends[-1],):
        raise ValueError(f"expected {ends[-1]} parameters, got an array of shape {flat.shape}")
    parts = np.split(flat, ends[:-1])
    return {
        site: part.reshape(shape) for (site, shape), part in zip(shapes.items(), parts, strict=True)
    }


def _read(data):
    meta = json.loads(str(data["meta_json"]))
    sizes = tuple(meta["arch"])
    shapes = site_shapes(sizes)
    likelihood, options = _likelihood(meta, sizes[-1])
    prior_loc, prior_scale = _prior(data, shapes)
    targets = data["train_y"]
    moments = {
        f"{prefix}_{moment}": _outputs(data, sizes[-1], prefix, moment)
        for prefix in ("f", "prob")
        for moment in MOMENTS
    }
    return Reference(
        name=meta["name"],
        num_features=sizes[0],
        hidden=sizes[1:-1],
        num_outputs=sizes[-1],
        activation=meta["activation"],
        likelihood=likelihood,
        likelihood_options=options,
        train_x=data["train_x"],
        train_y=targets.astype(int) if likelihood in ("Bernoulli", "Categorical") else targets,
        test_x=data["test_x"],
        prior_loc=prior_loc,
        prior_scale=prior_scale,
        states=tuple(by_site(row, shapes) for row in data["state_params"]),
        state_loglik=data["state_loglik"],
        state_logprior=data["state_logprior"],
        num_draws=int(data["n_chains"] * data["draws_per_chain"]),
        functionals=_functionals(data, shapes),
        **moments,
    )


def _likelihood(meta, num_outputs):
    """Name and options of the likelihood, as in `weightprior`."""
    return {
        "normal": ("Gaussian", {"noise": meta["noise_sd"]}),
        "t4": ("StudentT", {"df": 4.0, "noise": meta["noise_sd"]}),
        "bernoulli": ("Bernoulli", {}),
        "categorical": ("Categorical", {"classes": num_outputs}),
    }[meta["family"]]


def _prior(data, shapes):
    """Centre and scale by site: the files have one sd per site or one mean and sd per parameter."""
    if "prior_mean" in data:
        return by_site(data["prior_mean"], shapes), by_site(data["prior_sd"], shapes)
    sds = zip(shapes.items(), data["prior_sd"], strict=True)
    return (
        {site: np.zeros(shape) for site, shape in shapes.items()},
        {site: np.full(shape, sd) for (site, shape), sd in sds},
    )


def _outputs(data, num_outputs, prefix, moment):
    """One moment of the outputs, with the classes as the last dimension where there are several."""
    if f"{prefix}_{moment}" in data:
        return data[f"{prefix}_{moment}"]
    if f"{prefix}_out0_{moment}" not in data:
        return None
    return np.stack([data[f"{prefix}_out{i}_{moment}"] for i in range(num_outputs)], axis=-1)


def _functionals(data, shapes):
    # FBM's own names follow the order of the sites, or of the parameters, then two densities.
    if "prior_mean" in data:
        names = [
            f"{site}{[int(i) for i in index]}"
            for site, shape in shapes.items()
            for index in np.ndindex(shape)
        ]
    else:
        names = [f"mean_square.{site}" for site in shapes]
    names += ["log_likelihood", "log_prior"]
    columns = zip(*(data[f"functional_{moment}"] for moment in MOMENTS), strict=True)
    return {
        name: dict(zip(MOMENTS, map(float, column), strict=True))
        for name, column in zip(names, columns, strict=True)
    }
