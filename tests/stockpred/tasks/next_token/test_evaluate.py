"""The evaluation on a hand-made market: same bars for all, right reduction, right bookkeeping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.data.splits import Split
from stockpred.score.metrics import EvaluatedModel
from stockpred.tasks.next_token import baselines
from stockpred.tasks.next_token import evaluate as evaluate
from stockpred.tasks.next_token import results as results
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.results import NextTokenResults
from stockpred.train.checkpoint import CheckLease, without_lease
from stockpred.train.learner import Batch

MakeMarket = Callable[..., TokenDataset]
EVALUATED = EvaluatedModel("market_gpt", 1234, 50)


def unigram_scorer(market: TokenDataset) -> Callable[[Batch], torch.Tensor]:
    log_probs = torch.from_numpy(baselines.fit_unigram(market).log_probs_K)
    return lambda batch: log_probs.expand(*batch["tokens"].shape, -1)


def bigram_scorer(market: TokenDataset) -> Callable[[Batch], torch.Tensor]:
    bigram = baselines.fit_bigram(market, baselines.fit_unigram(market))
    table = torch.from_numpy(np.log([bigram.row(k) for k in range(market.tokenizer.vocab_size)]))
    return lambda batch: table[batch["tokens"]]


def run(
    market: TokenDataset,
    scorer: Callable[[Batch], torch.Tensor],
    root: Path,
    *,
    batch_size: int = 4,
    stride: int = 6,
    check_lease: CheckLease = without_lease,
) -> NextTokenResults:
    return evaluate.evaluate_test(
        market,
        scorer,
        paths=RunPaths(root),
        evaluated=EVALUATED,
        context_length=12,
        stride=stride,
        batch_size=batch_size,
        check_lease=check_lease,
    )


@pytest.mark.parametrize(("scorer", "name"), [(unigram_scorer, "unigram"), (bigram_scorer, "bigram")])
def test_a_model_that_says_what_a_rival_says_earns_what_the_rival_earns(
    make_market: MakeMarket,
    tmp_path: Path,
    scorer: Callable[[TokenDataset], Callable[[Batch], torch.Tensor]],
    name: str,
) -> None:
    market = make_market()
    found = run(market, scorer(market), tmp_path)
    rival = found.rival(name)
    assert found.model.nats == pytest.approx(rival.nats, abs=1e-9)
    assert found.model.crps_bp == pytest.approx(rival.crps_bp, abs=1e-6)
    assert found.model.mae_bp == pytest.approx(rival.mae_bp)
    assert found.model.coverage == rival.coverage


def test_a_model_equal_to_the_best_rival_does_not_beat_it(make_market: MakeMarket, tmp_path: Path) -> None:
    market = make_market()
    better = run(market, unigram_scorer(market), tmp_path).best_token_rival
    found = run(market, {"unigram": unigram_scorer, "bigram": bigram_scorer}[better](market), tmp_path)
    assert found.nats_difference.mean == pytest.approx(0.0, abs=1e-12)
    assert not found.beats_token_rivals


def on_one_date(market: TokenDataset) -> TokenDataset:
    """Return the market with a thousandth of the time between its bars."""
    time = (market.time - market.time.min()) // 1000
    return replace(market, time=time)


def test_a_test_on_one_date_claims_nothing(make_market: MakeMarket, tmp_path: Path) -> None:
    market = on_one_date(make_market())
    found = run(market, bigram_scorer(market), tmp_path)
    assert found.num_dates == 1
    assert found.nats_difference is found.crps_bp_difference is found.model.versus_last_value is None
    claims = (found.beats_token_rivals, found.beats_crps_rival, found.beats_last_value)
    assert not any(claims)
    assert not any((found.loses_to_token_rival, found.loses_to_crps_rival, found.loses_to_last_value))
    assert all(category.nats_difference is None for category in found.categories)
    assert found.model.direction is not None
    assert found.model.direction.low is found.model.direction.high is None
    assert found.gain == pytest.approx(found.rival(found.best_token_rival).nats - found.model.nats)
    assert results.read(RunPaths(tmp_path).test_results) == found


def test_a_model_that_knows_the_next_token_wins_everything(make_market: MakeMarket, tmp_path: Path) -> None:
    market = make_market(vocab_size=64)

    def oracle(batch: Batch) -> torch.Tensor:
        chance = torch.full((*batch["targets"].shape, 64), 1e-6, dtype=torch.float64)
        chance.scatter_(-1, batch["targets"][..., None], 1.0)
        return torch.log(chance / chance.sum(-1, keepdim=True))

    found = run(market, oracle, tmp_path)
    assert found.beats_token_rivals
    assert found.beats_crps_rival
    assert found.beats_last_value
    assert found.model.skill is not None
    assert found.model.skill > 0.9
    assert found.rank_ic is not None
    assert found.rank_ic.mean > 0.95
    assert all(category.nats_difference.high < 0 for category in found.categories)


@pytest.mark.parametrize(("batch_size", "stride"), [(1, 12), (7, 6), (64, 3)])
def test_neither_batches_nor_strides_change_a_forecast_that_needs_no_context(
    make_market: MakeMarket, tmp_path: Path, batch_size: int, stride: int
) -> None:
    market = make_market()
    found = run(market, bigram_scorer(market), tmp_path, batch_size=batch_size, stride=stride)
    usual = run(market, bigram_scorer(market), tmp_path / "usual")
    assert found.model.nats == pytest.approx(usual.model.nats, rel=1e-12)
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "predictions.parquet"),
        pd.read_parquet(tmp_path / "usual" / "predictions.parquet"),
        rtol=1e-9,
    )


def test_predictions_hold_every_test_bar_once_with_what_really_happened(
    make_market: MakeMarket, tmp_path: Path
) -> None:
    market = make_market()
    found = run(market, bigram_scorer(market), tmp_path)
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    targets = baselines.target_positions(market, Split.TEST)
    assert len(table) == len(targets) == found.num_bars
    assert not table.duplicated(["symbol", "time"]).any()
    np.testing.assert_array_equal(table["realised_return"], market.close_return[targets])
    np.testing.assert_allclose(table["previous_close"], market.close[targets - 1])
    np.testing.assert_array_equal(
        table["time"].to_numpy("datetime64[ns]").astype(np.int64), market.time[targets]
    )
    assert table["nll"].mean() == pytest.approx(found.model.nats)
    levels = table[["q05", "q10", "q25", "q50", "q75", "q90", "q95"]].to_numpy()
    assert (np.diff(levels, axis=1) >= 0).all()
    inside = (table["realised_return"] >= table["q05"]) & (table["realised_return"] <= table["q95"])
    assert found.model.coverage is not None
    assert inside.mean() == pytest.approx(found.model.coverage["90"], abs=0.01)


def test_expected_return_is_the_tokens_mean_return_times_the_known_volatility(
    make_market: MakeMarket, tmp_path: Path
) -> None:
    market = make_market()
    run(market, unigram_scorer(market), tmp_path)
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    probabilities = baselines.fit_unigram(market).probs_K
    mean_z = sum(
        float(p) * float(z) for p, z in zip(probabilities, market.tokenizer.close_return_z, strict=True)
    )
    expected = mean_z * market.volatility[baselines.target_positions(market, Split.TEST)].astype(float)
    np.testing.assert_allclose(table["expected_return"], expected)


def test_results_come_back_from_their_file_unchanged(make_market: MakeMarket, tmp_path: Path) -> None:
    found = run(make_market(), unigram_scorer(make_market()), tmp_path)
    assert results.read(tmp_path / "test_results.json") == found
    assert {scores.num_bars for scores in (found.model, *found.rivals)} == {found.num_bars}
    assert sum(category.num_bars for category in found.categories) == found.num_bars


@pytest.mark.parametrize("num_passed", [0, 1])
def test_an_attempt_that_loses_its_run_writes_nothing_from_then_on(
    make_market: MakeMarket, tmp_path: Path, num_passed: int
) -> None:
    market, passed = make_market(), iter(range(num_passed))

    def check_lease() -> None:
        if next(passed, None) is None:
            raise UserError("another attempt holds this run")

    with pytest.raises(UserError, match="another attempt"):
        run(market, unigram_scorer(market), tmp_path, check_lease=check_lease)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"][:num_passed]


def test_equal_inputs_give_equal_bytes(make_market: MakeMarket, tmp_path: Path) -> None:
    market = make_market()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(market, bigram_scorer(market), tmp_path / name)
    for file in ("test_results.json", "predictions.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_bars_of_another_choice_are_refused() -> None:
    with pytest.raises(RuntimeError, match="3 test bars"):
        evaluate._require_every_target_once(np.array([4, 5, 5]), np.array([4, 5]))


def test_a_test_period_without_bars_is_one_clear_error(make_market: MakeMarket, tmp_path: Path) -> None:
    market = make_market()
    empty = replace(market, split=np.minimum(market.split, np.int8(Split.VALIDATION)))
    with pytest.raises(UserError, match="no bar to score"):
        run(empty, unigram_scorer(market), tmp_path)
