"""The rivals on the real bars of the crypto case, beside figures that others measured on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hpc.base import yamlfile
from stockpred.config.base import DataConfig
from stockpred.data import universe
from stockpred.data.load import load_checked_bars
from stockpred.data.splits import Split
from stockpred.score import rival
from stockpred.score.history import History

CASES = Path(__file__).resolve().parents[3] / "cases"
PATH = CASES / "crypto" / "universe.csv"


@pytest.fixture(scope="module")
def history(real_bars: Path) -> History:
    """Return the log returns of twenty coins, as the figures are of those."""
    settings = yamlfile.plain(yamlfile.load(CASES / "_base" / "config.yaml"))["data"]
    places = {"dir": str(real_bars), "universe": str(PATH)}
    bars = load_checked_bars(DataConfig.model_validate(settings | places), universe.read(PATH))
    found = History.of(bars.checked, bars.split, np.zeros(len(bars.split), np.int64))
    return replace(found, change=np.log1p(found.change))


def scores(name: str, history: History) -> tuple[float, float]:
    """Return mean CRPS in basis points and mean log score in nats on the test."""
    targets = history.targets(Split.TEST)
    distribution = rival.load(name).forecast(history).distribution
    assert distribution is not None
    outcome = history.change[targets]
    density = distribution.at(targets).log_density(outcome)
    assert density is not None
    return 1e4 * float(distribution.at(targets).crps(outcome).mean()), float(density.mean())


def test_the_shape_of_returns_beats_the_normal_and_both_score_as_measured_before(history: History) -> None:
    normal, shape = scores("ewma_normal", history), scores("ewma_shape", history)
    assert normal[0] == pytest.approx(238.4, abs=2.0)
    assert shape[0] == pytest.approx(236.9, abs=2.0)
    assert shape[0] < normal[0]
    assert shape[1] > normal[1]


def test_ranges_by_day_week_and_month_beat_closes(history: History) -> None:
    har, shape = scores("har", history), scores("ewma_shape", history)
    assert har[0] < shape[0]
    assert har[1] > shape[1]
