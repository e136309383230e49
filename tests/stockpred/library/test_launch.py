"""Why ranks ended: who is named as the cause when one is killed and the others lose it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpc.base import records
from hpc.base.errors import ExitCode, UserError
from stockpred.library import launch
from stockpred.library.launch import RankFailed

LOST = {
    "what": "rank 0 lost contact with another rank",
    "where": None,
    "fix": "see the rank that ended first",
    "exit_code": 1,
    "lost_contact": True,
}
WRONG = {"what": "the loader gives a Tensor", "where": "train_loader", "fix": "give two", "exit_code": 2}
TRACE = {"trace": "Traceback (most recent call last): KeyError: 'x'", "exit_code": 1}
TERM, KILL = signal.SIGTERM, signal.SIGKILL


def failure(folder: Path, codes: dict[int, int], *rows: dict[str, Any], passed: Any = ()) -> BaseException:
    for number, row in enumerate(rows):
        facts = {"rank": str(number), "time": float(number), **row}
        records.write_json(folder / f"error_{number}.json", facts)
    return launch._failure(folder, codes, passed)


def test_a_rank_that_was_killed_is_the_cause_and_not_that_another_lost_it(tmp_path: Path) -> None:
    found = failure(tmp_path, {0: 1, 5: -KILL}, LOST)
    assert isinstance(found, RankFailed)
    assert "rank 5 was killed by SIGKILL (most often the machine's memory was full)" in str(found)
    assert "lost contact" not in str(found)


def test_the_traceback_of_a_rank_comes_with_the_kill_of_another(tmp_path: Path) -> None:
    found = str(failure(tmp_path, {0: 1, 1: -signal.SIGSEGV}, TRACE))
    assert found.startswith("rank 1 was killed by SIGSEGV\nrank 0 failed:")
    assert "KeyError: 'x'" in found


@pytest.mark.parametrize("rows", [(WRONG, LOST), (LOST, WRONG)])
def test_a_mistake_comes_before_what_it_did_to_others(tmp_path: Path, rows: Any) -> None:
    found = failure(tmp_path, {0: 2, 1: -signal.SIGABRT}, *rows)
    assert isinstance(found, UserError)
    assert (found.what, found.where, found.fix) == (WRONG["what"], WRONG["where"], WRONG["fix"])


def test_where_nothing_but_a_loss_is_known_it_is_told(tmp_path: Path) -> None:
    found = failure(tmp_path, {0: 1, 1: 1}, LOST)
    assert isinstance(found, UserError)
    assert found.what == LOST["what"]


@pytest.mark.parametrize(
    ("codes", "rows"),
    [({0: -TERM, 1: -TERM}, ()), ({0: 85, 1: 85}, ()), ({0: 1, 1: -TERM}, (LOST,)), ({0: 85}, ())],
    ids=["before they listened", "saved", "one listened", "the others were ended"],
)
def test_asked_to_stop_the_code_is_that_of_a_requeue(tmp_path: Path, codes: Any, rows: Any) -> None:
    found = failure(tmp_path, codes, *rows, passed={int(TERM)})
    assert isinstance(found, SystemExit)
    assert found.code == ExitCode.CONTINUE_LATER


def test_a_term_that_nobody_passed_on_is_a_failure(tmp_path: Path) -> None:
    assert "rank 0 was killed by SIGTERM" in str(failure(tmp_path, {0: -TERM}))
    assert "without a word" in str(failure(tmp_path, {0: 7}))


def test_ranks_that_go_on_after_one_was_killed_are_not_taken_for_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launch, "GRACE_S", 0.1)
    programs = (["sleep", "60"], ["sh", "-c", "kill -9 $$"])
    ranks = [subprocess.Popen(program, stdin=subprocess.PIPE) for program in programs]
    try:
        assert launch._wait(ranks) == {1: -KILL}
    finally:
        launch._end(ranks)


def test_what_was_passed_on_is_remembered() -> None:
    ranks = [subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE)]
    try:
        with launch._signals_passed_to(ranks) as passed:
            signal.raise_signal(TERM)
            assert launch._wait(ranks) == {0: -TERM}
        assert passed == {int(TERM)}
    finally:
        launch._end(ranks)
