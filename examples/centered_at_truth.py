"""Centred at the truth: what does such a prior gain, and how many rows make it all the same?

Networks are drawn from a Gaussian prior around zero, and data from the networks. Posteriors under
priors of one width see the first 10 to 1,000 rows: centred at the true weights, at zero (the prior
that the truth was really drawn from, so that no other is better without knowing more), and at the
weights of other networks drawn alike, the mean over four of which is taken.

Measured is the log predictive density per row on 500 rows that no fit sees, as a difference from
the prior around zero, teacher by teacher: means and standard errors are over teachers. Priors are
as wide as the one of the truth, or narrower with ``--width``.

    python examples/centered_at_truth.py             # a few minutes on two cores
    python examples/centered_at_truth.py --help
"""

import argparse
import textwrap
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from many_fits import (
    arguments_of,
    cell,
    held_out,
    largest_rhat,
    mean_and_error,
    over_rows,
    short_chains,
)

import weightprior as wp

NUM_TEST = 500
# Nearly as many inputs as the fewest rows, so that these rows leave much to the prior.
NUM_FEATURES, HIDDEN, NOISE, GAIN = 8, (5,), 0.5, 1.0
CENTERS = ("truth", "zero", "random")
NUM_RANDOM = 4
# Numbers of rows whose fits share a call, and so the cost of the largest.
CALLS = ((10, 30, 100), (1000,))
CHAINS = {"num_chains": 2, "num_warmup": 250, "num_samples": 300}
COLORS = {"truth": "#009E73", "zero": "#0072B2", "random": "#E69F00"}  # Okabe and Ito's
MARKERS = {"truth": "o", "zero": "s", "random": "^"}
CLEARLY, ALIKE = 4, 2  # standard errors


def main(
    folder: Path, num_teachers: int, seed: int, width: float = 1.0, quick: bool = False
) -> pd.DataFrame:
    """Sample under every prior for every teacher; print the table, draw it, and return it."""
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    calls, chains = CALLS, CHAINS
    if quick:
        num_teachers, calls = 2, ((10, 20),)
        chains = {"num_chains": 2, "num_warmup": 50, "num_samples": 50}
    bnn = wp.BNN(wp.mlp(NUM_FEATURES, hidden=HIDDEN), wp.Gaussian(noise=NOISE))
    print(
        f"weightprior: centred at the truth. {num_teachers} networks of "
        f"{'-'.join(map(str, (NUM_FEATURES, *HIDDEN, 1)))} tanh units",
        flush=True,
    )
    found = []
    for teacher in range(num_teachers):
        found.append(of_teacher(bnn, seed + teacher, width, calls, chains).assign(teacher=teacher))
        if (teacher + 1) % 10 == 0:
            print(f"  {teacher + 1} done in {time.perf_counter() - began:.0f} s", flush=True)
    measured = pd.concat(found).set_index(["rows", "teacher"])
    table = summarise(measured)
    show(table, num_teachers, width)
    print(textwrap.fill(conclude(table), 96), flush=True)
    table.to_csv(folder / "centered_at_truth.csv")
    draw(table, num_teachers, width, folder / "centered_at_truth.png")
    print(f"done in {time.perf_counter() - began:.0f} s", flush=True)
    return table


def of_teacher(bnn: wp.BNN, seed: int, width: float, calls, chains) -> pd.DataFrame:
    """Held-out log density per row of one teacher's posteriors, by rows."""
    world = wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn, GAIN))
    x = np.random.default_rng(seed).normal(size=(max(calls[-1]) + NUM_TEST, NUM_FEATURES))
    truth, y = wp.simulate(bnn, x, prior=world, rng_key=seed)
    drawn = wp.prior_predictive(
        bnn, x[:1], prior=world, num_samples=NUM_RANDOM, rng_key=10_000 + seed
    )["prior"]
    locs = {"truth": truth, "zero": 0.0} | {
        f"random {i}": {name: drawn[name].to_numpy()[0, i] for name in bnn.sites}
        for i in range(NUM_RANDOM)
    }
    scale = wp.fan_in_scale(bnn, width * GAIN)
    priors = wp.stack_priors({n: wp.normal_prior(bnn, loc, scale) for n, loc in locs.items()})
    x, y, x_test, y_test = x[:-NUM_TEST], y[:-NUM_TEST], x[-NUM_TEST:], y[-NUM_TEST:]
    rows: dict = {}
    for counts in calls:
        grid = over_rows(priors, counts)
        fit = short_chains(
            bnn, x[: max(counts)], y[: max(counts)],
            prior=grid.prior, row_weights=grid.row_weights, rng_key=seed, **chains,
        )  # fmt: skip
        scores, rhats = held_out(bnn, fit, x_test, y_test), largest_rhat(bnn, fit, x_test)
        for (label, count), score, rhat in zip(grid.cells, scores, rhats, strict=True):
            row = rows.setdefault(count, {name: [] for name in (*CENTERS, "rhat")})
            row[label.split()[0]].append(score)
            row["rhat"].append(rhat)
    of_rows = {
        count: {name: np.max(v) if name == "rhat" else np.mean(v) for name, v in row.items()}
        for count, row in rows.items()
    }
    return pd.DataFrame.from_dict(of_rows, orient="index").rename_axis("rows").reset_index()


def summarise(measured: pd.DataFrame) -> pd.DataFrame:
    """Means over teachers and their standard errors, differences taken teacher by teacher."""
    gains = measured.assign(
        truth_gain=measured["truth"] - measured["zero"],
        random_gain=measured["random"] - measured["zero"],
    )
    mean, error = mean_and_error(gains.drop(columns="rhat"))
    rhat = measured["rhat"].groupby(level="rows").quantile(0.9)
    return mean.join(error.add_suffix("_se")).assign(rhat=rhat).sort_index()


def show(table: pd.DataFrame, num_teachers: int, width: float) -> None:
    """Print the table for a terminal."""
    columns = {
        "zero": [cell(*row, sign=False) for row in table[["zero", "zero_se"]].to_numpy()],
        "truth - zero": [cell(*r) for r in table[["truth_gain", "truth_gain_se"]].to_numpy()],
        "in s.e.": (table["truth_gain"] / table["truth_gain_se"]).map("{:+.1f}".format),
        "random - zero": [cell(*r) for r in table[["random_gain", "random_gain_se"]].to_numpy()],
        "in s.e. ": (table["random_gain"] / table["random_gain_se"]).map("{:+.1f}".format),
        "R-hat": table["rhat"].map("{:.2f}".format),
    }
    printed = pd.DataFrame(columns, index=table.index).reset_index()
    print(
        f"\nHeld-out log density in nats per row, mean ± standard error over {num_teachers} "
        f"teachers.\nPriors are {wide(width)}. R-hat: of the outputs, exceeded by one teacher in\n"
        "ten.\n"
    )
    print(printed.to_string(index=False), end="\n\n")


def wide(width: float) -> str:
    return "as wide as the truth's" if width == 1 else f"{width:g} times as wide as the truth's"


def conclude(table: pd.DataFrame) -> str:
    """Whether what was expected came out: every number is read from the table."""
    gains = {name: table[f"{name}_gain"] for name in ("truth", "random")}
    ratios = {name: gain / table[f"{name}_gain_se"] for name, gain in gains.items()}
    few, many = table.index[0], table.index[-1]
    gained, lost = ratios["truth"].loc[few], -ratios["random"].loc[few]
    share = -gains["random"].loc[few] / gains["truth"].loc[few]
    left = {name: abs(gain.loc[many] / gain.loc[few]) for name, gain in gains.items()}
    return (
        f"With {few} rows the prior centred at the truth beats the one at zero by {gained:.1f} "
        f"standard errors ({clear(gained)}). A random centre loses by {lost:.1f} ({clear(lost)}), "
        f"and {share:.0%} as much. With {many:,} rows {left['truth']:.1%} of the former difference "
        f"and {left['random']:.1%} of the latter are left: "
        f"{gains['truth'].loc[many]:+.4f} and {gains['random'].loc[many]:+.4f} nats per row."
    )


def clear(ratio: float) -> str:
    """Whether a difference is beyond what chance would do."""
    return f"clearly: more than {CLEARLY}" if ratio > CLEARLY else f"not more than {CLEARLY}"


def draw(table: pd.DataFrame, num_teachers: int, width: float, path: Path) -> None:
    """Draw scores, and their differences from the prior at zero, against the rows."""
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
    for center in CENTERS:
        style = {
            "color": COLORS[center], "marker": MARKERS[center], "ms": 5, "capsize": 3,
            "label": "at zero" if center == "zero" else f"at {label_of(center)}",
        }  # fmt: skip
        axes[0].errorbar(table.index, table[center], table[f"{center}_se"], **style)
        if center != "zero":
            gain = table[f"{center}_gain"], table[f"{center}_gain_se"]
            axes[1].errorbar(table.index, *gain, **style)
    axes[1].axhline(0, color=COLORS["zero"], lw=1)
    axes[0].set_ylabel("held-out log density (nats per row)")
    axes[1].set_ylabel("difference from the prior at zero")
    for axis in axes:
        axis.set(xscale="log", xlabel="rows that were fitted")
        axis.set_xticks(table.index, [f"{count:,}" for count in table.index])
        axis.minorticks_off()
    axes[0].legend(frameon=False, fontsize="small", loc="lower right")
    figure.suptitle(
        f"Posteriors by the centre of a prior {wide(width)}, {num_teachers} teachers, "
        "± 1 standard error",
        fontsize="medium",
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def label_of(center: str) -> str:
    return {"truth": "the truth", "random": "other networks"}[center]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo_output"))
    parser.add_argument("--teachers", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the first teacher")
    parser.add_argument("--width", type=float, default=1.0, help="in widths of the truth's prior")
    parser.add_argument("--quick", action="store_true", help="two teachers, brief chains: a test")
    arguments = arguments_of(parser)
    main(arguments.out, arguments.teachers, arguments.seed, arguments.width, arguments.quick)
