"""What a check before a submit finds, in the launcher or in the training program."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from hpc.base.errors import ExitCode, UserError


class Severity(StrEnum):
    """How bad a finding is; only FAIL keeps a plan from being submitted."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One finding. ``where`` is the place of the value that caused it; a failure ends with ``exit_code``."""

    name: str
    severity: Severity
    what: str
    fix: str | None = None
    where: str | None = None
    exit_code: ExitCode = ExitCode.REFUSED


def failures(findings: Iterable[Finding]) -> list[UserError]:
    """Return the findings that keep a plan from being submitted, as errors."""
    return [
        UserError(found.what, where=found.where, fix=found.fix, exit_code=found.exit_code)
        for found in findings
        if found.severity is Severity.FAIL
    ]
