"""The page of a regressor's run: the plain truth first, both series seen, possible from little."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpc.base import records
from hpc.run.paths import RunPaths
from stockpred.data.splits import Split
from stockpred.report.build import build_report
from stockpred.report.format import signed
from stockpred.score import files, forecasts, results
from stockpred.score.compare import BarScores, score_split
from stockpred.score.metrics import EvaluatedModel
from stockpred.score.results import SplitScores
from stockpred.tasks.forecast import figures, report
from tests.stockpred.report.summary.written import outcomes

NORM_STATS = {
    "inputs": "changes",
    "features": {"open": {"mean": 0.00125, "scale": 0.0175}, "volume": {"mean": 0.0, "scale": 0.25}},
    "target": {"of": "simple return of the next close", "mean": 0.0, "scale": 0.01875},
}
DATA_INFO = {
    "source": "files",
    "num_bars": 2500,
    "num_usable_bars": 2345,
    "num_segments": 2,
    "first": "2015-01-01T00:00:00+00:00",
    "last": "2024-06-28T00:00:00+00:00",
    "fold": {"test": [{"from": "2023-01-01T00:00:00", "to": "2024-06-28T00:00:00"}]},
    "windows": {"test": {"windows": 374, "targets": 374}},
}


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    root = tmp_path / "per_stock" / "small-A-0000"
    root.mkdir(parents=True)
    return RunPaths(root)


def fill(
    paths: RunPaths,
    share: float = 0.0,
    num_bars: int = 374,
    symbol: str = "^GSPC",
    noise: float = 0.0005,
    constant: float | None = None,
    is_sealed: bool = False,
) -> SplitScores:
    """Write what a finished run leaves behind, whose forecasts know this share of each return."""
    judged = (Split.VALIDATION,) if is_sealed else (Split.VALIDATION, Split.TEST)
    for split in judged:
        rng = np.random.default_rng(int(split))
        bars = outcomes(symbol, split, num_bars)
        expected = share * bars.realised_return + noise * rng.standard_normal(num_bars)
        if constant is not None:
            expected = constant + 1e-6 * rng.standard_normal(num_bars)
        rivals = (
            BarScores("last_value", "Last value", expected_return=np.zeros(num_bars)),
            BarScores("drift", "Mean training return", expected_return=np.full(num_bars, 0.00132)),
            BarScores("always_up", "Always up", call=np.ones(num_bars)),
        )
        own = BarScores("mlp", "mlp", expected_return=expected)
        fitted = {"drift": {"mean_over_assets": 0.00132}}
        evaluated = EvaluatedModel("mlp", 8449, 40)
        scores = score_split(evaluated, bars, own, rivals, with_prices=True, fitted=fitted)
        scores = files.write(paths, "forecast", scores, forecasts.table(bars, expected), lambda: None)
    paths.config.write_text("task: {name: forecast}\n")
    records.write_json(paths.norm_stats, NORM_STATS)
    records.write_json(paths.data_info, DATA_INFO)
    records.write_json(paths.asset_info, {"assets": [{"symbol": symbol, "category": "index"}]})
    for step in (20, 40):
        row = {"step": step, "epoch": 1.0, "loss": {"model": 1.0}, "validation": {"loss": 1.0}}
        records.append_row(paths.metrics, row)
    return scores


def words(paths: RunPaths) -> str:
    """Return the text of the page, without its style and its pictures."""
    page = re.sub(r"<(style|svg).*?</\1>", " ", build_report(paths).read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ").split())


@pytest.mark.parametrize(
    ("share", "told", "is_good"),
    [
        (0.3, "forecasts the next return better than the last value and the drift do: skill ", True),
        (0.0, "has no skill that can be told from that of every rival (the hardest is ", False),
        (-0.3, "forecasts the next return worse than a rival does (the hardest is ", False),
    ],
)
def test_the_headline_says_in_one_sentence_what_may_be_claimed(
    paths: RunPaths, share: float, told: str, is_good: bool
) -> None:
    scores = fill(paths, share=share)
    said = report.headline("^GSPC", scores, is_synthetic=False)
    assert said.text.startswith(f"On 374 test days of ^GSPC, mlp with 8.4k parameters {told}")
    assert said.is_good == is_good
    interval = scores.pooled.model.skill_interval
    assert interval is not None
    ends = f"(95\u00a0% interval {signed(100 * interval.low, 2)} to {signed(100 * interval.high, 2)}\u00a0%)"
    assert ends in said.text


def test_a_constant_forecast_is_called_one(paths: RunPaths) -> None:
    fill(paths, constant=0.000256)
    told = words(paths)
    assert re.search(r"spread by 0\.0\d+ bp around their mean: always up", told)
    assert "always up" in told


def test_a_best_step_at_the_first_evaluation_is_said(paths: RunPaths) -> None:
    fill(paths)
    assert "The best step is that of the first evaluation" not in words(paths)
    records.write_rows(paths.metrics, records.read_rows(paths.metrics)[1:])
    assert "The best step is that of the first evaluation" in words(paths)


def test_a_sealed_test_is_said_and_validation_speaks(paths: RunPaths) -> None:
    fill(paths, is_sealed=True)
    told = words(paths)
    assert "On 374 validation days of ^GSPC" in told
    assert "The test is sealed." in told
    assert "on which the best step was chosen: that flatters" in told


def test_a_second_look_is_counted_in_the_report(paths: RunPaths) -> None:
    fill(paths)
    assert "look 2" not in words(paths)
    again = RunPaths(paths.root.parent / "another")
    again.root.mkdir()
    fill(again)
    assert "This is look 2 at test bars of these assets and dates" in words(again)


def test_the_page_tells_every_forecaster_on_test_and_validation(paths: RunPaths) -> None:
    test = fill(paths, share=0.1)
    told = words(paths)
    for scores in (test, results.read(paths.validation_results)):
        model, drift, up = scores.pooled.model, *(map(scores.pooled.rival, ("drift", "always_up")))
        assert model.price is not None
        assert drift.skill is not None
        assert f"{scores.split}, us_equity: 374 bars" in told
        assert f"mlp {model.mae_bp:.1f} {signed(100 * (model.skill or 0), 2)}" in told
        assert f"Mean training return {drift.mae_bp:.1f} {signed(100 * drift.skill, 2)}" in told
        assert up.direction is not None
        assert f"{100 * up.direction.share:.1f}" in told
        assert f"{model.price.r_squared:.4f}" in told
    assert "squared error of the return" in told
    assert "Mean training return: mean_over_assets 0.00132" in told


def test_the_page_tells_how_inputs_were_scaled_and_no_tokens(paths: RunPaths) -> None:
    fill(paths)
    told = words(paths)
    assert "open 0.00125 0.0175" in told
    assert "target: simple return of the next close 0 0.01875" in told
    assert "2,345 in 2 stretches without a hole" in told
    assert "token" not in told


@pytest.mark.parametrize("missing", ["predictions", "norm_stats", "data_info", "metrics"])
def test_a_file_that_is_missing_costs_only_its_part(paths: RunPaths, missing: str) -> None:
    fill(paths)
    getattr(paths, missing).unlink()
    assert "mlp with 8.4k parameters" in words(paths)


@pytest.mark.parametrize("content", ["{}", '{"features": [1]}', '{"features": {"open": 3}, "target": null}'])
def test_scaling_of_another_shape_is_left_out(paths: RunPaths, content: str) -> None:
    fill(paths)
    paths.norm_stats.write_text(content)
    assert "standardised by" not in words(paths)


@pytest.mark.parametrize("damaged", ["test_results", "predictions"])
def test_a_damaged_file_is_left_out_with_a_note(paths: RunPaths, damaged: str) -> None:
    fill(paths)
    path = getattr(paths, damaged)
    path.write_bytes(b"{}")
    told = words(paths)
    assert f"Left out: {path.name}" in told
    assert ("On 374 validation days" in told) == (damaged == "test_results")


def test_synthetic_bars_are_said_in_the_headline(paths: RunPaths) -> None:
    fill(paths)
    records.write_json(paths.data_info, {**DATA_INFO, "source": "synthetic"})
    assert "On 374 synthetic test days of ^GSPC" in words(paths)


def test_results_of_a_task_that_does_not_exist_are_left_out_with_a_note(paths: RunPaths) -> None:
    fill(paths)
    paths.config.write_text("task: {name: sorcery}\n")
    told = words(paths)
    assert "Left out: test_results.json, because there is no task 'sorcery'." in told
    assert "no verdict yet" in told


def test_equal_inputs_give_equal_bytes(paths: RunPaths) -> None:
    fill(paths)
    first = build_report(paths).read_bytes()
    assert build_report(paths).read_bytes() == first


def styles(svg: str) -> list[str]:
    """Return the style of each mark of a picture, in the order in which they are drawn."""
    return [mark.get("style", "") for mark in ElementTree.fromstring(svg).iter()]


def test_forecast_and_close_are_two_marks_of_different_colour_and_width(paths: RunPaths) -> None:
    fill(paths)
    predictions = report.read_predictions(paths.predictions)
    svg = report.picture("X", "mlp", predictions, title="X", caption="").svg
    broad = [mark for mark in styles(svg) if figures.BAND in mark and "stroke-width: 4" in mark]
    thin = [mark for mark in styles(svg) if figures.INK in mark and "stroke-width: 0.9" in mark]
    assert styles(svg).index(broad[0]) < styles(svg).index(thin[0])
    lines = [mark for mark in styles(svg) if figures.STILL in mark]
    dots = [mark for mark in styles(svg) if figures.MODEL in mark]
    assert len(lines) >= 374
    assert len(dots) >= 374


def test_a_long_test_shows_its_last_bars_and_says_so(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(paths, num_bars=1000)
    monkeypatch.setattr(report, "MOST_BARS_DRAWN", 900)
    assert "The last 900 of 1,000 test days." in words(paths)
    assert len(pd.read_parquet(paths.predictions)) == 2000


def test_hostile_symbols_stay_text(paths: RunPaths) -> None:
    fill(paths, symbol='<b>"&$x$')
    assert "<b>" not in build_report(paths).read_text()
    assert '<b>"&$x$' in words(paths)
