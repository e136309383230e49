"""A summary is of runs of one task, any task, and says in one line which runs name none."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from hpc.base.errors import ExitCode, UserError
from hpc.run.paths import RunPaths
from stockpred.cli import cli
from stockpred.config import registry
from stockpred.report.scores import MEASURES
from stockpred.report.summary import task_part
from stockpred.report.summary.build import summarise
from stockpred.report.summary.rows import Measure
from tests.stockpred.report.summary.written import (
    page_of,
    rows_of,
    text_of,
    without_results,
    write_market_run,
    write_run,
)


@pytest.mark.parametrize("task", registry.names(registry.TASKS))
def test_every_task_brings_its_part_of_a_summary(task: str) -> None:
    measure = task_part.of(task).measure
    assert isinstance(measure, Measure)
    assert measure.claim in MEASURES


def test_runs_of_different_tasks_are_one_error_that_names_those_that_differ_from_the_first(
    tmp_path: Path,
) -> None:
    runs = [write_market_run(tmp_path, "a"), *(write_run(tmp_path, symbol) for symbol in "BC")]
    with pytest.raises(UserError) as caught:
        summarise(runs, tmp_path / "sum")
    message = str(caught.value)
    assert "a summary is of runs of one task, here next_token, and this one is of task forecast" in message
    assert (str(runs[1]) in message, str(runs[2]) in message, str(runs[0]) in message) == (True, True, False)
    assert not list(tmp_path.glob("sum*"))


def of_an_older_version(run: Path) -> Path:
    RunPaths(run).config.write_text("learner: {name: regression}\ndata: {symbol: A}\n")
    return run


def test_runs_of_an_older_version_are_left_out_in_one_line_that_names_them(tmp_path: Path) -> None:
    old = [of_an_older_version(write_run(tmp_path, symbol)) for symbol in ("A", "B")]
    text = summarise([*old, write_run(tmp_path, "C")], tmp_path / "sum").text
    line = "left out: 2 runs of an older version, which named no task: small-A-mlp, small-B-mlp"
    assert line in text.splitlines()
    assert {row["subject"] for row in rows_of(tmp_path / "sum")} == {"C"}
    assert "Not in this summary. Left out: 2 runs of an older version" in text_of(tmp_path / "sum")


def test_many_runs_of_an_older_version_are_all_counted_on_the_page(tmp_path: Path) -> None:
    old = [of_an_older_version(write_run(tmp_path, symbol)) for symbol in ("A", "B")]
    waiting = [without_results(write_run(tmp_path, symbol)) for symbol in ("D", "E", "F")]
    summarise([*old, *waiting, write_run(tmp_path, "C")], tmp_path / "sum")
    assert "5 runs are not in this summary." in text_of(tmp_path / "sum")
    assert "<details>" in page_of(tmp_path / "sum")


def test_only_runs_of_an_older_version_are_nothing_to_summarise(tmp_path: Path) -> None:
    found = summarise([of_an_older_version(write_run(tmp_path, "A"))], tmp_path / "sum")
    assert found.exit_code == ExitCode.FAILED
    assert found.text.splitlines() == [
        "left out: 1 run of an older version, which named no task: small-A-mlp",
        "there is nothing to summarise",
    ]


def test_a_run_without_config_is_left_out_and_said_to_name_no_task(tmp_path: Path) -> None:
    bare = write_run(tmp_path, "A")
    RunPaths(bare).config.unlink()
    text = summarise([bare, write_run(tmp_path, "B")], tmp_path / "sum").text
    assert "left out: 1 run whose config.yaml names no task: small-A-mlp" in text.splitlines()


def test_the_command_summarises_next_token_runs(tmp_path: Path) -> None:
    run = write_market_run(tmp_path, "a", seed=1, gain=0.1)
    done = CliRunner().invoke(cli, ["summary", "--out", str(tmp_path / "sum"), str(run)])
    assert done.exit_code == 0
    assert done.stdout.startswith(
        "The only model is better than every rival in CRPS of the return, bp: crypto market_gpt (seed 1) by "
    )
    assert done.stdout.splitlines()[-2:] == [str(tmp_path / "sum.csv"), str(tmp_path / "sum.html")]
