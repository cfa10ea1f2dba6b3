"""Tables, figures and verdicts of the study, as files that its page reads."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from study.claims import CLAIMS, Claim
from study.measure import CENTERS, GAINS
from study.verdicts import differences, sentence, table, verdict

# Of kinds of units: Okabe and Ito's colours, a marker, a line.
STYLES = {
    "tanh": ("#0072B2", "o", "-"),
    "sigmoid": ("#D55E00", "s", "--"),
    "relu": ("#009E73", "^", ":"),
}
# Weights that two programs share to so many digits are the same.
SAME = 1e-5


def write(
    folder: Path,
    measured: pd.DataFrame,
    identity: pd.DataFrame,
    again: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Write a file per claim, its figure, and the verdicts of all; return these.

    `again` is the same of other splits, whose verdicts stand beside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [write_identity(folder, identity)]
    for claim in CLAIMS:
        rows += write_claim(folder, claim, measured, again)
        draw(folder / f"{claim.name}.png", claim, measured)
    verdicts = pd.DataFrame(rows, columns=["claim", "question", "verdict", "again"])
    told = "" if again is None else compare(verdicts, measured, again)
    write_verdicts(folder / "verdicts.md", verdicts, told)
    write_fits(folder / "fits.md", measured)
    return verdicts.dropna(axis="columns", how="all")


def write_verdicts(path: Path, verdicts: pd.DataFrame, told: str = "") -> None:
    """All questions and what they came to, a claim named once; `told` of other splits."""
    heads, rules = "| claim | in numbers | verdict |", "| --- | --- | --- |"
    if told:
        heads, rules = heads + " other splits |", rules + " --- |"
    lines, before = [heads, rules], ""
    for claim, question, word, other in verdicts.itertuples(index=False):
        named = f"[{claim}](#{anchor(claim)})" if claim != before else ""
        line = f"| {named} | {question} | **{word}** |"
        lines.append(line + (f" {other if isinstance(other, str) else ''} |" if told else ""))
        before = claim
    path.write_text("\n".join([*lines, "", told] if told else lines) + "\n")


def compare(verdicts: pd.DataFrame, measured: pd.DataFrame, again: pd.DataFrame) -> str:
    """What came out the same on other splits: of verdicts, and of the networks behind them."""
    known = verdicts.dropna()
    same = (known["verdict"] == known["again"]).sum()
    asked = [question for claim in CLAIMS for question in claim.questions]
    answers = [
        pd.concat([differences(m, q)["says"] for m in (measured, again)], axis=1, join="inner")
        for q in asked
    ]
    first, second = pd.concat(answers).to_numpy().T
    turned = int((first * second < 0).sum())
    return (
        f"Of {len(known)} verdicts, {same} came out the same on other splits. Of {len(first)} "
        f"answers of networks behind them, {int((first == second).sum())} did, and "
        f"{turned or 'none'} turned from ✓ to ✗ or back; the others have a mark in one of the two."
    )


def anchor(claim: str) -> str:
    """Of the page's section, whose heading is the claim."""
    return "".join(c for c in claim.lower().replace(" ", "-") if c.isalnum() or c == "-")


def write_identity(folder: Path, found: pd.DataFrame) -> tuple[str, str, str, None]:
    """The claim that is exact."""
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
    return "L2 is a prior that puts the weights near zero", asked, word, None


def write_fits(path: Path, measured: pd.DataFrame) -> None:
    """How far the fits themselves can be relied on."""
    rhat, reliable = measured["rhat"].dropna(), measured["reliable"].dropna()
    reached = measured["converged"].dropna().groupby(level=["units", "gain"], sort=False).mean()
    path.write_text(
        f"Of {len(rhat)} posteriors the largest R-hat of a mean output is {rhat.max():.3f}, and "
        f"nine in ten are below {rhat.quantile(0.9):.3f}; {100 * reliable.mean():.1f} % of the "
        "evidences are reliable by their own account. The share of optima whose gradient "
        "vanishes:\n\n" + shares(reached.unstack("gain"))
    )


def shares(found: pd.DataFrame) -> str:
    """Shares as a Markdown table."""
    heads = " | ".join(f"gain {gain:g}" for gain in found.columns)
    lines = [f"| | {heads} |", "| --- |" + " ---: |" * found.shape[1]]
    for name, row in zip(found.index, found.to_numpy(), strict=True):
        lines.append(f"| {name} | " + " | ".join(f"{100 * value:.0f} %" for value in row) + " |")
    return "\n".join(lines) + "\n"


def write_claim(
    folder: Path, claim: Claim, measured: pd.DataFrame, again: pd.DataFrame | None
) -> list[tuple[str, str, str, str | None]]:
    """What each question of a claim came to."""
    texts, rows = [], []
    for asked in claim.questions:
        cells = differences(measured, asked)
        word = verdict(cells)
        texts.append(
            f"**{asked.says}** {word.capitalize()}. {sentence(cells, asked)}\n\n{table(cells)}\n"
        )
        other = None if again is None else verdict(differences(again, asked))
        rows.append((claim.title, asked.says, word, other))
    (folder / f"{claim.name}.md").write_text("\n".join(texts))
    return rows


def draw(path: Path, claim: Claim, measured: pd.DataFrame) -> None:
    """The claim's number over widths, and at one width over centres; a row per data set."""
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
