"""The sbatch script: golden files, bash's and shellcheck's opinion, hostile directories, broken templates.

Write changed golden files anew with `HPC_WRITE_GOLDEN=1 pytest tests/hpc/plan/test_sbatch.py`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc.base.errors import UserError
from hpc.plan import config, plan
from hpc.plan.array import ArrayPlan
from hpc.plan.from_args import PlanRequest, plan_from
from hpc.plan.plan import Plan

REPOSITORY = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"
HOME = "/home/ann/market"
RUN_ID = "preset-01234567"
HOSTILE = [
    "with blank",
    "quo'te",
    'double"quote',
    "semi;colon",
    "dollar$(touch x)",
    "new\nline",
    "per%cent",
    "é",
]
ARRAYS = {"per_stock"}
CHOICES: dict[str, dict[str, Any]] = {
    **{case: {"case": case} for case in config.case_names(REPOSITORY)},
    "crypto_small_on_devcluster": {"case": "crypto", "preset": "small", "cluster": "devcluster"},
    "crypto_all_options": {
        "case": "crypto",
        "cluster": "example",
        "data_dir": "../my bars",
        "overrides": [
            "resources.nodes=2",
            "resources.requeue=false",
            "resources.constraint=nvlink&ib",
            "resources.exclude=a100-[1-2]",
            "resources.extra.mem-per-gpu=60G",
            "resources.extra.comment=a b#c",
            "resources.extra.exclusive=true",
        ],
    },
}


@pytest.fixture(autouse=True)
def _python_of_ann(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", f"{HOME}/.venv/bin/python")


def build(root: Path, *, case: str = "crypto", **chosen: Any) -> Plan:
    return plan.build(root, case, **chosen)


@pytest.mark.parametrize("name", sorted(set(CHOICES) - ARRAYS))
def test_the_script_is_the_golden_one(workspace: Path, name: str) -> None:
    made = build(workspace, **CHOICES[name])
    compare(made.script.replace(made.run_id, RUN_ID), workspace, name)


@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_the_script_of_an_array_is_the_golden_one(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    python_of_ann = sys.executable
    monkeypatch.undo()
    monkeypatch.setenv("HPC_ROOT", str(workspace))
    universe = f"cases/{name}/universe.csv"
    shutil.copy(REPOSITORY / universe, workspace / universe)
    made = plan_from(PlanRequest(name))
    assert isinstance(made, ArrayPlan)

    monkeypatch.setattr(sys, "executable", python_of_ann)
    script = re.sub(r"-[0-9a-f]{8}\b", "-01234567", made.script)
    compare(script, workspace, name)


def compare(script: str, workspace: Path, name: str) -> None:
    script = script.replace(str(workspace), HOME)
    golden = GOLDEN / f"{name}.sbatch"
    if os.environ.get("HPC_WRITE_GOLDEN"):
        golden.write_text(script)

    assert script == golden.read_text()


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.sbatch")), ids=lambda path: path.stem)
def test_bash_and_shellcheck_are_content(golden: Path) -> None:
    subprocess.run(["bash", "-n", golden], check=True)

    subprocess.run(["shellcheck", golden], check=True)


def test_every_golden_file_has_its_choice() -> None:
    assert {path.stem for path in GOLDEN.glob("*.sbatch")} == set(CHOICES)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_directory_is_only_ever_an_argument(
    tmp_path: Path, copy_workspace: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root = tmp_path / name
    copy_workspace(root)
    spy = tmp_path / "spy"
    spy.write_text('#!/bin/bash\nprintf "%s\\0" "$PWD" "$@"\n')
    spy.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(spy))
    made = build(root, data_dir=str(root / "bars"))

    answer = subprocess.run(["bash", "-c", made.script], capture_output=True, check=True, text=True, cwd="/")

    directory, *words = answer.stdout.split("\0")
    assert directory == str(root)
    assert words[:2] == ["-m", "hpc"]
    assert f"data.dir={root / 'bars'}" in words
    assert words[-2] == made.run_dir
    directives = [line for line in made.script.splitlines() if line.startswith("#SBATCH")]
    assert not any(name in line for line in directives)


def test_setup_lines_run_before_training(workspace: Path) -> None:
    made = build(workspace, overrides=["resources.setup=[module load cuda, 'export X=\"a b\"']"])

    lines = made.script.splitlines()
    assert lines.index("module load cuda") < lines.index('export X="a b"')
    assert lines.index('export X="a b"') < next(n for n, line in enumerate(lines) if line.startswith("exec "))


def test_memory_is_asked_for_in_one_form(workspace: Path) -> None:
    plain = build(workspace).script
    other = build(workspace, overrides=["resources.extra.mem-per-gpu=60G"]).script

    assert [line for line in plain.splitlines() if "--mem" in line] == ["#SBATCH --mem=128G"]
    assert [line for line in other.splitlines() if "--mem" in line] == ["#SBATCH --mem-per-gpu=60G"]


@pytest.mark.parametrize(
    ("chosen", "option"),
    [
        ("gpu_request=gres", "--gres=gpu:a100:2"),
        ("gpu_request=gpus_per_node", "--gpus-per-node=a100:2"),
        ("gpu_type=null", "--gres=gpu:2"),
        ("requeue=false", "--no-requeue"),
        ("limit=5", "--signal=USR2@120"),
    ],
)
def test_each_choice_has_its_option(workspace: Path, chosen: str, option: str) -> None:
    assert f"#SBATCH {option}" in build(workspace, overrides=[f"resources.{chosen}"]).script.splitlines()


@pytest.mark.parametrize("chosen", ["gpu_request=none", "partition=null", "signal_lead_s=0", "limit=1"])
def test_what_is_not_chosen_is_not_asked_for(workspace: Path, chosen: str) -> None:
    missing = {"gpu": "gpu:", "par": "--partition", "sig": "--signal", "lim": "--signal"}[chosen[:3]]

    assert missing not in build(workspace, overrides=[f"resources.{chosen}"]).script


def test_srun_gets_what_it_does_not_inherit(workspace: Path) -> None:
    words = shlex.split(build(workspace).script.replace("\\\n", " ").split("exec ")[1])

    srun = words[words.index("srun") :]
    assert {"--cpus-per-task=32", "--kill-on-bad-exit=1", "--open-mode=append"} <= set(srun)


def test_an_undefined_name_in_a_template_is_a_clear_error(workspace: Path) -> None:
    template = workspace / "cases/crypto/job.sbatch.j2"
    template.write_text(template.read_text() + "{% block setup %}{{ modules }}{% endblock %}")

    with pytest.raises(UserError, match="'modules' is undefined") as caught:
        build(workspace)

    assert caught.value.where == "cases/crypto/job.sbatch.j2"


def test_a_broken_template_is_a_clear_error_with_its_line(workspace: Path) -> None:
    (workspace / "cases/crypto/job.sbatch.j2").write_text(
        '{% extends "slurm/base.sbatch.j2" %}\n{% block %}\n'
    )

    with pytest.raises(UserError) as caught:
        build(workspace)

    assert caught.value.where == "cases/crypto/job.sbatch.j2:2"


def test_a_case_without_a_template_says_what_to_write(workspace: Path) -> None:
    (workspace / "cases/crypto/job.sbatch.j2").unlink()

    with pytest.raises(UserError, match="there is no template") as caught:
        build(workspace)

    assert "extends" in (caught.value.fix or "")
