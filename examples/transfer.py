"""Transfer: what to carry over from many rows of one kind to few rows of another?

A data set is halved by one of its inputs: the half below its median is the source, and of the half
above, the target, only 5 to 40 rows are known. One network is pretrained on the source. Compared
are, on the target:

- from scratch: MAP under a prior ten times as wide, which hardly regularises;
- L2: MAP under a prior around zero; and that prior's posterior;
- L2-SP: MAP under a prior as wide, around the pretrained weights; and that prior's posterior;
- the source's posterior as prior, as it is and with its standard deviations widened;
- source only: the source's posterior, without any row of the target.

Measured is the log predictive density per row on the target rows that no fit sees. Which rows of
the target are known is drawn anew for every split: means and standard errors are over splits, of
one source. All units are those of the source's rows.

    python examples/transfer.py             # a few minutes on two cores
    python examples/transfer.py --help
"""

import argparse
import textwrap
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from datasets import Data, diabetes, likelihood, penguins, shuffled, standardised
from many_fits import (
    arguments_of,
    cell,
    held_out,
    largest_rhat,
    mean_and_error,
    optima,
    over_rows,
    short_chains,
    verdict,
)

import weightprior as wp

HIDDEN = (8,)
COUNTS = (5, 10, 20, 40)
# Data, and the input that halves them.
HALVED = {"diabetes": (diabetes, "bmi"), "penguins": (penguins, "flipper_length_mm")}
WEAK = 10.0
WIDER = 4.0
CHAINS = {"num_chains": 2, "num_warmup": 200, "num_samples": 250}
SOURCE_CHAINS = {"num_chains": 4, "num_warmup": 300, "num_samples": 500}
# Colour, line and marker; Okabe and Ito's colours.
STYLES = {
    "from scratch": ("#E69F00", "-", "x"),
    "L2": ("#0072B2", "-", "s"),
    "zero posterior": ("#0072B2", "--", "o"),
    "L2-SP": ("#009E73", "-", "s"),
    "centred posterior": ("#009E73", "--", "o"),
    "posterior as prior": ("#D55E00", "--", "o"),
    f"posterior as prior, {WIDER:g} x wider": ("#CC79A7", "--", "^"),
    "source only": ("#555555", ":", "None"),
}
AS_PRIOR, AS_WIDER_PRIOR = list(STYLES)[5:7]


def main(
    folder: Path, num_splits: int, seed: int, gain: float = 1.0, quick: bool = False
) -> pd.DataFrame:
    """Fit every way on every split; print the table, draw it, and return it."""
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    halved, counts, chains, source_chains = HALVED, COUNTS, CHAINS, SOURCE_CHAINS
    if quick:
        halved, num_splits, counts = {"penguins": HALVED["penguins"]}, 2, (5, 40)
        chains = source_chains = {"num_chains": 2, "num_warmup": 100, "num_samples": 50}
    print("weightprior: transfer to few rows of another kind", flush=True)
    found = {}
    for name, (load, column) in halved.items():
        source, target = halves(load(), column)
        if quick:  # as many rows as of the target: less to compile
            source = source.rows(slice(max(counts)))
        print(
            f"  {name}: {len(source.y)} rows with {column} up to its median to learn from, "
            f"{len(target.y)} above it",
            flush=True,
        )
        bnn = wp.BNN(wp.mlp(source.x.columns, hidden=HIDDEN), likelihood(source))
        priors, pretrained = pretrain(bnn, source, gain, source_chains)
        for split in range(num_splits):
            for cells in on_target(
                bnn, priors, pretrained, target, counts, chains, seed + split
            ).items():
                found[(name, *cells[0], split)] = cells[1]
        print(f"    {num_splits} splits after {time.perf_counter() - began:.0f} s", flush=True)
    measured = pd.DataFrame.from_dict(found, orient="index")
    measured.index = pd.MultiIndex.from_tuples(
        measured.index, names=["data", "fit", "rows", "split"]
    )
    table = summarise(measured)
    show(table, num_splits)
    print("\n".join(textwrap.fill(text, 96) for text in conclude(measured)), flush=True)
    table.to_csv(folder / "transfer.csv")
    draw(table, num_splits, folder / "transfer.png")
    print(f"done in {time.perf_counter() - began:.0f} s", flush=True)
    return table


def halves(data: Data, column: str) -> tuple[Data, Data]:
    """Rows up to the median of an input and rows above it, in units of the former."""
    low = (data.x[column] <= data.x[column].median()).to_numpy()
    source, target = standardised(data.rows(low), data.rows(~low))
    return source, target


def pretrain(bnn: wp.BNN, source: Data, gain: float, chains):
    """Everything that the source can hand over: priors by name, and its own posterior."""
    scale = wp.fan_in_scale(bnn, gain)
    zero = wp.normal_prior(bnn, scale=scale)
    best = optima(bnn, source.x, source.y, prior=zero)
    weights = {name: best["posterior"][name].to_numpy()[0, 0] for name in bnn.sites}
    # All chains from one point, so that they share its mode: else there is no mean to centre at.
    posterior = short_chains(bnn, source.x, source.y, prior=zero, init=weights, **chains)
    priors = {
        "from scratch": wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn, WEAK * gain)),
        "zero": zero,
        "pretrained": wp.normal_prior(bnn, loc=weights, scale=scale),
        AS_PRIOR: wp.posterior_as_prior(bnn, posterior),
        AS_WIDER_PRIOR: wp.posterior_as_prior(bnn, posterior, widen=WIDER),
    }
    return priors, posterior


def on_target(bnn, priors, pretrained, target: Data, counts, chains, seed: int) -> dict:
    """Held-out log density per row and R-hat of every fit at every number of rows."""
    known, test = shuffled(target, [max(counts)], seed)
    maps = {"from scratch": "from scratch", "L2": "zero", "L2-SP": "pretrained"}
    posteriors = {
        "zero posterior": "zero", "centred posterior": "pretrained",
        AS_PRIOR: AS_PRIOR, AS_WIDER_PRIOR: AS_WIDER_PRIOR,
    }  # fmt: skip
    found = {}
    for names, is_map in ((maps, True), (posteriors, False)):
        stack = wp.stack_priors({name: priors[prior] for name, prior in names.items()})
        grid = over_rows(stack, counts)
        given = {"prior": grid.prior, "row_weights": grid.row_weights, "rng_key": seed}
        if is_map:
            fit = optima(bnn, known.x, known.y, **given)
            rhats = np.full(len(grid.cells), np.nan)
        else:
            fit = short_chains(bnn, known.x, known.y, **given, **chains)
            rhats = largest_rhat(bnn, fit, test.x)
        scores = held_out(bnn, fit, test.x, test.y)
        for (name, count), score, rhat in zip(grid.cells, scores, rhats, strict=True):
            found[name, count] = {"elpd": score, "rhat": rhat}
    alone = held_out(bnn, pretrained, test.x, test.y).item()
    for count in counts:
        found["source only", count] = {"elpd": alone, "rhat": np.nan}
    return found


def summarise(measured: pd.DataFrame) -> pd.DataFrame:
    """Means over splits and their standard errors, and the R-hat that one split in ten exceeds."""
    mean, error = mean_and_error(measured["elpd"])
    rhat = measured["rhat"].groupby(level=["data", "fit", "rows"]).quantile(0.9)
    return pd.DataFrame({"elpd": mean, "elpd_se": error}).join(rhat)


def show(table: pd.DataFrame, num_splits: int) -> None:
    """Print the table for a terminal."""
    texts = [cell(*row, sign=False) for row in table[["elpd", "elpd_se"]].to_numpy()]
    printed = pd.Series(texts, table.index).unstack("rows")[table.index.unique("rows")]
    rhat = table["rhat"].groupby(level=["data", "fit"]).max()
    printed["R-hat"] = rhat.map(lambda value: "" if np.isnan(value) else f"{value:.2f}")
    order = [(d, f) for d in table.index.unique("data") for f in STYLES]
    print(
        "\nHeld-out log density of the target in nats per row, by rows of the target that were "
        f"fitted:\nmean ± standard error over {num_splits} splits. R-hat: of the outputs, exceeded "
        "by one split in\nten where it is worst.\n"
    )
    print(printed.loc[order].rename_axis(columns=None).to_string(), end="\n\n")


def conclude(measured: pd.DataFrame) -> list[str]:
    """What the table shows, in differences split by split: every number is read from it."""
    wide = measured["elpd"].unstack("fit")
    sentences = []
    for name in wide.index.unique("data"):
        counts = wide.loc[name].index.unique("rows")

        def say(one: str, other: str, count: int, name: str = name) -> str:
            gain = (wide[one] - wide[other]).loc[name, count]
            mean, error = gain.mean(), gain.sem()
            return f"{cell(mean, error)} ({verdict(mean, error)})"

        few, many = counts[0], counts[-1]
        best = {n: wide.loc[name, n].mean().idxmax() for n in (few, many)}
        sentences.append(
            f"{name}: L2-SP against L2 {say('L2-SP', 'L2', few)} with {few} rows and "
            f"{say('L2-SP', 'L2', many)} with {many}; the source's posterior as prior against the "
            f"posterior around zero {say(AS_PRIOR, 'zero posterior', few)} and "
            f"{say(AS_PRIOR, 'zero posterior', many)}; widening it "
            f"{say(AS_WIDER_PRIOR, AS_PRIOR, few)} and {say(AS_WIDER_PRIOR, AS_PRIOR, many)}. "
            f"Best on average: {best[few]} with {few} rows, {best[many]} with {many}."
        )
    return sentences


def draw(table: pd.DataFrame, num_splits: int, path: Path) -> None:
    """Draw every fit's score against the rows of the target, a panel per data set."""
    names = table.index.unique("data")
    figure, axes = plt.subplots(
        1, len(names), figsize=(7, 4.6), layout="constrained", squeeze=False
    )
    for axis, name in zip(axes[0], names, strict=True):
        for fit, (color, line, marker) in STYLES.items():
            part = table.loc[name, fit]
            axis.errorbar(
                part.index, part["elpd"], part["elpd_se"], color=color, ls=line, marker=marker,
                ms=5, capsize=3, label=fit,
            )  # fmt: skip
        # What is far below is told, not shown: it would flatten all else.
        shown = table.loc[name].drop(["from scratch", "source only"], level="fit")
        low = (shown["elpd"] - shown["elpd_se"]).min()
        high = (shown["elpd"] + shown["elpd_se"]).max()
        axis.set_ylim(low - 0.15 * (high - low), high + 0.05 * (high - low))
        below = [f for f in STYLES if (table.loc[name, f]["elpd"] < axis.get_ylim()[0]).all()]
        title = f"{name}: target by {HALVED[name][1].removesuffix('_mm').replace('_', ' ')}"
        axis.set_title(title, loc="left", fontsize="medium")
        if below:
            lowest = ", ".join(
                f"{f}, {table.loc[name, f]['elpd'].max():.1f} at best" for f in below
            )
            axis.text(
                0.98, 0.02, f"below: {lowest}", transform=axis.transAxes, ha="right",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1}, zorder=5,
                fontsize="small",
            )  # fmt: skip
        axis.set_xscale("log")
        axis.set_xticks(table.index.unique("rows"), table.index.unique("rows"))
        axis.minorticks_off()
        axis.set_xlabel("rows of the target that were fitted")
    axes[0, 0].set_ylabel("held-out log density (nats per row)")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False,
        fontsize="small",
    )  # fmt: skip
    figure.suptitle(
        f"Transfer, {num_splits} splits, ± 1 standard error (solid: MAP, dashed: posterior)",
        fontsize="medium",
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo_output"))
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--gain", type=float, default=1.0, help="strength: smaller is stronger")
    parser.add_argument("--seed", type=int, default=0, help="of the first split")
    parser.add_argument("--quick", action="store_true", help="two splits, brief chains: a test")
    arguments = arguments_of(parser)
    main(arguments.out, arguments.splits, arguments.seed, arguments.gain, arguments.quick)
