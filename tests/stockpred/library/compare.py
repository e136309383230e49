"""What came out of two trainings, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from leaves(value, f"{name}/{key}")
    else:
        yield name, tree


def assert_identical(ours: Any, theirs: Any) -> None:
    """Every tensor and number equal, bit for bit."""
    mine, others = dict(leaves(ours)), dict(leaves(theirs))
    assert mine.keys() == others.keys()
    for name, value in mine.items():
        is_equal = (
            torch.equal(value, others[name]) if isinstance(value, torch.Tensor) else value == others[name]
        )
        assert is_equal, (name, value, others[name])


def assert_close(ours: Any, theirs: Any) -> None:
    """Every tensor and number equal to 1e-6."""
    mine, others = dict(leaves(ours)), dict(leaves(theirs))
    assert mine.keys() == others.keys()
    for name, value in mine.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, others[name], atol=1e-6, rtol=1e-6)
        else:
            assert value == pytest.approx(others[name], abs=1e-6), name
