"""GARCH(1,1) with Student-t shocks (Bollerslev 1987), fitted for each asset by the library ``arch``.

Parameters are fitted once, on the asset's training returns; the variance is then filtered forward from the
asset's usual one: s2[n] = omega + alpha change[n-1]^2 + beta s2[n-1], the return being s[n] times a Student-t
of unit variance. Returns have no mean here, as in the other rivals that forecast volatility.
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

import numpy as np

from stockpred.data.arrays import Floats
from stockpred.data.splits import Split
from stockpred.score import volatility
from stockpred.score.distributions import StudentT
from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast

LABEL = "GARCH(1,1), Student-t"
KIND = Kind.DISTRIBUTION
MIN_FIT_BARS = 250  # fewer do not tell persistence from level
MIN_DEGREES = 2.1  # at 2, where arch's bound lies, a Student-t has no variance to forecast
MAX_PERSISTENCE = 0.999


class Parameters(NamedTuple):
    """Parameters of one asset; ``omega`` as a share of its usual variance, so that assets compare."""

    omega: float
    alpha: float
    beta: float
    degrees: float


RISKMETRICS = Parameters(omega=0.01, alpha=0.05, beta=volatility.RISKMETRICS_DECAY, degrees=5.0)
"""Where no asset at all can be fitted."""


def available() -> bool:
    """Return whether the optional library ``arch`` is installed."""
    return importlib.util.find_spec("arch") is not None


def forecast(history: History) -> RivalForecast:
    usual_A = history.usual(history.change**2)
    fitted = _fit_assets(history, usual_A)
    omega_A, alpha_A, beta_A, degrees_A = np.array(_for_every_asset(history, fitted)).T
    asset = history.asset
    inputs = (omega_A * usual_A)[asset] + alpha_A[asset] * history.change**2
    variance = history.lagged_recursion(inputs, beta_A, usual_A)
    deviation = volatility.floored(history, np.sqrt(variance))
    degrees = degrees_A[asset]
    distribution = StudentT.around_zero(degrees, deviation * np.sqrt((degrees - 2.0) / degrees))
    return RivalForecast(distribution=distribution, settings=_settings(fitted, history.num_assets))


def fit(returns: Floats, usual_variance: float) -> Parameters | None:
    """Return the likeliest parameters of one asset's training returns; None where ``arch`` finds none.

    Returns are fitted in units of their usual deviation, where the search converges best.
    """
    from arch import arch_model  # optional, see ``available``

    scaled = returns / np.sqrt(usual_variance)
    model = arch_model(scaled, mean="Zero", vol="GARCH", p=1, o=0, q=1, dist="t", rescale=False)
    result = model.fit(disp="off", show_warning=False)
    found = Parameters(*(float(value) for value in result.params))
    is_sound = result.convergence_flag == 0 and np.isfinite(found).all() and found.degrees >= MIN_DEGREES
    return found if is_sound else None


def _fit_assets(history: History, usual_A: Floats) -> dict[int, Parameters]:
    """Return the parameters of the assets that have enough training returns for a fit that converges."""
    is_train = history.is_target(Split.TRAIN)
    fitted = {}
    for asset, rows in history.runs:
        returns = history.change[rows][is_train[rows]]
        if len(returns) < MIN_FIT_BARS or usual_A[asset] < volatility.MIN_VOLATILITY**2:
            continue
        found = fit(returns, float(usual_A[asset]))
        if found is not None:
            fitted[asset] = found
    return fitted


def _for_every_asset(history: History, fitted: dict[int, Parameters]) -> list[Parameters]:
    """Return each asset's parameters; without a fit of its own those of its category, else of all."""
    category_A = history.category_A
    overall = _pooled(list(fitted.values())) if fitted else RISKMETRICS
    pooled = {
        int(category): _pooled(members)
        for category in np.unique(category_A)
        if (members := [found for asset, found in fitted.items() if category_A[asset] == category])
    }
    return [
        fitted.get(asset, pooled.get(int(category_A[asset]), overall)) for asset in range(history.num_assets)
    ]


def _pooled(members: list[Parameters]) -> Parameters:
    """Return the medians over assets, and the omega that targets their variance (Engle and Mezrich 1996)."""
    _, alpha, beta, degrees = np.median(np.array(members), axis=0).tolist()
    beta = min(beta, MAX_PERSISTENCE - alpha)
    return Parameters(1.0 - alpha - beta, alpha, beta, degrees)


def _settings(fitted: dict[int, Parameters], num_assets: int) -> dict[str, float]:
    """Return the medians over the assets, and how many had a fit of their own."""
    medians = np.median(np.array(list(fitted.values()) or [RISKMETRICS]), axis=0).tolist()
    return dict(zip(Parameters._fields, medians, strict=True)) | {
        "assets_fitted": float(len(fitted)),
        "assets": float(num_assets),
    }
