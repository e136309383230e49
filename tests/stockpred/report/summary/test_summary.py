"""Runs side by side: the right runs, the right figures, no claim that luck explains."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.stockpred.tasks.forecast.summary.written import gathered, page_of, rows_of, text_of, write_run

from hpc.base import records
from hpc.base.errors import ExitCode, UserError
from hpc.run.paths import RunPaths
from stockpred.report.build import build_report
from stockpred.report.summary.build import summarise
from stockpred.score.inference import Estimate
from stockpred.tasks.forecast import results as results_file
from stockpred.tasks.forecast.results import BETTER, UNDECIDED, WORSE
from stockpred.tasks.forecast.summary import entries

COLUMNS = [
    *("symbol", "forecaster", "settings", "run_id", "num_bars", "first_time", "last_time"),
    *("mse_price", "mae_price", "r2_price", "mse_return", "mae_return", "r2_return"),
    *("skill", "skill_low", "skill_high", "dm_p", "direction", "direction_low", "direction_high"),
]


def test_the_csv_has_each_assets_models_then_persistence_then_always_up_in_full_precision(
    tmp_path: Path,
) -> None:
    runs = [
        write_run(tmp_path, "AAPL", model="mlp"),
        write_run(tmp_path, "^GSPC"),
        write_run(tmp_path, "AAPL", model="dlinear"),
    ]
    assert summarise(runs, tmp_path / "out" / "sum").exit_code == ExitCode.OK
    rows = rows_of(tmp_path / "out" / "sum")
    assert list(rows[0]) == COLUMNS
    assert [(row["symbol"], row["forecaster"]) for row in rows] == [
        *(("AAPL", name) for name in ("dlinear", "mlp", "persistence", "drift", "always_up")),
        *(("^GSPC", name) for name in ("mlp", "persistence", "drift", "always_up")),
    ]
    found = results_file.read(RunPaths(runs[0]).test_results)
    mlp, still, drift, up = rows[1:5]
    assert drift["mse_price"] == repr(found.rival("drift").mse_price)
    model = found.model
    assert model.skill_interval is not None
    assert model.versus_persistence is not None
    assert up["direction"] == repr(found.rival("always_up").direction.share)  # type: ignore[union-attr]
    assert (mlp["run_id"], mlp["num_bars"], mlp["last_time"]) == (runs[0].name, "300", "2023-10-28")
    for name in ("mse_price", "mae_price", "r2_price", "mse_return", "mae_return", "r2_return", "skill"):
        assert mlp[name] == repr(getattr(model, name))
    assert (mlp["skill_low"], mlp["skill_high"]) == (
        repr(model.skill_interval.low),
        repr(model.skill_interval.high),
    )
    assert mlp["dm_p"] == repr(model.versus_persistence.p_value)
    assert (still["run_id"], still["skill"], still["skill_low"], still["direction"]) == ("", "0.0", "", "")
    assert (up["mse_price"], up["skill"]) == ("", "")


def test_the_newest_run_of_an_asset_and_model_counts_and_the_other_is_named(tmp_path: Path) -> None:
    old = write_run(tmp_path, "AAPL", run_id="first", share=0.3, written=1_000)
    new = write_run(tmp_path, "AAPL", run_id="second", written=2_000)
    told = summarise([new, old], tmp_path / "sum").text
    assert [row["run_id"] for row in rows_of(tmp_path / "sum")] == ["second", "", "", ""]
    assert "left out: AAPL mlp (first), older than second" in told
    assert "AAPL mlp (first), older than second." in text_of(tmp_path / "sum")


def test_a_run_that_was_scored_on_other_bars_than_the_newest_is_left_out_and_named(tmp_path: Path) -> None:
    old = write_run(tmp_path, "AAPL", model="lstm", num_bars=250, written=1_000)
    new = write_run(tmp_path, "AAPL", model="mlp", written=2_000)
    same = write_run(tmp_path, "AAPL", model="dlinear", written=1_500)
    told = summarise([old, new, same], tmp_path / "sum").text
    assert [row["forecaster"] for row in rows_of(tmp_path / "sum")][:2] == ["dlinear", "mlp"]
    assert f"left out: AAPL lstm ({old.name}), scored on other bars than {new.name}" in told


def test_bars_of_the_same_dates_but_other_prices_are_other_bars(tmp_path: Path) -> None:
    old = write_run(tmp_path, "AAPL", model="lstm", written=1_000)
    new = write_run(tmp_path, "AAPL", model="mlp", written=2_000)
    found = results_file.read(RunPaths(old).test_results)
    rivals = [
        replace(rival, mse_price=1.001 * rival.mse_price) if rival.mse_price else rival
        for rival in found.rivals
    ]
    results_file.write(RunPaths(old).test_results, replace(found, rivals=tuple(rivals)))
    os.utime(RunPaths(old).test_results, (1_000, 1_000))
    assert [asset.runs[0].paths.root for asset in gathered([old, new]).subjects] == [new]


def test_a_run_without_results_is_named_and_costs_nothing_while_another_has_some(tmp_path: Path) -> None:
    done = write_run(tmp_path, "AAPL")
    waiting = write_run(tmp_path, "XOM")
    RunPaths(waiting).test_results.unlink()
    found = summarise([waiting, done], tmp_path / "sum")
    assert found.exit_code == ExitCode.OK
    assert f"no result yet: XOM ({waiting.name})\n" in found.text
    assert {row["symbol"] for row in rows_of(tmp_path / "sum")} == {"AAPL"}


def test_no_result_at_all_is_exit_code_one_and_writes_nothing(tmp_path: Path) -> None:
    waiting = write_run(tmp_path, "XOM")
    RunPaths(waiting).test_results.unlink()
    found = summarise([waiting], tmp_path / "sum")
    assert found.exit_code == ExitCode.FAILED
    assert "nothing to summarise" in found.text
    assert not list(tmp_path.glob("sum*"))


def test_damaged_results_are_named(tmp_path: Path) -> None:
    done, damaged = write_run(tmp_path, "AAPL"), write_run(tmp_path, "XOM")
    RunPaths(damaged).test_results.write_text("{")
    told = summarise([done, damaged], tmp_path / "sum").text
    assert "left out: test_results.json, which is damaged or of another version" in told


def test_runs_of_another_task_are_one_error_that_names_all_of_them(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, symbol) for symbol in ("A", "B", "C")]
    for run in runs[1:]:
        RunPaths(run).config.write_text("task: {name: next_token}\n")
    with pytest.raises(UserError) as caught:
        summarise(runs, tmp_path / "sum")
    assert all(str(run) in str(caught.value) for run in runs[1:])
    assert str(runs[0]) not in str(caught.value)


def decided(run: Path, mean: float, p_value: float) -> None:
    """Rewrite a run's results: a skill whose interval leaves zero out, and this Diebold-Mariano p value."""
    found = results_file.read(RunPaths(run).test_results)
    interval = Estimate(mean, abs(mean) / 4, mean - abs(mean) / 2, mean + abs(mean) / 2, p_value, 300)
    model = replace(
        found.model,
        skill=mean,
        skill_interval=interval,
        versus_persistence=replace(interval, p_value=p_value),
    )
    results_file.write(RunPaths(run).test_results, replace(found, model=model))


def test_one_lucky_model_among_eight_is_no_skill(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, symbol) for symbol in "ABCDEFGH"]
    for run in runs:
        decided(run, 0.02, 0.9)
    decided(runs[2], 0.02, 0.03)
    assert entries.of(gathered([runs[2]]))[0].corrected_skill == BETTER
    rows = entries.of(gathered(runs))
    assert {row.corrected_skill for row in rows} == {UNDECIDED}
    told = summarise(runs, tmp_path / "sum").text
    assert told.startswith("None of 8 models has skill against the last close")
    assert "C mlp alone would look better (skill 2.00 %), but its corrected p value is 0.240." in told
    assert "smallest is multiplied by 8" in text_of(tmp_path / "sum")


def test_a_model_that_holds_after_the_correction_is_named_as_plainly_as_one_that_is_worse(
    tmp_path: Path,
) -> None:
    runs = [write_run(tmp_path, symbol) for symbol in "ABC"]
    decided(runs[0], 0.02, 0.001)
    decided(runs[1], 0.02, 0.7)
    decided(runs[2], -0.04, 0.01)
    assert [row.corrected_skill for row in entries.of(gathered(runs)) if row.is_model] == [
        BETTER,
        UNDECIDED,
        WORSE,
    ]
    told = summarise(runs, tmp_path / "sum").text
    assert told.startswith(
        "1 of 3 models beats the last close: A mlp by 2.00 %; 1 is worse than it: C mlp by 4.00 %."
    )


def test_a_real_gain_is_found_through_the_whole_way(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "A", share=0.3), write_run(tmp_path, "B", share=-0.3)]
    told = summarise(runs, tmp_path / "sum").text
    assert re.match(
        r"1 of 2 models beats the last close: A mlp by (50|51)\.\d\d %; 1 is worse than it: B", told
    )


def test_the_table_fits_a_hundred_columns_in_plain_characters(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, symbol, model=model)
        for symbol in ("AAPL", "^GSPC")
        for model in ("mlp", "dlinear")
    ]
    told = summarise(runs, tmp_path / "sum").text
    table = told.split("\n\n", 1)[1].rsplit("\n\n", 1)[0].splitlines()
    assert max(map(len, table)) <= 100
    assert told.isascii()
    assert [line.split()[:2] for line in table if line][1:6] == [
        ["AAPL", "dlinear"],
        ["AAPL", "mlp"],
        ["AAPL", "persistence"],
        ["AAPL", "drift"],
        ["AAPL", "always-up"],
    ]
    ends = {line.rstrip().endswith(")") or line.endswith(("-", "(95 %)")) for line in table if line}
    assert ends == {True}


def test_the_page_has_a_picture_per_asset_and_links_to_the_reports_that_exist(tmp_path: Path) -> None:
    with_report, without = write_run(tmp_path, "A B"), write_run(tmp_path, "XOM")
    build_report(RunPaths(with_report))
    summarise([with_report, without], tmp_path / "out" / "sum")
    html = page_of(tmp_path / "out" / "sum")
    links = re.findall(r'<a href="([^"]+)"', html)
    assert links == ["../small-A%20B-mlp/report.html"]
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
    assert "Some bars are synthetic: A." in told[: told.index("None of 2")]
    summarise([invented], tmp_path / "one")
    assert "These bars are synthetic." in text_of(tmp_path / "one")


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, symbol) for symbol in "AB"]
    summarise(runs, tmp_path / "sum")
    before = [(tmp_path / f"sum.{ending}").read_bytes() for ending in ("csv", "html")]
    summarise([*runs, runs[0]], tmp_path / "sum")
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
    run, waiting = write_run(tmp_path, "A"), write_run(tmp_path, "B")
    RunPaths(waiting).test_results.unlink()
    command = [sys.executable, "-m", "stockpred", "summary", "--out", str(tmp_path / "sum")]
    done = subprocess.run([*command, str(run), str(waiting)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == [str(tmp_path / "sum.csv"), str(tmp_path / "sum.html")]
    none = subprocess.run([*command, str(waiting)], capture_output=True, text=True, check=False)
    assert none.returncode == 1
    missing = subprocess.run([*command, str(tmp_path / "no")], capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert "Traceback" not in missing.stderr
