"""Score the best model once on the test bars, beside the simple rivals, on exactly the same bars.

Axes: B windows, T positions of a window, M scored bars, K tokens, Q quantile levels. The distributions over
tokens are never held together: each window is reduced at once to a few numbers per bar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from hpc.base import records
from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.data.splits import Split
from stockpred.data.times import day_numbers, iso_date
from stockpred.score import correlation, inference, metrics
from stockpred.score.inference import Estimate
from stockpred.score.metrics import EvaluatedModel, Floats, Integers
from stockpred.tasks.next_token import baselines
from stockpred.tasks.next_token import results as results_file
from stockpred.tasks.next_token.baselines import BarScores
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.results import CategoryScores, NextTokenResults, TokenScores
from stockpred.tasks.next_token.windows import Windows
from stockpred.train.checkpoint import CheckLease, without_lease
from stockpred.train.learner import Batch

Scorer = Callable[[Batch], torch.Tensor]  # a batch on the CPU -> log probabilities of its targets, [B, T, K]

QUANTILE_LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
CURVE_LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
_BANDS = ("50", "80", "90")
_BP = 1e4
_ELEMENTS_AT_ONCE = 1 << 17  # 1 MB: what stays in the cache is reduced five times as fast


@dataclass(frozen=True)
class ModelScores:
    """The model's forecast of each scored bar, rows sorted by position."""

    positions: Integers
    nll: Floats
    expected_return: Floats
    quantiles_MQ: Floats
    crps: Floats
    pit: Floats

    def named(self, name: str) -> BarScores:
        return BarScores(
            name,
            name,
            nll=self.nll,
            expected_return=self.expected_return,
            crps=self.crps,
            pit=self.pit,
            call=self.expected_return,
        )


def evaluate_test(
    dataset: TokenDataset,
    scorer: Scorer,
    *,
    paths: RunPaths,
    evaluated: EvaluatedModel,
    context_length: int,
    stride: int,
    batch_size: int = 16,
    check_lease: CheckLease = without_lease,
) -> NextTokenResults:
    """Score the test split; write ``predictions.parquet`` and ``test_results.json``; return the results.

    ``check_lease`` is called before each write and raises when this attempt no longer owns the run.
    """
    scored = score_model(dataset, scorer, context_length=context_length, stride=stride, batch_size=batch_size)
    _require_every_target_once(scored.positions, baselines.target_positions(dataset, Split.TEST))
    unigram = baselines.fit_unigram(dataset)
    bigram = baselines.fit_bigram(dataset, unigram)
    comparison = Comparison.of(
        dataset,
        scored.positions,
        scored.named(evaluated.model),
        baselines.score_rivals(dataset, scored.positions, unigram, bigram),
    )
    found = comparison.results(evaluated, unigram_alpha=unigram.alpha, bigram_tau=bigram.tau)
    table = prediction_table(dataset, scored, comparison).to_parquet(index=False, compression="zstd")
    check_lease()
    records.write_bytes(paths.predictions, table)
    check_lease()
    results_file.write(paths.test_results, found)
    return found


def score_model(
    dataset: TokenDataset, scorer: Scorer, *, context_length: int, stride: int, batch_size: int
) -> ModelScores:
    """Stream the test windows through the scorer and reduce each to one row per scored bar."""
    windows = Windows(dataset, Split.TEST, context_length, stride)
    if len(windows) == 0:
        raise UserError(
            "the test period has no bar to score",
            fix="take bars over a longer time, or other dates",
        )
    parts = list(_window_scores(dataset, scorer, windows, batch_size))
    positions = np.concatenate([part.positions for part in parts])
    order = np.argsort(positions, kind="stable")
    return ModelScores(
        positions[order],
        *(
            np.concatenate([getattr(part, name) for part in parts])[order]
            for name in ("nll", "expected_return", "quantiles_MQ", "crps", "pit")
        ),
    )


def _window_scores(
    dataset: TokenDataset, scorer: Scorer, windows: Windows, batch_size: int
) -> Iterator[ModelScores]:
    by_return, support_K = baselines.sorted_support(dataset)
    for start in range(0, len(windows), batch_size):
        arrays = windows.gather(np.arange(start, min(start + batch_size, len(windows))))
        positions_BT = arrays.pop("position")  # not for the scorer, so not for the GPU
        with torch.inference_mode():
            log_probs_BTK = scorer({name: torch.from_numpy(array) for name, array in arrays.items()})
            for row, mask_T in enumerate(arrays["mask"]):
                log_probs_MK = log_probs_BTK[row][torch.from_numpy(mask_T).to(log_probs_BTK.device)].cpu()
                positions = positions_BT[row][mask_T]
                for few in _slices(len(positions), _ELEMENTS_AT_ONCE // len(support_K)):
                    distributions = log_probs_MK[few].double().numpy()
                    yield _reduced(dataset, positions[few], distributions, by_return, support_K)


def _slices(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, max(size, 1)):
        yield slice(start, start + max(size, 1))


def _reduced(
    dataset: TokenDataset, positions: Integers, log_probs_MK: Floats, by_return: Integers, support_K: Floats
) -> ModelScores:
    """Reduce distributions over tokens to scores of the return; token k stands for z_k times volatility."""
    tokens_M = dataset.tokens[positions].astype(np.int64)
    volatility_M = dataset.volatility[positions].astype(np.float64)
    outcome_M = dataset.close_return[positions] / volatility_M
    probs_MK = np.exp(log_probs_MK[:, by_return])
    cumulative_MK = np.cumsum(probs_MK, axis=1)
    quantiles_MQ = metrics.quantiles_discrete(cumulative_MK, support_K, QUANTILE_LEVELS)
    return ModelScores(
        positions,
        nll=-log_probs_MK[np.arange(len(positions)), tokens_M],
        expected_return=volatility_M * metrics.mean_discrete(probs_MK, support_K),
        quantiles_MQ=volatility_M[:, None] * quantiles_MQ,
        crps=volatility_M * metrics.crps_discrete(probs_MK, cumulative_MK, support_K, outcome_M),
        pit=metrics.pit_discrete(probs_MK, support_K, outcome_M),
    )


def _require_every_target_once(scored: Integers, expected: Integers) -> None:
    if not np.array_equal(scored, expected):
        raise RuntimeError(
            f"the windows score {len(scored)} test bars ({len(np.unique(scored))} distinct), "
            f"but the test period has {len(expected)}: model and rivals must share their bars"
        )


@dataclass(frozen=True)
class Comparison:
    """The model and its rivals on the same M bars, with the outcomes of those bars."""

    model: BarScores
    rivals: tuple[BarScores, ...]
    outcome: Floats
    time: Integers
    date: Integers
    asset: Integers
    category: Integers
    categories: tuple[str, ...]

    @classmethod
    def of(
        cls, dataset: TokenDataset, positions: Integers, model: BarScores, rivals: tuple[BarScores, ...]
    ) -> Comparison:
        asset = np.repeat(dataset.segment_asset, dataset.segment_length)[positions].astype(np.int64)
        return cls(
            model,
            rivals,
            outcome=dataset.close_return[positions],
            time=dataset.time[positions],
            date=day_numbers(dataset.time[positions]),
            asset=asset,
            category=dataset.asset_category[asset].astype(np.int64),
            categories=dataset.categories,
        )

    @property
    def token_rival(self) -> BarScores:
        """The rival of lowest cross-entropy on the test bars: the hardest to beat."""
        return min((r for r in self.rivals if r.nll is not None), key=lambda r: float(np.mean(_given(r.nll))))

    @property
    def crps_rival(self) -> BarScores:
        return min(
            (r for r in self.rivals if r.crps is not None), key=lambda r: float(np.mean(_given(r.crps)))
        )

    def results(
        self, evaluated: EvaluatedModel, *, unigram_alpha: float, bigram_tau: float
    ) -> NextTokenResults:
        expected_return = _given(self.model.expected_return)
        return NextTokenResults(
            evaluated=evaluated,
            num_bars=len(self.outcome),
            num_dates=len(np.unique(self.date)),
            num_assets=len(np.unique(self.asset)),
            first_time=iso_date(self.time.min()),
            last_time=iso_date(self.time.max()),
            model=self._row(self.model),
            rivals=tuple(self._row(rival) for rival in self.rivals),
            best_token_rival=self.token_rival.name,
            nats_difference=inference.mean_by_group(
                _given(self.model.nll) - _given(self.token_rival.nll), self.date
            ),
            best_crps_rival=self.crps_rival.name,
            crps_bp_difference=inference.mean_by_group(
                _BP * (_given(self.model.crps) - _given(self.crps_rival.crps)), self.date
            ),
            ic=correlation.information_coefficient(expected_return, self.outcome, self.time, ranked=False),
            rank_ic=correlation.information_coefficient(
                expected_return, self.outcome, self.time, ranked=True
            ),
            categories=tuple(self._category(int(label)) for label in np.unique(self.category)),
            curve_levels=CURVE_LEVELS,
            unigram_alpha=unigram_alpha,
            bigram_tau=bigram_tau,
        )

    def _row(self, scores: BarScores) -> TokenScores:
        nats = None if scores.nll is None else float(scores.nll.mean())
        prediction, call, pit = scores.expected_return, scores.call, scores.pit
        squared = None if prediction is None else (prediction - self.outcome) ** 2
        return TokenScores(
            name=scores.name,
            label=scores.label,
            num_bars=self._num_scored(scores),
            nats=nats,
            bits=None if nats is None else metrics.bits(nats),
            crps_bp=None if scores.crps is None else _BP * float(scores.crps.mean()),
            mae_bp=None if prediction is None else _BP * float(np.abs(prediction - self.outcome).mean()),
            rmse_bp=None if squared is None else _BP * float(np.sqrt(squared.mean())),
            r_squared=None if prediction is None else metrics.r_squared(prediction, self.outcome),
            skill=None if squared is None else metrics.skill(squared, self.outcome**2),
            versus_last_value=self._versus_last_value(squared),
            direction=None if call is None else inference.direction_accuracy(call, self.outcome, self.date),
            coverage=None
            if pit is None
            else {name: metrics.coverage(pit, int(name) / 100) for name in _BANDS},
            coverage_curve=None if pit is None else tuple(metrics.coverage(pit, p) for p in CURVE_LEVELS),
            model_nats_difference=self._model_nats_difference(scores),
        )

    def _model_nats_difference(self, scores: BarScores) -> Estimate | None:
        if scores is self.model or scores.nll is None:
            return None
        return inference.mean_by_group(_given(self.model.nll) - scores.nll, self.date)

    def _num_scored(self, scores: BarScores) -> int:
        """Return the common number of bars; refuse a forecaster that was scored on others."""
        arrays = (scores.nll, scores.expected_return, scores.crps, scores.pit, scores.call)
        if any(array is not None and array.shape != self.outcome.shape for array in arrays):
            raise RuntimeError(f"{scores.name} was not scored on the {len(self.outcome)} bars of the others")
        return len(self.outcome)

    def _versus_last_value(self, squared: Floats | None) -> Estimate | None:
        if squared is None or np.array_equal(squared, self.outcome**2):
            return None
        return inference.diebold_mariano(squared, self.outcome**2, self.date)

    def _category(self, label: int) -> CategoryScores:
        here = self.category == label
        outcome, prediction = self.outcome[here], _given(self.model.expected_return)[here]
        nll, rival_nll = _given(self.model.nll)[here], _given(self.token_rival.nll)[here]
        ewma = next(rival for rival in self.rivals if rival.name == "ewma_normal")
        return CategoryScores(
            category=self.categories[label],
            num_assets=len(np.unique(self.asset[here])),
            num_bars=len(outcome),
            nats=float(nll.mean()),
            rival_nats=float(rival_nll.mean()),
            nats_difference=inference.mean_by_group(nll - rival_nll, self.date[here]),
            crps_bp=_BP * float(_given(self.model.crps)[here].mean()),
            ewma_crps_bp=_BP * float(_given(ewma.crps)[here].mean()),
            skill=metrics.skill((prediction - outcome) ** 2, outcome**2),
            direction=inference.direction_accuracy(prediction, outcome, self.date[here]),
            coverage_90=metrics.coverage(_given(self.model.pit)[here], 0.9),
        )


def prediction_table(dataset: TokenDataset, scored: ModelScores, comparison: Comparison) -> pd.DataFrame:
    """Return one row per scored bar: the forecast of its close and the close itself."""
    close = dataset.close[scored.positions]
    columns: dict[str, object] = {
        "symbol": _labels(comparison.asset, dataset.assets),
        "category": _labels(comparison.category, dataset.categories),
        "time": pd.to_datetime(comparison.time, unit="ns", utc=True),
        "token": dataset.tokens[scored.positions].astype(np.int32),
        "nll": scored.nll,
        "rival_nll": _given(comparison.token_rival.nll),
        "expected_return": scored.expected_return,
    }
    for column, level in enumerate(QUANTILE_LEVELS):
        columns[f"q{round(100 * level):02d}"] = scored.quantiles_MQ[:, column]
    columns |= {
        "realised_return": comparison.outcome,
        "crps": scored.crps,
        "rival_crps": _given(comparison.crps_rival.crps),
        "pit": scored.pit,
        "close": close,
        "previous_close": close * np.exp(-comparison.outcome),
    }
    return pd.DataFrame(columns)


def _labels(codes: Integers, names: tuple[str, ...]) -> object:
    return pd.Categorical.from_codes(codes, pd.Index(names))


def _given(scores: Floats | None) -> Floats:
    assert scores is not None
    return scores
