"""The sections of the page in reading order: each a pure function from a run's files to a ``Section``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hpc.base import text
from hpc.base.errors import ExitCode
from hpc.run.history import AttemptRecord
from stockpred.report import curves
from stockpred.report.elements import ABSENT, Alarm, Cell, Fold, Line, Picture, Section, Table, heads, line
from stockpred.report.format import figure, parameters, sentence
from stockpred.report.learning import Curve, ends_without_spikes, highest_loss, learning_curves
from stockpred.report.runfiles import RunFiles
from stockpred.report.task_part import Chapter

TO_THE_END = "trained to the end"
_FINISHED = (TO_THE_END, "finished")
"""What this report, and then the launcher, call the end of an attempt whose training is done."""
_CALM = (None, ExitCode.OK, ExitCode.CONTINUE_LATER)
SYNTHETIC_WARNING = Alarm(
    "These bars are synthetic.",
    "They were made by a simulation. Nothing here says anything about a real market.",
)


def alarms(files: RunFiles, chapter: Chapter) -> tuple[Alarm, ...]:
    """Return what must be read before any figure: synthetic bars, files left out, the run's warnings."""
    synthetic = (SYNTHETIC_WARNING,) if files.is_synthetic else ()
    warnings = (*chapter.notes, *files.history.warnings)
    return (*synthetic, *(Alarm("Warning.", sentence(warning)) for warning in warnings))


def training(files: RunFiles, chapter: Chapter) -> Section:
    rows = files.metrics
    resumed = [
        (attempt.number, attempt.first_step) for attempt in files.history.attempts if attempt.first_step
    ]
    found = [("steps", _steps(files)), ("epochs", f"{rows[-1].get('epoch', 0.0):.2f}")]
    best_step = chapter.tested.evaluated.best_step if chapter.tested else files.status.get("best_step")
    if best_step is not None:
        found.append(("best step on validation", f"{best_step:,}"))
    losses, validations = curves.losses(rows), curves.validations(rows)[:1]
    ends = ends_without_spikes(losses, validations)
    svg = learning_curves(losses, validations, resumed, best_step, ends)
    return Section(
        "Training",
        facts=tuple(found),
        figures=(
            Picture("Learning curves", _curves_caption(losses, ends), svg),
            *chapter.training_pictures,
        ),
    )


def _steps(files: RunFiles) -> str:
    """Tell how far training went, and whether patience ended it."""
    early = files.early_stop
    if early is None:
        return f"{files.metrics[-1]['step']:,}"
    told = f"{early.step:,} of {early.total_steps:,}: early stopping"
    if early.patience is None:
        return told
    return f"{told}, no better validation in {text.count(early.patience, 'evaluation')}"


def _curves_caption(losses: Sequence[Curve], ends: tuple[float, float] | None) -> str:
    caption = "Loss in training and on validation dates."
    if ends is None:
        return caption
    highest, step = max(highest_loss(curve) for curve in losses)
    return (
        f"{caption} The axis ends at {figure(ends[1], 3)}, so that single training losses far above the "
        f"rest do not flatten it; the highest is {figure(highest, 3)} at step {step:,}."
    )


def attempts(files: RunFiles, chapter: Chapter) -> Section:
    """Tell every start of the run: where, how far, why it ended, how long it ran and waited."""
    columns = heads(
        "attempt", "job", "nodes", "from step", "to step", "ended because", "ran for", "waited before",
        words=("attempt", "job", "nodes", "ended because"),
    )  # fmt: skip
    told = files.history.attempts
    before: Sequence[AttemptRecord | None] = (None, *told[:-1])
    if files.early_stop and told and told[-1].cause in _FINISHED:
        told = (*told[:-1], replace(told[-1], cause="early stopping"))
    running = TO_THE_END if chapter.tested else "has not ended"
    rows = tuple(_attempt_line(*pair, running) for pair in zip(told, before, strict=True))
    number = text.count(len(told), "attempt")
    return Section("Attempts", f"The run took {number}.", tables=(Table(columns, rows, is_words=True),))


def model(files: RunFiles, chapter: Chapter) -> Section:
    """Describe what was trained; the parameter count is the computed one."""
    found: list[tuple[str, str]] = []
    if chapter.tested:
        evaluated = chapter.tested.evaluated
        found.append(("parameters", f"{evaluated.num_parameters:,} ({parameters(evaluated.num_parameters)})"))
    if files.experiment:
        experiment = files.experiment
        found += [
            (name, "the architecture's own" if value is None else str(value))
            for name, value in experiment.model.model_dump().items()
        ]
        found.append(("task", experiment.task.name))
        found.append(("learner", experiment.learner.name))
    found += chapter.model_facts
    folds = (Fold("config.yaml", files.config_text.rstrip()),) if files.config_text else ()
    return Section("Model", facts=tuple(found), folds=folds)


def provenance(files: RunFiles) -> Section:
    known = files.provenance
    changes = known.get("uncommitted_changes")
    found = [("commit", str(known.get("commit") or "not under version control"))]
    if changes:
        found.append(
            ("uncommitted changes", f"{len(str(changes).splitlines()):,} lines of diff, in provenance.json")
        )
    found += [(name, str(known[name])) for name in ("python", "system", "host") if known.get(name)]
    packages = known.get("packages")
    if isinstance(packages, dict):
        found.append(
            ("packages", ", ".join(f"{name} {version}" for name, version in sorted(packages.items())))
        )
    return Section("Provenance", facts=tuple(found))


def _attempt_line(attempt: AttemptRecord, previous: AttemptRecord | None, running: str) -> Line:
    ran = None if attempt.ended is None else attempt.ended - attempt.started
    waited = None if previous is None or previous.ended is None else attempt.started - previous.ended
    ending = attempt.cause or (running if attempt.ended is None else "unknown")
    return line(
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
