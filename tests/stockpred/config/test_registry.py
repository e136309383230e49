"""Tasks, learners and models found by the names of their files."""

from __future__ import annotations

import pytest

from hpc.base.errors import UserError
from stockpred.config import registry
from stockpred.config.registry import LEARNERS, MODELS, TASKS


def test_a_file_or_folder_is_found_by_its_name() -> None:
    assert {"market_gpt", "mlp"} <= set(registry.names(MODELS))
    assert {"language_model", "supervised"} <= set(registry.names(LEARNERS))
    assert {"next_token", "forecast"} <= set(registry.names(TASKS))
    assert registry.load(MODELS, "market_gpt").__name__ == "stockpred.models.market_gpt"


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        registry.load(LEARNERS, "supervized", where="cases/crypto/config.yaml:14")
    assert str(caught.value).startswith("cases/crypto/config.yaml:14: there is no learner 'supervized'")
    assert caught.value.fix == "did you mean 'supervised'?"
