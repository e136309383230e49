"""What the launcher asks the training program: one process, one question about all cases, JSON in and out.

The program, ``python -m stockpred answer``, knows what an experiment is, which values an array may take, how
big a model is, which data must be there and which packages a result depends on; the launcher does not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hpc.base import shell
from hpc.base.errors import ExitCode, UserError, keep_failure
from hpc.plan.finding import Finding, Severity
from hpc.run.paths import RUNS

COMMAND = ("-m", "stockpred", "answer")
TIMEOUT_S = 600.0

Topic = Literal["data", "sizes"]
"""What may be asked beyond the problems of a configuration: is the data there, how big are the models."""

SUBMIT: tuple[Topic, ...] = ("data", "sizes")


@dataclass(frozen=True)
class Question:
    """A case: the plain experiments of its runs, or one experiment of which ``vary`` makes several."""

    experiments: tuple[dict[str, Any], ...]
    vary: str | None = None
    """The key whose values the program is to find; each value is a run."""
    only: tuple[str, ...] = ()
    """The values to answer for; empty for all."""


@dataclass(frozen=True)
class Problem:
    """What the program has against a value of a configuration."""

    key: str
    what: str
    fix: str | None


@dataclass(frozen=True)
class RunAnswer:
    """What the program says about one run; ``size`` counts the model's parameters, None if not asked."""

    problems: tuple[Problem, ...]
    size: int | None


@dataclass(frozen=True)
class CaseAnswer:
    """What the program says about one case.

    ``values`` are those of a varied key, None where none is. A finding's ``where`` is a key or a place.
    """

    values: tuple[str, ...] | None
    runs: tuple[RunAnswer, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Answer:
    """What the program says about all cases; ``packages`` are those that decide a result."""

    cases: tuple[CaseAnswer, ...]
    packages: tuple[str, ...]


def ask(root: Path, questions: Sequence[Question], topics: Sequence[Topic] = ()) -> Answer:
    """Ask about all cases of the workspace ``root`` at once; raise UserError when there is no answer."""
    request = {"cases": [asdict(question) for question in questions], "topics": list(topics)}
    command = [sys.executable, *COMMAND]
    done = shell.run(command, stdin=json.dumps(request), timeout_s=TIMEOUT_S, cwd=root)
    if not done.is_ok:
        raise _no_answer(keep_failure(root / RUNS, done.err, command=command), done)
    row = json.loads(done.out)
    return Answer(tuple(map(_case_answer, row["cases"])), tuple(row["packages"]))


def _no_answer(log: Path, done: shell.Completed) -> UserError:
    last_line = next(iter(done.err.strip().splitlines()[-1:]), "it said nothing").strip()
    return UserError(
        f"the training program gave no answer (exit code {done.code}): {last_line}",
        where=str(log),
        fix="this log has all that it said; does the program start: python -m stockpred --help",
        exit_code=ExitCode.FAILED,
    )


def _case_answer(row: dict[str, Any]) -> CaseAnswer:
    return CaseAnswer(
        values=None if row["values"] is None else tuple(row["values"]),
        runs=tuple(
            RunAnswer(tuple(Problem(**problem) for problem in run["problems"]), run["size"])
            for run in row["runs"]
        ),
        findings=tuple(map(_finding, row["findings"])),
    )


def _finding(row: dict[str, Any]) -> Finding:
    severity, exit_code = Severity(row["severity"]), ExitCode(row["exit_code"])
    return Finding(**{**row, "severity": severity, "exit_code": exit_code})
