"""The files of a run's scores: every look at a test is counted first, and no split's forecasts are lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.data.splits import Split
from stockpred.score import files, forecasts, looks, results
from stockpred.score.compare import BarScores, score_split
from stockpred.score.forecasts import Outcomes
from stockpred.score.metrics import EvaluatedModel
from stockpred.score.results import SplitScores

DAY_NS = 86_400_000_000_000


def scored(split: Split, *, num_bars: int = 30, step: int = 40) -> tuple[SplitScores, pd.DataFrame]:
    """Score forecasts of two assets in turn."""
    rng = np.random.default_rng(int(split))
    asset = np.repeat(np.arange(2), num_bars // 2)
    first = np.datetime64(f"202{int(split)}-03-01", "ns").astype(np.int64)
    time = first + np.tile(np.arange(num_bars // 2), 2) * DAY_NS
    outcomes = Outcomes(
        split=split,
        symbols=("BTC", "ETH"),
        categories=("crypto",),
        asset=asset,
        category=np.zeros(num_bars, np.int64),
        known_at=time - DAY_NS,
        time=time,
        previous_close=np.full(num_bars, 10.0),
        realised_return=rng.standard_normal(num_bars),
        is_unseen=np.zeros(num_bars, np.bool_),
    )
    expected = rng.standard_normal(num_bars)
    model = BarScores("mlp", "mlp", expected_return=expected)
    rival = BarScores("last_value", "Last value", expected_return=np.zeros(num_bars))
    found = score_split(EvaluatedModel("mlp", 10, step), outcomes, model, (rival,))
    return found, forecasts.table(outcomes, expected)


def write(paths: RunPaths, split: Split, *, num_bars: int = 30, step: int = 40) -> SplitScores:
    found = scored(split, num_bars=num_bars, step=step)
    return files.write(paths, "forecast", *found, lambda: None)


def run_in(root: Path, run_id: str = "a") -> RunPaths:
    paths = RunPaths(root / "case" / run_id)
    paths.root.mkdir(parents=True)
    return paths


def test_scores_are_read_again_as_they_were_returned(tmp_path: Path) -> None:
    paths = run_in(tmp_path)
    validation, test = (write(paths, split) for split in (Split.VALIDATION, Split.TEST))
    assert results.read(paths.validation_results) == validation
    assert results.read(paths.test_results) == test
    assert (validation.num_looks, test.num_looks) == (None, 1)


def test_a_look_says_what_was_looked_at(tmp_path: Path) -> None:
    paths = run_in(tmp_path)
    write(paths, Split.VALIDATION)
    assert looks.read(looks.ledger_of(paths)) == []
    write(paths, Split.TEST)
    (look,) = looks.read(looks.ledger_of(paths))
    assert (look.task, look.case, look.run_id, look.step) == ("forecast", "case", "a", 40)
    assert look.symbols == ("BTC", "ETH")
    assert (look.first, look.last) == ("2022-03-01T00:00:00+00:00", "2022-03-15T00:00:00+00:00")


def test_looks_are_counted_over_runs_and_the_same_run_scored_again_is_not(tmp_path: Path) -> None:
    one, other = run_in(tmp_path, "a"), run_in(tmp_path, "b")
    assert [write(paths, Split.TEST).num_looks for paths in (one, one, other, one)] == [1, 1, 2, 2]
    assert write(one, Split.TEST, step=80).num_looks == 3


def test_the_table_holds_both_splits_whichever_was_written_last(tmp_path: Path) -> None:
    paths = [run_in(tmp_path, name) for name in ("a", "b", "c")]
    for run, order in zip(paths, ("VT", "TV", "VTTVV"), strict=True):
        for letter in order:
            write(run, Split.VALIDATION if letter == "V" else Split.TEST)
    expected = pd.concat([scored(split)[1] for split in (Split.VALIDATION, Split.TEST)], ignore_index=True)
    for run in paths:
        pd.testing.assert_frame_equal(pd.read_parquet(run.predictions), expected)
    assert len({run.predictions.read_bytes() for run in paths}) == 1


def test_a_split_scored_again_takes_the_place_of_its_rows(tmp_path: Path) -> None:
    paths = run_in(tmp_path)
    write(paths, Split.VALIDATION)
    write(paths, Split.TEST, num_bars=20)
    write(paths, Split.TEST, num_bars=30)
    assert pd.read_parquet(paths.predictions)["split"].value_counts().to_dict() == {
        "validation": 30,
        "test": 30,
    }


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", None])
def test_a_table_that_is_damaged_or_of_other_columns_is_written_anew(
    tmp_path: Path, content: bytes | None
) -> None:
    paths = run_in(tmp_path)
    if content is None:
        scored(Split.VALIDATION)[1].drop(columns="horizon").to_parquet(paths.predictions)
    else:
        paths.predictions.write_bytes(content)
    write(paths, Split.TEST)
    pd.testing.assert_frame_equal(pd.read_parquet(paths.predictions), scored(Split.TEST)[1])


def test_a_ledger_that_cannot_be_written_keeps_the_test_closed(tmp_path: Path) -> None:
    paths = run_in(tmp_path)
    write(paths, Split.VALIDATION)
    before = paths.predictions.read_bytes()
    looks.ledger_of(paths).mkdir()
    with pytest.raises(UserError) as caught:
        write(paths, Split.TEST)
    assert str(looks.ledger_of(paths)) in str(caught.value)
    assert "the test stays unopened" in str(caught.value.fix)
    assert not paths.test_results.exists()
    assert paths.predictions.read_bytes() == before


@pytest.mark.parametrize("num_checks_passed", [0, 1, 2])
def test_an_attempt_that_lost_the_run_writes_nothing_more(tmp_path: Path, num_checks_passed: int) -> None:
    paths, left = run_in(tmp_path), num_checks_passed

    def check_lease() -> None:
        nonlocal left
        if not left:
            raise UserError("another attempt holds this run")
        left -= 1

    with pytest.raises(UserError, match="another attempt"):
        files.write(paths, "forecast", *scored(Split.TEST), check_lease)
    written = (len(looks.read(looks.ledger_of(paths))) == 1, paths.predictions.exists())
    assert written == [(False, False), (True, False), (True, True)][num_checks_passed]
    assert not paths.test_results.exists()


def test_the_number_of_looks_is_all_that_writing_adds(tmp_path: Path) -> None:
    found, _ = scored(Split.TEST)
    assert write(run_in(tmp_path), Split.TEST) == replace(found, num_looks=1)
