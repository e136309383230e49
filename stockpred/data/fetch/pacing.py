"""Ask a server at most so often, and again when it is busy: after longer and longer waits, or when it says.

Retry-After: RFC 9110, section 10.2.3; status 429: RFC 6585, section 4; 418 is what Binance answers to an
address that went on after 429.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeVar

TOO_MANY = (418, 429)
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 900.0
"""Whoever is to wait for longer is told to come back later."""
WORTH_TELLING_S = 5.0


class Answer(Protocol):
    """What the pace needs to know of an HTTP response, whichever library received it."""

    status_code: int
    headers: Any


AnswerT = TypeVar("AnswerT", bound=Answer)


@dataclass
class Pace:
    """One server's requests: ``per_minute`` at most, evenly spaced; each repeated up to ``retries`` times."""

    per_minute: float
    retries: int
    tell: Callable[[str], None] = lambda _text: None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    has_answered: bool = field(default=False, init=False)
    _next_turn_s: float = field(default=-math.inf, init=False)

    def wait_turn(self) -> None:
        """Wait until a request may be sent."""
        wait_s = self._next_turn_s - self.clock()
        if wait_s > 0:
            self.sleep(wait_s)
        self._next_turn_s = self.clock() + 60 / self.per_minute

    def ask(self, send: Callable[[], AnswerT]) -> AnswerT:
        """Return the answer to a request, the last one where the server stays busy.

        Raises the library's OSError where the connection fails each time. A server that never answered is
        asked twice only: waiting does not bring a network to a node that has none.
        """
        attempt = 0
        while True:
            self.wait_turn()
            try:
                answer = send()
            except OSError:
                if attempt >= (self.retries if self.has_answered else min(self.retries, 1)):
                    raise
                self._wait("the connection failed", back_off_s(attempt))
            else:
                self.has_answered = True
                wait_s = max(back_off_s(attempt), retry_after_s(answer.headers.get("Retry-After")))
                if not is_busy(answer.status_code) or attempt >= self.retries or wait_s > LONGEST_WAIT_S:
                    return answer
                self._wait(f"the server answers {answer.status_code}", wait_s)
            attempt += 1

    def _wait(self, why: str, wait_s: float) -> None:
        if wait_s >= WORTH_TELLING_S:
            self.tell(f"{why}: waiting {wait_s:.0f} s")
        self.sleep(wait_s)


def is_busy(status_code: int) -> bool:
    """Say whether the same request may succeed later."""
    return status_code in TOO_MANY or status_code >= 500


def back_off_s(attempt: int) -> float:
    """Return the wait after the ``attempt``-th failure, counted from 0: 1, 2, 4, ... s, at most a minute."""
    return min(FIRST_WAIT_S * 2.0**attempt, 60.0)


def retry_after_s(header: str | None) -> float:
    """Return the wait that a server asks for, in seconds or until a date; 0 where it asks for none."""
    if header is None:
        return 0.0
    if header.strip().isdigit():
        return float(header)
    try:
        return max(parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0
