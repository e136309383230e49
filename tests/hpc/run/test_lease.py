"""One attempt at a time writes into a run directory."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hpc.base.errors import UserError
from hpc.run import lease


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
    lease.give_back(path, zombie)

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

    lease.take(path, lease.new(attempt=2, job_id="8"), is_running=lambda _: False)

    assert not lease.is_held(path, "somebody else")


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


def test_where_there_is_no_proc_the_dead_are_told_from_the_living_by_ps(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lease, "PROC", tmp_path / "nothing")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        alive = replace(lease.new(attempt=1, job_id="7"), pid=child.pid, born=lease._born(child.pid))
        lease.take(path, alive, is_running=nobody_to_ask)
        assert lease.is_alive(path, alive, nobody_to_ask)
    finally:
        child.kill()
    assert not lease.is_alive(path, alive, nobody_to_ask)  # a zombie, not waited for yet
    child.wait()
    assert not lease.is_alive(path, alive, nobody_to_ask)
