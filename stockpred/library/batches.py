"""What a person's loader gives: how many samples it has, and its way to the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

PAYLOAD, LOSS_WEIGHT = "payload", "loss_weight"
END_OF_EPOCH = "end_of_epoch"
"""The key of the item that asks for an epoch's training loss; it comes before the validation batches."""


@dataclass(frozen=True)
class Payload:
    """One batch as the loader gave it: tuples, lists and dicts of tensors and other values.

    It moves as a tensor does, which is all that the core asks of the values of a batch. ``part`` is the
    micro-batch's number among those of its step; one that does not count repeats another.
    """

    content: Any
    num_samples: int
    part: int = 0
    counts: bool = True

    @classmethod
    def of(cls, content: Any) -> Payload:
        """Return a batch of which only the content is known; its samples are counted."""
        return cls(content, count_samples(content))

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Payload:
        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return replace(self, content=pytree.tree_map_only(Tensor, moved, self.content))

    def pin_memory(self) -> Payload:
        return replace(self, content=pytree.tree_map_only(Tensor, Tensor.pin_memory, self.content))


def count_samples(content: Any) -> int:
    """Return how many samples a batch seems to have.

    Where all tensors are equally long (their first axis), it is that length. Where they are not, a list of
    tensors that differ only in their sizes, such as images or sequences, is one of samples; in anything else
    the first tensor counts. Without a tensor that has an axis it is 1.
    """
    lengths = [len(leaf) for leaf in _leaves(content) if isinstance(leaf, Tensor) and leaf.ndim]
    if not lengths:
        return 1
    return lengths[0] if len(set(lengths)) == 1 else _samples_listed(content) or lengths[0]


def _samples_listed(content: Any) -> int | None:
    """Return the length of a list of samples that stands first in a batch; None where none does."""
    members = list(content.values()) if isinstance(content, Mapping) else content
    if not isinstance(members, list | tuple) or not members:
        return None
    kinds = {(tensor.dtype, tensor.ndim) if isinstance(tensor, Tensor) else None for tensor in members}
    if len(kinds) == 1 and None not in kinds and members is content:
        return len(members)
    return _samples_listed(members[0])


def _leaves(content: Any) -> Iterator[Any]:
    values = content.values() if isinstance(content, Mapping) else content
    if isinstance(content, Mapping | list | tuple):
        for value in values:
            yield from _leaves(value)
    else:
        yield content
