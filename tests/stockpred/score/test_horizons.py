"""Errors many steps ahead: the published row of LTSF tables to its last digit, and a case by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpc.base.errors import UserError
from stockpred.score.horizons import long_horizon_errors, repeat_last_value

PUBLISHED = {96: (0.081, 0.196), 192: (0.167, 0.289), 336: (0.305, 0.396), 720: (0.823, 0.681)}
"""MSE and MAE of "Repeat" on Exchange (Zeng et al. 2023, table 2), with the last batch of 32 dropped."""
ALL_WINDOWS = {96: (0.0811, 0.1964), 192: (0.1671, 0.2887), 336: (0.3057, 0.3978), 720: (0.8101, 0.6764)}
"""The same over all windows, measured by another program."""


@pytest.fixture(scope="module")
def exchange(real_bars: Path) -> np.ndarray:
    file = real_bars / "exchange_rate.txt.gz"
    if not file.is_file():
        pytest.skip(f"real_bars: there is no {file.name}")
    return np.loadtxt(file, delimiter=",")


@pytest.mark.parametrize("horizon", PUBLISHED)
def test_repeating_the_last_value_gives_the_published_row(exchange: np.ndarray, horizon: int) -> None:
    found = long_horizon_errors(exchange, repeat_last_value, horizon=horizon, drop_last=32)
    assert (found.mse, found.mae) == pytest.approx(PUBLISHED[horizon], abs=1e-3)
    whole = long_horizon_errors(exchange, repeat_last_value, horizon=horizon)
    assert (whole.mse, whole.mae) == pytest.approx(ALL_WINDOWS[horizon], abs=1e-4)
    assert 0 < whole.num_windows - found.num_windows < 32


def test_a_case_done_by_hand() -> None:
    """Ten times of a line: 7 for training (mean 3, deviation 2), 2 for the test, so one window."""
    line = np.arange(10.0)[:, None]
    found = long_horizon_errors(line, repeat_last_value, horizon=2, look_back=3)
    assert found.num_windows == 1
    assert found.mse == pytest.approx((1 / 4 + 4 / 4) / 2)
    assert found.mae == pytest.approx((1 / 2 + 2 / 2) / 2)


def test_a_forecaster_that_knows_the_future_has_no_error() -> None:
    values = np.random.default_rng(0).standard_normal((300, 2)).cumsum(axis=0)
    standard = (values - values[:210].mean(axis=0)) / values[:210].std(axis=0)

    def oracle(known: np.ndarray, horizon: int) -> np.ndarray:
        starts = [np.flatnonzero((standard == window[-1]).all(axis=1))[0] for window in known]
        return np.stack([standard[start + 1 : start + 1 + horizon] for start in starts])

    assert long_horizon_errors(values, oracle, horizon=5, look_back=10).mse == 0.0


def test_too_few_times_are_one_clear_error() -> None:
    with pytest.raises(UserError, match="no test window of 96 known and 720 forecast steps fits 500 times"):
        long_horizon_errors(
            np.random.default_rng(0).standard_normal((500, 1)), repeat_last_value, horizon=720
        )
