from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stockpred.data.splits import Split
from stockpred.tasks.next_token import stream as stream_module
from stockpred.tasks.next_token.stream import WindowStream


def _make_dataset(*args: Any) -> Any:
    spec = importlib.util.spec_from_file_location(
        "windows_by_hand", Path(__file__).with_name("test_windows.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_dataset(*args)


@pytest.fixture(scope="module")
def stream() -> WindowStream:
    return _stream(seed=3)


def _stream(seed: int) -> WindowStream:
    dataset = _make_dataset([60, 25, 7, 60, 41], [0, 10, 30, 40, 59])
    return WindowStream(dataset, context_length=8, stride=3, seed=seed)


def _joined(stream: WindowStream, step: int, num_parts: int, part_size: int) -> dict[str, torch.Tensor]:
    parts = [stream.batch(step, part, num_parts, part_size) for part in range(num_parts)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0] if name != "loss_weight"}


@pytest.mark.parametrize(("num_parts", "part_size"), [(1, 12), (2, 6), (3, 4), (4, 3), (12, 1)])
def test_the_global_batch_is_the_same_for_any_number_of_parts(
    stream: WindowStream, num_parts: int, part_size: int
) -> None:
    for step in (0, 1, 7, 1000):
        whole, split = _joined(stream, step, 1, 12), _joined(stream, step, num_parts, part_size)
        assert all(torch.equal(whole[name], split[name]) for name in whole)


def test_any_step_can_be_asked_for_in_any_order(stream: WindowStream) -> None:
    for step in (500, 2, 30, 2, 0):
        fresh = _stream(seed=3).batch(step, 1, 2, 5)
        again = stream.batch(step, 1, 2, 5)
        assert all(torch.equal(fresh[name], again[name]) for name in fresh)


def test_each_pass_holds_every_window_once_also_where_a_batch_straddles_two(stream: WindowStream) -> None:
    size = 7
    assert stream.num_samples % size
    ends = [
        tuple(row.tolist())
        for step in range(2 * stream.num_samples)
        for row in stream.batch(step, 0, 1, size)["position"]
    ]
    passes = [ends[n * stream.num_samples : (n + 1) * stream.num_samples] for n in range(2 * size)]
    assert all(sorted(one) == sorted(passes[0]) for one in passes)
    assert len({tuple(one) for one in passes}) == len(passes)


def test_another_seed_is_another_order(stream: WindowStream) -> None:
    assert not torch.equal(stream.batch(0, 0, 1, 12)["tokens"], _stream(seed=4).batch(0, 0, 1, 12)["tokens"])


@pytest.mark.parametrize("num_parts", [1, 2, 3, 4])
def test_the_mean_over_parts_is_the_mean_over_the_batch(stream: WindowStream, num_parts: int) -> None:
    for step in range(5):
        whole = _joined(stream, step, 1, 12)
        loss = torch.sin(whole["position"].double())
        expected = (loss * whole["mask"]).sum() / whole["mask"].sum()
        shares = []
        for part in range(num_parts):
            batch = stream.batch(step, part, num_parts, 12 // num_parts)
            own = (torch.sin(batch["position"].double()) * batch["mask"]).sum()
            shares.append(own / batch["loss_weight"].double())
        assert torch.stack(shares).mean() == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("num_parts", [1, 2, 3, 50])
@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
def test_every_target_is_scored_once_over_all_parts(
    stream: WindowStream, num_parts: int, split: Split
) -> None:
    scored = [
        batch["position"][batch["mask"]]
        for part in range(num_parts)
        for batch in stream.scored(split, part, num_parts, 2)
    ]
    positions = torch.cat(scored).numpy()
    assert len(np.unique(positions)) == len(positions) == stream.num_scored(split)


@pytest.mark.parametrize(("score_stride", "least"), [(None, 7), (1, 8), (8, 1)])
@pytest.mark.parametrize("stride", [1, 8, 100])
def test_what_a_scored_bar_sees_has_nothing_to_do_with_the_training_stride(
    stride: int, score_stride: int | None, least: int
) -> None:
    dataset = _make_dataset([100], [0])
    stream = WindowStream(dataset, context_length=8, stride=stride, seed=0, score_stride=score_stride)
    for split in (Split.VALIDATION, Split.TEST):
        for batch in stream.scored(split, 0, 1, 4):
            _, seen_before = torch.nonzero(batch["mask"], as_tuple=True)
            assert (seen_before + 1).min() >= least  # the embargo of ten bars is longer than the context


def test_scoring_windows_are_made_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    really = stream_module.Windows

    def counted(dataset: Any, split: Split, *rest: int) -> Any:
        made.append(split)
        return really(dataset, split, *rest)

    monkeypatch.setattr(stream_module, "Windows", counted)
    own = _stream(seed=1)
    for _ in range(2):
        next(own.evaluation(0, 1, 4))
    assert made == [Split.TRAIN, Split.VALIDATION]


def test_evaluation_is_on_validation(stream: WindowStream) -> None:
    ours = [batch["position"] for batch in stream.evaluation(0, 1, 4)]
    theirs = [batch["position"] for batch in stream.scored(Split.VALIDATION, 0, 1, 4)]
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
