"""From files and the queue's lines to what a person reads."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hpc.base.records import Row
from hpc.monitor import tables
from hpc.monitor.logs import Tail, last_lines
from hpc.monitor.status import Evidence, RunState, RunView, view_of
from hpc.run.find import Run
from hpc.run.history import reduce
from hpc.run.paths import RunPaths
from hpc.slurm import parse

NOW = 10_000.0
SUBMITTED: Row = {"kind": "submitted", "job_id": "7", "executor": "slurm", "time": NOW - 100}
STARTED: Row = {"kind": "attempt_started", "attempt": 1, "job_id": "7", "nodes": ["a100-1"], "time": NOW - 90}
SAVED: Row = {"kind": "checkpoint", "attempt": 1, "step": 40, "time": NOW - 50}
LEFT: Row = {
    "kind": "attempt_ended",
    "attempt": 1,
    "exit_code": 85,
    "cause": "deadline",
    "decision": "continue",
    "time": NOW - 40,
}
FINISHED: Row = {"kind": "finished", "attempt": 1, "time": NOW - 1}
CANCELLED: Row = {**LEFT, "cause": "cancelled", "decision": "stop", "why": "it was cancelled"}
CRASHED: Row = {**LEFT, "cause": "killed by SIGKILL", "decision": "stop", "why": "2 attempts in a row"}
PROGRESS: Row = {
    "step": 45,
    "total_steps": 100,
    "loss": 6.5,
    "best": 6.4,
    "eta_s": 60.0,
    "attempt": 1,
    "time": NOW - 2,
}

# As squeue prints it: id|state|reason|submit|name
RUNNING = "7|RUNNING|None|2026-11-21T02:00:00|hpc"
HELD = "7|PENDING|BeginTime|2026-11-21T02:00:00|hpc"
PRIORITY = HELD.replace("BeginTime", "Priority")
OUT_OF_MEMORY = RUNNING.replace("RUNNING", "OUT_OF_MEMORY")


def look(
    *rows: Row, line: str | None = None, asked: bool = True, alive: bool = False, progress: Row | None = None
) -> RunView:
    job = parse.queued_jobs(line)[0] if line else None
    evidence = Evidence(
        job, queue_is_known=asked, is_alive_here=alive, waits_in_pool=False, progress=progress or {}, now=NOW
    )
    return view_of(Run(RunPaths(Path("runs/crypto/small-12345678")), reduce(rows)), evidence)


@pytest.mark.parametrize(
    ("rows", "line", "state"),
    [
        ([SUBMITTED], PRIORITY, RunState.WAITING),
        ([SUBMITTED, STARTED], RUNNING, RunState.STARTING),
        ([SUBMITTED, STARTED, SAVED, LEFT], HELD, RunState.BETWEEN),
        ([SUBMITTED, STARTED, SAVED, LEFT], None, RunState.BETWEEN),
        ([SUBMITTED, STARTED, SAVED, {**LEFT, "time": NOW - 600}], None, RunState.LOST),
        ([SUBMITTED, STARTED], OUT_OF_MEMORY, RunState.FAILED),
        ([SUBMITTED, STARTED], None, RunState.LOST),
        ([SUBMITTED, STARTED, SAVED, CANCELLED], None, RunState.CANCELLED),
        ([SUBMITTED, STARTED, CRASHED], None, RunState.FAILED),
        ([SUBMITTED, STARTED, FINISHED], None, RunState.FINISHED),
        (
            [SUBMITTED, STARTED, CRASHED, {**SUBMITTED, "job_id": "8"}],
            HELD.replace("7|", "8|", 1),
            RunState.BETWEEN,
        ),
    ],
)
def test_the_state_is_right_without_accounting(rows: list[Row], line: str | None, state: RunState) -> None:
    assert look(*rows, line=line).state is state


def test_a_training_run_shows_how_far_it_is() -> None:
    view = look(SUBMITTED, STARTED, line=RUNNING, progress=PROGRESS)

    assert view.state is RunState.RUNNING
    assert (view.step, view.total_steps, view.loss, view.eta_s) == (45, 100, 6.5, 60.0)
    assert "45/100 45%" in tables.plain_line(view)


def test_a_run_that_gives_no_sign_is_pointed_out() -> None:
    view = look(SUBMITTED, STARTED, line=RUNNING, progress={**PROGRESS, "time": NOW - 1000})

    assert "no sign of progress for 1000 s" in view.sentence


def test_progress_of_an_earlier_attempt_is_not_taken_for_this_ones() -> None:
    second = {**STARTED, "attempt": 2}

    view = look(SUBMITTED, STARTED, SAVED, LEFT, second, line=RUNNING, progress=PROGRESS)

    assert view.state is RunState.STARTING
    assert view.eta_s is None


def test_a_waiting_run_says_why_and_what_can_be_done() -> None:
    limit = PRIORITY.replace("Priority", "PartitionTimeLimit")

    assert look(SUBMITTED, line=limit).remedy
    assert look(SUBMITTED, line=limit).sentence != look(SUBMITTED, line=PRIORITY).sentence


@pytest.mark.parametrize("rows", [[SUBMITTED], [SUBMITTED, STARTED], [SUBMITTED, STARTED, SAVED, LEFT]])
def test_a_silent_slurm_is_no_end_of_a_run(rows: list[Row]) -> None:
    view = look(*rows, asked=False, progress=PROGRESS)

    assert not view.state.is_over
    assert "Slurm does not answer" in view.sentence


def test_a_local_run_that_was_just_submitted_again_is_starting_and_not_for_ever() -> None:
    old: Row = {"kind": "submitted", "job_id": "7", "executor": "local", "time": NOW - 900}
    ended = {**CANCELLED, "time": NOW - 800}

    def submitted_again(age_s: float) -> RunView:
        again: Row = {"kind": "submitted", "job_id": "8", "executor": "local", "time": NOW - age_s}
        return look(old, STARTED, ended, again, asked=False)

    assert submitted_again(2).state is RunState.STARTING
    assert submitted_again(200).state is RunState.LOST


@pytest.mark.parametrize(("alive", "state"), [(True, RunState.STARTING), (False, RunState.LOST)])
def test_a_local_run_is_judged_by_its_process(alive: bool, state: RunState) -> None:
    local = {**SUBMITTED, "executor": "local"}

    assert look(local, {**STARTED, "job_id": "7"}, asked=False, alive=alive).state is state


def test_programs_get_json_with_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    view = look(SUBMITTED, STARTED, line=RUNNING, progress=PROGRESS)

    tables.show_views([view], as_json=True)

    (row,) = json.loads(capsys.readouterr().out)
    assert replace(view, **row) == view


def test_a_tail_gives_every_line_once_and_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "rank_0.log"
    tail = Tail(path)

    seen = [tail.new_lines()]
    path.write_text("one\ntw")
    seen.append(tail.new_lines())
    with path.open("a") as file:
        file.write("o\nthree\n")
    seen.append(tail.new_lines())

    assert seen == [[], ["one"], ["two", "three"]]


@pytest.mark.parametrize("number", [0, 1, 3, 5000, 100_000])
def test_the_last_lines_are_those_of_the_whole_file(tmp_path: Path, number: int) -> None:
    path = tmp_path / "rank_0.log"
    lines = [f"line {index} {'.' * (index % 90)}" for index in range(20_000)]
    path.write_text("\n".join(lines) + "\n")

    assert last_lines(path, number) == (lines[-number:] if number else [], path.stat().st_size)


def test_a_half_line_is_left_to_whoever_follows(tmp_path: Path) -> None:
    path = tmp_path / "rank_0.log"
    path.write_text("one\ntwo\nthr")

    lines, end = last_lines(path, 5)
    tail = Tail(path, end)
    path.write_text("one\ntwo\nthree\n")

    assert lines == ["one", "two"]
    assert tail.new_lines() == ["three"]
