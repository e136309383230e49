"""No claim that luck explains: every look at the test bars is counted, by whomever, and none twice."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.data.splits import Split
from stockpred.report.summary.build import summarise
from stockpred.score import looks
from stockpred.score import results as results_file
from stockpred.score.claims import Claim, Verdict
from stockpred.score.compare import SQUARED_ERROR
from stockpred.score.inference import Estimate
from tests.stockpred.report.summary.written import (
    ForecastRun,
    models_of,
    rows_of,
    score_forecasts,
    text_of,
    write_run,
)

RIVALS = ("last_value", "drift")


def claim_on(run: Path, claim: Claim) -> None:
    """Rewrite a run's results: let the test come to this claim."""
    path = RunPaths(run).test_results
    found = results_file.read(path)
    results_file.write(path, replace(found, pooled=replace(found.pooled, claims=(claim,))))


def decided(run: Path, mean: float, p_value: float) -> None:
    """Rewrite a run's results: against each rival this difference, an interval without zero, this p value."""
    half = abs(mean) / 2
    found = Estimate(mean, half / 2, mean - half, mean + half, p_value, 300)
    claim_on(run, Claim(SQUARED_ERROR, "drift", dict.fromkeys(RIVALS, found), dict.fromkeys(RIVALS, mean)))


def corrected(*runs: Path) -> list[float | None]:
    return [row.corrected_p for row in models_of(runs)]


def own_p(run: Path) -> float:
    claim = results_file.read(RunPaths(run).test_results).pooled.claim(SQUARED_ERROR)
    assert claim is not None
    assert claim.p_value is not None
    return claim.p_value


def test_the_correction_is_that_of_holm_as_written_out_by_hand(tmp_path: Path) -> None:
    """Sort, multiply by the number of tests left, never let a later one fall below an earlier one."""
    runs = [write_run(tmp_path, symbol, model=model) for symbol in "ABC" for model in ("mlp", "lstm")]
    raw = [0.004, 0.3, 0.011, 0.0112, 0.9, 0.02]
    for run, p in zip(runs, raw, strict=True):
        decided(run, -0.1, p)
    expected, floor = [], 0.0
    for rank, p in enumerate(sorted(raw)):
        floor = max(floor, min(1.0, p * (6 - rank)))
        expected.append(floor)
    found = corrected(*runs)
    assert sorted(p for p in found if p is not None) == pytest.approx(expected)


def test_one_lucky_model_among_eight_is_no_claim(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, symbol) for symbol in "ABCDEFGH"]
    for run in runs:
        decided(run, -0.02, 0.9)
    decided(runs[2], -0.02, 0.03)
    assert models_of([runs[2]])[0].verdict is Verdict.BETTER
    assert {row.verdict for row in models_of(runs)} == {Verdict.UNDECIDED}
    told = summarise(runs, tmp_path / "sum").text
    assert told.startswith("None of 8 models is better than every rival")
    assert (
        "C mlp alone would look better than every rival (difference -0.0200 from Mean training return), "
        "but its corrected p value is 0.240.\n"
    ) in told
    assert "smallest is multiplied by 8, the next by 7" in text_of(tmp_path / "sum")


def test_a_model_that_holds_after_the_correction_is_named_as_plainly_as_one_that_is_worse(
    tmp_path: Path,
) -> None:
    runs = [write_run(tmp_path, symbol) for symbol in "ABC"]
    decided(runs[0], -0.02, 0.001)
    decided(runs[1], -0.02, 0.7)
    decided(runs[2], 0.04, 0.01)
    verdicts = [row.verdict for row in models_of(runs)]
    assert verdicts == [Verdict.BETTER, Verdict.UNDECIDED, Verdict.WORSE]
    told = summarise(runs, tmp_path / "sum").text
    assert told.startswith(
        "1 of 3 models is better than every rival in squared error of the return, %2: "
        "A mlp by 0.0200 against Mean training return; "
        "1 is worse than a rival: C mlp by 0.0400 against "
    )


def test_a_model_that_is_worse_is_measured_by_the_rival_that_surely_wins(tmp_path: Path) -> None:
    """The hardest reaches furthest, but its interval may hold zero, and its mean may lie on either side."""
    run = write_run(tmp_path, "A")
    sure, wide = Estimate(0.2, 0.05, 0.1, 0.3, 0.001, 300), Estimate(-0.1, 2.5, -5.1, 4.9, 0.9, 300)
    means = {"last_value": 0.2, "drift": -0.1}
    claim_on(run, Claim(SQUARED_ERROR, "drift", {"last_value": sure, "drift": wide}, means))
    told = summarise([run], tmp_path / "sum").text
    assert "1 is worse than a rival: A mlp by 0.2000 against Last value.\n" in told


def test_the_correction_counts_the_tests_of_runs_that_newer_ones_replaced(tmp_path: Path) -> None:
    once = write_run(tmp_path, "AAPL", run_id="new", share=0.2, written=9_000)
    assert corrected(once) == [own_p(once)]
    older = [write_run(tmp_path, "AAPL", run_id=f"old{at}", share=0.2, written=1_000 + at) for at in range(3)]
    (among_four,) = models_of([once, *older])
    assert among_four.run.paths.run_id == "new"
    assert among_four.corrected_p == pytest.approx(4 * own_p(once))
    summarise([once, *older], tmp_path / "four")
    page = text_of(tmp_path / "four")
    assert "all 4 looks at these bars, 3 of them by runs that newer ones replaced" in page
    assert "Among 4 looks" in page
    assert "Each test was scored on 300 bars from 2023-01-02 to 2023-10-28" in page


def test_looks_of_runs_that_are_not_named_or_gone_are_counted(tmp_path: Path) -> None:
    run = write_run(tmp_path, "A")
    decided(run, -0.1, 0.01)
    write_run(tmp_path, "A", model="lstm")
    assert corrected(run) == pytest.approx([0.02])
    shutil.rmtree(write_run(tmp_path, "A", model="dlinear"))
    assert corrected(run) == pytest.approx([0.03])


@pytest.mark.parametrize(
    ("symbol", "first_test", "num_bars", "counts"),
    [
        ("A", "2022-06-01", 300, True),
        ("A", "2023-10-28", 30, True),
        ("A", "2023-10-29", 300, False),
        ("A", "2022-01-01", 366, False),
        ("B", "2023-01-02", 300, False),
    ],
)
def test_a_look_counts_where_it_saw_the_same_asset_on_a_date_in_common(
    tmp_path: Path, symbol: str, first_test: str, num_bars: int, counts: bool
) -> None:
    run = write_run(tmp_path, "A")
    decided(run, -0.1, 0.01)
    write_run(tmp_path, symbol, run_id="other", first_test=first_test, num_bars=num_bars)
    assert corrected(run) == pytest.approx([0.02 if counts else 0.01])


def test_a_run_that_is_left_out_for_its_bars_still_looked_at_them(tmp_path: Path) -> None:
    new = write_run(tmp_path, "A", run_id="new", written=2_000)
    decided(new, -0.1, 0.01)
    other = write_run(tmp_path, "A", run_id="other", num_bars=250, written=1_000)
    assert corrected(new, other) == pytest.approx([0.02])
    summarise([new, other], tmp_path / "sum")
    assert "for all 2 looks at these bars." in text_of(tmp_path / "sum")


def test_the_same_run_scored_again_is_not_counted_twice(tmp_path: Path) -> None:
    run = write_run(tmp_path, "A")
    score_forecasts(RunPaths(run), ForecastRun(), "A", Split.TEST)
    decided(run, -0.1, 0.01)
    assert corrected(run) == [0.01]


def test_a_sealed_run_has_looked_at_no_test(tmp_path: Path) -> None:
    run = write_run(tmp_path, "A")
    decided(run, -0.1, 0.01)
    sealed = write_run(tmp_path, "A", model="lstm", is_sealed=True)
    assert corrected(run, sealed) == [None, 0.01]


def test_a_look_that_two_subjects_share_is_counted_once(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, symbol) for symbol in "AB"]
    for run in runs:
        decided(run, -0.1, 0.01)
    ledger = looks.ledger_of(RunPaths(runs[0]))
    first = looks.read(ledger)[0]
    wide = asdict(replace(first, run_id="wide", symbols=("A", "B")))
    ledger.write_text(ledger.read_text() + json.dumps(wide) + "\n")
    assert corrected(*runs) == pytest.approx([0.03, 0.03])


def test_a_run_that_was_copied_away_from_its_ledger_keeps_the_number_of_its_looks(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_run(tmp_path, "A", run_id=name)
    run = write_run(tmp_path, "A", run_id="three")
    decided(run, -0.1, 0.01)
    copied = tmp_path / "elsewhere" / "runs" / "per_stock" / "three"
    shutil.copytree(run, copied)
    assert corrected(copied) == pytest.approx([0.03])


def test_runs_of_an_older_ledger_count_at_least_themselves(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "A", model=model) for model in ("mlp", "lstm")]
    for run in runs:
        path = RunPaths(run).test_results
        results_file.write(path, replace(results_file.read(path), num_looks=None))
        decided(run, -0.1, 0.01)
    looks.ledger_of(RunPaths(runs[0])).unlink()
    assert corrected(*runs) == pytest.approx([0.02, 0.02])


def test_a_ledger_that_cannot_be_read_is_one_error_and_no_summary(tmp_path: Path) -> None:
    run = write_run(tmp_path, "A")
    ledger = looks.ledger_of(RunPaths(run))
    ledger.unlink()
    ledger.mkdir()
    with pytest.raises(UserError, match="cannot be counted") as caught:
        summarise([run], tmp_path / "sum")
    assert caught.value.where == str(ledger)
    assert not list(tmp_path.glob("sum*"))


def test_runs_tested_on_few_dates_claim_nothing_but_their_look_counts(tmp_path: Path) -> None:
    few, enough = write_run(tmp_path, "A", num_bars=15, share=0.9), write_run(tmp_path, "B")
    decided(enough, -0.1, 0.01)
    first, second = models_of([few, enough])
    assert (first.corrected_p, first.verdict) == (None, Verdict.TOO_FEW_DATES)
    assert second.corrected_p == pytest.approx(0.02)
    told = summarise([few], tmp_path / "sum").text
    assert told.startswith("The only model is not better than every rival")
    assert {row["corrected_p"] for row in rows_of(tmp_path / "sum")} == {""}
    assert "no claim: fewer than 20 dates" in text_of(tmp_path / "sum")
