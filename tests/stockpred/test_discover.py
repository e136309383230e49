"""Models and learners found by the names of their files."""

from __future__ import annotations

import pytest

from hpc.errors import UserError
from stockpred import discover


def test_a_file_is_found_by_its_name() -> None:
    assert "market_gpt" in discover.names("stockpred.models.next_bar")
    assert "next_bar" in discover.names("stockpred.learners")
    found = discover.load("stockpred.models.next_bar", "market_gpt")
    assert found.__name__ == "stockpred.models.next_bar.market_gpt"


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        discover.load("stockpred.learners", "next_bars", where="cases/crypto/config.yaml:14")
    assert str(caught.value).startswith("cases/crypto/config.yaml:14: there is no learner 'next_bars'")
    assert caught.value.fix == "did you mean 'next_bar'?"
