"""Attempts on this machine, with small real programs as ranks."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hpc.attempt.local_job import LocalRun
from hpc.base import records
from hpc.base.errors import UserError
from hpc.run import lease
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths

RANK = """
import os, sys, time
from pathlib import Path
from hpc.run.jobenv import JobEnv
from hpc.run.history import Ledger
from hpc.attempt.local_job import LocalRun
from hpc.run.paths import RunPaths
from hpc.run.stop import Stop
env, paths = JobEnv.read(), RunPaths(Path(sys.argv[1]))
ledger = Ledger(paths.events)
quick = {"margin_s": 0.2, "check_every_s": 0.05}
stop = Stop(deadline=env.deadline, request_file=paths.stop_request, attempt=env.attempt, **quick)
stop.listen()
print("rank", env.rank, "of", env.world_size, "attempt", env.attempt, flush=True)
def commit(step):
    if env.is_main:
        ledger.append("checkpoint", attempt=env.attempt, step=step)
def leave():
    if env.is_main:
        ledger.append("stop_agreed", attempt=env.attempt, step=0, cause="deadline")
    stop.ignore()  # as a rank of a run does: an interpreter that shuts down has no handlers any more
    sys.exit(85)
def finish():
    if env.is_main:
        ledger.append("finished", attempt=env.attempt, step=0)
    stop.ignore()
    sys.exit(0)
def work_until_told():
    for step in range(10_000):
        if stop.agree(step, next_evaluates=False, save_is_due=False, reduce_max=lambda mine: mine).stop:
            return
        time.sleep(0.02)
"""


def local_run(
    tmp_path: Path, body: str, *, num_tasks: int = 2, limit_s: int = 60, max_stalled: int = 2
) -> LocalRun:
    program = tmp_path / "rank.py"
    program.write_text(RANK + body)
    run_dir = tmp_path / "runs" / "toy" / "one"
    run_dir.mkdir(parents=True)
    command = (sys.executable, "-u", str(program), str(run_dir))
    plan = {
        "num_tasks": num_tasks,
        "resources": {"limit": f"0:{limit_s}"},
        "retry": {"max_stalled_attempts": max_stalled, "max_attempts": None},
    }
    records.write_json(RunPaths(run_dir).plan, plan)
    return LocalRun(run_dir, tmp_path, command, gpus=None)


@pytest.fixture(autouse=True)
def _project_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.delenv("SUBMITIT_LOCAL_JOB_ID", raising=False)
    monkeypatch.chdir(Path.cwd())


def test_a_run_goes_from_attempt_to_attempt_until_it_is_finished(tmp_path: Path) -> None:
    run = local_run(tmp_path, "commit(env.attempt * 10); finish() if env.attempt == 3 else leave()")

    assert run() == "finished"

    history = Ledger(RunPaths(run.run_dir).events).history()
    assert [attempt.committed_step for attempt in history.attempts] == [10, 20, 30]
    assert [attempt.cause for attempt in history.attempts] == ["deadline", "deadline", "finished"]
    log = RunPaths(run.run_dir).rank_log(1).read_text().splitlines()
    assert log == [f"rank 1 of 2 attempt {number}" for number in (1, 2, 3)]


def test_the_second_attempt_without_a_new_step_is_the_last(tmp_path: Path) -> None:
    run = local_run(tmp_path, "leave()")

    assert run() == "stop"

    history = Ledger(RunPaths(run.run_dir).events).history()
    assert len(history.attempts) == 2
    assert "committed no new step" in (history.attempts[-1].why or "")


def test_a_rank_that_dies_takes_the_others_with_it_within_seconds(tmp_path: Path) -> None:
    run = local_run(
        tmp_path,
        "commit(env.attempt)\n"
        "if env.attempt == 2: finish()\n"
        "time.sleep(0.5)\n"
        "os.kill(os.getpid(), 9) if env.rank == 1 else time.sleep(600)",
    )
    begin = time.monotonic()

    assert run() == "finished"

    assert time.monotonic() - begin < 600, "it waited for the rank that sleeps"
    assert Ledger(RunPaths(run.run_dir).events).history().attempts[0].cause == "killed by SIGKILL"


def test_a_mistake_ends_the_run_at_once(tmp_path: Path) -> None:
    told = "ledger.append('mistake', attempt=env.attempt, text='no bars'); sys.exit(2)"
    run = local_run(tmp_path, told)

    assert run() == "stop"
    assert len(Ledger(RunPaths(run.run_dir).events).history().attempts) == 1


def test_the_time_limit_reaches_the_ranks_without_a_signal(tmp_path: Path) -> None:
    run = local_run(
        tmp_path, "if env.attempt == 2: finish()\nwork_until_told(); commit(7); leave()", limit_s=3
    )

    assert run() == "finished"
    assert Ledger(RunPaths(run.run_dir).events).history().attempts[0].cause == "deadline"


@pytest.mark.parametrize(("number", "state"), [(signal.SIGTERM, "cancelled"), (signal.SIGUSR2, "deadline")])
def test_terminating_the_batch_side_ends_the_run_and_usr2_only_the_attempt(
    tmp_path: Path, number: signal.Signals, state: str
) -> None:
    run = local_run(tmp_path, "if env.attempt == 2: finish()\nwork_until_told(); commit(7); leave()")
    paths = RunPaths(run.run_dir)
    code = "import pickle, sys; run = pickle.loads(bytes.fromhex(sys.argv[1])); print(run())"
    batch = subprocess.Popen([sys.executable, "-c", code, pickle.dumps(run).hex()], stdout=subprocess.PIPE)
    wait_for_ranks(paths, batch)

    batch.send_signal(number)
    out, _ = batch.communicate(timeout=60)

    assert out.decode().strip() == ("stop" if state == "cancelled" else "finished")
    assert Ledger(paths.events).history().attempts[0].cause == state
    assert not paths.lease.exists()


def wait_for_ranks(paths: RunPaths, batch: subprocess.Popen[bytes]) -> None:
    """Wait until both ranks have said their first word; from then on they listen."""
    logs = [paths.rank_log(rank) for rank in range(2)]
    while not all(log.exists() and log.read_text() for log in logs):
        assert batch.poll() is None, "the batch side ended before its ranks began"
        time.sleep(0.05)


def test_a_batch_side_that_was_killed_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    run = local_run(tmp_path, "commit(5); finish()")
    paths = RunPaths(run.run_dir)
    ledger = Ledger(paths.events)
    ledger.append("submitted", job_id="1", executor="local")
    ledger.append("attempt_started", attempt=1, job_id="1", nodes=[])
    records.write_json(
        paths.lease,
        {"token": "x", "attempt": 1, "job_id": "1", "host": os.uname().nodename, "pid": 2**22 + 1},
    )

    assert run() == "finished"

    assert [attempt.cause for attempt in ledger.history().attempts] == ["lost", "finished"]


def test_an_attempt_that_lost_its_lease_ends_its_ranks_and_writes_nothing(tmp_path: Path) -> None:
    run = local_run(tmp_path, "time.sleep(600)")
    paths = RunPaths(run.run_dir)
    code = (
        "import sys, pickle; from hpc.run import lease; lease.RENEW_S = 0.3;"
        "run = pickle.loads(bytes.fromhex(sys.argv[1])); print(run())"
    )
    batch = subprocess.Popen([sys.executable, "-c", code, pickle.dumps(run).hex()], stdout=subprocess.PIPE)
    wait_for_ranks(paths, batch)
    taken = {**json.loads(paths.lease.read_text()), "token": "another", "attempt": 2}
    records.write_json(paths.lease, taken)

    out, _ = batch.communicate(timeout=60)

    assert out.decode().strip() == "leave it to Slurm"
    assert records.read_json(paths.lease)["token"] == "another"
    assert [row["kind"] for row in Ledger(paths.events).rows()] == ["submitted", "attempt_started"]


def test_a_stuck_run_is_not_started_again_without_a_person(tmp_path: Path) -> None:
    run = local_run(tmp_path, "leave()")
    run()
    ledger = Ledger(RunPaths(run.run_dir).events)

    with pytest.raises(UserError, match="committed no new step"):
        run()

    ledger.append("submitted", job_id="by a person", executor="local")
    assert run() == "stop"


def test_a_second_job_of_a_live_run_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    run = local_run(tmp_path, "finish()")
    paths = RunPaths(run.run_dir)
    holder = lease.new(attempt=1, job_id="another")
    lease.take(paths.lease, holder, is_running=lambda _: None)

    with pytest.raises(UserError, match=r"job another on .* is at work"):
        run()

    assert Ledger(paths.events).rows() == []
    assert lease.is_held(paths.lease, holder.token)


def test_a_run_that_was_cancelled_between_attempts_does_not_go_on(tmp_path: Path) -> None:
    body = "commit(env.attempt)\nledger.append('cancelled') if env.is_main else None\nleave()"
    run = local_run(tmp_path, body)

    assert run() == "stop"
    assert len(Ledger(RunPaths(run.run_dir).events).history().attempts) == 1


def test_the_persons_gpus_reach_the_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    run = replace(local_run(tmp_path, "print(os.environ['CUDA_VISIBLE_DEVICES']); finish()"), gpus="2,3")

    run()

    assert "2,3" in RunPaths(run.run_dir).rank_log(0).read_text()
