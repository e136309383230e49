"""Stop all ranks together: a signal, the deadline or a file requests it; ranks agree at a step boundary.

No signal needs to arrive: the deadline is compared with what steps, evaluations and saves were measured to
take. The collective is injected, so this module knows nothing of torch.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Literal

from hpc.base import records

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
ReduceMax = Callable[[list[float]], list[float]]
Kind = Literal["step", "evaluate", "save"]


class StopCause(StrEnum):
    """Why ranks leave before the work is done."""

    SIGNAL = "signal"
    REQUEST = "request"
    DEADLINE = "deadline"


CODES = {StopCause.DEADLINE: 1.0, StopCause.REQUEST: 2.0, StopCause.SIGNAL: 3.0}


@dataclass(frozen=True)
class Agreement:
    """What all ranks do at this step boundary."""

    stop: StopCause | None = None
    save: bool = False


class Stop:
    """One rank's request to stop, and the agreement of all ranks about it.

    ``deadline`` is an epoch second; ``request_file`` is read by the rank that is given one, and counts if it
    names this ``attempt``, from its ``from_step`` on if it has one. Ranks communicate about once per
    ``check_every_s``, and before every evaluation.
    """

    def __init__(
        self,
        *,
        deadline: float | None,
        request_file: Path | None,
        attempt: int,
        margin_s: float = 5.0,
        check_every_s: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.deadline = deadline
        self.request_file = request_file
        self.attempt = attempt
        self.margin_s = margin_s
        self.check_every_s = check_every_s
        self.clock = clock
        self._signalled = False
        self._next_check = 0
        self._recent: dict[Kind, deque[float]] = {
            "step": deque(maxlen=100),
            "evaluate": deque(maxlen=5),
            "save": deque(maxlen=5),
        }

    def listen(self) -> None:
        """Take TERM and USR2 as a request to stop; forked children of this process ignore them.

        Handlers that were installed before are called too.
        """
        owner = os.getpid()
        before = {int(number): signal.getsignal(number) for number in STOP_SIGNALS}

        def request_stop(number: int, frame: FrameType | None) -> None:
            if os.getpid() == owner:
                self._signalled = True
                earlier = before[number]
                if callable(earlier):
                    earlier(number, frame)

        for number in STOP_SIGNALS:
            signal.signal(number, request_stop)

    @staticmethod
    def ignore() -> None:
        """Ignore TERM and USR2 while this process exits: when the first rank leaves, srun ends the others.

        Python restores the default handlers at shutdown; an ignored signal stays ignored.
        """
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def measured(self, kind: Kind, seconds: float) -> None:
        """Remember how long a step, an evaluation or a save took."""
        self._recent[kind].append(seconds)

    def agree(
        self, step: int, *, next_evaluates: bool, save_is_due: bool, reduce_max: ReduceMax
    ) -> Agreement:
        """Return the same agreement on every rank; collective, called by all ranks at every step boundary."""
        if step < self._next_check and not next_evaluates:
            return Agreement()
        cause = self._requested(step, next_evaluates)
        mine = [CODES[cause] if cause else 0.0, float(save_is_due), float(self._steps_between_checks())]
        code, save, interval = reduce_max(mine)
        self._next_check = step + int(interval)
        agreed = next((cause for cause, number in CODES.items() if number == code), None)
        return Agreement(stop=agreed, save=bool(save) or agreed is not None)

    def needed_s(self, *, next_evaluates: bool) -> float:
        """Return the seconds that one more step, a save and leaving may take, from what was measured."""
        step_s = self._worst("step") + self.check_every_s
        evaluate_s = self._worst("evaluate") if next_evaluates else 0.0
        return step_s + evaluate_s + 1.5 * self._worst("save") + self.margin_s

    def _requested(self, step: int, next_evaluates: bool) -> StopCause | None:
        if self._signalled:
            return StopCause.SIGNAL
        if self._file_requests_it(step):
            return StopCause.REQUEST
        if self.deadline is None:
            return None
        is_late = self.clock() + self.needed_s(next_evaluates=next_evaluates) >= self.deadline
        return StopCause.DEADLINE if is_late else None

    def _file_requests_it(self, step: int) -> bool:
        if self.request_file is None:
            return False
        request = records.read_json_if_any(self.request_file) or {}
        return request.get("attempt") == self.attempt and step >= request.get("from_step", 0)

    def _steps_between_checks(self) -> int:
        steps = self._recent["step"]
        if not steps:
            return 1
        return max(1, min(1000, int(self.check_every_s * len(steps) / max(sum(steps), 1e-9))))

    def _worst(self, kind: Kind) -> float:
        return max(self._recent[kind], default=0.0)
