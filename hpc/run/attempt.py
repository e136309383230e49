"""One attempt of a run as its ranks know it: the run's files, the ledger, the lease and the stop request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpc.run import lease
from hpc.run.history import Ledger
from hpc.run.jobenv import JobEnv
from hpc.run.paths import RunPaths
from hpc.run.stop import Stop


@dataclass(frozen=True)
class Attempt:
    """One attempt, seen from one rank.

    ``lease_token`` is what the attempt holds the run directory with; None for ranks that nobody launched,
    which may write as long as no other attempt is alive.
    """

    paths: RunPaths
    number: int
    stop: Stop
    lease_token: str | None = None

    @classmethod
    def join(cls, paths: RunPaths, env: JobEnv) -> Attempt:
        """Return the attempt that this process is a rank of; only rank 0 looks for a stop request on disk."""
        request_file = paths.stop_request if env.is_main else None
        stop = Stop(deadline=env.deadline, request_file=request_file, attempt=env.attempt)
        return cls(paths, env.attempt, stop, env.lease)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.paths.events)

    def check_lease(self) -> None:
        """Raise UserError when another attempt holds the run; called before every write that counts."""
        lease.check(self.paths.lease, self.lease_token)

    def record(self, kind: str, **fields: Any) -> None:
        """Add an event of this attempt to the run's ledger, if the attempt still holds the run."""
        self.check_lease()
        self.ledger.append(kind, attempt=self.number, **fields)
