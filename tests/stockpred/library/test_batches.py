"""How many samples a batch has, where only the batch can say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stockpred.library.batches import count_samples


def image(height: int, width: int = 8) -> torch.Tensor:
    return torch.zeros(3, height, width)


def boxes(number: int) -> dict[str, torch.Tensor]:
    return {"boxes": torch.zeros(number, 4), "label": torch.zeros(())}


X, Y = torch.zeros(8, 20, 5), torch.zeros(8)
BATCHES: dict[str, tuple[Any, int]] = {
    "a tensor": (X, 8),
    "inputs and targets": ((X, Y), 8),
    "two inputs and targets": (([X, X], Y), 8),
    "a dict": ({"ids": X, "labels": Y}, 8),
    "a dict with something else": ({"ids": X, "positions": torch.zeros(20)}, 8),
    "targets one after another, as for CTC": ((X, torch.zeros(53), Y.long(), Y.long()), 8),
    "names and targets": ((["a"] * 8, Y), 8),
    "images alone, which look like three samples of four inputs": ([image(n) for n in (5, 6, 7, 8)], 3),
    "images of their own sizes with labels": (([image(5), image(6)], torch.zeros(2)), 2),
    "images of one size with boxes": (((image(5),) * 4, tuple(boxes(n) for n in (1, 2, 1, 5))), 4),
    "sequences": ([torch.zeros(5), torch.zeros(7), torch.zeros(2)], 3),
    "sequences with targets": (([torch.zeros(5), torch.zeros(7)], [torch.zeros(5), torch.zeros(7)]), 2),
    "a number": (torch.zeros(()), 1),
    "words": (["a", "b"], 1),
    "nothing": (None, 1),
}


@pytest.mark.parametrize(("content", "expected"), BATCHES.values(), ids=BATCHES.keys())
def test_samples_are_counted(content: Any, expected: int) -> None:
    assert count_samples(content) == expected
