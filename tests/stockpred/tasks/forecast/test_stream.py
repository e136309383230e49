"""Batches of samples: the same whoever shares them, and each target scored once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stockpred.data.splits import Split
from stockpred.tasks.forecast.dataset import AssetSeries
from stockpred.tasks.forecast.stream import SeriesStream

T, N, F = 5, 140, 2
DAY = 86_400_000_000_000


def series_of(kind: str = "changes") -> AssetSeries:
    """Return a series whose first feature is the bar's number; a hole before bar 40."""
    rng = np.random.default_rng(0)
    time = (np.arange(N) + 30 * (np.arange(N) >= 40)) * DAY
    return AssetSeries(
        symbol="X",
        category="us_equity",
        kind=kind,
        features=("open", "close"),
        inputs_NF=np.stack([np.arange(N), rng.standard_normal(N)], axis=1).astype(np.float32),
        time=time,
        close=100 * np.exp(np.cumsum(0.01 * rng.standard_normal(N))),
        stretch_start=np.where(np.arange(N) < 40, 0, 40),
        row=np.arange(N),
        split=np.repeat([Split.TRAIN, Split.VALIDATION, Split.TEST], (98, 21, 21)).astype(np.int8),
        target_mean=90.0 if kind == "levels" else 0.0,
        target_scale=3.0,
    )


@pytest.fixture(scope="module", params=["changes", "levels"])
def stream(request: pytest.FixtureRequest) -> SeriesStream:
    return SeriesStream(series_of(request.param), context_length=T, seed=3)


def joined(stream: SeriesStream, step: int, num_parts: int, part_size: int) -> dict[str, torch.Tensor]:
    parts = [stream.batch(step, part, num_parts, part_size) for part in range(num_parts)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0] if name != "loss_weight"}


def last_bars(batch: dict[str, torch.Tensor]) -> list[int]:
    return [int(number) for number in batch["inputs"][:, -1, 0]]


def seen(series: AssetSeries, last: int) -> np.ndarray:
    """Return the T bars up to one; before a stretch, no change or its first levels."""
    first = 0 if last < 40 else 40
    filler = np.zeros(F, np.float32) if series.kind == "changes" else series.inputs_NF[first]
    return np.stack(
        [series.inputs_NF[bar] if bar >= first else filler for bar in range(last - T + 1, last + 1)]
    )


def test_a_sample_is_the_bars_up_to_one_and_the_close_after_it(stream: SeriesStream) -> None:
    series = stream.series
    batch = stream.batch(0, 0, 1, 32)
    assert batch["inputs"].shape == (32, T, F)
    assert batch["inputs"].dtype == batch["target"].dtype == batch["persistence"].dtype == torch.float32
    for row, last in enumerate(last_bars(batch)):
        np.testing.assert_array_equal(batch["inputs"][row].numpy(), seen(series, last))
        before, after = series.close[last], series.close[last + 1]
        target = (after / before - 1) / 3.0 if series.kind == "changes" else (after - 90.0) / 3.0
        persistence = 0.0 if series.kind == "changes" else (before - 90.0) / 3.0
        assert float(batch["target"][row]) == pytest.approx(target, rel=1e-6)
        assert float(batch["persistence"][row]) == pytest.approx(persistence, rel=1e-6)


@pytest.mark.parametrize(("num_parts", "part_size"), [(2, 6), (3, 4), (12, 1)])
def test_the_global_batch_is_the_same_for_any_number_of_parts(
    stream: SeriesStream, num_parts: int, part_size: int
) -> None:
    for step in (1000, 7, 0, 8):
        whole, split = joined(stream, step, 1, 12), joined(stream, step, num_parts, part_size)
        assert all(torch.equal(whole[name], split[name]) for name in whole)


def test_each_pass_holds_every_training_sample_once(stream: SeriesStream) -> None:
    size, count = 7, stream.num_samples
    assert count % size
    order = [last for step in range(2 * count) for last in last_bars(stream.batch(step, 0, 1, size))]
    passes = [order[n * count : (n + 1) * count] for n in range(2 * size)]
    assert all(sorted(one) == list(stream.samples[Split.TRAIN]) for one in passes)


@pytest.mark.parametrize("num_parts", [1, 2, 4])
def test_the_mean_over_parts_is_the_mean_over_the_batch(stream: SeriesStream, num_parts: int) -> None:
    whole = stream.batch(3, 0, 1, 12)["target"].double().square().mean()
    parts = [stream.batch(3, part, num_parts, 12 // num_parts) for part in range(num_parts)]
    shares = [part["target"].double().square().sum() / part["loss_weight"] for part in parts]
    assert torch.stack(shares).mean() == pytest.approx(float(whole), rel=1e-9)


@pytest.mark.parametrize("num_parts", [1, 2, 3, 50])
@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
def test_every_target_is_scored_once_over_all_parts(
    stream: SeriesStream, num_parts: int, split: Split
) -> None:
    scored = [
        last
        for part in range(num_parts)
        for batch in stream.scored(split, part, num_parts, 3)
        for last in last_bars(batch)
    ]
    assert sorted(scored) == [n for n in range(N - 1) if stream.series.split[n + 1] == split]


def test_evaluation_is_on_validation(stream: SeriesStream) -> None:
    ours = [last for batch in stream.evaluation(0, 1, 4) for last in last_bars(batch)]
    assert ours == list(stream.samples[Split.VALIDATION])
