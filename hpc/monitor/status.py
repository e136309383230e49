"""How the runs are doing: their files and one question to the queue, reduced to one view per run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hpc.attempt.local_job import local_holder, waits_in_pool
from hpc.base import records
from hpc.base.errors import UserError
from hpc.base.records import Row
from hpc.run.ending import Cause, Decision
from hpc.run.find import OLDER, OLDER_FIX, Run, open_run
from hpc.run.history import Executor, History, Ledger
from hpc.run.paths import RunPaths
from hpc.slurm import commands
from hpc.slurm.parse import QueuedJob
from hpc.slurm.states import RESUBMIT, Phase, explain_reason, explain_state

QUEUE_EVERY_S = 30.0
QUEUE_BETWEEN_ATTEMPTS_S = 2.0
BETWEEN_ATTEMPTS_S = 300.0
GRACE_S = 60.0
SILENT_S = 300.0
FRESH_HOLD_S = 3.0
"""A job restarted within the second of its requeue is killed: its nodes have just revoked its credential."""
SLURM_SAYS = "Slurm: "


class RunState(StrEnum):
    """Where a run is."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    BETWEEN = "between attempts"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    LOST = "lost"

    @property
    def is_over(self) -> bool:
        return self in (RunState.FINISHED, RunState.CANCELLED, RunState.FAILED, RunState.LOST)


@dataclass(frozen=True)
class RunView:
    """One run for people and programs. Seconds end in ``_s``; None where nothing is known yet."""

    run: str
    state: RunState
    sentence: str
    remedy: str | None
    job_id: str | None
    executor: Executor | None
    attempt: int
    step: int | None
    total_steps: int | None
    loss: float | None
    best: float | None
    steps_per_s: float | None
    eta_s: float | None
    directory: str


@dataclass(frozen=True)
class Evidence:
    """What the reducer looks at. ``job`` is the queue's line; ``queue_is_known`` says if anybody asked."""

    job: QueuedJob | None
    queue_is_known: bool
    is_alive_here: bool
    waits_in_pool: bool
    progress: Row
    now: float


def view_of(run: Run, evidence: Evidence) -> RunView:
    """Reduce a run and the evidence to its view. Pure."""
    state, sentence, remedy = _state(run.history, evidence)
    if run.is_older:
        sentence, remedy = OLDER, OLDER_FIX
    progress = evidence.progress
    is_moving = state is RunState.RUNNING
    return RunView(
        run=run.name,
        state=state,
        sentence=sentence,
        remedy=remedy,
        job_id=run.history.job_id,
        executor=run.history.executor,
        attempt=len(run.history.attempts),
        step=progress.get("step"),
        total_steps=progress.get("total_steps"),
        loss=_first(progress.get("loss")),
        best=progress.get("best"),
        steps_per_s=progress.get("steps_per_s") if is_moving else None,
        eta_s=progress.get("eta_s") if is_moving else None,
        directory=str(run.paths.root),
    )


def _first(loss: object) -> float | None:
    """Return the loss to show: the first of a learner's networks."""
    values = list(loss.values()) if isinstance(loss, dict) else [loss]
    return values[0] if values and isinstance(values[0], float) else None


class Watcher:
    """Looks again and again, with few questions to Slurm: files are free, squeue is asked rarely.

    The queue is asked every 30 s, and every 2 s only in the minutes between two attempts, when a requeued
    job's hold waits to be lifted.
    """

    def __init__(self, *, lifts_holds: bool = True) -> None:
        self.lifts_holds = lifts_holds
        self._queue: tuple[QueuedJob, ...] | None = None
        self._known: frozenset[str] = frozenset()
        self._asked = -QUEUE_EVERY_S

    def look(self, runs: Sequence[Run]) -> list[RunView]:
        """Return the runs' views; lift the holds of requeued jobs on the way."""
        self._ask(runs)
        views = []
        for run in runs:
            job = commands.job_of(self._queue or (), run.job_names, run.history.job_ids)
            if self.lifts_holds and job:
                lift_hold(run, job)
            _note_end(open_run(run.paths), job)
            views.append(_settled_view(run.paths, job, queue_is_known=self._queue is not None))
        return views

    def _ask(self, runs: Sequence[Run]) -> None:
        """Ask Slurm when it is time, or about a job that it was not asked about; its silence is no error."""
        now = time.time()
        in_slurm = [run.history for run in runs if run.history.executor == Executor.SLURM]
        live = [history for history in in_slurm if not history.is_over]
        wanted = frozenset(history.job_id for history in live if history.job_id)
        is_urgent = any(_is_between(history, now) for history in live)
        pause = QUEUE_BETWEEN_ATTEMPTS_S if is_urgent else QUEUE_EVERY_S
        is_due = time.monotonic() - self._asked >= pause or not wanted <= self._known
        if not wanted or not is_due:
            return
        try:
            self._queue = commands.queue()
        except UserError:
            self._queue = None
        self._known = wanted
        self._asked = time.monotonic()


def _settled_view(paths: RunPaths, job: QueuedJob | None, *, queue_is_known: bool) -> RunView:
    """Return the view of a run as its files are now; it is lost only where a second look finds the same.

    An attempt may begin or end between the reading of the ledger and that of the lease.
    """
    lost: History | None = None
    while True:
        run = open_run(paths)
        view = view_of(run, _evidence(run, job, queue_is_known=queue_is_known))
        if view.state is not RunState.LOST or run.history == lost:
            return view
        lost = run.history


def lift_hold(run: Run, job: QueuedJob) -> bool:
    """Start a requeued job at once where Slurm holds it back for two minutes; say so in the ledger, once."""
    key = f"{job.job_id} after attempt {len(run.history.attempts)}"
    last = run.history.last
    is_requeued = last is not None and last.job_id == job.job_id and last.ended is not None
    is_held = job.state == "PENDING" and job.reason == "BeginTime" and is_requeued
    is_fresh = job.submit_time is not None and time.time() - job.submit_time < FRESH_HOLD_S
    if not is_held or is_fresh or key in run.history.lifted_holds or not _may_lift(run):
        return False
    if commands.start_now(job.job_id) is not None:
        return False
    Ledger(run.paths.events).append("hold_lifted", key=key)
    return True


def _may_lift(run: Run) -> bool:
    plan = records.read_json_if_any(run.paths.plan) or {}
    return bool(plan.get("retry", {}).get("lift_hold", True))


def _note_end(run: Run, job: QueuedJob | None) -> None:
    """Record what Slurm says about a job that ended before it could; Slurm forgets after some minutes."""
    last = run.history.last
    if job is None or last is None or last.ended is not None or last.job_id != job.job_id:
        return
    state = explain_state(job.state)
    if state.is_over:
        is_cancelled = job.state.startswith("CANCELLED")
        Ledger(run.paths.events).append(
            "vanished",
            attempt=last.number,
            cause=str(Cause.CANCELLED) if is_cancelled else f"{SLURM_SAYS}{job.state}",
            decision=str(Decision.STOP),
            why=state.meaning.sentence,
        )


def _evidence(run: Run, job: QueuedJob | None, *, queue_is_known: bool) -> Evidence:
    return Evidence(
        job=job,
        queue_is_known=queue_is_known,
        # In this order: a run that leaves the pool's list in between has begun.
        waits_in_pool=run.history.executor == Executor.LOCAL and waits_in_pool(run),
        is_alive_here=run.history.executor == Executor.LOCAL and local_holder(run.paths) is not None,
        progress=records.read_json_if_any(run.paths.status) or {},
        now=time.time(),
    )


def _is_between(history: History, now: float) -> bool:
    last = history.last
    return last is not None and last.ended is not None and now - last.ended < BETWEEN_ATTEMPTS_S


State = tuple[RunState, str, str | None]


def _state(history: History, evidence: Evidence) -> State:
    last = history.last
    if history.finished:
        return _finished(history, evidence)
    if history.is_over and last is not None:
        return _stopped(last.cause or "unknown", last.why or "")
    if history.is_cancelled and (not _is_alive(evidence) or evidence.waits_in_pool):
        return RunState.CANCELLED, "it was cancelled", RESUBMIT
    if history.executor == Executor.SLURM:
        return _state_in_slurm(history, evidence)
    return _state_here(history, evidence)


def _is_alive(evidence: Evidence) -> bool:
    job = evidence.job
    return evidence.is_alive_here or (job is not None and not explain_state(job.state).is_over)


def _finished(history: History, evidence: Evidence) -> State:
    last = history.last
    if _is_alive(evidence) and last is not None and last.ended is None:
        return RunState.RUNNING, "training is done; the ranks leave", None
    step, total = evidence.progress.get("step"), evidence.progress.get("total_steps")
    is_early = isinstance(step, int) and isinstance(total, int) and step < total
    how = f"training is done, by early stopping at step {step}," if is_early else "training is done"
    return RunState.FINISHED, f"{how} and the report is written", None


def _stopped(cause: str, why: str) -> State:
    if cause == Cause.CANCELLED:
        return RunState.CANCELLED, why, RESUBMIT
    remedy = explain_state(cause.removeprefix(SLURM_SAYS)).meaning.remedy if SLURM_SAYS in cause else None
    return RunState.FAILED, f"{cause}: {why}" if why else cause, remedy or "read the log: hpc logs"


def _state_in_slurm(history: History, evidence: Evidence) -> State:
    job = evidence.job
    if job is None:
        return _not_in_queue(history, evidence)
    phase = explain_state(job.state).phase
    last = history.last
    if phase is Phase.WAITING and last and last.ended is None and evidence.now - last.started < QUEUE_EVERY_S:
        return _running(history, evidence)  # the queue's answer is older than the attempt
    if phase is Phase.WAITING:
        explanation = explain_reason(job.reason)
        state = RunState.BETWEEN if history.attempts else RunState.WAITING
        return state, explanation.sentence, explanation.remedy
    if phase is Phase.ENDED:
        meaning = explain_state(job.state).meaning
        if job.state.startswith("CANCELLED"):
            return RunState.CANCELLED, meaning.sentence, RESUBMIT
        return RunState.FAILED, meaning.sentence, meaning.remedy
    return _running(history, evidence)


def _not_in_queue(history: History, evidence: Evidence) -> State:
    last = history.last
    is_open = last is not None and last.ended is None
    if not evidence.queue_is_known:
        state, sentence, _ = _running(history, evidence) if is_open else (RunState.WAITING, "waiting", None)
        return state, f"{sentence}; Slurm does not answer", None
    changed = max(history.submitted, (last.ended or 0.0) if last else 0.0)
    if not is_open and evidence.now - changed < GRACE_S:
        return RunState.BETWEEN, "the next attempt is about to be queued", None
    return RunState.LOST, f"Slurm knows nothing of job {history.job_id} any more", RESUBMIT


def _state_here(history: History, evidence: Evidence) -> State:
    last = history.last
    if evidence.is_alive_here:
        return _running(history, evidence)
    if evidence.waits_in_pool:
        return RunState.WAITING, "it waits for its turn on this machine", None
    changed = max(history.submitted, (last.ended or 0.0) if last else 0.0)
    has_begun = last is not None and last.ended is None and last.started > history.submitted
    if not has_begun and evidence.now - changed < GRACE_S:
        return RunState.STARTING, "the local processes are starting", None
    return RunState.LOST, "its local processes are gone", RESUBMIT


def _running(history: History, evidence: Evidence) -> State:
    last = history.last
    progress = evidence.progress
    if last is None or last.ended is not None or progress.get("attempt") != last.number:
        return RunState.STARTING, "starting: loading code and data", None
    silent_s = evidence.now - float(progress.get("time", evidence.now))
    if silent_s > SILENT_S:
        return RunState.RUNNING, f"no sign of progress for {silent_s:.0f} s", "look at the log: hpc logs"
    return RunState.RUNNING, "training", None
