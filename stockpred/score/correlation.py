"""Correlation across assets at each time: the information coefficient (IC) and its rank version."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stockpred.score.metrics import Floats, Integers

MIN_ASSETS = 5
"""Fewer assets at a time have no cross-section."""


@dataclass(frozen=True)
class Correlation:
    """Mean cross-sectional correlation per date; ``ratio`` is mean over standard deviation (ICIR)."""

    mean: float
    ratio: float
    t: float
    num_dates: int


def information_coefficient(
    prediction: Floats, outcome: Floats, time: Integers, *, ranked: bool, min_assets: int = MIN_ASSETS
) -> Correlation | None:
    """Average the correlation across assets at each time; t by Newey-West; ties share their mean rank.

    See ``by_time`` for the times that are left out. None where fewer than two times are left, or all have the
    same correlation.
    """
    return averaged(by_time(prediction, outcome, time, ranked=ranked, min_assets=min_assets))


def averaged(correlations: pd.Series) -> Correlation | None:
    """Average correlations by time; None where there are fewer than two, or all are the same."""
    daily = correlations.to_numpy(np.float64)
    spread = float(daily.std(ddof=1)) if len(daily) > 1 else 0.0
    if spread == 0.0:
        return None
    error = math.sqrt(long_run_variance(daily, automatic_lags(len(daily))) / len(daily))
    mean = float(daily.mean())
    return Correlation(mean, mean / spread, mean / error, len(daily))


def by_time(
    prediction: Floats, outcome: Floats, time: Integers, *, ranked: bool, min_assets: int = MIN_ASSETS
) -> pd.Series:
    """Return the correlation across assets at each time, indexed by it; ties share their mean rank.

    Times with fewer than ``min_assets`` assets, or where one side is constant, have no correlation and are
    left out.
    """
    frame = pd.DataFrame({"time": time, "prediction": prediction, "outcome": outcome})
    grouped = frame.groupby("time", sort=True)
    if ranked:
        frame[["prediction", "outcome"]] = grouped[["prediction", "outcome"]].rank()
        grouped = frame.groupby("time", sort=True)
    return _correlations(frame, grouped["outcome"].transform("size").to_numpy() >= min_assets)


def _correlations(frame: pd.DataFrame, is_wide: NDArray[np.bool_]) -> pd.Series:
    kept = frame[is_wide]
    centred = kept[["prediction", "outcome"]] - kept.groupby("time")[["prediction", "outcome"]].transform(
        "mean"
    )
    products = pd.DataFrame(
        {
            "time": kept["time"],
            "covariance": centred["prediction"] * centred["outcome"],
            "prediction": centred["prediction"] ** 2,
            "outcome": centred["outcome"] ** 2,
        }
    )
    sums = products.groupby("time", sort=True).sum()
    # A constant cross-section leaves rounding dust instead of zero.
    varies = (sums["prediction"] > 1e-24) & (sums["outcome"] > 1e-24)
    sums = sums[varies]
    daily: pd.Series = sums["covariance"] / np.sqrt(sums["prediction"] * sums["outcome"])
    return daily


def automatic_lags(num_values: int) -> int:
    """Return the bandwidth floor(4 (n / 100)^(2/9)) of Newey and West (1994)."""
    return min(math.floor(4.0 * math.pow(num_values / 100.0, 2.0 / 9.0)), max(num_values - 1, 0))


def long_run_variance(values: Floats, num_lags: int) -> float:
    """Return the Bartlett-weighted variance of Newey and West (1987) of a series around its mean."""
    from statsmodels.stats.sandwich_covariance import S_hac_simple

    centred = values - values.mean()
    return float(S_hac_simple(centred, nlags=num_lags)[0, 0]) / len(values)
