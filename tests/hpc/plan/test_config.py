"""Layers of a case's configuration: who wins, and where each value came from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from hpc.base import yamlfile
from hpc.base.errors import UserError
from hpc.plan import config, resources
from hpc.plan.config import Config
from hpc.plan.program import Problem
from hpc.plan.resources import Resources, Retry

ODD_SCALARS = (
    "ON",
    "NO",
    "TRUE",
    "000660",
    "1:30:00",
    "3e-4",
    "null",
    "~",
    "a: b",
    "#x",
    "- y",
    "x y",
    "it's",
    "",
)


def resolve(root: Path, case: str = "crypto", **chosen: Any) -> Config:
    return config.resolve(root, case, **chosen)


def line_of(root: Path, name: str, text: str) -> str:
    lines = (root / name).read_text().splitlines()
    return f"{name}:{next(number for number, line in enumerate(lines, 1) if line.strip().startswith(text))}"


def test_each_layer_wins_over_the_one_below(workspace: Path) -> None:
    (workspace / "slurm/clusters/here.yaml").write_text(
        "resources:\n  partition: gpu\n  limit: 2-00\n  qos: low\n"
    )
    case = workspace / "cases/crypto/config.yaml"
    case.write_text(case.read_text() + "\n  tuned:\n    resources: {limit: 3-00, account: ann}\n")

    resolved = resolve(workspace, preset="tuned", cluster="here", overrides=["resources.account=bob"])

    assert resolved.resources.nodes == 1
    assert resolved.resources.partition == "gpu"
    assert resolved.resources.limit == "3-00"
    assert resolved.resources.qos == "low"
    assert resolved.resources.account == "bob"


def test_each_value_knows_its_place(workspace: Path) -> None:
    resolved = resolve(workspace, overrides=["training.lr=1e-4"])

    assert resolved.origin("training.lr") == "command line"
    assert resolved.origin("model.d_model") == line_of(workspace, "cases/crypto/config.yaml", "d_model: 256")
    assert resolved.origin("resources.gpu_type") == line_of(workspace, "cases/_base/config.yaml", "gpu_type")


def test_the_resolved_text_reads_back_byte_for_byte(workspace: Path) -> None:
    case = workspace / "cases/crypto/config.yaml"
    words = ", ".join(f"'{word}'" if word != "it's" else '"it\'s"' for word in ODD_SCALARS)
    case.write_text(case.read_text().replace("data:\n", f"data:\n  words: [{words}]\n", 1))

    resolved = resolve(workspace)
    again = yamlfile.parse(resolved.dump(), shown_as="run")

    assert yamlfile.plain(again) == yamlfile.plain(resolved.tree)
    assert tuple(yamlfile.plain(again)["data"]["words"]) == ODD_SCALARS


def test_scalars_stay_as_typed_until_the_program_reads_them(workspace: Path) -> None:
    experiment = resolve(workspace).experiment

    assert experiment["training"]["lr"] == "3e-4"
    assert experiment["data"]["split"] == ["0.70", "0.15", "0.15"]
    assert experiment["training"]["max_steps"] is None
    assert "resources" not in experiment
    assert "presets" not in experiment


def test_all_problems_come_at_once(workspace: Path) -> None:
    overrides = ["training.bath_size=1", "resources.nodes=two", "nonsense", "retry.lift_hold=perhaps"]

    with pytest.raises(UserError) as caught:
        resolve(workspace, overrides=overrides)

    said = str(caught.value)
    assert "did you mean 'training.batch_size'?" in said
    assert "resources.nodes" in said
    assert "'nonsense' is not an override" in said
    assert "retry.lift_hold" in said


def test_what_the_program_has_against_a_value_points_at_the_line_that_set_it(workspace: Path) -> None:
    problems = [Problem("training.lr", "too bold", "be meek"), Problem("data.split", "too short", None)]

    bold, short = config.errors_of(resolve(workspace), problems)

    line = line_of(workspace, "cases/crypto/config.yaml", "lr:")
    assert str(bold) == f"{line}: training.lr: too bold\n    fix: be meek"
    assert "data.split: too short" in str(short)


def test_further_options_of_sbatch_are_kept_in_order(workspace: Path) -> None:
    resolved = resolve(
        workspace, overrides=["resources.extra.mail_type=FAIL", "resources.extra.exclusive=true"]
    )

    assert resolved.resources.extra == {"mail-type": "FAIL", "exclusive": None}


@pytest.mark.parametrize("name", sorted(resources.OWNED_OPTIONS))
def test_an_option_that_the_toolkit_sets_is_refused_in_extra(workspace: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"--{name} comes from"):
        resolve(workspace, overrides=[f"resources.extra.{name}=x"])


def test_shares_per_gpu_add_up_per_node(workspace: Path) -> None:
    resources = resolve(workspace, overrides=["resources.gpus=4", "resources.nodes=2"]).resources

    assert (resources.num_tasks, resources.num_cpus_per_node, resources.memory_gb_per_node) == (8, 128, 256)
    assert resources.limit_s == 7 * 24 * 3600


def test_a_run_may_have_no_limit(workspace: Path) -> None:
    resources = resolve(workspace, overrides=["resources.limit=UNLIMITED"]).resources

    assert math.isinf(resources.limit_s)


def test_the_base_states_every_key_that_this_package_reads(workspace: Path) -> None:
    tree = yamlfile.load(workspace / "cases/_base/config.yaml")

    assert set(tree["resources"]) == set(Resources.model_fields)
    assert set(tree["retry"]) == set(Retry.model_fields)
    assert all(field.is_required() for field in Resources.model_fields.values())


def test_presets_begin_with_the_table(workspace: Path) -> None:
    for case in config.case_names(workspace):
        assert config.preset_names(workspace, case)[0] == "table"
        assert {"small", "demo"} <= set(config.preset_names(workspace, case))
