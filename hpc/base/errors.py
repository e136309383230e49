"""What goes wrong, said for people: what happened, where, and how to fix it.

UserError            one mistake that the person at the keyboard can mend
└── UserErrors       several of them, found in one go
"""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
import time
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

FAILURES = "errors.log"


class ExitCode(IntEnum):
    """How a command or a rank ends. Slurm, shells and people read these."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NO_SLURM = 4
    CONTINUE_LATER = 85
    INTERRUPTED = 130


class UserError(Exception):
    """A mistake with its place (``file:line``) and its remedy."""

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        fix: str | None = None,
        exit_code: ExitCode = ExitCode.USAGE,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix
        self.exit_code = exit_code

    @property
    def row(self) -> dict[str, str | None]:
        """What, where and the fix as plain data, for another program."""
        return {"what": self.what, "where": self.where, "fix": self.fix}

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f"\n    fix: {self.fix}" if self.fix else ""
        return f"{place}{self.what}{remedy}"


class UserErrors(UserError):
    """Several mistakes reported together, so that one round of mending is enough."""

    def __init__(self, problems: Sequence[UserError]) -> None:
        super().__init__(f"{len(problems)} problems", exit_code=problems[0].exit_code)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def raise_all(problems: Sequence[UserError]) -> None:
    """Raise one error for all problems; do nothing when there are none."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise UserErrors(problems)


def keep_failure(directory: Path, text: str, *, command: Sequence[str]) -> Path:
    """Add what a failed command said to a log in ``directory``, else in the system's; return the log."""
    entry = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(command)}\n{text.rstrip()}\n\n"
    for log in (directory / FAILURES, Path(tempfile.gettempdir()) / f"hpc-{os.getuid()}-{FAILURES}"):
        with contextlib.suppress(OSError):
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as file:
                file.write(entry)
            return log.absolute()
    raise OSError(f"there is no place for a log of this failure:\n{entry}")
