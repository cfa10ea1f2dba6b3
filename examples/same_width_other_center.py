"""Same width, other centre: does a prior's place matter, or its width alone?

A Gaussian prior of some width is said to limit a network as much wherever it sits. Those of tanh,
sigmoid and relu units are fitted to 40 rows of four real data sets and of a teacher's (a network
drawn from the prior around zero, at the penguins' inputs), as MAP and by their posterior, under
priors of one width around seven centres: zero; a reference; a random point as far away; the
reference's numbers in other places; minus the reference (for tanh and sigmoid units the same
network but for the bias of the output: whether a centre is judged by its function); half-way to
the reference; and half as far again.

The reference is the MAP of 40 other rows; of the teacher it is the truth. Measured is the log
predictive density per row on all rows that are left, as a difference from the prior around zero:
means and standard errors are over splits, and over teachers.

    python examples/same_width_other_center.py             # a few minutes on two cores
    python examples/same_width_other_center.py --help
"""

import argparse
import textwrap
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from datasets import REAL, Data, likelihood, shuffled, standardised
from many_fits import (
    arguments_of,
    cell,
    held_out,
    largest_rhat,
    mean_and_error,
    optima,
    short_chains,
    verdict,
)

import weightprior as wp

HIDDEN = (8,)
NUM_FITTED, TEACHER_NOISE = 40, 0.5
CENTERS = ("zero", "reference", "random", "permuted", "mirrored")
BETWEEN = (0.5, 1.5)
# The line from minus the reference through zero and beyond, by the labels of its priors.
PATH = {-1.0: "mirrored", 0.0: "zero", 0.5: "0.5", 1.0: "reference", 1.5: "1.5"}
CHAINS = {"num_chains": 2, "num_warmup": 200, "num_samples": 250}
# Okabe and Ito's colours, and a marker.
STYLES = {"tanh": ("#0072B2", "o"), "sigmoid": ("#E69F00", "s"), "relu": ("#009E73", "^")}
METHODS = ("MAP", "posterior")


def main(
    folder: Path, num_splits: int, seed: int, gain: float = 1.0, quick: bool = False
) -> pd.DataFrame:
    """Fit around every centre; print the table, draw it, and return it."""
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    names, activations, chains = (*REAL, "teacher"), tuple(STYLES), CHAINS
    if quick:
        names, activations, num_splits = ("penguins", "teacher"), ("tanh",), 2
        chains = {"num_chains": 2, "num_warmup": 50, "num_samples": 50}
    print("weightprior: same width, other centre", flush=True)
    found = {}
    for name in names:
        for activation in activations:
            for split in range(num_splits):
                for key, row in of_split(name, activation, gain, chains, seed + split).items():
                    found[(name, activation, *key, split)] = row
        print(f"  {name} after {time.perf_counter() - began:.0f} s", flush=True)
    measured = pd.DataFrame.from_dict(found, orient="index")
    measured.index = pd.MultiIndex.from_tuples(
        measured.index, names=["data", "units", "fit", "center", "split"]
    )
    table = summarise(measured)
    show(table, num_splits)
    print("\n".join(textwrap.fill(text, 96) for text in conclude(table)), flush=True)
    table.to_csv(folder / "same_width_other_center.csv")
    draw_centers(table, num_splits, folder / "other_centers.png")
    draw_path(table, num_splits, folder / "center_path.png")
    print(f"done in {time.perf_counter() - began:.0f} s", flush=True)
    return table


def of_split(name: str, activation: str, gain: float, chains, seed: int) -> dict:
    """Scores of MAP and posterior around every centre, of one split or teacher."""
    if name == "teacher":
        bnn, reference, fitted, test = of_teacher(activation, gain, seed)
    else:
        bnn, reference, fitted, test = of_real(name, activation, gain, seed)
    scale = wp.fan_in_scale(bnn, gain)
    matched = wp.matched_centers(bnn, reference, scale=scale, rng_key=seed)
    line = wp.center_path(bnn, reference, BETWEEN, scale=scale)
    priors = wp.stack_priors(
        {center: matched[center] for center in CENTERS} | {f"{f:g}": line[f] for f in BETWEEN}
    )
    fits = {
        "MAP": optima(bnn, fitted.x, fitted.y, prior=priors, rng_key=seed),
        "posterior": short_chains(bnn, fitted.x, fitted.y, prior=priors, rng_key=seed, **chains),
    }
    rows = {}
    for method, fit in fits.items():
        on_test = held_out(bnn, fit, test.x, test.y)
        gaps = held_out(bnn, fit, fitted.x, fitted.y) - on_test
        rhats = converged = np.full(len(gaps), np.nan)
        if method == "posterior":
            rhats = largest_rhat(bnn, fit, test.x)
        else:
            converged = fit["sample_stats"]["converged"].to_numpy().ravel().astype(float)
        names, columns = ("elpd", "gap", "rhat", "converged"), (on_test, gaps, rhats, converged)
        for center, *values in zip(priors.labels or (), *columns, strict=True):
            rows[method, center] = dict(zip(names, values, strict=True))
    return rows


def of_real(name: str, activation: str, gain: float, seed: int):
    """A model, a reference learned from other rows, rows to fit and rows to test on."""
    other, fitted, test = split_of(name, seed)
    bnn = wp.BNN(network_for(fitted, activation), likelihood(other))
    prior = wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn, gain))
    reference = optima(bnn, other.x, other.y, prior=prior, rng_key=seed)
    return bnn, reference, fitted, test


def of_teacher(activation: str, gain: float, seed: int):
    """The same of a network drawn from the prior around zero, whose weights are the reference."""
    _, fitted, test = split_of("penguins", seed)
    bnn = wp.BNN(network_for(fitted, activation), wp.Gaussian(noise=TEACHER_NOISE))
    prior = wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn, gain))
    truth, y = wp.simulate(bnn, pd.concat([fitted.x, test.x]), prior=prior, rng_key=seed)
    return (
        bnn,
        truth,
        fitted._replace(y=pd.Series(y[:NUM_FITTED], index=fitted.x.index)),
        test._replace(y=pd.Series(y[NUM_FITTED:], index=test.x.index)),
    )


def split_of(name: str, seed: int) -> list[Data]:
    """Rows for a reference, rows to fit and rows to test on, in units of those to fit."""
    other, fitted, test = shuffled(REAL[name](), [NUM_FITTED, NUM_FITTED], seed)
    fitted, other, test = standardised(fitted, other, test)
    return [other, fitted, test]


def network_for(data: Data, activation: str):
    """Hidden units, and an output for every class where there are more than two."""
    outputs = data.num_classes if data.num_classes > 2 else 1
    return wp.mlp(data.x.columns, hidden=HIDDEN, num_outputs=outputs, activation=activation)


def summarise(measured: pd.DataFrame) -> pd.DataFrame:
    """Means over splits and standard errors; `gain` is the difference from zero, by split."""
    zero = measured["elpd"].xs("zero", level="center")
    keys = measured.index.droplevel("center")
    gained = measured.assign(gain=measured["elpd"] - zero.reindex(keys).to_numpy())
    mean, error = mean_and_error(gained[["elpd", "gap", "gain"]])
    by_split = measured.groupby(level=list(mean.index.names))
    mean = mean.join(error.add_suffix("_se")).join(by_split["rhat"].max())
    return mean.join(by_split["converged"].mean())


def show(table: pd.DataFrame, num_splits: int) -> None:
    """Print the table for a terminal."""
    texts = {
        key: cell(row.elpd, row.elpd_se, sign=False)
        if key[-1] == "zero"
        else cell(row.gain, row.gain_se)
        for key, row in zip(table.index, table.itertuples(), strict=True)
    }
    printed = pd.Series(texts, table.index).str.replace(" ", "").unstack("center")
    printed = printed[[*CENTERS, *(f"{f:g}" for f in BETWEEN)]]
    printed["R-hat"] = table["rhat"].groupby(level=["data", "units", "fit"]).max()
    order = table.index.droplevel("center").unique()
    print(
        "\nHeld-out log density in nats per row around zero, and the difference from it around the "
        f"other\ncentres: mean ± standard error over {num_splits} splits. R-hat: of the outputs, "
        "the largest.\n"
    )
    printed["R-hat"] = printed["R-hat"].map(lambda v: "" if np.isnan(v) else f"{v:.2f}")
    print(printed.loc[order].rename_axis(columns=None).to_string(), end="\n\n")


def conclude(table: pd.DataFrame) -> list[str]:
    """What the table shows: every number is read from it."""
    sentences = []
    for method in METHODS:
        part = table.xs(method, level="fit")
        said = []
        for center in CENTERS[1:]:
            rows = part.xs(center, level="center")
            words = [verdict(row.gain, row.gain_se) for row in rows.itertuples()]
            said.append(
                f"{center} {words.count('better')} better, {words.count('worse')} worse, "
                f"mean {rows['gain'].mean():+.3f}"
            )
        total = len(part.xs("zero", level="center"))
        gap = part["gap"].groupby(level="center").mean()
        sentences.append(
            f"{method}, of {total} networks against zero at two standard errors: "
            f"{'; '.join(said)} nats per row. The gap between fitted and held-out rows, mean over "
            f"networks: {gap['zero']:.3f} around zero, {gap['random']:.3f} around the random "
            f"point, {gap['reference']:.3f} around the reference."
        )
    reached = table["converged"].groupby(level="units").mean()
    shares = ", ".join(f"{reached[unit]:.0%} of {unit}" for unit in table.index.unique("units"))
    sentences.append(f"MAPs whose gradient vanished (those of relu often lie on kinks): {shares}.")
    return sentences


def grid_of(table: pd.DataFrame, title: str):
    """A row of panels per data set, a column per method, zero marked."""
    names = table.index.unique("data")
    figure, axes = plt.subplots(
        len(names), 2, figsize=(7, 1.2 + 1.55 * len(names)), sharex=True, sharey="row",
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for name, row in zip(names, axes, strict=True):
        row[0].set_ylabel(name)
        for method, axis in zip(METHODS, row, strict=True):
            axis.axhline(0, color="black", lw=0.8)
            axis.grid(axis="y", alpha=0.3)
            if axis in axes[0]:
                axis.set_title(method, loc="left", fontsize="medium")
    figure.suptitle(title, fontsize="medium")
    figure.supylabel("log density against the prior around zero (nats per row)", fontsize="medium")
    return figure, axes


def draw_lines(table: pd.DataFrame, axes, labels, at, line: str, spread: float) -> None:
    """Put every network's differences at these labels into its panel."""
    for name, row in zip(table.index.unique("data"), axes, strict=True):
        for method, axis in zip(METHODS, row, strict=True):
            units = table.index.unique("units")
            for i, unit in enumerate(units):
                color, marker = STYLES[unit]
                part = table.loc[name, unit, method].loc[list(labels)]
                shift = spread * (i - (len(units) - 1) / 2)
                axis.errorbar(
                    np.asarray(at, float) + shift, part["gain"], part["gain_se"], color=color,
                    marker=marker, ls=line, ms=4, capsize=2, label=unit,
                )  # fmt: skip


def draw_centers(table: pd.DataFrame, num_splits: int, path: Path) -> None:
    """Draw differences from zero around the matched centres."""
    figure, axes = grid_of(
        table,
        f"Held-out rows, priors of one width by centre; {num_splits} splits, ± 1 standard error",
    )
    others = CENTERS[1:]
    draw_lines(table, axes, others, range(len(others)), "none", 0.2)
    for axis in axes[-1]:
        axis.set_xticks(range(len(others)), others, fontsize="small")
    finish(figure, axes, path)


def draw_path(table: pd.DataFrame, num_splits: int, path: Path) -> None:
    """Draw differences from zero along the line through the reference."""
    figure, axes = grid_of(
        table,
        f"Held-out rows, priors of one width along a line; {num_splits} splits, ± 1 standard error",
    )
    draw_lines(table, axes, PATH.values(), list(PATH), "-", 0.0)
    for axis in axes[-1]:
        axis.set_xticks(list(PATH), ["-1", "0", "0.5", "1", "1.5"])
        axis.set_xlabel("centre, as a fraction of the reference")
    finish(figure, axes, path)


def finish(figure, axes, path: Path) -> None:
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.align_ylabels(axes[:, 0])
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo_output"))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--gain", type=float, default=1.0, help="width: smaller is narrower")
    parser.add_argument("--seed", type=int, default=0, help="of the first split")
    parser.add_argument("--quick", action="store_true", help="two data sets, two splits: a test")
    arguments = arguments_of(parser)
    main(arguments.out, arguments.splits, arguments.seed, arguments.gain, arguments.quick)
