"""The ledger of looks: which overlap, that each is counted once, and that none is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.score import looks
from stockpred.score.looks import Look

FIRST_DAY = datetime(2023, 1, 2, tzinfo=UTC)


def look(
    run_id: str = "a", symbols: str = "A", first: int = 0, last: int = 9, task: str = "forecast"
) -> Look:
    """Return a look at daily bars of assets named by one letter each, from one day to another."""
    times = [(FIRST_DAY + timedelta(days=day)).isoformat() for day in (first, last)]
    return Look(task, "case", run_id, 40, tuple(symbols), *times)


@st.composite
def any_look(draw: st.DrawFn) -> tuple[Look, set[tuple[str, str, int]]]:
    """Draw a look, and every bar that it saw."""
    task, run_id = draw(st.sampled_from(["forecast", "next_token"])), draw(st.sampled_from("abc"))
    symbols = draw(st.sets(st.sampled_from("ABC"), min_size=1))
    first = draw(st.integers(0, 8))
    last = draw(st.integers(first, 8))
    bars = {(task, symbol, day) for symbol in symbols for day in range(first, last + 1)}
    return look(run_id, "".join(sorted(symbols)), first, last, task), bars


@given(any_look(), any_look())
def test_looks_overlap_exactly_where_they_saw_a_bar_in_common(
    one: tuple[Look, set[object]], other: tuple[Look, set[object]]
) -> None:
    assert one[0].overlaps(other[0]) == bool(one[1] & other[1])
    assert other[0].overlaps(one[0]) == one[0].overlaps(other[0])


@given(st.lists(any_look(), min_size=1, max_size=8))
def test_what_is_recorded_is_read_again_and_counted_as_by_hand(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[Look, set[object]]]
) -> None:
    paths = RunPaths(tmp_path_factory.mktemp("workspace") / "case" / "run")
    (last, seen), known = made[-1], dict(made)
    for one in [one for one, _ in made[:-1]]:
        looks.record(paths, one)
    by_hand = {one.run_id for one, bars in made if bars & seen}
    assert looks.record(paths, last) == len(by_hand)
    assert looks.record(paths, last) == len(by_hand)
    assert sorted(map(str, looks.read(looks.ledger_of(paths)))) == sorted(map(str, known))


def test_a_look_of_the_same_weights_at_other_dates_is_kept_and_still_counts_once(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "case" / "a")
    assert looks.record(paths, look("a", first=0, last=9)) == 1
    assert looks.record(paths, look("a", first=20, last=29)) == 1
    assert looks.record(paths, look("b", first=25, last=35)) == 2
    assert looks.record(paths, look("c", first=0, last=50)) == 3


def test_other_weights_of_the_same_run_are_another_look(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "case" / "a")
    looks.record(paths, look())
    assert looks.record(paths, replace(look(), step=80)) == 2


def test_lines_that_are_torn_or_hold_no_look_are_left_out_and_harm_no_other(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "case" / "a")
    row = asdict(look("b"))
    wrong = [{**row, "symbols": "AB"}, {**row, "first": 3}, {**row, "run_id": []}, {"task": "forecast"}, [1]]
    lines = [*map(json.dumps, wrong), json.dumps({**row, "of_a_later_version": 1}), json.dumps(row)[:-9]]
    looks.ledger_of(paths).write_text("\n".join(lines))
    assert looks.record(paths, look("a")) == 2
    assert looks.read(looks.ledger_of(paths)) == [look("b"), look("a")]


def test_no_ledger_holds_no_look(tmp_path: Path) -> None:
    assert looks.read(tmp_path / "test_looks.jsonl") == []


def test_a_ledger_that_cannot_be_read_or_written_is_one_error_that_names_it(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "case" / "a")
    ledger = looks.ledger_of(paths)
    ledger.mkdir()
    for refused, what in (
        (lambda: looks.read(ledger), "cannot be counted"),
        (lambda: looks.record(paths, look()), "cannot be recorded"),
    ):
        with pytest.raises(UserError, match=what) as caught:
            refused()
        assert caught.value.where == str(ledger)
        assert caught.value.fix


def test_a_run_named_from_inside_its_case_is_counted_in_the_same_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "case" / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "case")
    assert looks.ledger_of(RunPaths(Path("a"))) == looks.ledger_of(RunPaths(tmp_path / "case" / "a"))


RECORDING = """
import sys
from pathlib import Path
from hpc.run.paths import RunPaths
from stockpred.score import looks
from tests.stockpred.score.test_looks import look

paths = RunPaths(Path(sys.argv[1]) / "case" / "a")
print("ready", flush=True)
sys.stdin.readline()
print(*(looks.record(paths, look(sys.argv[2] + str(number))) for number in range(60)))
"""


def test_two_processes_that_append_at_once_lose_no_look_and_count_each_other(tmp_path: Path) -> None:
    """Whoever comes n-th is told n: no two read the ledger before either has appended."""
    command = [sys.executable, "-c", RECORDING, str(tmp_path)]
    processes = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in "xy"
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    counts = [int(word) for process in processes for word in process.communicate(timeout=120)[0].split()]
    assert sorted(counts) == list(range(1, 121))
    recorded = looks.read(tmp_path / "test_looks.jsonl")
    assert {one.run_id for one in recorded} == {f"{name}{number}" for name in "xy" for number in range(60)}
    assert len(recorded) == 120
