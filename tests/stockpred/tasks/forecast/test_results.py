"""What is written is what is read, and what is not a result is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from stockpred.score.inference import Estimate, Proportion
from stockpred.score.metrics import EvaluatedModel
from stockpred.tasks.forecast import results as results
from stockpred.tasks.forecast.results import ForecastResults, ForecastScores

NOTHING = (None,) * 11


def example() -> ForecastResults:
    interval = Estimate(-0.01, 0.005, -0.02, 0.0, 0.05, 374)
    row = ForecastScores(
        "mlp", "mlp", 5.7, 1.8, 0.98, 2e-4, 0.01, -0.02, -0.01, interval, interval, -0.01, interval,
        Proportion(0.5, 0.45, 0.55, 373),
    )  # fmt: skip
    up = ForecastScores("always_up", "always-up", *NOTHING, Proportion(0.54, 0.49, 0.59, 373))
    return ForecastResults(
        EvaluatedModel("mlp", 8449, 40),
        "AAPL",
        "us_equity",
        374,
        374,
        "2023-01-03",
        "2024-06-28",
        0.001,
        row,
        (up,),
    )


def test_what_is_written_is_read_again_bit_for_bit(tmp_path: Path) -> None:
    results.write(tmp_path / "test_results.json", example())
    assert results.read(tmp_path / "test_results.json") == example()


def test_the_file_is_plain_json_that_names_every_figure(tmp_path: Path) -> None:
    results.write(tmp_path / "test_results.json", example())
    plain = json.loads((tmp_path / "test_results.json").read_text())
    assert plain["symbol"] == "AAPL"
    assert plain["model"]["skill"] == -0.01
    assert (plain["model"]["skill_interval"]["low"], plain["rivals"][0]["skill"]) == (-0.02, None)


def test_a_file_without_one_figure_is_refused(tmp_path: Path) -> None:
    results.write(tmp_path / "test_results.json", example())
    plain = json.loads((tmp_path / "test_results.json").read_text())
    del plain["model"]["r2_return"]
    (tmp_path / "test_results.json").write_text(json.dumps(plain))
    with pytest.raises(ValidationError):
        results.read(tmp_path / "test_results.json")
