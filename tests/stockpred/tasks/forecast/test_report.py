"""The page of a regressor's run: the plain truth first, both series seen, possible from little."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpc.base import records
from hpc.run.paths import RunPaths
from stockpred.report.build import build_report
from stockpred.report.format import signed
from stockpred.score.inference import Estimate
from stockpred.score.metrics import EvaluatedModel
from stockpred.tasks.forecast import figures, report
from stockpred.tasks.forecast.evaluate import Forecasts, evaluate_test
from stockpred.tasks.forecast.results import ForecastResults

DAY_NS = 86_400_000_000_000
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
    paths: RunPaths, share: float = 0.0, num_bars: int = 374, symbol: str = "^GSPC", noise: float = 0.0
) -> ForecastResults:
    """Write what a finished run leaves behind, whose forecasts know this share of each return."""
    rng = np.random.default_rng(0)
    returns = 0.02 * rng.standard_normal(num_bars)
    close = 100.0 * np.cumprod(1.0 + returns)
    previous = close / (1.0 + returns)
    time = np.datetime64("2023-01-03", "ns").astype(np.int64) + np.arange(num_bars) * DAY_NS
    forecast = previous * (1.0 + share * returns + noise * rng.standard_normal(num_bars))
    found = evaluate_test(
        Forecasts(symbol, "index", time, previous, close, forecast),
        drift=0.00132,
        paths=paths,
        evaluated=EvaluatedModel("mlp", 8449, 40),
    )
    paths.config.write_text("task: {name: forecast}\n")
    records.write_json(paths.norm_stats, NORM_STATS)
    records.write_json(paths.data_info, DATA_INFO)
    records.append_row(paths.metrics, {"step": 40, "epoch": 1.0, "loss": {"model": 1.0}})
    return found


def words(paths: RunPaths) -> str:
    """Return the text of the page, without its style and its pictures."""
    page = re.sub(r"<(style|svg).*?</\1>", " ", build_report(paths).read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ").split())


def test_the_headline_says_in_one_sentence_that_there_is_no_skill_and_how_sure_that_is(
    paths: RunPaths,
) -> None:
    found = fill(paths, share=0.001, noise=0.0003)
    interval = found.model.skill_interval
    assert interval is not None
    assert found.model.skill is not None
    said = report.headline(found, is_synthetic=False).text.replace("\u00a0", " ").replace("\u2212", "-")
    assert said == (
        "On 374 test days of ^GSPC, mlp with 8.4k parameters has no skill against the last close that can be "
        f"told from zero: skill {100 * found.model.skill:.2f} % (95 % interval {100 * interval.low:.2f} to "
        f"{100 * interval.high:.2f} %)."
    )


@pytest.mark.parametrize(
    ("low", "high", "told", "is_good"),
    [
        (0.001, 0.02, "beats the last close", True),
        (-0.001, 0.02, "has no skill against the last close that can be told from zero", False),
        (-0.02, -0.001, "is worse than the last close", False),
    ],
)
def test_the_verdict_follows_the_interval(
    paths: RunPaths, low: float, high: float, told: str, is_good: bool
) -> None:
    found = fill(paths)
    skill = (low + high) / 2
    model = replace(found.model, skill=skill, skill_interval=Estimate(skill, 0.01, low, high, 0.5, 374))
    said = report.headline(replace(found, model=model), is_synthetic=False)
    assert said.text.startswith(f"On 374 test days of ^GSPC, mlp with 8.4k parameters {told}: skill ")
    assert said.is_good == is_good


def test_the_page_tells_every_forecaster_beside_each_other(paths: RunPaths) -> None:
    found = fill(paths, share=0.1)
    told = words(paths)
    still, up = found.rival("persistence"), found.rival("always_up").direction
    assert f"mlp {found.model.mse_price:.3f} {found.model.mae_price:.3f} {found.model.r2_price:.4f}" in told
    assert f"persistence {still.mse_price:.3f} {still.mae_price:.3f} {still.r2_price:.4f} 0.00 \u2013" in told
    assert still.mse_return is not None
    assert f"persistence {1e4 * still.mse_return:.3f}" in told
    assert up is not None
    assert f"always-up \u2013 \u2013 \u2013 \u2013 {100 * up.share:.1f}" in told
    assert f"R\u00b2 on prices is {still.r2_price:.4f} here for doing nothing" in told
    assert "drift" in told
    assert "0.132 % per bar" in told
    drift = found.rival("drift").skill
    assert drift is not None
    assert f"added to each last close, has skill {signed(100 * drift, 2)} % (95 % interval" in told


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
    assert ("no verdict yet" in told) == (damaged == "test_results")


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
    found = fill(paths, share=0.0)
    predictions = report.read_predictions(paths.predictions)
    svg = report.picture(found, predictions, title="X", caption="").svg
    broad = [mark for mark in styles(svg) if figures.BAND in mark and "stroke-width: 4" in mark]
    thin = [mark for mark in styles(svg) if figures.INK in mark and "stroke-width: 0.9" in mark]
    assert styles(svg).index(broad[0]) < styles(svg).index(thin[0])
    lines = [mark for mark in styles(svg) if figures.STILL in mark]
    dots = [mark for mark in styles(svg) if figures.MODEL in mark]
    assert len(lines) >= 374
    assert len(dots) >= 374


def test_a_long_test_shows_its_last_bars_and_says_so(paths: RunPaths) -> None:
    fill(paths, num_bars=1234)
    assert "The last 1,000 of 1,234 test days." in words(paths)
    short = pd.read_parquet(paths.predictions)
    assert len(short) == 1234


def test_hostile_symbols_stay_text(paths: RunPaths) -> None:
    fill(paths, symbol='<b>"&$x$')
    assert "<b>" not in build_report(paths).read_text()
    assert '<b>"&$x$' in words(paths)
