"""Which runs get a row, which are left out, and that each is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from stockpred.report.summary.build import summarise
from stockpred.score import results as results_file
from tests.stockpred.report.summary.written import (
    judged_rows_of,
    models_of,
    page_of,
    rows_of,
    text_of,
    without_results,
    write_plan,
    write_run,
)


def labels(runs: list[Path]) -> list[str]:
    return [row.run.label for row in models_of(runs)]


def test_runs_with_other_settings_have_rows_of_their_own(tmp_path: Path) -> None:
    plain = write_run(tmp_path, "AAPL", run_id="plain", written=1_000)
    levels = write_run(tmp_path, "AAPL", run_id="levels", share=0.3, written=2_000)
    write_plan(plain, "data.symbol=AAPL", "data.dir=../bars", "training.num_workers=2")
    write_plan(levels, "series.inputs=levels", "data.symbol=AAPL", "model.name=mlp", "resources.gpus=2")
    told = summarise([plain, levels], tmp_path / "sum").text
    rows = judged_rows_of(tmp_path / "sum")
    assert [(row["run_id"], row["settings"]) for row in rows if row["forecaster"] == "mlp"] == [
        ("plain", ""),
        ("levels", "series.inputs=levels"),
    ]
    assert "mlp series.inputs=levels" in told
    assert "mlp series.inputs=levels, test: skill" in text_of(tmp_path / "sum")
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
    write_plan(one, "training.lr=1e-2", "training.epochs=7", "training.lr=1e-4")
    write_plan(other, "training.epochs=7", "training.lr=1e-4")
    for runs in ([one], [other], [one, other]):
        assert labels(runs) == ["mlp training.epochs=7 training.lr=1e-4"]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"overrides": 3}', b'{"overrides": [1]}', b"{}", b"\xff"])
def test_a_damaged_plan_means_no_settings(tmp_path: Path, content: bytes) -> None:
    run = write_run(tmp_path, "A")
    RunPaths(run).plan.write_bytes(content)
    assert labels([run]) == ["mlp"]


def test_drift_has_a_row_with_its_own_figures_in_table_file_and_page(tmp_path: Path) -> None:
    run = write_run(tmp_path, "A")
    told = summarise([run], tmp_path / "sum").text
    found = results_file.read(RunPaths(run).test_results).pooled.rival("drift")
    assert found.skill is not None
    assert found.price is not None
    order = [row["forecaster"] for row in judged_rows_of(tmp_path / "sum")]
    assert order == ["mlp", "last_value", "drift", "always_up"]
    assert judged_rows_of(tmp_path / "sum")[2]["mse_price"] == repr(found.price.mse)
    shown = f"{100 * found.skill:.2f}"
    assert re.search(rf"A +Mean training return +-?\d\.\d\d +{re.escape(shown)}\n", told)
    page = text_of(tmp_path / "sum").replace("\u2212", "-")
    assert re.search(rf" Last value 0\.00 0\.00 Mean training return -?\d\.\d\d {re.escape(shown)} ", page)


def test_assets_stand_in_the_order_in_which_their_runs_are_named(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, symbol, written=at) for at, symbol in enumerate(("XOM", "^GSPC", "AAPL"), 1)]
    again = write_run(tmp_path, "XOM", model="dlinear", written=9)
    summarise([*runs, again], tmp_path / "sum")
    named = list(dict.fromkeys(row["subject"] for row in rows_of(tmp_path / "sum")))
    assert named == ["XOM", "^GSPC", "AAPL"]
    html = page_of(tmp_path / "sum")
    assert html.index("<h3>XOM<") < html.index("<h3>^GSPC<") < html.index("<h3>AAPL<")


def write_ended(root: Path, run_id: str, *events: str) -> Path:
    """Write a run without results that was submitted and started, and of which these events are known."""
    run = without_results(write_run(root, "XOM", run_id=run_id))
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
        (("finished", "finished, finished"), "no result: XOM (run): it finished, but its results are not"),
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
    assert page.index("(bad2): mistake.") < page.index("The only model is not better")
    assert "<details>" not in page_of(tmp_path / "three")
    summarise([tested, *failed], tmp_path / "four")
    page = text_of(tmp_path / "four")
    head, _, rest = page.partition("The only model is not better")
    assert "4 runs are not in this summary." in head
    assert "bad" not in head
    assert page_of(tmp_path / "four").count("<details>") == 1
    listed = rest[rest.index("Which runs, and why") :]
    assert re.findall(r"no result: XOM \((bad\d)\): mistake", listed) == ["bad0", "bad1", "bad2", "bad3"]


def test_a_run_is_counted_once_however_many_of_its_files_are_damaged(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, symbol) for symbol in "ABCDE"]
    for run in runs[:4]:
        RunPaths(run).predictions.write_bytes(b"")
    RunPaths(runs[1]).validation_results.write_bytes(b"{")
    RunPaths(runs[0]).test_results.write_bytes(b"{")
    summarise(runs, tmp_path / "sum")
    page = text_of(tmp_path / "sum")
    assert "1 run is not in this summary, 3 runs are here without all of their files." in page
    summarise(runs[1:3], tmp_path / "two")
    page = text_of(tmp_path / "two")
    assert "Warning. B (small-B-mlp): left out: validation_results.json" in page
    assert "Warning. C (small-C-mlp): left out: predictions.parquet" in page
    assert "Not in this summary" not in page
