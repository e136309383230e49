"""A plan's identity: what makes a run another run, and what does not."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from hpc.base import yamlfile
from hpc.base.errors import UserError
from hpc.plan import plan
from hpc.plan.plan import Plan


def build(root: Path, *overrides: str, **chosen: Any) -> Plan:
    return plan.build(root, "crypto", overrides=overrides, **chosen)


def test_the_same_plan_has_the_same_run_and_the_same_bytes(workspace: Path) -> None:
    first, second = build(workspace, preset="small"), build(workspace, preset="small")

    assert first == second
    assert first.run_id.startswith("small-")
    assert len(first.run_id) == len("small-") + 8
    assert first.run_dir == f"runs/crypto/{first.run_id}"


@pytest.mark.parametrize(
    "override",
    [
        "resources.limit=1:00:00",
        "resources.partition=urgent",
        "resources.memory_gb_per_gpu=8",
        "resources.cpus_per_gpu=4",
        "resources.account=ann",
        "retry.lift_hold=false",
        "data.dir=elsewhere",
        "training.lr=0.0003",
    ],
)
def test_where_and_for_how_long_do_not_make_another_run(workspace: Path, override: str) -> None:
    assert build(workspace, override).run_id == build(workspace).run_id


@pytest.mark.parametrize(
    "override", ["training.lr=1e-4", "resources.gpus=4", "resources.nodes=2", "data.split=[0.8,0.1,0.1]"]
)
def test_what_is_trained_on_how_many_ranks_makes_another_run(workspace: Path, override: str) -> None:
    assert build(workspace, override).run_id != build(workspace).run_id


def test_a_fresh_run_of_the_same_plan_has_a_number(workspace: Path) -> None:
    again = build(workspace, ordinal=2)

    assert again.run_id == f"{build(workspace).run_id}-2"
    assert plan.ordinal_of(again.run_id) == 2
    assert plan.ordinal_of(build(workspace).run_id) == 1
    assert plan.ordinal_of("big-3-0123abcd") == 1


def test_the_arguments_in_the_script_make_the_plan_again(workspace: Path) -> None:
    made = build(workspace, "training.lr=1e-4", preset="small", cluster="devcluster", data_dir="my bars")

    command = made.script.partition("-m hpc attempt ")[2].partition(" -- ")[0]
    words = shlex.split(command.replace("\\\n", " "))
    options = dict(zip(words[0:8:2], words[1:8:2], strict=True))
    again = plan.build(
        workspace,
        options["--case"],
        preset=options["--preset"],
        cluster=options["--cluster"],
        overrides=words[8:],
    )

    assert again.script == made.script
    assert options["--run-id"] == again.run_id


def test_plan_json_and_config_yaml_tell_the_whole_plan(workspace: Path) -> None:
    made = build(workspace, "resources.gpus=4", data_dir="bars")

    saved = json.loads(json.dumps(made.to_json()))
    tree = yamlfile.parse(made.config_text, shown_as="config.yaml")

    assert saved["num_tasks"] == 4
    assert saved["resources"]["limit"] == "7-00:00:00"
    assert saved["retry"]["max_stalled_attempts"] == 2
    assert yamlfile.plain(tree) == yamlfile.plain(made.config.tree)
    assert "gpus: 4  # command line" in made.config_text


@pytest.mark.parametrize("name", ["50%", "a/b", "../x", "", "x y", "-x"])
def test_a_name_that_would_mean_more_in_a_path_or_script_is_refused(workspace: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a preset"):
        build(workspace, preset=name)
