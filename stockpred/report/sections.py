"""The sections that every report has: each a pure function from a run's files to a ``Section``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hpc.base import text
from hpc.base.errors import ExitCode
from hpc.run.history import AttemptRecord
from stockpred.report import curves
from stockpred.report.curves import Curve
from stockpred.report.elements import (
    ABSENT,
    Alarm,
    Cell,
    Collapsible,
    Picture,
    Section,
    Table,
    TableRow,
    heads,
    table_row,
)
from stockpred.report.format import parameter_count, sentence, significant
from stockpred.report.runfiles import RunFiles
from stockpred.report.task_part import TaskReport

TO_THE_END = "trained to the end"
_FINISHED = (TO_THE_END, "finished")
"""What this report, and then the launcher, call the end of an attempt whose training is done."""
_CALM = (None, ExitCode.OK, ExitCode.CONTINUE_LATER)
SYNTHETIC_WARNING = Alarm(
    "These bars are synthetic.",
    "They were made by a simulation. Nothing here says anything about a real market.",
)


def alarms(files: RunFiles, task_report: TaskReport) -> tuple[Alarm, ...]:
    """Return what must be read before any figure: synthetic bars, files left out, the run's warnings."""
    synthetic = (SYNTHETIC_WARNING,) if files.is_synthetic else ()
    warnings = (*task_report.notes, *files.history.warnings)
    return (*synthetic, *(Alarm("Warning.", sentence(warning)) for warning in warnings))


def training(files: RunFiles, task_report: TaskReport) -> Section:
    """Show how training went: steps, epochs, the best step, learning curves."""
    facts = [("steps", _steps(files)), ("epochs", f"{files.metrics[-1].get('epoch', 0.0):.2f}")]
    best_step = _best_step(files, task_report)
    if best_step is not None:
        facts.append(("best step on validation", f"{best_step:,}"))
    pictures = (_learning_curves(files, best_step), *task_report.training_pictures)
    return Section("Training", facts=tuple(facts), pictures=pictures)


def _best_step(files: RunFiles, task_report: TaskReport) -> int | None:
    tested = task_report.tested
    return tested.evaluated.best_step if tested else files.status.get("best_step")


def _learning_curves(files: RunFiles, best_step: int | None) -> Picture:
    attempts = files.history.attempts
    resumed_at = [(attempt.number, attempt.first_step) for attempt in attempts if attempt.first_step]
    losses, validations = curves.losses(files.metrics), curves.validations(files.metrics)[:1]
    ends = curves.ends_without_spikes(losses, validations)
    svg = curves.learning_curves(losses, validations, resumed_at, best_step, ends)
    return Picture("Learning curves", _curves_caption(losses, ends), svg)


def _steps(files: RunFiles) -> str:
    """Return how many steps were trained, and whether early stopping ended it."""
    early = files.early_stop
    if early is None:
        return f"{files.metrics[-1]['step']:,}"
    steps = f"{early.step:,} of {early.total_steps:,}: early stopping"
    if early.patience is None:
        return steps
    return f"{steps}, no better validation in {text.count(early.patience, 'evaluation')}"


def _curves_caption(losses: Sequence[Curve], ends: tuple[float, float] | None) -> str:
    caption = "Loss in training and on validation dates."
    if ends is None:
        return caption
    highest, step = max(curves.highest_loss(curve) for curve in losses)
    return (
        f"{caption} The axis ends at {significant(ends[1], 3)}, so that single training losses far above the "
        f"rest do not flatten it; the highest is {significant(highest, 3)} at step {step:,}."
    )


def attempts(files: RunFiles, task_report: TaskReport) -> Section:
    """List the attempts: nodes, first and last step, why each ended, how long it ran and waited."""
    columns = heads(
        "attempt", "job", "nodes", "from step", "to step", "ended because", "ran for", "waited before",
        text_columns=("attempt", "job", "nodes", "ended because"),
    )  # fmt: skip
    attempts = files.history.attempts
    before: Sequence[AttemptRecord | None] = (None, *attempts[:-1])
    if files.early_stop and attempts and attempts[-1].cause in _FINISHED:
        attempts = (*attempts[:-1], replace(attempts[-1], cause="early stopping"))
    running = TO_THE_END if task_report.tested else "has not ended"
    rows = tuple(_attempt_row(*pair, running) for pair in zip(attempts, before, strict=True))
    number = text.count(len(attempts), "attempt")
    return Section("Attempts", f"The run took {number}.", tables=(Table(columns, rows, has_long_text=True),))


def model(files: RunFiles, task_report: TaskReport) -> Section:
    """Describe what was trained; the parameter count is the computed one."""
    facts: list[tuple[str, str]] = []
    if task_report.tested:
        evaluated = task_report.tested.evaluated
        facts.append(
            ("parameters", f"{evaluated.num_parameters:,} ({parameter_count(evaluated.num_parameters)})")
        )
    if files.experiment:
        experiment = files.experiment
        facts += [
            (name, "the architecture's own" if value is None else str(value))
            for name, value in experiment.model.model_dump().items()
        ]
        facts.append(("task", experiment.task.name))
        facts.append(("learner", experiment.learner.name))
    facts += task_report.model_facts
    collapsibles = (Collapsible("config.yaml", files.config_text.rstrip()),) if files.config_text else ()
    return Section("Model", facts=tuple(facts), collapsibles=collapsibles)


def provenance(files: RunFiles) -> Section:
    known = files.provenance
    changes = known.get("uncommitted_changes")
    facts = [("commit", str(known.get("commit") or "not under version control"))]
    if changes:
        facts.append(
            ("uncommitted changes", f"{len(str(changes).splitlines()):,} lines of diff, in provenance.json")
        )
    facts += [(name, str(known[name])) for name in ("python", "system", "host") if known.get(name)]
    packages = known.get("packages")
    if isinstance(packages, dict):
        facts.append(
            ("packages", ", ".join(f"{name} {version}" for name, version in sorted(packages.items())))
        )
    return Section("Provenance", facts=tuple(facts))


def _attempt_row(attempt: AttemptRecord, previous: AttemptRecord | None, running: str) -> TableRow:
    ran = None if attempt.ended is None else attempt.ended - attempt.started
    waited = None if previous is None or previous.ended is None else attempt.started - previous.ended
    ending = attempt.cause or (running if attempt.ended is None else "unknown")
    return table_row(
        [
            str(attempt.number),
            attempt.job_id,
            ", ".join(attempt.nodes) or ABSENT,
            f"{attempt.first_step or 0:,}",
            ABSENT if attempt.committed_step is None else f"{attempt.committed_step:,}",
            Cell(ending, "" if attempt.exit_code in _CALM else f"exit {attempt.exit_code}"),
            ABSENT if ran is None else text.duration(ran),
            ABSENT if waited is None else text.duration(max(waited, 0.0)),
        ]
    )
