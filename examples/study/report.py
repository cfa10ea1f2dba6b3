"""Tables, figures and verdicts of the study, as files that its page reads."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from study.claims import CLAIMS, Claim
from study.measure import CENTERS, GAINS
from study.verdicts import Question, differences, sentence, table, verdict

# Of kinds of units: Okabe and Ito's colours, a marker, a line.
STYLES = {
    "tanh": ("#0072B2", "o", "-"),
    "sigmoid": ("#D55E00", "s", "--"),
    "relu": ("#009E73", "^", ":"),
    "residual": ("#CC79A7", "D", "-."),
}
# Weights that two programs share to so many digits are the same.
SAME = 1e-5


def write(
    folder: Path,
    measured: pd.DataFrame,
    identity: pd.DataFrame,
    others: Mapping[str, pd.DataFrame],
) -> pd.DataFrame:
    """Write a file per claim, its figure, and the verdicts of all; return these.

    `others` are other runs by name. Their verdicts stand beside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [write_identity(folder, identity) | dict.fromkeys(others, "")]
    for claim in CLAIMS:
        rows += write_claim(folder, claim, measured, others)
        draw(folder / f"{claim.name}.png", claim, measured)
    verdicts = pd.DataFrame(rows)
    told = "\n".join(compare(name, verdicts, measured, other) for name, other in others.items())
    write_verdicts(folder / "verdicts.md", verdicts, told)
    write_fits(folder / "fits.md", measured)
    return verdicts


def write_verdicts(path: Path, verdicts: pd.DataFrame, told: str) -> None:
    """Write all questions and their verdicts, a claim named once; and `told` of other runs."""
    heads = ["claim", "in numbers", *verdicts.columns[2:]]
    lines, before = [_line(heads), _line(["---"] * len(heads))], ""
    for claim, question, word, *others in verdicts.itertuples(index=False):
        named = f"[{claim}](#{anchor(claim)})" if claim != before else ""
        lines.append(_line([named, question, f"**{word}**", *others]))
        before = claim
    path.write_text("\n".join([*lines, "", told] if told else lines) + "\n")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def compare(name: str, verdicts: pd.DataFrame, measured: pd.DataFrame, other: pd.DataFrame) -> str:
    """Count the verdicts that came out the same, and the networks' answers behind them."""
    known = verdicts[verdicts[name] != ""]
    same = (known["verdict"] == known[name]).sum()
    asked = [question for claim in CLAIMS for question in claim.questions]
    answers = pd.concat([_answers(measured, other, question) for question in asked])
    first, second = answers.to_numpy().T
    turned = int((first * second < 0).sum())
    counted = (
        f", and {turned or 'none'} of {len(first)} answers of networks turned from ✓ to ✗ or back"
    )
    return (
        f"- {name[0].upper()}{name[1:]}: {same} of {len(known)} verdicts are the same"
        f"{counted if len(first) else ''}."
    )


def _answers(measured: pd.DataFrame, other: pd.DataFrame, asked: Question) -> pd.DataFrame:
    """Pair the answers of both runs for the networks that both have."""
    both = [differences(run, asked)["says"] for run in (measured, other)]
    return pd.concat(both, axis=1, join="inner")


def anchor(claim: str) -> str:
    """Write the anchor of the page's section that has the claim as its heading."""
    return "".join(c for c in claim.lower().replace(" ", "-") if c.isalnum() or c == "-")


def write_identity(folder: Path, found: pd.DataFrame) -> dict[str, str]:
    """Write the table of the claim that is exact, and return its verdict."""
    asked = "The MAP has scikit-learn's weights."
    largest = found.to_numpy().max()
    word = "confirmed" if largest < SAME else "refuted"
    lines = ["| | " + " | ".join(found.columns) + " |", "| --- |" + " ---: |" * found.shape[1]]
    lines += [
        f"| {name} | " + " | ".join(f"{value:.0e}" for value in row) + " |"
        for name, row in zip(found.index, found.to_numpy(), strict=True)
    ]
    share = f"the largest difference is {largest:.0e} of the largest weight"
    text = f"**{asked}** {word.capitalize()}: {share}."
    (folder / "identity.md").write_text(text + "\n\n" + "\n".join(lines) + "\n")
    title = "L2 is a prior that puts the weights near zero"
    return {"claim": title, "question": asked, "verdict": word}


def write_fits(path: Path, measured: pd.DataFrame) -> None:
    """Tell how reliable the fits themselves are."""
    rhat, reliable = measured["rhat"].dropna(), measured["reliable"].dropna()
    reached = measured["converged"].dropna().groupby(level=["units", "gain"], sort=False).mean()
    path.write_text(
        f"Of {len(rhat)} posteriors the largest R-hat of a mean output is {rhat.max():.3f}, and "
        f"nine in ten are below {rhat.quantile(0.9):.3f}; {100 * reliable.mean():.1f} % of the "
        "evidences are reliable by their own account. The share of optima whose gradient "
        "vanishes:\n\n" + shares(reached.unstack("gain"))
    )


def shares(found: pd.DataFrame) -> str:
    """Format shares as a Markdown table."""
    heads = " | ".join(f"gain {gain:g}" for gain in found.columns)
    lines = [f"| | {heads} |", "| --- |" + " ---: |" * found.shape[1]]
    for name, row in zip(found.index, found.to_numpy(), strict=True):
        lines.append(f"| {name} | " + " | ".join(f"{100 * value:.0f} %" for value in row) + " |")
    return "\n".join(lines) + "\n"


def write_claim(
    folder: Path, claim: Claim, measured: pd.DataFrame, others: Mapping[str, pd.DataFrame]
) -> list[dict[str, str]]:
    """Write the answers to each question of a claim, and return their verdicts."""
    texts, rows = [], []
    for asked in claim.questions:
        cells = differences(measured, asked)
        word = verdict(cells)
        if word:
            texts.append(
                f"**{asked.says}** {word.capitalize()}. {sentence(cells, asked)}\n\n"
                f"{table(cells)}\n"
            )
        beside = {name: verdict(differences(other, asked)) for name, other in others.items()}
        rows.append({"claim": claim.title, "question": asked.says, "verdict": word} | beside)
    (folder / f"{claim.name}.md").write_text("\n".join(texts))
    return rows


def draw(path: Path, claim: Claim, measured: pd.DataFrame) -> None:
    """Draw the claim's number over widths, and at one width over centres; a row per data set."""
    kept = measured[claim.column].dropna()
    fits = [fit for fit in ("MAP", "posterior") if fit in kept.index.unique("fit")]
    names = kept.index.unique("data")
    figure, axes = plt.subplots(
        len(names), 2 * len(fits), figsize=(4.4 * len(fits), 1.6 + 1.3 * len(names)),
        sharex="col", squeeze=False, layout="constrained", width_ratios=[3, 2] * len(fits),
    )  # fmt: skip
    for name, row in zip(names, axes, strict=True):
        row[0].set_ylabel(name)
        for i, fit in enumerate(fits):
            part = kept.xs((name, fit), level=("data", "fit"))
            draw_widths(row[2 * i], part)
            draw_centers(row[2 * i + 1], part)
    for i, fit in enumerate(fits):
        axes[0, 2 * i].set_title(fit, loc="left", fontsize="medium")
        axes[-1, 2 * i].set_xlabel("gain, around zero")
        axes[-1, 2 * i + 1].set_xlabel("centre, gain 1")
    missing = kept.unstack("units").isna().any(axis=None)
    note = "; no point: the output never varies" if missing else ""
    title = f"{claim.label}\nmean over splits, or teachers, ± 2 s.e.\nevery panel has its own scale"
    figure.suptitle(title + note, fontsize="medium")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.align_ylabels(axes[:, 0])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_widths(axis, part: pd.Series) -> None:
    around_zero = part.xs("zero", level="center")
    for i, (units, values) in enumerate(around_zero.groupby(level="units", sort=False)):
        by_gain = values.groupby(level="gain")
        mean, error = by_gain.mean().reindex(GAINS), by_gain.sem().reindex(GAINS)
        bars(axis, np.array(GAINS) * 1.1 ** (i - 1), mean, error, str(units))
    axis.set_xscale("log")
    axis.set_xticks(GAINS, [f"{gain:g}" for gain in GAINS], fontsize="small")
    axis.minorticks_off()


def draw_centers(axis, part: pd.Series) -> None:
    at_one = part.xs(1.0, level="gain")
    shown = ["zero", *CENTERS]
    for i, (units, values) in enumerate(at_one.groupby(level="units", sort=False)):
        by_center = values.groupby(level="center")
        mean, error = by_center.mean().reindex(shown), by_center.sem().reindex(shown)
        bars(axis, np.arange(len(shown)) + 0.2 * (i - 1), mean, error, str(units), joined=False)
    axis.set_xticks(range(len(shown)), shown, fontsize="small", rotation=60, ha="right")


def bars(axis, at, mean, error, units: str, joined: bool = True) -> None:
    color, marker, line = STYLES[units]
    axis.errorbar(
        at, mean, 2 * error, label=units, color=color, marker=marker, ms=4.5, lw=1.2, capsize=2,
        ls=line if joined else "none",
    )  # fmt: skip
    axis.grid(axis="y", alpha=0.3)
    axis.tick_params(axis="y", labelsize="small")
