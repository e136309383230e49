"""What a person's loader gives: how many samples it has, and its way to the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class Payload:
    """One batch as the loader gave it: tuples, lists and dicts of tensors and other values.

    It moves as a tensor does, which is all that the core asks of the values of a batch. ``part`` is the
    micro-batch's number among those of its step; one that does not count repeats another. ``content`` None
    marks the end of an epoch.
    """

    content: Any
    part: int = 0
    counts: bool = True

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Payload:
        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return replace(self, content=pytree.tree_map_only(Tensor, moved, self.content))

    def pin_memory(self) -> Payload:
        return replace(self, content=pytree.tree_map_only(Tensor, Tensor.pin_memory, self.content))

    @property
    def num_samples(self) -> int:
        """The length of the first tensor; 1 for a batch of scalars or without any tensor."""
        first = next((leaf for leaf in _leaves(self.content) if isinstance(leaf, Tensor)), None)
        return len(first) if first is not None and first.ndim else 1


def _leaves(content: Any) -> Iterator[Any]:
    values = content.values() if isinstance(content, Mapping) else content
    if isinstance(content, Mapping | list | tuple):
        for value in values:
            yield from _leaves(value)
    else:
        yield content
