"""The evaluation on a hand-made market: same bars for all, right reduction, right bookkeeping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from hpc.base.errors import UserError
from stockpred.data.splits import Split
from stockpred.score.claims import Verdict
from stockpred.score.compare import CRPS, LOG_LOSS, NATS, SQUARED_ERROR
from stockpred.score.forecasts import QUANTILES
from stockpred.score.metrics import EvaluatedModel
from stockpred.score.results import SplitScores
from stockpred.tasks.next_token import evaluate, token_rival
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.evaluate import KINDS, Rivals
from stockpred.tasks.next_token.rivals import bigram, unigram
from stockpred.tasks.next_token.targets import asset_of_bars, target_positions
from stockpred.train.learner import Batch
from tests.stockpred.token_market import MakeMarket, history, rivals

EVALUATED = EvaluatedModel("market_gpt", 1234, 50)
Scorer = Callable[[Batch], torch.Tensor]


def unigram_scorer(market: TokenDataset) -> Scorer:
    log_probs = torch.from_numpy(unigram.fit(market).log_probs_K)
    return lambda batch: log_probs.expand(*batch["tokens"].shape, -1)


def bigram_scorer(market: TokenDataset) -> Scorer:
    fitted = bigram.fit(market).bigram
    table = torch.from_numpy(np.log([fitted.row(k) for k in range(market.tokenizer.vocab_size)]))
    return lambda batch: table[batch["tokens"]]


def oracle(batch: Batch) -> torch.Tensor:
    """Know the next of 64 tokens."""
    chance = torch.full((*batch["targets"].shape, 64), 1e-6, dtype=torch.float64)
    chance.scatter_(-1, batch["targets"][..., None], 1.0)
    return torch.log(chance / chance.sum(-1, keepdim=True))


def run(
    market: TokenDataset,
    scorer: Scorer,
    *,
    split: Split = Split.TEST,
    batch_size: int = 4,
    stride: int = 6,
    fitted: Rivals | None = None,
) -> tuple[SplitScores, pd.DataFrame]:
    own = evaluate.score_model(
        market, scorer, split=split, context_length=12, stride=stride, batch_size=batch_size
    )
    return evaluate.score(market, own, split=split, evaluated=EVALUATED, rivals=fitted or rivals(market))


@pytest.mark.parametrize(("scorer", "name"), [(unigram_scorer, "unigram"), (bigram_scorer, "bigram")])
@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
def test_a_model_that_says_what_a_rival_says_earns_what_the_rival_earns(
    make_market: MakeMarket, scorer: Callable[[TokenDataset], Scorer], name: str, split: Split
) -> None:
    market = make_market()
    found, _ = run(market, scorer(market), split=split)
    assert found.split == split.text
    model, rival = found.pooled.model, found.pooled.rival(name)
    assert model.nats == pytest.approx(rival.nats, abs=1e-9)
    assert model.crps_bp == pytest.approx(rival.crps_bp, abs=1e-6)
    assert model.log_loss == pytest.approx(rival.log_loss, abs=1e-9)
    assert model.mae_bp == pytest.approx(rival.mae_bp)
    assert model.coverage == rival.coverage


def test_a_model_equal_to_a_rival_does_not_beat_every_rival(make_market: MakeMarket) -> None:
    market = make_market()
    found, _ = run(market, bigram_scorer(market))
    for measure in (CRPS, LOG_LOSS, NATS, SQUARED_ERROR):
        claim = found.pooled.claim(measure)
        assert claim is not None
        assert claim.mean_differences["bigram"] == pytest.approx(0.0, abs=1e-9)
        assert not claim.is_better


def test_a_test_on_one_date_claims_nothing(make_market: MakeMarket) -> None:
    market = make_market()
    one_date = replace(market, time=(market.time - market.time.min()) // 1000)
    found, _ = run(one_date, bigram_scorer(one_date))
    assert found.pooled.num_dates == 1
    assert {claim.verdict for claim in found.pooled.claims if claim.measure != "rank_ic"} == {
        Verdict.TOO_FEW_DATES
    }


def test_a_model_that_knows_the_next_token_wins_everything(make_market: MakeMarket) -> None:
    market = make_market(vocab_size=64)
    found, _ = run(market, oracle)
    for group in (found.pooled, *found.categories):
        for measure in (CRPS, LOG_LOSS, NATS, SQUARED_ERROR):
            claim = group.claim(measure)
            assert claim is not None
            assert claim.is_better, (group.name, measure)
    assert found.pooled.model.skill is not None
    assert found.pooled.model.skill > 0.9
    assert found.pooled.model.rank_ic is not None
    assert found.pooled.model.rank_ic.mean > 0.95


def test_rivals_of_tokens_come_first_then_those_of_returns_and_always_up_last(
    make_market: MakeMarket,
) -> None:
    market = make_market()
    every = Rivals.fit(market, history(market))
    found, _ = run(market, bigram_scorer(market), fitted=every)
    names = [rival.name for rival in found.pooled.rivals]
    num = len(token_rival.names())
    assert tuple(names[:num]) == token_rival.names()
    assert names[-1] == "always_up"
    assert {"ewma_normal", "garman_klass", "last_value", "low_volatility"} <= set(names[num:-1])
    assert all(rival.num_bars == found.pooled.num_bars for rival in found.pooled.rivals)
    log_losses = found.pooled.claim(LOG_LOSS)
    assert log_losses is not None
    assert {"unigram", "ewma_normal"} <= set(log_losses.differences)
    assert found.fitted["bigram"]["tau"] > 0.0
    assert "decay" in found.fitted["garman_klass"]


def test_rivals_of_returns_forecast_the_very_bars_that_are_scored(make_market: MakeMarket) -> None:
    market = make_market()
    gap = 1000
    shifted = replace(market, row=market.row + gap)
    bars = history(market)
    before = replace(
        bars,
        **{
            name: np.r_[np.full(gap, np.nan), getattr(bars, name)]
            for name in ("open", "high", "low", "close", "volume", "change")
        },
        time=np.r_[bars.time[0] - np.arange(gap, 0, -1), bars.time],
        asset=np.r_[np.zeros(gap, np.int64), bars.asset],
        category=np.r_[np.zeros(gap, np.int64), bars.category],
        split=np.r_[np.full(gap, Split.OUTSIDE, np.int8), bars.split],
    )
    usual, _ = run(market, bigram_scorer(market), fitted=Rivals.fit(market, bars))
    moved, _ = run(shifted, bigram_scorer(shifted), fitted=Rivals.fit(shifted, before))
    for name in ("ewma_normal", "har", "low_volatility", "last_value"):
        first, second = usual.pooled.rival(name), moved.pooled.rival(name)
        assert first.crps_bp == pytest.approx(second.crps_bp) if first.crps_bp else second.crps_bp is None
        assert first.rank_ic == second.rank_ic


@pytest.mark.parametrize(("batch_size", "stride"), [(1, 12), (7, 6), (64, 3)])
def test_neither_batches_nor_strides_change_a_forecast_that_needs_no_context(
    make_market: MakeMarket, batch_size: int, stride: int
) -> None:
    market = make_market()
    fitted = rivals(market)
    found, table = run(market, bigram_scorer(market), batch_size=batch_size, stride=stride, fitted=fitted)
    usual, usual_table = run(market, bigram_scorer(market), fitted=fitted)
    assert found.pooled.model.nats == pytest.approx(usual.pooled.model.nats, rel=1e-12)
    pd.testing.assert_frame_equal(table, usual_table, rtol=1e-9)


def test_the_table_holds_every_bar_once_with_what_really_happened(make_market: MakeMarket) -> None:
    market = make_market()
    found, table = run(market, bigram_scorer(market))
    targets = target_positions(market, Split.TEST)
    assert len(table) == len(targets) == found.pooled.num_bars
    assert not table.duplicated(["symbol", "time"]).any()
    assert (table["known_at"] < table["time"]).all()
    np.testing.assert_allclose(
        table["realised_return"], market.close[targets] / market.close[targets - 1] - 1.0
    )
    np.testing.assert_array_equal(table["previous_close"], market.close[targets - 1])
    np.testing.assert_array_equal(
        table["time"].to_numpy("datetime64[ns]").astype(np.int64), market.time[targets]
    )
    np.testing.assert_array_equal(table["token"], market.tokens[targets])
    assert table["nats"].mean() == pytest.approx(found.pooled.model.nats)
    assert (np.diff(table[list(QUANTILES)].to_numpy(), axis=1) >= 0).all()
    inside = (table["realised_return"] >= table["q05"]) & (table["realised_return"] <= table["q95"])
    assert found.pooled.model.coverage is not None
    assert inside.mean() == pytest.approx(found.pooled.model.coverage["90"], abs=0.01)


def test_the_hardest_rival_of_tokens_is_chosen_on_validation(make_market: MakeMarket) -> None:
    market = make_market()
    fitted = rivals(market)
    validation, _ = run(market, bigram_scorer(market), split=Split.VALIDATION, fitted=fitted)
    nats = {name: validation.pooled.rival(name).nats or 0.0 for name in token_rival.names()}
    assert fitted.hardest == min(nats, key=lambda name: nats[name])
    test, table = run(market, bigram_scorer(market), fitted=fitted)
    assert table["hardest_nats"].mean() == pytest.approx(test.pooled.rival(fitted.hardest).nats)


def test_bars_come_by_asset_also_where_the_universe_has_another_order(make_market: MakeMarket) -> None:
    market = make_market()
    last = len(market.assets) - 1
    turned = replace(market, segment_asset=(last - market.segment_asset).astype(np.int32))
    asset = asset_of_bars(turned)
    assert asset[0] == last
    found, table = run(turned, bigram_scorer(turned))
    assert table["symbol"].cat.codes.is_monotonic_increasing
    usual, _ = run(market, bigram_scorer(market))
    assert found.pooled.model.nats == pytest.approx(usual.pooled.model.nats)
    assert found.pooled.rival("bigram").crps_bp == pytest.approx(usual.pooled.rival("bigram").crps_bp)


def test_an_asset_without_training_targets_is_scored_apart(make_market: MakeMarket) -> None:
    market = make_market()
    last = asset_of_bars(market) == len(market.assets) - 1
    is_early = last & (market.split != Split.TEST)
    unseen = replace(market, split=np.where(is_early, Split.OUTSIDE, market.split).astype(np.int8))
    found, table = run(unseen, bigram_scorer(unseen))
    (apart,) = found.unseen
    assert apart.num_assets == 1
    assert apart.num_bars == np.count_nonzero(last & (unseen.split == Split.TEST))
    assert found.pooled.num_assets == len(market.assets) - 1
    assert len(table) == found.pooled.num_bars + apart.num_bars


def test_equal_inputs_give_equal_results(make_market: MakeMarket) -> None:
    market = make_market()
    first, second = (run(market, bigram_scorer(market)) for _ in range(2))
    assert first[0] == second[0]
    pd.testing.assert_frame_equal(first[1], second[1], check_exact=True)


def test_bars_of_another_choice_are_refused(make_market: MakeMarket) -> None:
    market = make_market()
    own = evaluate.score_model(
        market, unigram_scorer(market), split=Split.TEST, context_length=12, stride=6, batch_size=4
    )
    for wrong in (own.at(slice(1, None)), own.at(np.r_[0, 0:3]), own):
        split = Split.VALIDATION if wrong is own else Split.TEST
        with pytest.raises(RuntimeError, match="must share their bars"):
            evaluate.score(market, wrong, split=split, evaluated=EVALUATED, rivals=rivals(market, ()))


@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
def test_a_period_without_bars_is_one_clear_error(make_market: MakeMarket, split: Split) -> None:
    market = make_market()
    empty = replace(
        market, split=np.where(market.split == split, Split.OUTSIDE, market.split).astype(np.int8)
    )
    with pytest.raises(UserError, match=f"the {split.text} period has no bar to score"):
        evaluate.score_model(
            empty, unigram_scorer(market), split=split, context_length=12, stride=6, batch_size=4
        )


def test_every_kind_of_rival_is_asked() -> None:
    assert {kind.value for kind in KINDS} == {"distribution", "point", "cross_section"}
