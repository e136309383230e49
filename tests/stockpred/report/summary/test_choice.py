"""Which runs get a row, which are left out, and that every look at the test bars is counted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from stockpred.report.summary.build import summarise
from stockpred.tasks.forecast import results as results_file
from stockpred.tasks.forecast.summary import entries
from tests.stockpred.tasks.forecast.summary.written import (
    gathered,
    page_of,
    rows_of,
    text_of,
    write_plan,
    write_run,
)


def labels(runs: list[Path]) -> list[str]:
    return [entry.label for entry in entries.of(gathered(runs)) if entry.is_model]


def test_runs_with_other_settings_have_rows_of_their_own(tmp_path: Path) -> None:
    plain = write_run(tmp_path, "AAPL", run_id="plain", written=1_000)
    levels = write_run(tmp_path, "AAPL", run_id="levels", share=0.3, written=2_000)
    write_plan(plain, "data.symbol=AAPL", "data.dir=../bars", "training.num_workers=2")
    write_plan(levels, "series.inputs=levels", "data.symbol=AAPL", "model.name=mlp", "resources.gpus=2")
    told = summarise([plain, levels], tmp_path / "sum").text
    rows = rows_of(tmp_path / "sum")[:2]
    assert [(row["forecaster"], row["run_id"], row["settings"]) for row in rows] == [
        ("mlp", "plain", ""),
        ("mlp", "levels", "series.inputs=levels"),
    ]
    assert "mlp series.inputs=levels" in told
    assert "mlp series.inputs=levels: skill" in text_of(tmp_path / "sum")
    assert "left out" not in told


NO_MATTER = [
    *("data.symbol=A", "data.dir=/x", "array.key=data.symbol", "array.values=[A]", "resources.gpus=2"),
    *("retry.max_attempts=3", "model.name=mlp", "training.checkpoint_every_s=1", "training.num_workers=2"),
    "training.checkpoint_every_s=5",
]


@pytest.mark.parametrize("override", NO_MATTER)
def test_what_says_only_which_run_where_or_how_fast_makes_no_other_row(tmp_path: Path, override: str) -> None:
    old, new = (write_run(tmp_path, "A", run_id=name, written=at) for name, at in (("old", 1), ("new", 2)))
    write_plan(old, override)
    assert labels([old, new]) == ["mlp"]


def test_the_label_knows_no_order_of_settings_and_the_last_of_a_key_counts(
    tmp_path: Path,
) -> None:
    one, other = (write_run(tmp_path, "A", run_id=name) for name in ("one", "other"))
    write_plan(one, "training.lr=1e-2", "training.seed=7", "training.lr=1e-4")
    write_plan(other, "training.seed=7", "training.lr=1e-4")
    for runs in ([one], [other], [one, other]):
        assert labels(runs) == ["mlp training.lr=1e-4 training.seed=7"]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"overrides": 3}', b'{"overrides": [1]}', b"{}", b"\xff"])
def test_a_damaged_plan_means_no_settings(tmp_path: Path, content: bytes) -> None:
    run = write_run(tmp_path, "A")
    RunPaths(run).plan.write_bytes(content)
    assert labels([run]) == ["mlp"]


def test_the_correction_counts_the_tests_of_runs_that_newer_ones_replaced(tmp_path: Path) -> None:
    once = write_run(tmp_path, "AAPL", run_id="new", share=0.2, written=9_000)
    older = [write_run(tmp_path, "AAPL", run_id=f"old{at}", share=0.2, written=1_000 + at) for at in range(3)]
    (alone, *_), (among_four, *_) = (entries.of(gathered(runs)) for runs in ([once], [once, *older]))
    summarise([once, *older], tmp_path / "four")
    assert among_four.run is not None
    assert among_four.run.paths.run_id == "new"
    assert alone.holm_p is not None
    assert among_four.holm_p == pytest.approx(4 * alone.holm_p)
    page = text_of(tmp_path / "four")
    assert "all 4 tests on these bars, 3 of them by runs that newer ones replaced" in page
    assert "Among 4 tested models" in page
    assert "Each run was scored once on 300 days" in page


def test_the_correction_does_not_count_runs_that_were_scored_on_other_bars(tmp_path: Path) -> None:
    new = write_run(tmp_path, "A", run_id="new", share=0.001, written=2_000)
    other = write_run(tmp_path, "A", run_id="other", num_bars=250, written=1_000)
    rows = entries.of(gathered([new, other]))
    versus = results_file.read(RunPaths(new).test_results).model.versus_persistence
    assert versus is not None
    assert rows[0].holm_p == versus.p_value
    summarise([new, other], tmp_path / "sum")
    assert "all 1 test on these bars" in text_of(tmp_path / "sum")


def test_drift_has_a_row_with_its_own_figures_in_table_file_and_page(tmp_path: Path) -> None:
    run = write_run(tmp_path, "A")
    told = summarise([run], tmp_path / "sum").text
    found = results_file.read(RunPaths(run).test_results).rival("drift")
    order = [row["forecaster"] for row in rows_of(tmp_path / "sum")]
    assert order == ["mlp", "persistence", "drift", "always_up"]
    assert rows_of(tmp_path / "sum")[2]["mse_price"] == repr(found.mse_price)
    assert f"A      drift        {found.mse_price:.4f}" in told
    page = text_of(tmp_path / "sum").split("direction, %", 1)[1]
    assert page.index(" persistence ") < page.index(" drift ") < page.index(" always-up ")


def test_the_page_says_on_how_many_assets_drift_is_as_good_as_the_best_model(
    tmp_path: Path,
) -> None:
    runs = [
        write_run(tmp_path, "A", model="mlp", share=-0.2),
        write_run(tmp_path, "A", model="lstm", share=0.3),
        write_run(tmp_path, "B", model="mlp", share=-0.3),
        write_run(tmp_path, "C", model="mlp", share=-0.2),
    ]
    said = "drift alone, which adds the mean return of training to the last close, does at least as well"
    for chosen, claim in ((runs, "On 2 of 3 assets"), (runs[:2], "On none of 1 asset")):
        summarise(chosen, tmp_path / "sum")
        assert f"{claim} {said}" in text_of(tmp_path / "sum")


def test_assets_stand_in_the_order_in_which_their_runs_are_named(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, symbol, written=at) for at, symbol in enumerate(("XOM", "^GSPC", "AAPL"), 1)]
    again = write_run(tmp_path, "XOM", model="dlinear", written=9)
    summarise([*runs, again], tmp_path / "sum")
    assert list(dict.fromkeys(row["symbol"] for row in rows_of(tmp_path / "sum"))) == ["XOM", "^GSPC", "AAPL"]
    html = page_of(tmp_path / "sum")
    assert html.index("<h3>XOM<") < html.index("<h3>^GSPC<") < html.index("<h3>AAPL<")


def write_ended(root: Path, run_id: str, *events: str) -> Path:
    """Write a run without results that was submitted and started, and of which these events are known."""
    run = write_run(root, "XOM", run_id=run_id)
    RunPaths(run).test_results.unlink()
    ledger = Ledger(RunPaths(run).events)
    ledger.append("submitted", job_id="1", executor="local")
    ledger.append("attempt_started", attempt=1, job_id="1", nodes=[])
    for event in events:
        if event in ("finished", "cancelled"):
            ledger.append(event, attempt=1)
        else:
            cause, _, decision = event.partition(", ")
            ledger.append("attempt_ended", attempt=1, cause=cause, decision=decision, why="")
    return run


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ((), "no result yet: XOM (run)\n"),
        (("deadline, continue",), "no result yet: XOM (run)\n"),
        (("mistake, stop",), "no result: XOM (run): mistake\n"),
        (("cancelled",), "no result: XOM (run): cancelled\n"),
        (("cancelled", "cancelled, stop"), "no result: XOM (run): cancelled\n"),
        (("finished", "finished, finished"), "no result: XOM (run): it finished, but its test_results.json"),
    ],
)
def test_a_run_that_is_over_says_why_it_has_no_result(
    tmp_path: Path, events: tuple[str, ...], told: str
) -> None:
    runs = [write_run(tmp_path, "AAPL"), write_ended(tmp_path, "run", *events)]
    assert told in summarise(runs, tmp_path / "sum").text


def test_a_cancelled_run_that_was_submitted_again_is_awaited(tmp_path: Path) -> None:
    run = write_ended(tmp_path, "run", "cancelled")
    Ledger(RunPaths(run).events).append("submitted", job_id="2", executor="local")
    told = summarise([write_run(tmp_path, "AAPL"), run], tmp_path / "sum").text
    assert "no result yet: XOM (run)" in told


def test_three_runs_without_results_are_named_above_the_verdict_four_at_the_end(
    tmp_path: Path,
) -> None:
    tested = write_run(tmp_path, "AAPL")
    failed = [write_ended(tmp_path, f"bad{at}", "mistake, stop") for at in range(4)]
    summarise([tested, *failed[:3]], tmp_path / "three")
    page = text_of(tmp_path / "three")
    assert page.count("Not in this summary. No result: XOM (bad") == 3
    assert page.index("(bad2): mistake.") < page.index("The only model has no skill")
    assert "<details>" not in page_of(tmp_path / "three")
    summarise([tested, *failed], tmp_path / "four")
    page = text_of(tmp_path / "four")
    head, _, rest = page.partition("The only model has no skill")
    assert "4 runs are not in this summary." in head
    assert "bad" not in head
    assert page_of(tmp_path / "four").count("<details>") == 1
    listed = rest[rest.index("Which runs, and why") :]
    assert re.findall(r"no result: XOM \((bad\d)\): mistake", listed) == ["bad0", "bad1", "bad2", "bad3"]


def test_a_run_is_counted_once_however_many_of_its_files_are_damaged(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, symbol) for symbol in "ABCDE"]
    for run in runs[:4]:
        RunPaths(run).predictions.write_bytes(b"")
    RunPaths(runs[0]).test_results.write_bytes(b"{")
    summarise(runs, tmp_path / "sum")
    page = text_of(tmp_path / "sum")
    assert "1 run is not in this summary, 3 runs are here without a picture." in page
    summarise(runs[1:3], tmp_path / "two")
    page = text_of(tmp_path / "two")
    assert "Warning. B (small-B-mlp): left out: predictions.parquet" in page
    assert "Not in this summary" not in page


def test_the_correction_is_that_of_holm_as_written_out_by_hand(tmp_path: Path) -> None:
    """Sort, multiply by the number of tests left, never let a later one fall below an earlier one."""
    runs = [write_run(tmp_path, symbol, model=model) for symbol in "ABC" for model in ("mlp", "lstm")]
    rows = [row for row in entries.of(gathered(runs)) if row.is_model]
    versus = [row.scores.versus_persistence for row in rows]
    raw = sorted(estimate.p_value for estimate in versus if estimate is not None)
    assert len(raw) == 6
    expected, floor = [], 0.0
    for rank, p in enumerate(raw):
        floor = max(floor, min(1.0, p * (6 - rank)))
        expected.append(floor)
    assert sorted(row.holm_p for row in rows if row.holm_p is not None) == pytest.approx(expected)
