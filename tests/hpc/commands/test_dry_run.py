"""What a dry run says beside the script: where a submit would train."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc.commands import launch
from hpc.plan.plan import Plan, build
from tests.holds.control import PROJECT


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    for folder in ("cases", "slurm"):
        (tmp_path / folder).symlink_to(PROJECT / folder)
    return build(tmp_path, "crypto", preset="demo", overrides=())


def test_it_names_this_machine_and_the_number_of_ranks(plan: Plan) -> None:
    said = launch.what_submit_would_do([plan], locally=True)

    assert said == (
        "nothing was submitted; a submit would train on this machine, without Slurm "
        "(crypto: 1 run of 2 ranks)"
    )


def test_a_slurm_that_does_not_answer_is_told_and_no_error(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "nowhere.conf"))

    said = launch.what_submit_would_do([plan], locally=False)

    assert said.startswith("nothing was submitted; a submit would be refused now: SLURM_CONF names a file")
