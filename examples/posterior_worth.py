"""Is the posterior worth it? Weight decay at its best against the posterior, on held-out rows.

Small networks are fitted to 30 and 120 rows of four real data sets, under priors around zero of
several widths: their gains. One gain is chosen by ten-fold cross-validation of the MAP (`cv`), one
by the highest evidence, and one is the largest, as if nothing had been tuned (`wide`). On all other
rows posteriors, and an ensemble of ten optima, are compared with the MAP under the first.

    python examples/posterior_worth.py             # about a quarter of an hour on two cores
"""

from pathlib import Path

import experiments as ex
import numpy as np
import pandas as pd

import weightprior as wp

NUMBERS, CLASSES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0), (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
SIGNS = {"elpd": 1, "error": -1, "calibration_error": -1}


def main(folder: Path, splits: int, seed: int, quick: bool = False) -> pd.DataFrame:
    """Fit every split in every way; print, draw and return the means."""
    names, counts = (["penguins"], [20]) if quick else (list(ex.REAL), [30, 120])
    measured = ex.repeat(of_split, [quick], range(seed, seed + splits), data=names, rows=counts)
    chosen, scores = measured.xs("chosen", level="gain"), [*SIGNS, "coverage"]
    table = ex.summarise(chosen[scores].join(ex.gains(chosen[scores], "way", "MAP, cv")))
    by_way = chosen.groupby(level=table.index.names, sort=False)
    table = table.assign(scale=2 ** by_way["log2_gain"].mean(), diff=ex.cells(table, "elpd_gain"))
    table["seconds"] = by_way["seconds"].apply(lambda s: s.iloc[1:].median())  # the first compiles
    table = table.join(by_way.agg({"rhat": "max", "doubtful": "mean"}))
    table.to_csv(folder / "posterior_worth.csv")
    text = table[["scale", "elpd", "diff", *scores[1:], "seconds"]]
    ex.show(f"Scores of held-out rows ({ex.OVER_SPLITS}):", text)
    told = [f"Largest R-hat {table.rhat.max():.3f}; evidence in doubt: {table.doubtful.max():.0%}."]
    for way, part in table.drop("MAP, cv", level="way").groupby(level="way", sort=False):
        said = [f"{s} {ex.tally(part, f'{s}_gain', sign)}" for s, sign in SIGNS.items()]
        told.append(f"'{way}' against 'MAP, cv', of {len(part)} cases: {'; '.join(said)}.")
    ex.say(*told)
    ex.write_tables(folder / "posterior_worth.md", text, ["data", "rows"], "{}, {} rows", told)
    path = ex.summarise(measured[["elpd"]].drop("chosen", level="gain"))
    panels = ex.panels(path, "elpd", "way", ["data", "rows"], "{}, {} rows")
    ex.draw(folder / "posterior_worth.png", panels, ex.MAP_AND_POSTERIOR, "gain", depth=1.3)
    return table


def of_split(name: str, rows: int, seed: int, quick: bool) -> pd.DataFrame:
    """Score every way to fit one split, and MAP and posterior under every gain."""
    fitted, test = ex.standardised(*ex.shuffled(ex.REAL[name](), [rows], seed))
    bnn = wp.BNN(ex.perceptron("tanh")(fitted), ex.likelihood(fitted))
    gains = (0.5, 2.0) if quick else CLASSES if fitted.num_classes else NUMBERS
    path = wp.stack_priors({g: wp.normal_prior(bnn, scale=wp.fan_in_scale(bnn, g)) for g in gains})
    ladder = {"num_temperatures": 4, "num_samples": 20, "num_chains": 4} if quick else {}
    chains = ex.chains(50, 50) if quick else ex.chains(300, 500, 4)
    data = {"bnn": bnn, "x": fitted.x, "y": fitted.y, "rng_key": seed}
    search, cv = ex.timed(wp.cross_validate, **data, prior=path, fit=ex.spread(ex.few_starts))
    best, widest = search["best"].item(), gains[-1]
    tempered, climb = ex.timed(ex.ladders, **data, prior=path, **ladder)
    ensemble, more = ex.timed(wp.fit_ensemble, **data, prior=path[best], anchored=False)
    sampled, draw = ex.timed(ex.short_chains, **data, prior=path[best], **chains)
    optima = ex.optima(**data, prior=path)
    maps, posteriors = wp.unstack_fit(optima), wp.unstack_fit(tempered)
    likely = wp.log_evidence(tempered)["log_evidence"].idxmax().item()
    ways = {
        ("MAP, cv", "chosen"): (maps[best], best, cv),
        ("ensemble, cv", "chosen"): (ensemble, best, cv + more),
        ("posterior, cv", "chosen"): (sampled, best, cv + draw),
        ("posterior, evidence", "chosen"): (posteriors[likely], likely, climb),
        ("MAP, wide", "chosen"): (maps[widest], widest, np.nan),
        ("posterior, wide", "chosen"): (posteriors[widest], widest, np.nan),
    }
    ways |= {("MAP", gain): (fit, gain, np.nan) for gain, fit in maps.items()}
    ways |= {("posterior", gain): (fit, gain, np.nan) for gain, fit in posteriors.items()}
    scores = [ex.all_scores(bnn, fit, test, gain, seconds) for fit, gain, seconds in ways.values()]
    return pd.DataFrame(scores, pd.MultiIndex.from_tuples(ways, names=["way", "gain"]))


if __name__ == "__main__":
    ex.run(main, splits=6)
