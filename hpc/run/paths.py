"""The names of everything inside a run directory, written down once.

The run directory is a contract: whoever reads or writes one of these files takes its name from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RUNS = "runs"
LAYOUT = 2
"""The version of this contract, kept in plan.json; what older versions wrote is not continued."""


def run_dir(case: str, run_id: str) -> str:
    """Return where a run lies, relative to the workspace."""
    return f"{RUNS}/{case}/{run_id}"


@dataclass(frozen=True)
class RunPaths:
    """The files of one run under ``root`` (``runs/CASE/RUN_ID``)."""

    root: Path

    @classmethod
    def of(cls, workspace: Path, case: str, run_id: str) -> RunPaths:
        return cls(workspace / run_dir(case, run_id))

    @property
    def case(self) -> str:
        return self.root.parent.name

    @property
    def run_id(self) -> str:
        return self.root.name

    @property
    def job_name(self) -> str:
        """What Slurm calls the jobs of this run, or of this array of runs."""
        return f"hpc-{self.case}-{self.run_id}"

    def array(self, array_id: str) -> RunPaths:
        """Return the directory of an array that this run belongs to; it lies beside its runs."""
        return RunPaths(self.root.parent / array_id)

    # What was asked for: written before the first job starts.
    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def provenance(self) -> Path:
        return self.root / "provenance.json"

    @property
    def job_script(self) -> Path:
        return self.root / "job.sbatch"

    @property
    def submitit(self) -> Path:
        return self.root / "submitit"

    # What happened: written by the launcher and by the job.
    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def status(self) -> Path:
        return self.root / "status.json"

    @property
    def lease(self) -> Path:
        """Who holds the run; `.lease.json.lock` beside it guards its changes."""
        return self.root / "lease.json"

    @property
    def stop_request(self) -> Path:
        return self.root / "stop.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def rank_log(self, rank: int) -> Path:
        return self.logs / f"rank_{rank}.log"

    def rendezvous(self, attempt: int) -> Path:
        """Where rank 0 of an attempt publishes the address that it has already bound."""
        return self.root / "rendezvous" / f"attempt_{attempt}.json"

    # What training keeps.
    @property
    def prepared(self) -> Path:
        return self.root / "prepared"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def best(self) -> Path:
        return self.root / "best"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def speed(self) -> Path:
        """Wall-clock measurements; apart from ``metrics``, which is equal in every repetition."""
        return self.root / "speed.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    # What training found out about its data.
    @property
    def tokenizer(self) -> Path:
        return self.root / "tokenizer.json"

    @property
    def asset_info(self) -> Path:
        return self.root / "asset_info.json"

    @property
    def data_info(self) -> Path:
        return self.root / "data_info.json"

    @property
    def norm_stats(self) -> Path:
        return self.root / "norm_stats.json"

    # The results.
    @property
    def training_log(self) -> Path:
        return self.root / "training_log.json"

    @property
    def validation_results(self) -> Path:
        return self.root / "validation_results.json"

    @property
    def test_results(self) -> Path:
        return self.root / "test_results.json"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions.parquet"

    @property
    def report(self) -> Path:
        return self.root / "report.html"
