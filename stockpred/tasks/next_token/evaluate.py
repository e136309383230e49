"""Score the best model on the bars of one split, beside rivals of tokens and of returns, on the same bars.

Axes: B windows, T positions of a window, M scored bars, K tokens. The distributions over tokens are never
held together: each window is reduced at once to a few numbers per bar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hpc.base.errors import UserError
from stockpred.data.arrays import Bools, Floats, Ints
from stockpred.data.prepared import read_bars
from stockpred.data.splits import Split
from stockpred.score import forecasts
from stockpred.score.compare import BarScores, score_split
from stockpred.score.field import Field
from stockpred.score.forecasts import Outcomes
from stockpred.score.history import History
from stockpred.score.metrics import EvaluatedModel
from stockpred.score.results import SplitScores
from stockpred.score.rival import Kind
from stockpred.tasks.next_token import token_rival
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.returns import TokenForecasts, TokenReturns
from stockpred.tasks.next_token.targets import asset_of_bars, next_tokens, target_positions
from stockpred.tasks.next_token.token_rival import FittedRival
from stockpred.tasks.next_token.windows import Windows
from stockpred.train.learner import Batch

Scorer = Callable[[Batch], torch.Tensor]  # a batch on the CPU -> log probabilities of its targets, [B, T, K]

KINDS = (Kind.DISTRIBUTION, Kind.POINT, Kind.CROSS_SECTION)
ALWAYS_UP = "always_up"


def history(dataset: TokenDataset, prepared: Path) -> History:
    """Read back all checked bars of a run, of which the dataset's are those that became tokens."""
    checked, split = read_bars(prepared)
    index_of = {symbol: index for index, symbol in enumerate(dataset.assets)}
    symbols, label = np.unique(checked.bars["symbol"].to_numpy(dtype=object), return_inverse=True)
    asset = np.array([index_of[symbol] for symbol in symbols], np.int64)
    return History.of(checked, split, dataset.asset_category[asset[label]].astype(np.int64))


@dataclass(frozen=True, eq=False)
class Rivals:
    """Every rival of tokens and of returns, fitted once; any target of the dataset can then be scored."""

    dataset: TokenDataset
    returns: TokenReturns
    of_tokens: Mapping[str, FittedRival]
    of_returns: Field

    @classmethod
    def fit(cls, dataset: TokenDataset, history: History) -> Rivals:
        of_tokens = {name: token_rival.load(name).fit(dataset) for name in token_rival.names()}
        return cls(dataset, TokenReturns.of(dataset), of_tokens, Field(history, KINDS))

    @property
    def fitted(self) -> Mapping[str, Mapping[str, float]]:
        """What was fitted or chosen for each rival."""
        own = {name: dict(rival.settings) for name, rival in self.of_tokens.items()}
        return own | dict(self.of_returns.fitted)

    @cached_property
    def hardest(self) -> str:
        """The rival of tokens that is hardest on validation: that of the lowest cross-entropy."""
        targets = target_positions(self.dataset, Split.VALIDATION)

        def nats(name: str) -> float:
            return float(self.token_forecasts(name, targets).nats.mean())

        return min(self.of_tokens, key=nats)

    def token_forecasts(self, name: str, positions_M: Ints) -> TokenForecasts:
        rival = self.of_tokens[name]
        return TokenForecasts.joined(
            list(self.returns.reduce(positions_M, lambda few: rival.log_probs(positions_M[few])))
        )

    def scores(self, positions_M: Ints, outcome_M: Floats) -> tuple[BarScores, ...]:
        """Score every rival at positions of the dataset: of tokens first, ``always_up`` last."""
        return (
            *(
                self.token_forecasts(name, positions_M).named(name, token_rival.load(name).LABEL)
                for name in self.of_tokens
            ),
            *self.of_returns.scores(np.asarray(self.dataset.row[positions_M]), outcome_M),
            BarScores(ALWAYS_UP, "Always up", call=np.ones(len(positions_M))),
        )


def score(
    dataset: TokenDataset,
    own: TokenForecasts,
    *,
    split: Split,
    evaluated: EvaluatedModel,
    rivals: Rivals,
) -> tuple[SplitScores, pd.DataFrame]:
    """Lay the model's forecasts of a split beside the rivals'; return the scores and the table of forecasts.

    Raises RuntimeError where they are not exactly those of the split's targets.
    """
    _require_every_target_once(own.positions, target_positions(dataset, split), split)
    own = own.at(np.argsort(asset_of_bars(dataset)[own.positions], kind="stable"))
    outcomes = outcomes_of(dataset, own.positions, split)
    of_rivals = rivals.scores(own.positions, outcomes.realised_return)
    model = own.named(evaluated.model, evaluated.model)
    scores = score_split(evaluated, outcomes, model, of_rivals, fitted=rivals.fitted)
    hardest = next(rival for rival in of_rivals if rival.name == rivals.hardest)
    columns = {
        "token": next_tokens(dataset, own.positions).astype(np.int32),
        "nats": own.nats,
        "hardest_nats": hardest.nats,
    }
    return scores, forecasts.table(outcomes, own.expected_return, own.quantiles_MQ, columns)


def score_model(
    dataset: TokenDataset,
    scorer: Scorer,
    *,
    split: Split,
    context_length: int,
    stride: int,
    batch_size: int,
) -> TokenForecasts:
    """Stream the windows of a split through the scorer and reduce each to numbers per bar, by position.

    Raises UserError where the split has no bar to score.
    """
    windows = Windows(dataset, split, context_length, stride)
    if len(windows) == 0:
        raise UserError(
            f"the {split.text} period has no bar to score",
            fix="take bars over a longer time, or other dates",
        )
    found = TokenForecasts.joined(list(_window_forecasts(dataset, scorer, windows, batch_size)))
    return found.at(np.argsort(found.positions, kind="stable"))


def outcomes_of(dataset: TokenDataset, positions_M: Ints, split: Split) -> Outcomes:
    """Return what came of the bars at positions."""
    asset = asset_of_bars(dataset)
    return Outcomes(
        split=split,
        symbols=dataset.assets,
        categories=dataset.categories,
        asset=asset[positions_M],
        category=dataset.asset_category[asset[positions_M]].astype(np.int64),
        known_at=dataset.time[positions_M - 1],
        time=dataset.time[positions_M],
        previous_close=dataset.close[positions_M - 1],
        realised_return=np.expm1(dataset.close_return[positions_M]),
        is_unseen=_is_unseen(dataset, asset)[asset[positions_M]],
    )


def _is_unseen(dataset: TokenDataset, asset_N: Ints) -> Bools:
    """Return which assets have no training target."""
    targets = target_positions(dataset, Split.TRAIN)
    return np.asarray(np.bincount(asset_N[targets], minlength=len(dataset.assets)) == 0)


def _window_forecasts(
    dataset: TokenDataset, scorer: Scorer, windows: Windows, batch_size: int
) -> Iterator[TokenForecasts]:
    returns = TokenReturns.of(dataset)
    for start in range(0, len(windows), batch_size):
        arrays = windows.gather(np.arange(start, min(start + batch_size, len(windows))))
        positions_BT = arrays.pop("position")  # not for the scorer, so not for the GPU
        with torch.inference_mode():
            log_probs_BTK = scorer({name: torch.from_numpy(array) for name, array in arrays.items()})
        for row, mask_T in enumerate(arrays["mask"]):
            log_probs_MK = log_probs_BTK[row][torch.from_numpy(mask_T).to(log_probs_BTK.device)].cpu()
            yield from returns.reduce(positions_BT[row][mask_T], _rows_of(log_probs_MK))


def _rows_of(log_probs_MK: torch.Tensor) -> Callable[[slice], Floats]:
    return lambda few: log_probs_MK[few].double().numpy()


def _require_every_target_once(scored: Ints, expected: Ints, split: Split) -> None:
    if not np.array_equal(scored, expected):
        raise RuntimeError(
            f"the windows score {len(scored)} {split.text} bars ({len(np.unique(scored))} distinct), "
            f"but the period has {len(expected)}: model and rivals must share their bars"
        )
