"""One attempt at a time writes into a run directory."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hpc.base import records
from hpc.base.errors import UserError
from hpc.run import lease
from hpc.run.lease import Lease


def nobody_to_ask(_job_id: str) -> None:
    return None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lease.json"


def test_a_second_job_is_refused_while_the_first_lives(path: Path) -> None:
    lease.take(path, lease.new(attempt=1, job_id="7"), is_running=nobody_to_ask)

    with pytest.raises(UserError, match=r"job 7 on .* is at work"):
        lease.take(path, lease.new(attempt=2, job_id="8"), is_running=nobody_to_ask)


def test_a_requeued_job_takes_its_own_run_over_and_the_zombie_notices(path: Path) -> None:
    zombie = lease.new(attempt=1, job_id="7")
    lease.take(path, zombie, is_running=nobody_to_ask)

    lease.take(path, lease.new(attempt=2, job_id="7"), is_running=nobody_to_ask)

    assert not lease.renew(path, zombie)
    with pytest.raises(UserError, match="another attempt holds this run"):
        lease.check(path, zombie.token)


def test_a_zombie_does_not_take_away_the_new_holders_lease(path: Path) -> None:
    zombie, owner = lease.new(attempt=1, job_id="7"), lease.new(attempt=2, job_id="7")
    lease.take(path, zombie, is_running=nobody_to_ask)
    lease.take(path, owner, is_running=nobody_to_ask)

    lease.renew(path, zombie)
    lease.release(path, zombie)

    lease.check(path, owner.token)


def test_a_dead_process_on_this_machine_is_no_holder(path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead = replace(lease.new(attempt=1, job_id="7"), pid=child.pid)
    lease.take(path, dead, is_running=nobody_to_ask)

    lease.take(path, lease.new(attempt=2, job_id="8"), is_running=nobody_to_ask)

    holder = lease.read(path)
    assert holder is not None
    assert holder.job_id == "8"


def test_the_schedulers_word_counts_more_than_the_process(path: Path) -> None:
    lease.take(path, lease.new(attempt=1, job_id="7"), is_running=nobody_to_ask)

    successor = lease.new(attempt=2, job_id="8")
    lease.take(path, successor, is_running=lambda _: False)

    assert lease.is_held(path, successor.token)


@pytest.mark.parametrize(("age_s", "is_alive"), [(5, True), (3600, False)])
def test_a_holder_on_another_machine_lives_as_long_as_it_gives_signs(
    path: Path, age_s: float, is_alive: bool
) -> None:
    far = replace(lease.new(attempt=1, job_id="7"), host="another-machine")
    lease.take(path, far, is_running=nobody_to_ask)
    moment = path.stat().st_mtime - age_s
    os.utime(path, (moment, moment))

    assert lease.is_alive(path, far, nobody_to_ask) is is_alive


def test_without_a_launcher_a_held_run_is_not_written(path: Path) -> None:
    lease.check(path, None)
    lease.take(path, lease.new(attempt=1, job_id="7"), is_running=nobody_to_ask)

    with pytest.raises(UserError):
        lease.check(path, None)


def test_a_zombie_process_has_ended_although_its_id_is_still_taken(path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        alive = replace(lease.new(attempt=1, job_id="7"), pid=child.pid, born=lease._born(child.pid))
        lease.take(path, alive, is_running=nobody_to_ask)
        assert lease.is_alive(path, alive, nobody_to_ask)
    finally:
        child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not reaped
    assert not lease.is_alive(path, alive, nobody_to_ask)
    child.wait()
    assert not lease.is_alive(path, alive, nobody_to_ask)


def test_another_process_that_was_given_the_holders_id_is_not_the_holder(path: Path) -> None:
    mine = lease.new(attempt=1, job_id="7")
    earlier = replace(mine, born=mine.born - 60.0)
    lease.take(path, earlier, is_running=nobody_to_ask)

    assert not lease.is_alive(path, earlier, nobody_to_ask)


def test_of_two_jobs_that_start_at_once_one_takes_the_run(path: Path) -> None:
    first, second = lease.new(attempt=2, job_id="8"), lease.new(attempt=2, job_id="9")
    lease.take(path, lease.new(attempt=1, job_id="7"), is_running=nobody_to_ask)
    taken: list[Lease] = []

    def take(mine: Lease, is_running: Callable[[str], bool | None]) -> None:
        with contextlib.suppress(UserError):
            lease.take(path, mine, is_running=is_running)
            taken.append(mine)

    def only_job_7_has_ended(job_id: str) -> bool:
        return job_id != "7"

    rival = threading.Thread(target=take, args=(second, only_job_7_has_ended))

    def while_the_other_starts(job_id: str) -> bool:
        rival.start()
        rival.join(timeout=0.5)  # without a lock the other is through by then; with one it has to wait
        return only_job_7_has_ended(job_id)

    take(first, while_the_other_starts)
    rival.join()

    assert taken == [first]
    assert lease.read(path) == first


def test_slurm_is_asked_only_about_its_own_jobs(path: Path) -> None:
    local = lease.new(attempt=1, job_id="4711", executor="local")
    lease.take(path, local, is_running=nobody_to_ask)

    with pytest.raises(UserError, match=r"job 4711 on .* is at work"):
        lease.take(path, lease.new(attempt=2, job_id="8", executor="slurm"), is_running=lambda _: False)


def test_a_local_job_is_not_the_job_of_slurm_that_has_its_number(path: Path) -> None:
    lease.take(path, lease.new(attempt=1, job_id="4711", executor="slurm"), is_running=nobody_to_ask)

    with pytest.raises(UserError, match=r"job 4711 on .* is at work"):
        lease.take(path, lease.new(attempt=2, job_id="4711", executor="local"), is_running=nobody_to_ask)


def test_a_lease_of_an_older_version_is_read_and_slurm_is_asked_about_it(path: Path) -> None:
    row = asdict(lease.new(attempt=1, job_id="7"))
    del row["executor"]
    records.write_json(path, row)

    successor = lease.new(attempt=2, job_id="8", executor="slurm")
    lease.take(path, successor, is_running=lambda _: False)

    assert lease.is_held(path, successor.token)


def test_a_lease_that_is_released_while_it_is_looked_at_is_nobodys(path: Path) -> None:
    far = replace(lease.new(attempt=1, job_id="7"), host="another-machine")

    assert not lease.is_alive(path, far, nobody_to_ask)


def test_a_release_does_not_bring_a_removed_run_back(path: Path) -> None:
    mine = lease.new(attempt=1, job_id="7")
    run = path.parent / "run"
    lease.take(run / path.name, mine, is_running=nobody_to_ask)
    shutil.rmtree(run)

    lease.release(run / path.name, mine)

    assert not run.exists()
