"""Is the posterior worth it? Weight decay at its best against the posterior, on held-out rows.

Small networks are fitted to few and to more rows of four real data sets, under priors of several
widths around zero. What is compared, split by split:

- `MAP, cv`: the MAP under the prior that ten-fold cross-validation of the MAP chooses;
- `ensemble, cv`: ten of its optima from other starts, averaged: a deep ensemble;
- `posterior, cv`: the posterior under that same prior, by `fit_mcmc`;
- `posterior, evidence`: the posterior under the prior of the highest evidence, by `fit_tempered`;
- `MAP, wide` and `posterior, wide`: both under the widest prior, as if nothing had been tuned.

Each is scored on all rows that are left: log predictive density, error (the RMSE of standardised
targets, or the share of wrong classes), calibration error, and for numbers the share of targets
inside their 90 % interval. Differences are from `MAP, cv` on the same split; means and standard
errors are over splits.

    python examples/posterior_worth.py             # about a quarter of an hour on two cores
    python examples/posterior_worth.py --help
"""

import argparse
import textwrap
import time
import warnings
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from datasets import REAL, likelihood, shuffled, standardised
from many_fits import (
    arguments_of,
    cell,
    largest_rhat,
    mean_and_error,
    optima,
    short_chains,
    spread,
    verdict,
)
from matplotlib.ticker import StrMethodFormatter

import weightprior as wp

HIDDEN = (8,)
ROWS = (30, 120)
# A gain of one gives weights the scale of one over the root of the fan-in, and biases one of 1.
# Wide priors suit classes, which are nearly apart; under them numbers take long.
GAINS = {"numbers": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0), "classes": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)}
LADDER = {"num_temperatures": 16, "num_samples": 100, "num_chains": 8}
CHAINS = {"num_chains": 4, "num_warmup": 300, "num_samples": 500}
MAP = partial(wp.fit_map, num_restarts=4)
WAYS = (
    "MAP, cv",
    "ensemble, cv",
    "posterior, cv",
    "posterior, evidence",
    "MAP, wide",
    "posterior, wide",
)
SCORES = ("elpd", "error", "calibration_error", "coverage")


def main(folder: Path, num_splits: int, seed: int, quick: bool = False) -> pd.DataFrame:
    """Fit every split in every way; print the table, draw it, and return it."""
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    names, counts, grids, ladder, chains = tuple(REAL), ROWS, GAINS, LADDER, CHAINS
    if quick:
        names, counts, grids, num_splits = ("penguins",), (20,), {"numbers": (0.5, 2.0)}, 2
        ladder = {"num_temperatures": 4, "num_samples": 20, "num_chains": 4}
        chains = {"num_chains": 2, "num_warmup": 50, "num_samples": 50}
    print(f"weightprior: is the posterior worth it? {num_splits} splits", flush=True)
    found, paths, texts, table = {}, {}, [], pd.DataFrame()
    for name in names:
        for rows in counts:
            for split in range(num_splits):
                told, path = of_split(name, rows, grids, ladder, chains, seed + split)
                found |= {(name, rows, way, split): row for way, row in told.items()}
                paths |= {(name, rows, *key, split): value for key, value in path.items()}
            table = summarise(frame(found, ["data", "rows", "way", "split"]))
            texts.append(markdown(name, rows, table.loc[name, rows]))
            print("\n" + texts[-1], end="", flush=True)
    path = frame(paths, ["data", "rows", "fit", "gain", "split"])["elpd"]
    sentences = conclude(table)
    print("\n" + "\n".join(textwrap.fill(text, 96) for text in sentences), flush=True)
    texts.append("\n".join(f"- {text}" for text in sentences) + "\n")
    (folder / "posterior_worth.md").write_text("\n".join(texts))
    table.to_csv(folder / "posterior_worth.csv")
    path.to_csv(folder / "posterior_worth_path.csv")
    draw(path, num_splits, folder / "posterior_worth.png")
    print(f"done in {time.perf_counter() - began:.0f} s", flush=True)
    return table


def frame(found: dict, levels: list[str]) -> pd.DataFrame:
    """Rows by their keys."""
    table = pd.DataFrame.from_dict(found, orient="index")
    table.index = pd.MultiIndex.from_tuples(table.index, names=levels)
    return table


def of_split(name: str, rows: int, grids, ladder, chains, seed: int):
    """Scores of every way to fit one split, and those of MAP and posterior along the path."""
    fitted, test = standardised(*shuffled(REAL[name](), [rows], seed))
    outputs = fitted.num_classes if fitted.num_classes > 2 else 1
    gains = grids["classes" if fitted.num_classes else "numbers"]
    network = wp.mlp(fitted.x.columns, hidden=HIDDEN, num_outputs=outputs)
    bnn = wp.BNN(network, likelihood(fitted))
    priors = {g: wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn, g)) for g in gains}
    path = wp.stack_priors(priors)
    train = (bnn, fitted.x, fitted.y)
    seconds, widest = {}, gains[-1]

    def timed(way, call, **options):
        began = time.process_time()
        made = call(*train, rng_key=seed, **options)
        seconds[way] = time.process_time() - began
        return made

    searched = timed("cv", quiet(wp.cross_validate), prior=path, fit=spread(MAP))
    best = searched["best"].item()
    found = timed("MAP", optima, prior=path)
    climbed = timed(
        "evidence",
        quiet(spread(wp.fit_tempered)),
        prior=path,
        progress_bar=False,
        log_likelihood=False,
        **ladder,
    )
    evidence = wp.log_evidence(climbed)
    chosen = evidence["log_evidence"].idxmax().item()
    optimum, posterior = wp.unstack_fit(found), wp.unstack_fit(climbed)
    fits = {
        "MAP, cv": (best, optimum[best]),
        "ensemble, cv": (
            best,
            timed("ensemble", quiet(wp.fit_ensemble), prior=priors[best], anchored=False),
        ),
        "posterior, cv": (best, timed("chains", short_chains, prior=priors[best], **chains)),
        "posterior, evidence": (chosen, posterior[chosen]),
        "MAP, wide": (widest, optimum[widest]),
        "posterior, wide": (widest, posterior[widest]),
    }
    cost = {
        "MAP, cv": seconds["cv"],
        "ensemble, cv": seconds["cv"] + seconds["ensemble"],
        "posterior, cv": seconds["cv"] + seconds["chains"],
        "posterior, evidence": seconds["evidence"],
    }
    told = {}
    for way, (gain, fit) in fits.items():
        rhat = np.nan
        if way.startswith("posterior"):
            rhat = float(np.max(largest_rhat(bnn, fit, test.x)))
        doubt = way == "posterior, evidence" and not evidence["reliable"].sel(prior=chosen).item()
        told[way] = scores_of(bnn, fit, test) | {
            "log2_gain": np.log2(gain),
            "seconds": cost.get(way, np.nan),
            "rhat": rhat,
            "doubtful": float(doubt),
        }
    along = {
        (fit, gain): {"elpd": value}
        for fit, made in (("MAP", found), ("posterior", climbed))
        for gain, value in zip(
            gains, wp.score(bnn, made, test.x, test.y)["elpd"].to_numpy() / len(test.y), strict=True
        )
    }
    return told, along


def quiet(fit):
    """The same without the warnings that very short runs deserve."""

    def run(*args, **options):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="fit_")
            return fit(*args, **options)

    return run


def scores_of(bnn, fit, test) -> dict[str, float]:
    """Held-out scores of one fit, per row."""
    scores = wp.score(bnn, fit, test.x, test.y)
    by_class = test.num_classes > 0
    return {
        "elpd": scores["elpd"].item() / len(test.y),
        "error": 1 - scores["accuracy"].item() if by_class else scores["rmse"].item(),
        "calibration_error": scores["calibration_error"].item(),
        "coverage": np.nan if by_class else scores["coverage"].sel(level=0.9).item(),
    }


def summarise(measured: pd.DataFrame) -> pd.DataFrame:
    """Means over splits and standard errors; a `gain` is the difference from `MAP, cv`, by split.

    Seconds are of processors' time, medians without the first split, which compiles.
    """
    scores = measured[list(SCORES)]
    keys = measured.index.droplevel("way")
    base = scores.xs("MAP, cv", level="way").reindex(keys).to_numpy()
    gained = scores.join((scores - base).add_suffix("_gain"))
    mean, error = mean_and_error(gained)
    by_way = measured.groupby(level=["data", "rows", "way"], sort=False)
    warm = measured[measured.index.get_level_values("split") > 0]
    seconds = warm["seconds"].groupby(level=["data", "rows", "way"], sort=False).median()
    extra = {
        "scale": 2 ** by_way["log2_gain"].mean(),
        "seconds": seconds,
        "rhat": by_way["rhat"].max(),
        "doubtful": by_way["doubtful"].mean(),
    }
    return mean.join(error.add_suffix("_se")).assign(**extra)


def markdown(name: str, rows: int, part: pd.DataFrame) -> str:
    """The table of one case, as a page can have it."""
    classes = np.isnan(part["coverage"]).all()
    titles = [f"{name}, {rows} rows", "gain", "log density", "difference"]
    titles += ["wrong"] if classes else ["RMSE", "in 90 %"]
    titles += ["calibration error", "s"]
    lines = ["| " + " | ".join(titles) + " |", "| --- |" + " ---: |" * (len(titles) - 1)]
    for way, row in part.iterrows():
        cells = (
            str(way),
            f"{row['scale']:.2g}",
            f"{row['elpd']:.3f}",
            "" if way == WAYS[0] else cell(row["elpd_gain"], row["elpd_gain_se"]),
            f"{row['error']:.3f}",
            *([] if classes else [f"{row['coverage']:.2f}"]),
            f"{row['calibration_error']:.3f}",
            "" if np.isnan(row["seconds"]) else f"{row['seconds']:.1f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def conclude(table: pd.DataFrame) -> list[str]:
    """What the differences say, in words, at two standard errors."""
    sentences = []
    total = len(table.xs(WAYS[0], level="way"))
    for way in WAYS[1:]:
        rows = table.xs(way, level="way")
        said = []
        # More is better of the first, less of the others.
        for score, sign in (("elpd", 1), ("error", -1), ("calibration_error", -1)):
            pairs = zip(sign * rows[f"{score}_gain"], rows[f"{score}_gain_se"], strict=True)
            words = [verdict(gain, error) for gain, error in pairs]
            name = score.replace("_", " ").replace("elpd", "log density")
            said.append(f"{name} {words.count('better')} better, {words.count('worse')} worse")
        sentences.append(f"'{way}' against 'MAP, cv', of {total} cases: {'; '.join(said)}.")
    sampled = table[["rhat", "doubtful"]].dropna()
    sentences.append(
        f"Largest R-hat of an output: {sampled['rhat'].max():.3f}; evidence not to be relied on: "
        f"{table.xs('posterior, evidence', level='way')['doubtful'].mean():.0%} of the splits."
    )
    return sentences


def draw(path: pd.Series, num_splits: int, target: Path) -> None:
    """Draw the held-out log density of MAP and posterior along the priors' widths."""
    mean, error = mean_and_error(path)
    names, counts = path.index.unique("data"), path.index.unique("rows")
    figure, axes = plt.subplots(
        len(counts), len(names), figsize=(0.9 + 2.1 * len(names), 0.9 + 1.9 * len(counts)),
        sharex="col", sharey="col", layout="constrained", squeeze=False,
    )  # fmt: skip
    for rows, line in zip(counts, axes, strict=True):
        for name, axis in zip(names, line, strict=True):
            for fit, color, marker in (("MAP", "#D55E00", "s"), ("posterior", "#0072B2", "o")):
                values, bars = mean[name, rows, fit], error[name, rows, fit]
                axis.errorbar(
                    values.index, values, bars, color=color, marker=marker, ms=4, capsize=2,
                    label=fit,
                )  # fmt: skip
            # What a MAP under a wide prior loses has no floor.
            top = mean[name].max()
            axis.set_ylim(max(mean[name].min(), top - 1.2) - 0.05, top + 0.1)
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.grid(alpha=0.3)
            axis.set_title(f"{name}, {rows} rows", loc="left", fontsize="medium")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    figure.supxlabel("gain of the prior around zero", fontsize="medium")
    figure.supylabel("held-out log density (nats per row)", fontsize="medium")
    figure.suptitle(
        f"{num_splits} splits, ± 1 standard error; a MAP far below leaves the panel",
        fontsize="medium",
    )
    figure.savefig(target, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo_output"))
    parser.add_argument("--splits", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0, help="of the first split")
    parser.add_argument("--quick", action="store_true", help="one data set, two splits: a test")
    arguments = arguments_of(parser)
    main(arguments.out, arguments.splits, arguments.seed, arguments.quick)
