"""A configuration read from a file, and any model by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hpc.base.errors import UserError
from stockpred.config import registry
from stockpred.config.registry import MODELS
from stockpred.library.configuration import Config
from stockpred.library.models import get_model

ROOT = Path(__file__).resolve().parents[3]
CASE_OF = {"market_gpt": "crypto"}
"""The case whose file describes a model; the others are described by per_stock's."""

OWN_FILE = """\
model:
  context_length: 12
  dropout: 0.0
  num_features: 3
training:
  lr: 3e-4
  epochs: 5
  shuffle: true
  symbols: [ON, NO, 000660, BTC-USD]
  stop: null
"""


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(OWN_FILE)
    return path


def test_values_have_the_types_that_they_look_like_and_tickers_stay_words(own_file: Path) -> None:
    config = Config.from_file(str(own_file))
    assert (config.training.lr, config.training.epochs, config["training"]["shuffle"]) == (3e-4, 5, True)
    assert config.training.symbols == ["ON", "NO", "000660", "BTC-USD"]
    assert config.training.stop is None
    assert isinstance(config.training.epochs, int)


def test_a_key_that_is_not_there_is_named_with_its_nearest(own_file: Path) -> None:
    with pytest.raises(AttributeError, match="did you mean 'training'"):
        _ = Config.from_file(own_file).trainin


def test_a_case_brings_the_layers_that_it_extends() -> None:
    config = Config.from_file(ROOT / "cases" / "crypto" / "config.yaml")
    assert (config.model.d_model, config.model.name, config.training.beta2) == (256, "market_gpt", 0.95)


@pytest.mark.parametrize(
    ("text", "said"), [("a: [1", "not valid YAML"), ("- 1\n", "expected `key: value`"), ("", "empty")]
)
def test_a_file_that_is_no_configuration_is_one_clear_error(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        Config.from_file(path)


@pytest.mark.parametrize("name", registry.names(MODELS))
def test_every_model_is_built_by_its_name_from_the_file_of_a_case(name: str) -> None:
    case = CASE_OF.get(name, "per_stock")
    config = Config.from_file(ROOT / "cases" / case / "config.yaml")
    sizes: dict[str, Any] = {} if case == "crypto" else {"num_features": 5}
    model = get_model(name)(config, **sizes)
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


@pytest.mark.parametrize("name", ["mlp", "lstm", "dlinear"])
def test_a_regressor_of_ones_own_file_forecasts_one_number_for_each_sample(name: str, own_file: Path) -> None:
    model = get_model(name)(Config.from_file(own_file))
    assert model(torch.zeros(7, 12, 3)).shape == (7,)


def test_a_dict_does_as_well_as_a_file() -> None:
    model = get_model("mlp")({"context_length": 12, "dropout": 0.0, "num_features": 3, "lr": 1.0})
    assert model(torch.zeros(7, 12, 3)).shape == (7,)


def test_a_run_says_which_tokens_its_model_knows(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    _write_tokenizer(tokenizer)
    case = Config.from_file(ROOT / "cases" / "crypto" / "config.yaml")
    config = Config(case.tree, tmp_path / "config.yaml")
    model: Any = get_model("market_gpt")(config, num_assets=2, num_categories=1)
    assert model.centroids_VF.tolist() == [[1.0] * 5, [2.0] * 5]


def _write_tokenizer(path: Path) -> None:
    import numpy as np

    from stockpred.tasks.next_token.tokenizer import Tokenizer

    centroids = np.array([[1.0] * 5, [2.0] * 5], np.float32)
    path.write_text(Tokenizer(centroids, np.zeros(2, np.float32), np.zeros(5), np.ones(5), 5.0).to_json())


def test_an_unknown_model_is_named_with_its_nearest() -> None:
    with pytest.raises(UserError, match="there is no model 'mpl'") as caught:
        get_model("mpl")
    assert "did you mean 'mlp'" in str(caught.value)


def test_every_wrong_setting_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model:\n  context_lenght: 12\n  dropout: 2\n  num_features: 3\n")
    with pytest.raises(UserError) as caught:
        get_model("mlp")(Config.from_file(path))
    said = str(caught.value)
    assert f"{path}:2: model.context_lenght: unknown key" in said
    assert "did you mean 'context_length'" in said
    assert f"{path}:3: model.dropout" in said


@pytest.mark.parametrize(
    ("sizes", "said"), [({}, "num_features of mlp is not known"), ({"num_fetures": 3}, "does not take num_f")]
)
def test_what_the_data_decide_must_be_said(sizes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        get_model("mlp")({"context_length": 12, "dropout": 0.0}, **sizes)
