"""Centred at the truth: what does such a prior gain, and how many rows make it all the same?

Networks are drawn from a Gaussian prior around zero, and data from the networks. Posteriors under
three priors of one width see the first 10 to 1,000 rows: centred at the true weights, at zero
(the prior that the truth was really drawn from, so that no other is better without knowing more),
and at the weights of another network drawn alike. Once all three are as wide as the prior of the
truth, once half as wide.

Measured is the log predictive density per row on 500 rows that no fit sees, as a difference from
the prior around zero, teacher by teacher: means and standard errors are over teachers.

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
from many_fits import cell, held_out, largest_rhat, mean_and_error, over_rows, short_chains

import weightprior as wp

NUM_TEST = 500
# Nearly as many inputs as the fewest rows, so that these rows leave much to the prior.
NUM_FEATURES, HIDDEN, NOISE, GAIN = 8, (5,), 0.5, 1.0
WIDTHS = (1.0, 0.5)
CENTERS = ("truth", "zero", "random")
# Numbers of rows whose fits share a call, and so the cost of the largest.
CALLS = ((10, 30, 100), (300,), (1000,))
CHAINS = {"num_chains": 2, "num_warmup": 300, "num_samples": 400}
COLORS = {"truth": "#009E73", "zero": "#0072B2", "random": "#E69F00"}  # Okabe and Ito's
MARKERS = {"truth": "o", "zero": "s", "random": "^"}
CLEARLY, ALIKE = 4, 2  # standard errors


def main(folder: Path, num_teachers: int, seed: int, quick: bool = False) -> pd.DataFrame:
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
        found.append(of_teacher(bnn, seed + teacher, calls, chains).assign(teacher=teacher))
        if (teacher + 1) % 10 == 0:
            print(f"  {teacher + 1} done in {time.perf_counter() - began:.0f} s", flush=True)
    measured = pd.concat(found).set_index(["width", "rows", "teacher"])
    table = summarise(measured)
    show(table, num_teachers)
    print("\n".join(textwrap.fill(text, 96) for text in conclude(table)), flush=True)
    table.to_csv(folder / "centered_at_truth.csv")
    draw(table, num_teachers, folder / "centered_at_truth.png")
    print(f"done in {time.perf_counter() - began:.0f} s", flush=True)
    return table


def of_teacher(bnn: wp.BNN, seed: int, calls, chains) -> pd.DataFrame:
    """Held-out log density per row of one teacher's posteriors, by width and rows."""
    scale = wp.fan_in_scale(bnn, GAIN)
    world = wp.normal_prior(bnn, scale=scale)
    x = np.random.default_rng(seed).normal(size=(max(calls[-1]) + NUM_TEST, NUM_FEATURES))
    truth, y = wp.teacher(bnn, x, prior=world, rng_key=2 * seed)
    other, _ = wp.teacher(bnn, x[:1], prior=world, rng_key=2 * seed + 1)
    locs = {"truth": truth, "zero": 0.0, "random": other}
    priors = wp.stack_priors(
        {
            f"{center} {width}": wp.normal_prior(bnn, loc, wp.fan_in_scale(bnn, width * GAIN))
            for width in WIDTHS
            for center, loc in locs.items()
        }
    )
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
            center, width = label.split()
            row = rows.setdefault((float(width), count), {"rhat": 1.0})
            row |= {center: score, "rhat": max(rhat, row["rhat"])}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["width", "rows"])
    return table.reset_index()


def summarise(measured: pd.DataFrame) -> pd.DataFrame:
    """Means over teachers and their standard errors, differences taken teacher by teacher."""
    gains = measured.assign(
        truth_gain=measured["truth"] - measured["zero"],
        random_gain=measured["random"] - measured["zero"],
    )
    mean, error = mean_and_error(gains.drop(columns="rhat"))
    rhat = measured["rhat"].groupby(level=["width", "rows"]).quantile(0.9)
    return mean.join(error.add_suffix("_se")).assign(rhat=rhat).sort_index(ascending=[False, True])


def show(table: pd.DataFrame, num_teachers: int) -> None:
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
        "teachers.\nWidth: in widths of the prior that the truth is drawn from. R-hat: of the "
        "outputs, exceeded\nby one teacher in ten.\n"
    )
    print(printed.to_string(index=False), end="\n\n")


def conclude(table: pd.DataFrame) -> list[str]:
    """Whether what was expected came out, for each width: every number is read from the table."""
    sentences = []
    for width, part in table.groupby(level="width", sort=False):
        part = part.droplevel("width")
        ratios = {
            name: part[f"{name}_gain"] / part[f"{name}_gain_se"] for name in ("truth", "random")
        }
        few, many = part.index[0], part.index[-1]
        gained, lost = ratios["truth"].loc[few], ratios["random"].loc[few]
        share = (
            part.loc[many, ["truth_gain", "random_gain"]]
            / part.loc[few, ["truth_gain", "random_gain"]]
        )
        apart = [n for n, ratio in ratios.items() if abs(ratio.loc[many]) > ALIKE]
        sentences.append(
            f"Width {width:g}: with {few} rows the prior centred at the truth beats the one at "
            f"zero by {gained:.1f} standard errors ({clear(gained)}) and the random centre loses "
            f"by {-lost:.1f} ({clear(-lost)}). With {many:,} rows "
            + (
                f"all three are within {ALIKE} standard errors"
                if not apart
                else f"{' and '.join(apart)} still differ{'s' if len(apart) == 1 else ''} from "
                f"zero by more than {ALIKE} standard errors"
            )
            + f"; of the differences {share['truth_gain']:.1%} and {share['random_gain']:.1%} "
            "are left."
        )
    return sentences


def clear(ratio: float) -> str:
    """Whether a difference is beyond what chance would do."""
    return f"clearly: more than {CLEARLY}" if ratio > CLEARLY else f"not more than {CLEARLY}"


def draw(table: pd.DataFrame, num_teachers: int, path: Path) -> None:
    """Draw scores, and their differences from the prior at zero, against the rows."""
    figure, axes = plt.subplots(
        2, len(WIDTHS), figsize=(7, 5.6), sharex=True, sharey="row", layout="constrained"
    )
    for column, width in enumerate(WIDTHS):
        part = table.loc[width]
        for center in CENTERS:
            style = {
                "color": COLORS[center], "marker": MARKERS[center], "ms": 5, "capsize": 3,
                "label": "at zero" if center == "zero" else f"at {label_of(center)}",
            }  # fmt: skip
            axes[0, column].errorbar(part.index, part[center], part[f"{center}_se"], **style)
            if center != "zero":
                gain = part[f"{center}_gain"], part[f"{center}_gain_se"]
                axes[1, column].errorbar(part.index, *gain, **style)
        axes[1, column].axhline(0, color=COLORS["zero"], lw=1)
        name = "as wide as the truth's" if width == 1 else f"{width:g} times as wide"
        axes[0, column].set_title(f"prior {name}", loc="left", fontsize="medium")
        axes[1, column].set(xscale="log", xlabel="rows that were fitted")
        axes[1, column].set_xticks(part.index, [f"{count:,}" for count in part.index])
        axes[1, column].minorticks_off()
    axes[0, 0].set_ylabel("held-out log density\n(nats per row)")
    axes[1, 0].set_ylabel("difference from the prior\nat zero (nats per row)")
    axes[0, 0].legend(frameon=False, fontsize="small", loc="lower right")
    figure.align_ylabels(axes[:, 0])
    figure.suptitle(
        f"Posteriors by the centre of their prior, {num_teachers} teachers, ± 1 standard error",
        fontsize="medium",
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def label_of(center: str) -> str:
    return {"truth": "the truth", "random": "another network"}[center]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo_output"))
    parser.add_argument("--teachers", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the first teacher")
    parser.add_argument("--quick", action="store_true", help="two teachers, brief chains: a test")
    arguments = parser.parse_args()
    main(arguments.out, arguments.teachers, arguments.seed, arguments.quick)
