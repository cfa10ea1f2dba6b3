"""Does it matter where a prior sits? One network, one test set, seven fits.

The training rows of scikit-learn's diabetes data are halved. The first half only teaches weights.
Every fit sees the other half: a MAP without any prior, and MAP and posterior under three priors of
one width. These are centred at zero, at the weights that the first half taught, and at a random
point as far away. Table, fits (netCDF, for ArviZ) and figures go to ``demo_output/``.

    python examples/compare_priors.py             # a minute on two cores
"""

import warnings
from pathlib import Path

import experiments as ex
import numpy as np
import pandas as pd

import weightprior as wp

PAIRS = [("MAP[zero]", "flat MAP"), ("MAP[learned]", "MAP[zero]"), ("MAP[random]", "MAP[zero]")]
PAIRS += [(f"posterior[{center}]", "posterior[zero]") for center in ("learned", "random")]
PAIRS += [(f"posterior[{center}]", f"MAP[{center}]") for center in ("zero", "learned", "random")]


def main(folder: Path, gain: float = 1.0, seed: int = 0, quick: bool = False) -> pd.DataFrame:
    """Fit, compare, draw, and save everything."""
    test, fitted, other = ex.shuffled(ex.diabetes(), [110, 166], seed)
    fitted, other, test = ex.standardised(fitted, other, test)
    bnn = wp.BNN(wp.mlp(fitted.x.columns, hidden=(16,)), ex.likelihood(fitted))
    data, priors = (bnn, fitted.x, fitted.y), three_priors(bnn, other, gain, seed)
    with warnings.catch_warnings():
        # Without a prior there may be no optimum, as weights can grow for ever. The table tells.
        warnings.filterwarnings("ignore", message="fit_map: the best restart did not reach")
        flat = wp.fit_map(*data, prior=wp.normal_prior(bnn, scale=np.inf))
    maps = ex.spread(wp.fit_map)(*data, prior=priors)
    lengths = ex.chains(100, 100) if quick else {}
    posteriors = ex.spread(wp.fit_mcmc)(*data, prior=priors, **lengths)
    fits = {"flat MAP": flat, "MAP": maps, "posterior": posteriors}
    table = wp.compare(bnn, fits, test.x, test.y, baseline="MAP[zero]")
    ex.show("Priors, and log densities in nats per row:", table.loc[:, "loc":"test_diff_se"])
    ex.show("Overfitting, errors, leave-one-out:", table.loc[:, "gap":"elpd_loo_se"])
    ex.show("Reasons to trust a fit, and its weights:", table.loc[:, "max_pareto_k":"seconds"])
    rows = {"flat MAP": wp.score(bnn, flat, test.x, test.y)["elpd_i"].to_series()}
    for method, fit in {"MAP": maps, "posterior": posteriors}.items():
        for center, scores in wp.score(bnn, fit, test.x, test.y)["elpd_i"].groupby("prior"):
            rows[f"{method}[{center}]"] = scores.squeeze("prior").to_series()
    ex.say("Differences in nats per test row, with the standard error over these rows:")
    for one, other in PAIRS:
        print(f"{one} against {other}: {ex.judged(rows[one] - rows[other])}")

    table.to_csv(folder / "table.csv")
    for name, fit in fits.items():
        fit.to_netcdf(folder / f"{name.replace(' ', '_')}.nc")
    # The flat MAP is so much worse that the others would have no room.
    plots = {"comparison": wp.plots.plot_comparison(table.drop("flat MAP"), width=120)}
    plots["weights"] = wp.plots.plot_weights(bnn, posteriors, width=120)
    # Along one input, with all others at their means.
    bmi, known = fitted.x["bmi"], {"x_data": fitted.x["bmi"], "y_data": fitted.y}
    grid = (0 * fitted.x).assign(bmi=np.linspace(bmi.min(), bmi.max(), len(bmi)))
    found = wp.predict(bnn, posteriors, grid)
    plots["predictions"] = wp.plots.plot_predictive(found, grid["bmi"], **known, width=170)
    for name, axes in plots.items():
        axes[0].figure.savefig(folder / f"{name}.png", dpi=150)
    return table


def three_priors(bnn: wp.BNN, other: ex.Data, gain: float, seed: int) -> wp.NormalPrior:
    """Put priors of one width around zero, around learned weights, and around a random point."""
    scale, rng = wp.fan_in_scale(bnn, gain), np.random.default_rng(seed)
    zero = wp.normal_prior(bnn, scale=scale)
    learned = wp.normal_prior(bnn, wp.fit_map(bnn, other.x, other.y, prior=zero), scale)
    point = {site: rng.normal(size=loc.shape) for site, loc in learned.loc.items()}
    lengths = {site: np.linalg.norm(loc) for site, loc in learned.loc.items()}
    point = {site: at * lengths[site] / np.linalg.norm(at) for site, at in point.items()}
    random = wp.normal_prior(bnn, point, scale)
    return wp.stack_priors({"zero": zero, "random": random, "learned": learned})


if __name__ == "__main__":
    ex.run(main, gain=1.0)
