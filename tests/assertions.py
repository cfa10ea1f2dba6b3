"""Assertions on Monte-Carlo output whose tolerance is the Monte-Carlo error itself.

Each one first asks for a large enough effective sample size, without which neither the estimate
nor its error means much, and then for ``|error| < k * MCSE``. The factor k is not a tolerance to be
tuned: it follows from the number of comparisons and from how often a correct sampler may fail.

The probability of a false alarm holds for the whole call. A test that makes several calls should
divide it, or pass the total as ``num_comparisons``.
"""

import numpy as np
from arviz_stats.base import array_stats
from scipy import stats

FALSE_ALARM = 1e-6
# Four chains of 100: below it the MCSE is itself too uncertain (Vehtari et al. 2021).
MIN_ESS = 400


def threshold(num_comparisons, false_alarm=FALSE_ALARM):
    """How many standard errors all of the comparisons stay within, but for `false_alarm`.

    A two-sided Gaussian quantile, by Bonferroni: dependence between comparisons only makes it
    more cautious.
    """
    return float(stats.norm.isf(false_alarm / (2 * num_comparisons)))


def assert_mean(
    draws,
    expected,
    *,
    reference_mcse=0.0,
    min_ess=MIN_ESS,
    false_alarm=FALSE_ALARM,
    num_comparisons=None,
    label="mean",
):
    """Assert that the draws ``(chain, draw, ...)`` have the expected mean.

    Parameters
    ----------
    draws, expected : array_like
        `expected` is broadcast to the dimensions of `draws` after the first two.
    reference_mcse : array_like
        Monte-Carlo error of `expected` where that is an estimate too.
    min_ess : float
        Smallest effective sample size (bulk, and of the mean) that is accepted.
    false_alarm : float
        Probability that correct draws fail.
    num_comparisons : int, optional
        Where one test makes several calls, all of their comparisons; by default this call's.
    """
    __tracebackhide__ = True
    draws = _checked(draws, label)
    _assert_ess(draws, "mean", min_ess, label)
    mcse = array_stats.mcse(draws, chain_axis=0, draw_axis=1, method="mean")
    assert_estimate(
        draws.mean(axis=(0, 1)),
        expected,
        mcse,
        reference_mcse=reference_mcse,
        false_alarm=false_alarm,
        num_comparisons=num_comparisons,
        label=label,
    )


def assert_sd(
    draws,
    expected,
    *,
    reference_mcse=0.0,
    min_ess=MIN_ESS,
    false_alarm=FALSE_ALARM,
    num_comparisons=None,
    label="sd",
):
    """Assert that the draws ``(chain, draw, ...)`` have the expected standard deviation.

    The parameters are those of `assert_mean`. The error is the one that the estimator would have
    if `expected` were true: the relative MCSE of the draws times `expected`. The plain MCSE is
    proportional to the estimated sd, hence too small just where that is too small by chance.
    """
    __tracebackhide__ = True
    draws = _checked(draws, label)
    _assert_ess(draws, "sd", min_ess, label)
    sd = draws.std(axis=(0, 1), ddof=1)
    relative = array_stats.mcse(draws, chain_axis=0, draw_axis=1, method="sd") / sd
    assert_estimate(
        sd,
        expected,
        relative * np.asarray(expected, dtype=np.float64),
        reference_mcse=reference_mcse,
        false_alarm=false_alarm,
        num_comparisons=num_comparisons,
        label=label,
    )


def assert_estimate(
    estimate,
    expected,
    mcse,
    *,
    reference_mcse=0.0,
    false_alarm=FALSE_ALARM,
    num_comparisons=None,
    label="estimate",
):
    """Assert that an estimate with a known standard error meets the expected value.

    For numbers that come with an error of their own, such as a log evidence. The parameters are
    those of `assert_mean`.
    """
    __tracebackhide__ = True
    estimate = np.asarray(estimate, dtype=np.float64)
    expected = np.broadcast_to(np.asarray(expected, dtype=np.float64), estimate.shape)
    error = np.broadcast_to(np.hypot(mcse, reference_mcse), estimate.shape)
    k = threshold(num_comparisons or estimate.size, false_alarm)
    off = np.abs(estimate - expected)
    # Written so that NaN anywhere fails.
    wrong = ~(off < k * error)
    if np.any(wrong):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.nan_to_num(off / error, nan=np.inf)
        worst = np.unravel_index(np.argmax(ratio), estimate.shape)
        raise AssertionError(
            f"{label}: {np.count_nonzero(wrong)} of {estimate.size} not within {k:.2f} standard "
            f"errors; the worst{_place(worst)} is {estimate[worst]:.6g}, expected "
            f"{expected[worst]:.6g}: {ratio[worst]:.2f} standard errors of {error[worst]:.3g}"
        )


def _checked(draws, label):
    """The draws in float64, once they are known to vary and to be finite."""
    __tracebackhide__ = True
    # Autocovariances lose too much in float32.
    draws = np.asarray(draws, dtype=np.float64)
    if draws.ndim < 2 or draws.size == 0:
        raise ValueError(f"expected draws (chain, draw, ...), got shape {draws.shape}")
    if not np.all(np.isfinite(draws)):
        raise AssertionError(f"{label}: {np.count_nonzero(~np.isfinite(draws))} draws not finite")
    stuck = np.ptp(draws, axis=(0, 1)) == 0
    if np.any(stuck):
        # ArviZ calls the ESS of constant draws their number, so the gate would let them pass.
        raise AssertionError(f"{label}: {np.count_nonzero(stuck)} of {stuck.size} never move")
    return draws


def _assert_ess(draws, method, min_ess, label):
    __tracebackhide__ = True
    for kind in ("bulk", method):
        ess = np.asarray(array_stats.ess(draws, chain_axis=0, draw_axis=1, method=kind))
        if not np.all(ess >= min_ess):
            worst = np.unravel_index(np.argmin(np.nan_to_num(ess, nan=-1.0)), ess.shape)
            raise AssertionError(
                f"{label}: too few effective draws to judge: the {kind} ESS{_place(worst)} is "
                f"{ess[worst]:.0f}, at least {min_ess:.0f} are asked for "
                f"({draws.shape[0]} chains of {draws.shape[1]} draws)"
            )


def _place(index):
    return f" (at {', '.join(str(int(i)) for i in index)})" if index else ""
