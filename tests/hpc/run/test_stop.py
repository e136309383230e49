"""Ranks agree on when to leave."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.base import records
from hpc.run.stop import STOP_SIGNALS, Agreement, Stop, StopCause


@pytest.fixture(autouse=True)
def _handlers_come_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def alone(values: list[float]) -> list[float]:
    return values


def new_stop(**changes: object) -> Stop:
    settings: dict[str, object] = {
        "deadline": None,
        "request_file": None,
        "attempt": 1,
        "clock": lambda: 1000.0,
    }
    return Stop(**{**settings, **changes})  # type: ignore[arg-type]


def agree(stop: Stop, step: int, *, evaluates: bool = False, save: bool = False) -> Agreement:
    return stop.agree(step, next_evaluates=evaluates, save_is_due=save, reduce_max=alone)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_is_only_a_request_that_the_next_boundary_agrees_on(number: signal.Signals) -> None:
    stop = new_stop()
    stop.listen()

    os.kill(os.getpid(), number)

    assert agree(stop, 1) == Agreement(StopCause.SIGNAL, save=True)


def test_a_forked_worker_that_gets_the_signal_changes_nothing() -> None:
    stop = new_stop()
    stop.listen()

    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0 if agree(stop, 1) == Agreement() else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert agree(stop, 1) == Agreement()


@pytest.mark.parametrize(
    ("left_s", "evaluates", "leaves"),
    [
        # a step of 2 s, a save of 4 s (counted 1.5 times), 1 s between talks, 5 s of margin: 14 s;
        # 10 s more to evaluate
        (14.5, False, False),
        (13.5, False, True),
        (23.5, True, True),
        (24.5, True, False),
    ],
)
def test_the_deadline_leaves_room_for_what_was_measured(left_s: float, evaluates: bool, leaves: bool) -> None:
    stop = new_stop(deadline=1000.0 + left_s)
    stop.measured("step", 2.0)
    stop.measured("save", 4.0)
    stop.measured("evaluate", 10.0)

    agreement = agree(stop, 5, evaluates=evaluates)

    assert agreement.stop == (StopCause.DEADLINE if leaves else None)


def test_ranks_talk_once_in_a_while_and_always_before_an_evaluation() -> None:
    stop = new_stop(check_every_s=1.0)
    for _ in range(50):
        stop.measured("step", 0.1)
    talks: list[int] = []

    def counted(values: list[float]) -> list[float]:
        talks.append(step)
        return values

    for step in range(1, 40):
        stop.agree(step, next_evaluates=step == 25, save_is_due=False, reduce_max=counted)

    assert talks == [1, 11, 21, 25, 35]


def test_the_rank_that_is_asked_takes_the_others_along() -> None:
    quiet, loud = new_stop(), new_stop()
    loud.listen()
    os.kill(os.getpid(), signal.SIGUSR2)
    heard: list[list[float]] = []
    loud.agree(1, next_evaluates=False, save_is_due=False, reduce_max=lambda mine: heard.append(mine) or mine)

    agreement = quiet.agree(
        1, next_evaluates=False, save_is_due=False, reduce_max=lambda mine: list(map(max, mine, heard[0]))
    )

    assert agreement == Agreement(StopCause.SIGNAL, save=True)


def test_a_save_that_is_due_is_agreed_without_stopping() -> None:
    assert agree(new_stop(), 1, save=True) == Agreement(stop=None, save=True)


def test_only_a_request_to_this_attempt_counts(tmp_path: Path) -> None:
    request = tmp_path / "stop.json"
    stop = new_stop(request_file=request, attempt=2)

    records.write_json(request, {"attempt": 1})
    before = agree(stop, 1)
    records.write_json(request, {"attempt": 2})

    assert before == Agreement()
    assert agree(stop, 2).stop is StopCause.REQUEST


def test_a_request_from_a_step_on_waits_for_it(tmp_path: Path) -> None:
    request = tmp_path / "stop.json"
    records.write_json(request, {"attempt": 1, "from_step": 5})
    stop = new_stop(request_file=request, attempt=1)

    assert [agree(stop, step).stop for step in (4, 5)] == [None, StopCause.REQUEST]
