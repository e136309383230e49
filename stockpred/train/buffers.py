"""Buffers that a forward pass changes, in place or by putting another tensor in their place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from stockpred.train.distributed import Group

Place = tuple[nn.Module, str]
"""A module and the name of one of its buffers."""


class RememberedBuffers:
    """The buffers of networks as they are now; ``restore`` brings them back, and tells which had changed."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        modules = dict.fromkeys(module for network in networks for module in network.modules())
        self._before = [
            ((module, name), buffer, _version(buffer), None if buffer is None else buffer.detach().clone())
            for module in modules
            for name, buffer in module._buffers.items()
        ]

    def restore(self) -> list[Place]:
        """Put every buffer and its content back; return the places of those that were changed."""
        changed = []
        for (module, name), buffer, version, content in self._before:
            is_altered = _version(buffer) != version
            if is_altered or getattr(module, name) is not buffer:
                changed.append((module, name))
                setattr(module, name, buffer)
            if is_altered and buffer is not None and content is not None:
                with torch.no_grad():
                    buffer.copy_(content)
        return changed


def share(places: Sequence[Place], group: Group) -> None:
    """Give every rank the content that the buffers have on rank 0."""
    for module, name in places:
        buffer: Tensor | None = getattr(module, name)
        if buffer is not None:
            group.broadcast(buffer.detach())


def _version(buffer: Tensor | None) -> int:
    return -1 if buffer is None else buffer._version
