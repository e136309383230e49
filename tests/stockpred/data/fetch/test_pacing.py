"""How often a server is asked, and how long it is left alone when it is busy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate

import pytest

from stockpred.data.fetch.pacing import Pace, retry_after_s


@dataclass
class Answer:
    status_code: int
    headers: dict[str, str] = field(default_factory=dict)


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def pace_of(clock: Clock, *, per_minute: float = 1e9, retries: int = 3) -> Pace:
    return Pace(per_minute, retries, sleep=clock.sleep, clock=clock.read)


def answering(*answers: Answer | OSError) -> Callable[[], Answer]:
    left = list(answers)

    def send() -> Answer:
        answer = left.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    return send


def waits(clock: Clock) -> list[float]:
    """Return the waits between the tries of one request; turns at 1e9 a minute take no time."""
    return [seconds for seconds in clock.slept if seconds > 1e-3]


def test_requests_are_spaced_so_that_a_minute_has_as_many_as_allowed() -> None:
    clock = Clock()
    pace = pace_of(clock, per_minute=120)
    sent: list[float] = []

    def send() -> Answer:
        sent.append(clock.now)
        return Answer(200)

    for _ in range(241):
        pace.ask(send)

    assert sent[-1] - sent[0] == pytest.approx(120)
    in_any_minute = max(sum(start <= at < start + 60 - 1e-9 for at in sent) for start in sent)
    assert in_any_minute == 120


@pytest.mark.parametrize("status", [429, 418, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again_after_1_2_and_4_seconds(status: int) -> None:
    clock = Clock()
    answer = pace_of(clock).ask(answering(*[Answer(status)] * 3, Answer(200)))

    assert answer.status_code == 200
    assert waits(clock) == [1, 2, 4]


def test_the_wait_that_the_server_asks_for_is_kept() -> None:
    clock = Clock()
    answers = [Answer(429, {"Retry-After": "30"}), Answer(503, {"Retry-After": "1"}), Answer(200)]

    assert pace_of(clock).ask(answering(*answers)).status_code == 200
    assert waits(clock) == [30, 2]  # never shorter than the back-off


def test_a_wait_of_more_than_a_quarter_of_an_hour_is_the_answer() -> None:
    clock = Clock()
    answer = pace_of(clock).ask(answering(Answer(429, {"Retry-After": "3600"})))

    assert answer.status_code == 429
    assert waits(clock) == []


@pytest.mark.parametrize("status", [200, 304, 400, 403, 404, 451])
def test_what_will_not_change_is_not_asked_again(status: int) -> None:
    clock = Clock()
    assert pace_of(clock).ask(answering(Answer(status))).status_code == status
    assert waits(clock) == []


def test_the_last_answer_is_returned_when_retries_are_used_up() -> None:
    answers = [Answer(503), Answer(502), Answer(500)]
    assert pace_of(Clock(), retries=2).ask(answering(*answers)).status_code == 500


def test_a_broken_connection_is_tried_again_where_the_server_has_answered_before() -> None:
    clock = Clock()
    pace = pace_of(clock)
    broken = [ConnectionResetError("reset")] * 3
    pace.ask(answering(Answer(200)))

    assert pace.ask(answering(*broken, Answer(200))).status_code == 200
    assert waits(clock) == [1, 2, 4]


def test_a_server_that_never_answered_is_tried_twice_only() -> None:
    clock = Clock()
    with pytest.raises(ConnectionRefusedError):
        pace_of(clock, retries=9).ask(answering(*[ConnectionRefusedError("no")] * 2))
    assert waits(clock) == [1]


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, 0), ("7", 7), (" 7 ", 7), ("soon", 0), (formatdate(0, usegmt=True), 0)]
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float) -> None:
    assert retry_after_s(header) == seconds


def test_a_date_of_retry_after_is_the_time_until_then() -> None:
    header = formatdate(time.time() + 1000, usegmt=True)
    assert 900 < retry_after_s(header) <= 1000
