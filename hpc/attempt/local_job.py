"""What submitit starts on this machine: one run with all its attempts, or a pool of runs."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from hpc.attempt.supervise import end, run_attempt, stop_signals
from hpc.base import records, shell
from hpc.base.errors import UserError
from hpc.base.shell import Process
from hpc.run import lease
from hpc.run.decision import RetryLimits
from hpc.run.ending import CANCELLED, NOTHING, Circumstance, Decision
from hpc.run.find import Run
from hpc.run.history import Executor
from hpc.run.jobenv import num_cores
from hpc.run.lease import Lease
from hpc.run.paths import RunPaths
from hpc.slurm import parse

GPUS = "CUDA_VISIBLE_DEVICES"
JOB_ID = "SUBMITIT_LOCAL_JOB_ID"
POLL_S = 0.2
POOLS = "pool-*.json"


class LocalMachine:
    """Ranks as processes of this machine; the allocation ends the plan's limit after each attempt's start.

    ``at_once`` runs share the machine.
    """

    executor = Executor.LOCAL
    is_new_submit = False
    nodes: tuple[str, ...] = ()

    def __init__(
        self, paths: RunPaths, command: Sequence[str], *, job_id: str, array: str | None, at_once: int
    ) -> None:
        plan = records.read_json(paths.plan)
        limit_s = parse.parse_limit(plan["resources"]["limit"])
        self.paths = paths
        self.job_id = job_id
        self.array = array
        self.at_once = at_once
        self.num_tasks = int(plan["num_tasks"])
        self.command = command
        self.is_cancelled = False
        self.deadline = None if math.isinf(limit_s) else time.time() + limit_s

    def start(self, environ: Mapping[str, str]) -> list[Process]:
        self.paths.logs.mkdir(parents=True, exist_ok=True)
        num_threads = max(1, num_cores() // (self.num_tasks * self.at_once))
        shared = {
            "OMP_NUM_THREADS": str(num_threads),
            "PYTHONUNBUFFERED": "1",
            **shell.without_slurm(environ),
        }
        started: list[Process] = []
        try:
            for rank in range(self.num_tasks):
                environ_of_rank = {**shared, **self._place(rank)}
                log = self.paths.rank_log(rank)
                started.append(shell.start(self.command, environ=environ_of_rank, log=log))
        except BaseException:
            end(started)
            raise
        return started

    def forward_signal(self, number: int, processes: list[Process]) -> float:
        """Terminate the ranks; TERM and INT end the run, USR2 only this attempt, as a time limit does."""
        self.is_cancelled = self.is_cancelled or number != signal.SIGUSR2
        for process in processes:
            if process.poll() is None:
                process.terminate()
        return math.inf

    def circumstance(self) -> Circumstance:
        return CANCELLED if self.is_cancelled else NOTHING

    def is_running(self, job_id: str) -> bool | None:
        return None

    def _place(self, rank: int) -> dict[str, str]:
        world = str(self.num_tasks)
        place = {"RANK": str(rank), "WORLD_SIZE": world}
        return {**place, "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": world}


@dataclass(frozen=True)
class LocalRun:
    """One run, attempt after attempt. What it is stands in its directory."""

    run_dir: Path
    root: Path
    command: tuple[str, ...]
    """How a rank is started."""
    gpus: str | None
    """The GPUs that the person chose by CUDA_VISIBLE_DEVICES; submitit puts its own choice in their place."""
    array: str | None = None
    at_once: int = 1

    def __call__(self) -> str:
        """Attempt after attempt until the run is finished or stopped; return the last decision.

        The run is held from the first attempt to the end of the last.
        """
        os.chdir(self.root)
        os.environ.pop(GPUS, None)
        if self.gpus is not None:
            os.environ[GPUS] = self.gpus
        paths = RunPaths(self.run_dir)
        limits = RetryLimits.of(records.read_json(paths.plan))
        try:
            with stop_signals() as received, ExitStack() as job_end:
                decision = Decision.CONTINUE
                while decision is Decision.CONTINUE:
                    machine = self._machine(paths)
                    decision = run_attempt(paths, machine, limits, received, job_end=job_end).decision
        except UserError as error:
            paths.logs.mkdir(parents=True, exist_ok=True)
            with (paths.logs / "job.log").open("a") as log:
                log.write(f"error: {error}\n")
            raise
        return decision.value

    def _machine(self, paths: RunPaths) -> LocalMachine:
        """Return this machine for one attempt, whose time begins now."""
        job_id = os.environ.get(JOB_ID, str(os.getpid()))
        return LocalMachine(paths, self.command, job_id=job_id, array=self.array, at_once=self.at_once)


@dataclass(frozen=True)
class LocalPool:
    """Runs of an array, some at a time; each in a process of its own that takes its run to the end.

    ``tasks`` are the runs' numbers in the array. A file in the array's directory says which runs wait in the
    pool. A pool begins when the earlier pools of its array have ended.
    """

    array_dir: Path
    root: Path
    run_ids: tuple[str, ...]
    tasks: tuple[int, ...]
    at_once: int
    gpus: tuple[str | None, ...]
    """For each of the ``at_once`` places, the GPUs that a run there may see; None for all there are."""

    def __call__(self) -> None:
        os.chdir(self.root)
        os.environ.pop(GPUS, None)  # submitit's own choice
        array = RunPaths(self.array_dir)
        pool_id = os.environ.get(JOB_ID, str(os.getpid()))
        earlier = [path for path in array.root.glob(POOLS) if path != _pool_file(array, pool_id)]
        waiting = list(zip(self.run_ids, self.tasks, strict=True))
        try:
            with stop_signals() as received:
                self._publish(array, pool_id, self.run_ids)
                while any(map(_pool_lives, earlier)) and not received:
                    time.sleep(POLL_S)
                self._run_all(array, pool_id, waiting, received)
        finally:
            _pool_file(array, pool_id).unlink(missing_ok=True)

    def _run_all(
        self, array: RunPaths, pool_id: str, waiting: list[tuple[str, int]], received: list[int]
    ) -> None:
        """Fill the free places until no run waits and none works; after a stop signal, start no more."""
        places: dict[int, Process] = {}
        begins: dict[str, Process] = {}
        published, listed = -math.inf, list[str]()
        while places or (waiting and not received):
            places = {place: process for place, process in places.items() if process.poll() is None}
            if received:
                waiting.clear()
                _forward_signals(received, places)
            for place in sorted(set(range(self.at_once)) - set(places)):
                if waiting:
                    run_id, task = waiting.pop(0)
                    places[place] = begins[run_id] = self._start(array, place, run_id, task_id(pool_id, task))
            begins = {
                run_id: begun for run_id, begun in begins.items() if _has_yet_to_begin(array, run_id, begun)
            }
            not_begun = [*begins, *(run_id for run_id, _ in waiting)]
            if not_begun != listed or time.monotonic() - published > lease.RENEW_S:
                self._publish(array, pool_id, not_begun)
                published, listed = time.monotonic(), not_begun
            time.sleep(POLL_S)

    def _publish(self, array: RunPaths, pool_id: str, not_begun: Sequence[str]) -> None:
        """Write who runs the pool and which runs wait in it; the file's age tells whether the pool lives."""
        holder = asdict(lease.new(attempt=0, job_id=pool_id))
        row = {"holder": holder, "waiting": list(not_begun)}
        records.write_json(_pool_file(array, pool_id), row)

    def _start(self, array: RunPaths, place: int, run_id: str, job_id: str) -> Process:
        run = array.array(run_id)
        command = [sys.executable, "-m", "hpc", "run-local", str(run.root), "--array", array.run_id]
        environ = {**os.environ, JOB_ID: job_id}
        gpus = self.gpus[place]
        if gpus is not None:
            environ[GPUS] = gpus
        run.logs.mkdir(parents=True, exist_ok=True)
        return shell.start(
            [*command, "--at-once", str(self.at_once)], environ=environ, log=run.logs / "job.log"
        )


def rank_command(paths: RunPaths, root: Path) -> tuple[str, ...]:
    """Return how a rank of a run is started from ``root``."""
    return (sys.executable, "-u", "-m", "stockpred", "train", str(paths.root.relative_to(root)))


def task_id(pool_id: str, task: int) -> str:
    """Return the job id of a run in an array, in the form that Slurm gives it."""
    return f"{pool_id}_{task}"


def places_of(num_tasks: int, at_once: int | None) -> tuple[str | None, ...]:
    """Return the places of a pool whose runs have ``num_tasks`` ranks each, and the GPUs of each place.

    By default as many as there are GPUs for, or cores where there is no GPU.
    """
    gpus = _visible_gpus()
    num_places = at_once or max(1, (len(gpus) or num_cores()) // num_tasks)
    if len(gpus) < num_tasks * num_places:
        return (os.environ.get(GPUS),) * num_places
    return tuple(",".join(gpus[place * num_tasks : (place + 1) * num_tasks]) for place in range(num_places))


def _visible_gpus() -> tuple[str, ...]:
    chosen = os.environ.get(GPUS)
    if chosen is not None:
        return tuple(name.strip() for name in chosen.split(",") if name.strip())
    listed = shell.run(["nvidia-smi", "--list-gpus"], timeout_s=20)
    return tuple(str(number) for number in range(len(listed.out.splitlines()))) if listed.is_ok else ()


def _has_yet_to_begin(array: RunPaths, run_id: str, process: Process) -> bool:
    """Return whether a started process has not taken its run yet: until then the pool answers for the run."""
    return process.poll() is None and local_holder(array.array(run_id)) is None


def _forward_signals(received: list[int], places: Mapping[int, Process]) -> None:
    """Send each received signal to every run at work, once and in order."""
    while received:
        number = received.pop(0)
        for process in places.values():
            process.send_signal(number)


def waits_in_pool(run: Run) -> bool:
    """Say whether a run has yet to begin in a pool that lives."""
    array, job_id = run.history.array, run.history.job_id
    if array is None or job_id is None:
        return False
    file = _pool_file(run.paths.array(array), job_id.partition("_")[0])
    row = records.read_json_if_any(file) or {}
    return run.paths.run_id in row.get("waiting", ()) and _pool_lives(file)


def _pool_file(array: RunPaths, pool_id: str) -> Path:
    return array.root / POOLS.replace("*", pool_id)


def _pool_lives(file: Path) -> bool:
    row = records.read_json_if_any(file)
    return row is not None and lease.is_alive(file, Lease(**row["holder"]), lambda _: None)


def local_holder(paths: RunPaths) -> Lease | None:
    """Return who supervises a local run, if it lives."""
    holder = lease.read(paths.lease)
    is_alive = holder is not None and lease.is_alive(paths.lease, holder, lambda _: None)
    return holder if is_alive else None
