"""Does it matter where a prior sits? One network, one test set, seven fits.

The training rows of scikit-learn's diabetes data are halved. The first half serves only to learn
a centre; every fit sees the same second half: without regularisation, and as MAP and as full
posterior under priors of one scale, centred at zero, at a random point of equal norm, and at the
weights that the first half taught. Table, fits (netCDF) and figures (PNG) go to `demo_output/`.
"""

import argparse
import textwrap
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from many_fits import arguments_of, spread
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

import weightprior as wp

NUM_TEST = 110
HIDDEN = (16,)
COLORS = {"zero": "#0072B2", "random": "#E69F00", "learned": "#009E73"}  # Okabe and Ito's
CENTERS = {"zero": "zero", "random": "a random point", "learned": "the learned weights"}
DELIVERS = ["loc", "scale", "lpd_train", "lpd_test", "lpd_test_se", "gap", "rmse"]
DELIVERS += ["elpd_loo", "elpd_loo_se"]
TRUST = ["converged", "max_pareto_k", "rhat", "ess", "divergences", "norm", "distance", "seconds"]


def main(folder: Path, gain: float, seed: int) -> None:
    """Fit, compare, say what came out, and save everything."""
    print("weightprior: where should a prior sit? scikit-learn's diabetes data", flush=True)
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    first, second, test, noise = load_data(seed)
    print(
        f"  {len(second[1])} rows to fit, {len(first[1])} to learn a centre from, {len(test[1])} "
        f"to test on;\n  y in standard deviations, noise {noise:.2f} (by linear regression)",
        flush=True,
    )
    bnn = wp.BNN(wp.mlp(first[0].columns, hidden=HIDDEN), wp.Gaussian(noise=noise))
    priors = make_priors(bnn, first, gain, seed)
    fits = make_fits(bnn, priors, second)

    with Step("scoring"):
        table = wp.compare(bnn, fits, *test)
        scores = {name: wp.score(bnn, fit, *test) for name, fit in fits.items()}
    show(table)
    sentences = conclude(scores)
    print("\n".join(["", *(textwrap.fill(text, 96) for text in sentences), ""]), flush=True)

    with Step(f"writing fits and figures to {folder}/"):
        table.to_csv(folder / "table.csv")
        for name, fit in fits.items():
            fit.to_netcdf(folder / f"{name.replace(' ', '_').lower()}.nc")
        draw_intervals(bnn, fits, test, folder / "predictive_intervals.png")
        draw_weights(fits, priors, folder / "weights.png")
        draw_forest(scores, folder / "held_out.png")
    print(f"done in {time.perf_counter() - began:.0f} s", flush=True)


class Step:
    """Say what begins, and how long it took."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __enter__(self) -> None:
        self.began = time.perf_counter()
        print(f"  {self.text} ...", flush=True)

    def __exit__(self, *error: object) -> None:
        print(f"    {time.perf_counter() - self.began:.1f} s", flush=True)


def load_data(seed: int):
    """First half, second half and test rows, in units of the second half; and its noise."""
    x, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    rows = np.random.default_rng(seed).permutation(len(y))
    half = (len(y) - NUM_TEST) // 2
    parts = rows[NUM_TEST + half :], rows[NUM_TEST : NUM_TEST + half], rows[:NUM_TEST]
    fitted = parts[1]
    x = (x - x.iloc[fitted].mean()) / x.iloc[fitted].std()
    y = (y - y.iloc[fitted].mean()) / y.iloc[fitted].std()
    residuals = y.iloc[fitted] - LinearRegression().fit(x.iloc[fitted], y.iloc[fitted]).predict(
        x.iloc[fitted]
    )
    noise = float(np.sqrt((residuals**2).sum() / (half - x.shape[1] - 1)))
    return *((x.iloc[part], y.iloc[part]) for part in parts), noise


def make_priors(bnn: wp.BNN, first, gain: float, seed: int) -> wp.NormalPrior:
    """Three centres, one scale."""
    scale = wp.fan_in_scale(bnn, gain)
    zero = wp.normal_prior(bnn, scale=scale)
    with Step("learning a centre from the first half"):
        learned = wp.normal_prior(bnn, loc=wp.fit_map(bnn, *first, prior=zero), scale=scale)
    rng = np.random.default_rng(seed)
    directions = {name: rng.normal(size=loc.shape) for name, loc in learned.loc.items()}
    random = {
        name: direction * np.linalg.norm(learned.loc[name]) / np.linalg.norm(direction)
        for name, direction in directions.items()
    }
    return wp.stack_priors(
        {
            "zero": zero,
            "random": wp.normal_prior(bnn, loc=random, scale=scale),
            "learned": learned,
        }
    )


def make_fits(bnn: wp.BNN, priors: wp.NormalPrior, second) -> dict:
    """Seven fits of the second half."""
    flat = wp.normal_prior(bnn, scale=np.inf)
    with Step("no regularisation: MAP under a flat prior"), warnings.catch_warnings():
        # A flat prior leaves this network no optimum: its weights keep growing. The table says so.
        warnings.filterwarnings("ignore", message="fit_map: the best restart did not reach")
        fits = {"flat MAP": wp.fit_map(bnn, *second, prior=flat)}
    with Step("MAP under the three priors"):
        maps = wp.unstack_fit(spread(wp.fit_map)(bnn, *second, prior=priors))
    with Step("posterior under the three priors"):
        posteriors = wp.unstack_fit(spread(wp.fit_mcmc)(bnn, *second, prior=priors))
    for label in priors.labels:
        fits |= {f"{label} MAP": maps[label], f"{label} posterior": posteriors[label]}
    return fits


def show(table: pd.DataFrame) -> None:
    """Print the table for a terminal, blanks for what has no meaning, notes below."""
    printed = table.copy()
    printed["ess"] = printed["ess"].map(lambda v: "" if np.isnan(v) else f"{v:.0f}")
    printed["divergences"] = printed["divergences"].astype("string").fillna("")
    for title, columns in (
        ("What each delivers (log densities in nats per row)", DELIVERS),
        ("Whether to trust it, and where its weights are", TRUST),
    ):
        print(f"\n{title}")
        print(printed[columns].to_string(float_format="%.3f", na_rep="", index_names=False))
    print()
    for note, names in table[table["note"] != ""].groupby("note", sort=False).groups.items():
        print(f"{', '.join(names)}: {note}.")


def difference(scores: dict, name: str, reference: str) -> tuple[float, float]:
    """Held-out log density per row against a reference, with the standard error over rows."""
    gained = (scores[name]["elpd_i"] - scores[reference]["elpd_i"]).to_numpy()
    return gained.mean(), gained.std(ddof=1) / np.sqrt(len(gained))


def conclude(scores: dict) -> list[str]:
    """Say in three sentences what the table shows: every number is read from the scores."""

    def say(name, reference):
        gain, error = difference(scores, name, reference)
        verdict = "better" if gain > 2 * error else "worse" if gain < -2 * error else "no different"
        return f"{gain:+.3f} ± {error:.3f} ({verdict})"

    return [
        "In held-out nats per row, with the standard error of the difference over test rows:",
        "1. Regularisation: the MAP under the zero-centred prior against no prior "
        f"{say('zero MAP', 'flat MAP')}.",
        f"2. The centre, for the MAP: the learned weights against zero "
        f"{say('learned MAP', 'zero MAP')}, a random point against zero "
        f"{say('random MAP', 'zero MAP')}.",
        f"3. The centre, for the posterior: the learned weights against zero "
        f"{say('learned posterior', 'zero posterior')}, a random point against zero "
        f"{say('random posterior', 'zero posterior')}; and the posterior against the MAP "
        f"{say('zero posterior', 'zero MAP')} around zero, "
        f"{say('random posterior', 'random MAP')} around the random point.",
    ]


def draw_intervals(bnn: wp.BNN, fits: dict, test, path: Path) -> None:
    """Draw 90 % predictive intervals of the test rows, in the order of the predicted mean."""
    import matplotlib.pyplot as plt

    x, y = test
    names = ["zero posterior", "random posterior", "learned posterior"]
    figure, axes = plt.subplots(
        3, 1, figsize=(7, 7), sharex=True, sharey=True, layout="constrained"
    )
    for axis, name in zip(axes, names, strict=True):
        predicted = wp.predict(bnn, fits[name], x)
        mean = predicted["mean"].mean(("chain", "draw")).to_numpy()
        low, high = predicted["y"].quantile([0.05, 0.95], ("chain", "draw")).to_numpy()
        order, rank = np.argsort(mean), np.arange(len(mean))
        inside = ((low <= y) & (y <= high)).mean()
        color = COLORS[name.split()[0]]
        axis.fill_between(
            rank, low[order], high[order], color=color, alpha=0.25, lw=0, label="90 %"
        )
        axis.plot(rank, mean[order], color=color, label="mean")
        axis.plot(rank, y.to_numpy()[order], ".", color="black", ms=4, label="observed")
        title = f"Posterior, prior centred at {CENTERS[name.split()[0]]}: {inside:.0%} inside"
        axis.set_title(title, loc="left", fontsize="medium")
    axes[0].legend(ncols=3, loc="upper left", frameon=False)
    axes[1].set_ylabel("disease progression [standard deviations]")
    axes[2].set_xlabel("test row, by predicted mean")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_weights(fits: dict, priors: wp.NormalPrior, path: Path) -> None:
    """Draw every weight's posterior, under each prior, against both priors."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    labels, sites = ["zero", "learned"], ["hidden_0.weight", "output.weight"]
    figure, axes = plt.subplots(
        2, 2, figsize=(7, 5.5), sharex="row", sharey="row", layout="constrained"
    )
    for site, row in zip(sites, axes, strict=True):
        order = np.argsort(priors["learned"].loc[site].ravel())
        for label, axis in zip(labels, row, strict=True):
            for prior in labels:
                loc = priors[prior].loc[site].ravel()[order]
                scale = priors[prior].scale[site].ravel()[order]
                band = loc - scale, loc + scale
                axis.fill_between(
                    np.arange(len(order)), *band, color=COLORS[prior], alpha=0.25, lw=0,
                    label=f"prior centred at {prior}, ± 1 sd",
                )  # fmt: skip
            draws = fits[f"{label} posterior"]["posterior"][site].to_numpy()
            draws = draws.reshape(-1, len(order))[:, order]
            axis.errorbar(
                np.arange(len(order)), draws.mean(0), draws.std(0), fmt=".", ms=4, lw=0.6,
                color="black", label="posterior, ± 1 sd",
            )  # fmt: skip
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.set_title(f"{site}, prior centred at {label}", loc="left", fontsize="medium")
        row[0].set_ylabel("weight")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3,
                  frameon=False, fontsize="small")  # fmt: skip
    figure.supxlabel(
        "weights of the layer, in the order of their learned centres", fontsize="medium"
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_forest(scores: dict, path: Path) -> None:
    """Draw held-out log densities, and their differences from the zero-centred MAP."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    names = list(scores)
    num_rows = scores[names[0]].sizes["obs_id"]
    absolute = [
        (scores[n]["elpd"].item() / num_rows, scores[n]["elpd_se"].item() / num_rows) for n in names
    ]
    paired = [difference(scores, name, "zero MAP") for name in names]
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.2), sharey=True, layout="constrained")
    titles = ["all fits", "against the zero-centred MAP"]
    for axis, values, title in zip(axes, (absolute, paired), titles, strict=True):
        for height, (name, (value, error)) in enumerate(zip(names, values, strict=True)):
            if axis is axes[1] and name == "flat MAP":
                continue  # far to the left: the other panel shows it
            color = COLORS.get(name.split()[0], "black")
            marker = "o" if "posterior" in name else "s"
            axis.errorbar(value, height, xerr=error, fmt=marker, color=color, capsize=3)
        axis.set_title(title, loc="left", fontsize="medium")
        axis.set_xlabel("nats per test row, ± 1 standard error", fontsize="small")
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.grid(axis="x", alpha=0.3)
    axes[1].axvline(0, color="black", lw=0.8)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.suptitle(
        "Held-out log predictive density (square: MAP, circle: posterior)", fontsize="medium"
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo_output"))
    parser.add_argument("--gain", type=float, default=1.0, help="strength: smaller is stronger")
    parser.add_argument("--seed", type=int, default=0, help="decides the split")
    arguments = arguments_of(parser)
    main(arguments.output, arguments.gain, arguments.seed)
