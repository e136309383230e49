"""The rivals of tokens on the real bars of the crypto case, beside figures that others measured on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stockpred.data.splits import Split
from stockpred.tasks.next_token import prepare, token_rival
from stockpred.tasks.next_token.targets import next_tokens, target_positions
from tests.stockpred.conftest import MakeExperiment

UNIVERSE = Path(__file__).resolve().parents[4] / "cases" / "crypto" / "universe.csv"


def test_rivals_of_tokens_score_as_measured_before(real_bars: Path, make_experiment: MakeExperiment) -> None:
    dataset = prepare.build(
        make_experiment(UNIVERSE, data__source="files", data__dir=str(real_bars), tokenizer__vocab_size=1024)
    ).dataset
    targets = target_positions(dataset, Split.TEST)
    own = np.arange(len(targets)), next_tokens(dataset, targets)
    nats = {
        name: -float(token_rival.load(name).fit(dataset).log_probs(targets)[own].mean())
        for name in ("unigram", "bigram", "log_linear")
    }
    assert nats["unigram"] == pytest.approx(6.794, abs=0.02)
    assert nats["bigram"] == pytest.approx(6.791, abs=0.02)
    assert nats["log_linear"] == pytest.approx(6.513, abs=0.02)
