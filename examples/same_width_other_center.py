"""Same width, other centre: does a prior's place matter, or its width alone?

A Gaussian prior of some width is said to limit a network as much wherever it sits. Networks of
tanh, sigmoid and relu units are fitted to 40 rows of four real data sets, and of a teacher: a
network drawn from the prior around zero. Each is fitted as MAP and by its posterior, under priors
of one width around zero and six other centres. One is the reference: the MAP of 40 other rows, or
the truth of the teacher. Others are a random point as far away, the reference's numbers in other
places, minus the reference, half of it and one and a half. Log densities of all other rows are
compared with those under the prior around zero, split by split.

    python examples/same_width_other_center.py             # a few minutes on two cores
"""

from pathlib import Path

import experiments as ex
import pandas as pd

import weightprior as wp

STYLES = {"tanh": (ex.BLUE, "o"), "sigmoid": (ex.ORANGE, "s"), "relu": (ex.GREEN, "^")}
CENTERS, BETWEEN = ["zero", "reference", "random", "permuted", "mirrored"], (0.5, 1.5)


def main(folder: Path, splits: int, seed: int, gain: float = 1.0, quick: bool = False):
    """Fit around every centre; print, draw and return the means over splits."""
    names, units = (["penguins", "teacher"], ["tanh"]) if quick else ([*ex.REAL, "teacher"], STYLES)
    seeds = range(seed, seed + splits)
    measured = ex.repeat(of_split, [gain, quick], seeds, data=names, units=units)
    differences = ex.gains(measured[["elpd"]], "center", "zero")
    table = ex.summarise(measured[["elpd", "gap"]].assign(gain=differences))
    by_center = measured.groupby(level=table.index.names)
    table = table.join(by_center["rhat"].max()).join(by_center["converged"].mean())
    table.to_csv(folder / "same_width_other_center.csv")

    text = ex.cells(table, "gain").where(table["gain_se"] > 0, ex.cells(table, "elpd", ""))
    title = "Held-out nats per row around zero, and the difference from it around other centres"
    ex.show(f"{title} ({ex.OVER_SPLITS}):", text.unstack("center", sort=False))
    for fit, part in table.groupby(level="fit"):
        zero, *others = (part.xs(center, level="center") for center in CENTERS)
        counts = [f"{c} {ex.tally(o, 'gain')}" for c, o in zip(CENTERS[1:], others, strict=True)]
        gaps = part["gap"].groupby(level="center", sort=False).mean().head(3)
        ex.say(
            f"{fit}, of {len(zero)} networks against zero: {'; '.join(counts)}. Nats per row by "
            "which fitted rows are better than others: "
            + ", ".join(f"{gap:.3f} around {center}" for center, gap in gaps.items())
            + "."
        )
    reached = table["converged"].groupby(level="units").mean().map("{:.0%}".format)
    shares = ", ".join(f"{share} of {unit}" for unit, share in reached.items())
    ex.say(f"Largest R-hat {table['rhat'].max():.2f}. MAPs whose gradient vanished: {shares}.")
    panels = ex.panels(
        table.drop("zero", level="center"), "gain", "units", ["data", "fit"], "{}, {}"
    )
    label = f"{ex.NATS}, against the prior around zero"
    path = folder / "same_width_other_center.png"
    ex.draw(path, panels, list(STYLES.values()), label=label)
    return table


def of_split(name: str, units: str, seed: int, gain: float, quick: bool) -> pd.DataFrame:
    """Score MAP and posterior around every centre, on one split or teacher."""
    bnn, reference, fitted, test = ex.case(name, ex.perceptron(units), gain, seed)
    scale = wp.fan_in_scale(bnn, gain)
    matched = wp.matched_centers(bnn, reference, scale=scale, rng_key=seed)
    line = wp.center_path(bnn, reference, BETWEEN, scale=scale)
    priors = {c: matched[c] for c in CENTERS} | {f"{f:g}": line[f] for f in BETWEEN}
    data = {"x": fitted.x, "y": fitted.y, "prior": wp.stack_priors(priors), "rng_key": seed}
    chains = ex.chains(50, 50) if quick else ex.chains(200, 250)
    fits = {"MAP": ex.optima(bnn, **data), "posterior": ex.short_chains(bnn, **data, **chains)}
    found = {fit: ex.scored(bnn, made, test, pd.Index(priors)) for fit, made in fits.items()}
    for fit, made in fits.items():
        found[fit]["gap"] = ex.held_out(bnn, made, *fitted[:2]) - found[fit]["elpd"]
    return pd.concat(found, names=["fit", "center"])


if __name__ == "__main__":
    ex.run(main, splits=5, gain=1.0)
