"""Runs side by side: the right runs, the right figures, no claim that luck explains."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpc.base import records
from hpc.base.errors import ExitCode, UserError
from hpc.run.paths import RunPaths
from stockpred.report.build import build_report
from stockpred.report.summary.build import summarise
from stockpred.score import inference
from stockpred.score import results as results_file
from stockpred.score.compare import SQUARED_ERROR
from tests.stockpred.report.summary.written import (
    DRIFT,
    gathered,
    judged_rows_of,
    page_of,
    rows_of,
    table_of,
    text_of,
    without_results,
    write_run,
)

COLUMNS = [
    *("subject", "forecaster", "settings", "seed", "run_id", "split", "group", "is_unseen"),
    *("num_bars", "num_dates", "num_assets", "first_time", "last_time", "best_step"),
    *("nats", "crps_bp", "log_loss", "mae_bp", "rmse_bp", "skill", "spread_bp", "direction"),
    *("coverage_50", "coverage_80", "coverage_90", "ic", "rank_ic", "rank_ic_t"),
    *("mse_price", "mae_price", "r2_price"),
    *("crps_bp_difference", "crps_bp_low", "crps_bp_high", "crps_bp_p_value"),
    *("log_loss_difference", "log_loss_low", "log_loss_high", "log_loss_p_value"),
    *("squared_error_difference", "squared_error_low", "squared_error_high", "squared_error_p_value"),
    *("nats_difference", "nats_low", "nats_high", "nats_p_value"),
    *("rank_ic_difference", "rank_ic_low", "rank_ic_high", "rank_ic_p_value"),
    "corrected_p",
]
FORECASTERS = ("last_value", "drift", "always_up")


def test_the_csv_has_each_runs_model_then_its_rivals_in_full_precision(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, "AAPL", model="mlp"),
        write_run(tmp_path, "^GSPC"),
        write_run(tmp_path, "AAPL", model="dlinear"),
    ]
    assert summarise(runs, tmp_path / "out" / "sum").exit_code == ExitCode.OK
    assert list(rows_of(tmp_path / "out" / "sum")[0]) == COLUMNS
    rows = judged_rows_of(tmp_path / "out" / "sum")
    assert [(row["subject"], row["forecaster"]) for row in rows] == [
        *(("AAPL", name) for name in ("dlinear", *FORECASTERS)),
        *(("AAPL", name) for name in ("mlp", *FORECASTERS)),
        *(("^GSPC", name) for name in ("mlp", *FORECASTERS)),
    ]
    found = results_file.read(RunPaths(runs[0]).test_results).pooled
    mlp, still, drift, up = rows[4:8]
    model, against = found.model, found.rival("drift")
    assert model.price is not None
    assert against.price is not None
    assert drift["mse_price"] == repr(against.price.mse)
    assert up["direction"] == repr(found.rival("always_up").direction.share)  # type: ignore[union-attr]
    assert (mlp["run_id"], mlp["num_bars"], mlp["last_time"]) == (runs[0].name, "300", "2023-10-28")
    assert (mlp["mse_price"], mlp["r2_price"]) == (repr(model.price.mse), repr(model.price.r_squared))
    for name in ("mae_bp", "rmse_bp", "skill", "spread_bp"):
        assert mlp[name] == repr(getattr(model, name))
    claim = found.claim(SQUARED_ERROR)
    assert claim is not None
    difference = claim.differences["drift"]
    assert difference is not None
    for name in ("low", "high", "p_value"):
        assert drift[f"squared_error_{name}"] == repr(getattr(difference, name))
    assert (still["run_id"], still["best_step"], still["skill"]) == (runs[0].name, "", "0.0")
    assert (up["mse_price"], up["skill"], up["squared_error_difference"]) == ("", "", "")


def test_figures_and_differences_are_those_of_the_predictions(tmp_path: Path) -> None:
    run = write_run(tmp_path, "A", share=0.01)
    summarise([run], tmp_path / "sum")
    for split in ("test", "validation"):
        model, _, drift, _ = (row for row in rows_of(tmp_path / "sum") if _is_pooled(row, split))
        table = pd.read_parquet(RunPaths(run).predictions)
        table = table[table["split"] == split]
        error = (table["expected_return"] - table["realised_return"]).to_numpy()
        outcome = table["realised_return"].to_numpy()
        assert float(model["mae_bp"]) == pytest.approx(1e4 * np.abs(error).mean())
        assert float(model["skill"]) == pytest.approx(1 - (error**2).mean() / (outcome**2).mean())
        loss = 1e4 * (error**2 - (DRIFT - outcome) ** 2)
        expected = inference.mean_by_group(loss, np.arange(len(loss)))
        assert expected is not None
        found = [float(drift[f"squared_error_{name}"]) for name in ("difference", "low", "high", "p_value")]
        assert found == pytest.approx([expected.mean, expected.low, expected.high, expected.p_value])


def _is_pooled(row: dict[str, str], split: str) -> bool:
    return (row["group"], row["split"]) == ("all", split)


def test_the_newest_run_of_an_asset_and_model_counts_and_the_other_is_named(tmp_path: Path) -> None:
    old = write_run(tmp_path, "AAPL", run_id="first", share=0.3, written=1_000)
    new = write_run(tmp_path, "AAPL", run_id="second", written=2_000)
    told = summarise([new, old], tmp_path / "sum").text
    assert {row["run_id"] for row in rows_of(tmp_path / "sum")} == {"second"}
    assert "left out: AAPL mlp (first), older than second" in told
    assert "AAPL mlp (first), older than second." in text_of(tmp_path / "sum")


def test_a_run_that_was_scored_on_other_bars_than_the_newest_is_left_out_and_named(tmp_path: Path) -> None:
    old = write_run(tmp_path, "AAPL", model="lstm", num_bars=250, written=1_000)
    new = write_run(tmp_path, "AAPL", model="mlp", written=2_000)
    same = write_run(tmp_path, "AAPL", model="dlinear", written=1_500)
    told = summarise([old, new, same], tmp_path / "sum").text
    assert list(dict.fromkeys(row["run_id"] for row in rows_of(tmp_path / "sum"))) == [same.name, new.name]
    assert f"left out: AAPL lstm ({old.name}), scored on other bars than {new.name}" in told


def test_bars_of_the_same_dates_but_other_prices_are_other_bars(tmp_path: Path) -> None:
    old = write_run(tmp_path, "AAPL", model="lstm", written=1_000)
    new = write_run(tmp_path, "AAPL", model="mlp", written=2_000)
    found = results_file.read(RunPaths(old).test_results)
    last_value, *others = found.pooled.rivals
    assert last_value.mae_bp is not None
    rivals = (replace(last_value, mae_bp=1.001 * last_value.mae_bp), *others)
    changed = replace(found, pooled=replace(found.pooled, rivals=rivals))
    results_file.write(RunPaths(old).test_results, changed)
    os.utime(RunPaths(old).test_results, (1_000, 1_000))
    assert [asset.runs[0].paths.root for asset in gathered([old, new]).subjects] == [new]


def test_a_run_without_results_is_named_and_costs_nothing_while_another_has_some(tmp_path: Path) -> None:
    done = write_run(tmp_path, "AAPL")
    waiting = without_results(write_run(tmp_path, "XOM"))
    found = summarise([waiting, done], tmp_path / "sum")
    assert found.exit_code == ExitCode.OK
    assert f"no result yet: XOM ({waiting.name})\n" in found.text
    assert {row["subject"] for row in rows_of(tmp_path / "sum")} == {"AAPL"}


def test_no_result_at_all_is_exit_code_one_and_writes_nothing(tmp_path: Path) -> None:
    waiting = without_results(write_run(tmp_path, "XOM"))
    found = summarise([waiting], tmp_path / "sum")
    assert found.exit_code == ExitCode.FAILED
    assert "nothing to summarise" in found.text
    assert not list(tmp_path.glob("sum*"))


def test_damaged_results_are_named(tmp_path: Path) -> None:
    done, damaged = write_run(tmp_path, "AAPL"), write_run(tmp_path, "XOM")
    RunPaths(damaged).test_results.write_text("{")
    told = summarise([done, damaged], tmp_path / "sum").text
    assert "XOM (small-XOM-mlp): left out: test_results.json, which is damaged or of another version" in told
    assert "sealed" not in told
    assert {row["subject"] for row in rows_of(tmp_path / "sum")} == {"AAPL"}


def test_a_damaged_validation_costs_that_part_only(tmp_path: Path) -> None:
    run = write_run(tmp_path, "A", share=0.3)
    summarise([run], tmp_path / "whole")
    RunPaths(run).validation_results.write_text("{")
    told = summarise([run], tmp_path / "sum").text
    assert "A (small-A-mlp): left out: validation_results.json, which is damaged" in told
    assert "The only model is better than every rival" in told
    assert rows_of(tmp_path / "sum") == [row for row in rows_of(tmp_path / "whole") if row["split"] == "test"]
    assert re.fullmatch(r"A +mlp +- +40 +- +\d\d\.\d\d +-\d\.\d{4} \(.*\)", table_of(told)[1])


def test_runs_of_another_task_are_one_error_that_names_all_of_them(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, symbol) for symbol in ("A", "B", "C")]
    for run in runs[1:]:
        RunPaths(run).config.write_text("task: {name: next_token}\n")
    with pytest.raises(UserError) as caught:
        summarise(runs, tmp_path / "sum")
    assert all(str(run) in str(caught.value) for run in runs[1:])
    assert str(runs[0]) not in str(caught.value)


def test_a_real_gain_is_found_through_the_whole_way(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "A", share=0.3), write_run(tmp_path, "B", share=-0.3)]
    told = summarise(runs, tmp_path / "sum").text
    assert re.match(
        r"1 of 2 models is better than every rival in squared error of the return, %2: A mlp by \d\.\d{4} "
        r"against [LM][a-z ]+; 1 is worse than a rival: B mlp by \d\.\d{4} against [LM]",
        told,
    )
    assert re.search(r"A mlp, test: skill (50|51)\.\d\d %", text_of(tmp_path / "sum"))


def test_a_constant_forecast_is_named_with_its_direction(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "A", constant=0.002), write_run(tmp_path, "B", constant=-0.002)]
    told = summarise([*runs, write_run(tmp_path, "C")], tmp_path / "sum").text
    lines = [line for line in told.splitlines() if "same direction" in line]
    assert lines == [
        "A mlp forecasts the same direction on every bar: always up.",
        "B mlp forecasts the same direction on every bar: always down.",
    ]
    assert all(line in text_of(tmp_path / "sum") for line in lines)


def test_many_constant_forecasts_are_counted_beyond_the_fourth(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, symbol, constant=0.002) for symbol in "ABCDEF"]
    told = summarise(runs, tmp_path / "sum").text
    assert told.count("on every bar: always up.") == 4
    assert "2 more models never changed direction." in told


def test_sealed_runs_are_compared_on_validation_alone_and_claim_nothing(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, symbol, share=0.3, is_sealed=True) for symbol in "AB"]
    told = summarise(runs, tmp_path / "sum").text
    assert told.startswith(
        "2 models compared on validation alone, in squared error of the return, %2: the test is sealed.\n"
    )
    rows = rows_of(tmp_path / "sum")
    assert {(row["split"], row["corrected_p"]) for row in rows} == {("validation", "")}
    page = text_of(tmp_path / "sum")
    assert "better than every rival" not in page
    assert "Holm" not in page
    assert "looks" not in page
    assert "Validation chose the best step of each run, so its figures flatter." in page
    assert "Median skill, %, validation" in page
    assert re.fullmatch(r"A +mlp +- +40 +\d\d\.\d\d +-", table_of(told)[1])


def test_a_sealed_run_beside_tested_ones_takes_no_part_in_their_claims(tmp_path: Path) -> None:
    tested = write_run(tmp_path, "A", share=0.3, written=1_000)
    sealed = write_run(tmp_path, "A", model="lstm", share=0.4, written=2_000, is_sealed=True)
    summarise([tested], tmp_path / "alone")
    told = summarise([tested, sealed], tmp_path / "both").text
    assert told.startswith("The only model tested is better than every rival in squared error")
    assert "; 1 more is compared on validation alone: the test is sealed.\n" in told
    alone, beside = (judged_rows_of(tmp_path / name) for name in ("alone", "both"))
    assert alone == beside
    rivals = [line.split() for line in table_of(told) if "Last value" in line]
    assert rivals == [["A", "Last", "value", "0.00", "0.00"]]
    assert "1 of 1" in text_of(tmp_path / "both")


def test_the_table_fits_a_hundred_columns_in_plain_characters(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, symbol, model=model)
        for symbol in ("AAPL", "^GSPC")
        for model in ("mlp", "dlinear")
    ]
    told = summarise(runs, tmp_path / "sum").text
    table = table_of(told)
    assert max(map(len, told.split("\n\n", 1)[1].splitlines()[:-2])) <= 100
    assert told.isascii()
    assert [line.split()[:2] for line in table if line][1:5] == [
        ["AAPL", "dlinear"],
        ["AAPL", "mlp"],
        ["AAPL", "Last"],
        ["AAPL", "Mean"],
    ]
    edge = table[0].index("test") + len("test")
    for line in table[1:]:
        assert not line or re.fullmatch(r".*\d\.\d\d", line[:edge])
        assert len(line) <= edge or line.endswith(")")


def test_the_page_has_a_picture_per_asset_and_links_to_the_reports_that_exist(tmp_path: Path) -> None:
    with_report, without = write_run(tmp_path, "A B"), write_run(tmp_path, "XOM")
    build_report(RunPaths(with_report))
    summarise([with_report, without], tmp_path / "out" / "sum")
    html = page_of(tmp_path / "out" / "sum")
    links = re.findall(r'<a href="([^"]+)"', html)
    assert links == ["../runs/per_stock/small-A%20B-mlp/report.html"]
    assert html.count("<svg") == 2
    identifiers = re.findall(r'\sid="([^"]+)"', html)
    assert len(identifiers) == len(set(identifiers))
    assert not re.search(r"https?://|<script|@import", html)


def test_the_picture_of_an_asset_is_of_its_newest_run_not_of_its_best(tmp_path: Path) -> None:
    best = write_run(tmp_path, "A", model="lstm", share=0.5, written=1_000)
    newest = write_run(tmp_path, "A", model="mlp", written=2_000)
    summarise([best, newest], tmp_path / "sum")
    labels = re.findall(r'aria-label="([^"]+)"', page_of(tmp_path / "sum"))
    assert labels == ["Forecasts of mlp and closes of A, and the errors of both"]


def test_a_missing_prediction_file_costs_only_the_picture(tmp_path: Path) -> None:
    run = write_run(tmp_path, "A")
    RunPaths(run).predictions.unlink()
    assert summarise([run], tmp_path / "sum").exit_code == ExitCode.OK
    assert "<svg" not in page_of(tmp_path / "sum")


def test_synthetic_bars_are_said_before_anything_else(tmp_path: Path) -> None:
    invented, real = write_run(tmp_path, "A"), write_run(tmp_path, "B")
    records.write_json(RunPaths(invented).data_info, {"source": "synthetic"})
    records.write_json(RunPaths(real).data_info, {"source": "files"})
    assert summarise([invented, real], tmp_path / "sum").text.startswith("synthetic bars: A\n")
    told = text_of(tmp_path / "sum")
    assert "Some bars are synthetic: A." in told[: told.index("None of 2 models")]
    summarise([invented], tmp_path / "one")
    assert "These bars are synthetic." in text_of(tmp_path / "one")


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, symbol) for symbol in "AB"]
    summarise(runs, tmp_path / "sum")
    before = [(tmp_path / f"sum.{ending}").read_bytes() for ending in ("csv", "html")]
    summarise([runs[0], *runs], tmp_path / "sum")
    assert [(tmp_path / f"sum.{ending}").read_bytes() for ending in ("csv", "html")] == before


@pytest.mark.parametrize("ending", ["csv", "html"])
def test_a_file_that_cannot_be_written_is_one_error_that_names_it(tmp_path: Path, ending: str) -> None:
    run = write_run(tmp_path, "A")
    (tmp_path / f"sum.{ending}").mkdir()
    with pytest.raises(UserError) as caught:
        summarise([run], tmp_path / "sum")
    assert caught.value.where == str(tmp_path / f"sum.{ending}")
    assert "--out" in str(caught.value.fix)


def test_the_command_prints_table_and_paths_and_ends_with_the_right_code(tmp_path: Path) -> None:
    run, waiting = write_run(tmp_path, "A"), without_results(write_run(tmp_path, "B"))
    command = [sys.executable, "-m", "stockpred", "summary", "--out", str(tmp_path / "sum")]
    done = subprocess.run([*command, str(run), str(waiting)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == [str(tmp_path / "sum.csv"), str(tmp_path / "sum.html")]
    none = subprocess.run([*command, str(waiting)], capture_output=True, text=True, check=False)
    assert none.returncode == 1
    missing = subprocess.run([*command, str(tmp_path / "no")], capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert "Traceback" not in missing.stderr
