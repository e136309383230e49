"""Settings that a learner or a model brings along, and where a wrong one is reported."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpc.base.errors import UserError, UserErrors
from hpc.plan import config
from stockpred.answers import problems_of
from stockpred.config import schema
from stockpred.config.registry import CONFIGS, LEARNERS, MODELS
from tests.stockpred.config.conftest import AddFile

ROOT = Path(__file__).resolve().parents[3]
SIGNATURE = 'SIGNATURE = "inputs_BTF -> forecast_B"\n'
SETTINGS_OF_A_MODEL = """
from typing import Annotated
from pydantic import Field
from stockpred.config.forecast import RegressorConfig

class PatchConfig(RegressorConfig):
    patch_length: Annotated[int, Field(gt=0)]

SETTINGS = PatchConfig
"""
SETTINGS_OF_A_LEARNER = """
from stockpred.config.base import LearnerConfig, PositiveFloat

class HuberConfig(LearnerConfig):
    delta: PositiveFloat

SETTINGS = HuberConfig
"""


@pytest.fixture(scope="module")
def per_stock() -> dict[str, Any]:
    """Return the sections of a case that forecasts, as plain text."""
    resolved = config.resolve(ROOT, "per_stock", preset="demo", overrides=("data.symbol=AAPL",))
    return resolved.experiment


@pytest.fixture
def tree(per_stock: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(per_stock)


def run_config(folder: Path, tree: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def line_of(path: Path, text: str) -> int:
    return next(
        number
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.strip().startswith(text)
    )


def test_a_model_in_a_folder_of_its_own_brings_its_settings(
    tree: dict[str, Any], add_file: AddFile, tmp_path: Path
) -> None:
    add_file(MODELS, "patches", SIGNATURE)
    add_file(CONFIGS, "patches", SETTINGS_OF_A_MODEL)
    tree["model"] |= {"name": "patches", "patch_length": "4"}

    experiment = schema.load(run_config(tmp_path, tree))

    assert experiment.model.model_dump() == {
        "name": "patches", "context_length": 20, "hidden_dim": None, "num_layers": None, "dropout": 0.1,
        "patch_length": 4,
    }  # fmt: skip
    assert problems_of(tree) == []


@pytest.mark.parametrize(
    ("key", "value", "what", "fix"),
    [
        ("patch_lenght", "4", "patch_lenght: unknown key", "did you mean 'patch_length'?"),
        ("patch_length", "0", "patch_length", None),
    ],
)
def test_a_wrong_setting_of_a_models_own_is_one_error_with_its_line(
    tree: dict[str, Any], add_file: AddFile, tmp_path: Path, key: str, value: str, what: str, fix: str | None
) -> None:
    add_file(MODELS, "patches", SIGNATURE)
    add_file(CONFIGS, "patches", SETTINGS_OF_A_MODEL)
    tree["model"] |= {"name": "patches", "patch_length": "4", key: value}
    path = run_config(tmp_path, tree)

    with pytest.raises(UserError) as caught:
        schema.load(path)

    assert not isinstance(caught.value, UserErrors)
    assert caught.value.where == f"{path}:{line_of(path, key)}"
    assert what in caught.value.what
    if fix:
        assert caught.value.fix == fix


def test_a_setting_that_is_missing_is_named(tree: dict[str, Any], add_file: AddFile) -> None:
    add_file(MODELS, "patches", SIGNATURE)
    add_file(CONFIGS, "patches", SETTINGS_OF_A_MODEL)
    tree["model"]["name"] = "patches"

    (problem,) = problems_of(tree)

    assert problem["key"] == "model.patch_length"


def test_settings_of_a_model_are_unknown_to_the_others(tree: dict[str, Any], add_file: AddFile) -> None:
    add_file(MODELS, "patches", SIGNATURE)
    add_file(CONFIGS, "patches", SETTINGS_OF_A_MODEL)
    tree["model"] |= {"name": "mlp", "patch_length": "4"}

    (problem,) = problems_of(tree)

    assert problem["key"] == "model.patch_length"


def test_a_learner_and_a_model_of_one_name_do_not_take_each_others_settings(
    tree: dict[str, Any], add_file: AddFile, tmp_path: Path
) -> None:
    add_file(MODELS, "huber", SIGNATURE)
    add_file(LEARNERS, "huber", 'TASKS = ("forecast",)\nMODEL = "inputs_BTF -> forecast_B"\n')
    add_file(CONFIGS, "huber", SETTINGS_OF_A_LEARNER)
    tree["model"]["name"] = "huber"
    tree["learner"] = {"name": "huber", "delta": "1.5"}

    experiment = schema.load(run_config(tmp_path, tree))

    assert experiment.learner.model_dump() == {"name": "huber", "delta": 1.5}
    assert "delta" not in experiment.model.model_dump()


@pytest.mark.parametrize("name", ["schema", "base", "registry", "forecast"])
def test_a_model_may_have_the_name_of_a_file_without_settings(
    tree: dict[str, Any], add_file: AddFile, name: str
) -> None:
    add_file(MODELS, name, SIGNATURE)
    tree["model"]["name"] = name

    assert problems_of(tree) == []
