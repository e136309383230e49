"""Cancel runs: they save, leave and do not come back until they are submitted again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Sequence

from hpc.attempt.local_job import local_holder
from hpc.base.errors import ExitCode, UserError
from hpc.monitor import tables
from hpc.monitor.status import Watcher
from hpc.run.find import Run, find_root, matching, open_run
from hpc.run.history import Executor, Ledger
from hpc.run.lease import Lease
from hpc.slurm import commands as slurm


def cancel(wanted: str | None, only: str | None) -> None:
    """Let the live run or array that is meant save and leave; the ledger knows before any process does."""
    root = find_root()
    if wanted is None:
        raise UserError("which run?", fix="name a case or a run; `hpc status` lists them")
    candidates = matching(root, wanted, only)
    views = Watcher(lifts_holds=False).look(candidates)
    live = [run for run, view in zip(candidates, views, strict=True) if not view.state.is_over]
    if not live:
        newest = views[-1]
        tables.result(f"{newest.run} is not running ({newest.state.value}: {newest.sentence})")
        return
    arrays = {run.history.array for run in live}
    if len(live) > 1 and (None in arrays or len(arrays) > 1):
        names = ", ".join(dict.fromkeys(run.history.array or run.name for run in live))
        raise UserError(f"{wanted!r} means several runs", fix=f"name one: {names}")
    _cancel(live)


def _cancel(live: Sequence[Run]) -> None:
    """Cancel one run, or all runs of one array."""
    _local_holders(live)  # refuse what runs elsewhere before anything is written
    for run in live:
        Ledger(run.paths.events).append("cancelled")
    for holder in _local_holders(live):  # one that takes the run from now on finds the event
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder.pid, signal.SIGTERM)
    told = [open_run(run.paths) for run in live]  # with a job that was submitted meanwhile to go on
    _cancel_jobs([run for run in told if run.history.executor == Executor.SLURM])
    for run in live:
        tables.result(f"{run.name}: cancelled; if it is at work, it saves and leaves")


def _local_holders(live: Sequence[Run]) -> list[Lease]:
    """Return who carries the local ones of the runs; raise UserError where one is another machine's."""
    holders: list[Lease] = []
    for run in live:
        holder = local_holder(run.paths) if run.history.executor == Executor.LOCAL else None
        if holder and holder.host != socket.gethostname():
            raise UserError(f"{run.name} runs on {holder.host}", fix="cancel it there")
        holders += [holder] if holder else []
    return holders


def _cancel_jobs(live: Sequence[Run]) -> None:
    if not live:
        return
    own = {(job.job_id, job.name) for job in slurm.queue()}
    job_ids = [
        job_id
        for run in live
        for job_id in run.history.job_ids
        if any((job_id, name) in own for name in run.job_names)
    ]
    refusal = slurm.cancel(job_ids) if job_ids else None
    if refusal:
        what = f"Slurm does not cancel {', '.join(job_ids)}: {refusal.text}"
        raise UserError(what, fix=f"try: scancel {' '.join(job_ids)}", exit_code=ExitCode.FAILED)
