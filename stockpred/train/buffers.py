"""Buffers that a forward pass changes, in place or by putting another tensor in their place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from stockpred.train.distributed import Group

Place = tuple[nn.Module, str]
"""A module and the name of one of its buffers."""


class RememberedBuffers:
    """The buffers of networks as they are now; ``restore`` brings them back, and tells which had changed.

    Contents are compared: batch norm moves its running means without a new ``_version``.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        modules = dict.fromkeys(module for network in networks for module in network.modules())
        self._before = [
            ((module, name), buffer, None if buffer is None else buffer.detach().clone())
            for module in modules
            for name, buffer in module._buffers.items()
        ]

    @torch.no_grad()
    def restore(self) -> list[bool]:
        """Put every buffer and its content back; say of each whether it was changed."""
        return [self._put_back(*remembered) for remembered in self._before]

    def agree(self, changed: Sequence[bool], group: Group) -> list[Place]:
        """Return the places that were changed on any rank. Collective."""
        agreed = group.reduce_max([float(is_changed) for is_changed in changed]) if changed else []
        return [place for (place, _, _), is_changed in zip(self._before, agreed, strict=True) if is_changed]

    @staticmethod
    def _put_back(place: Place, buffer: Tensor | None, content: Tensor | None) -> bool:
        module, name = place
        is_changed = getattr(module, name) is not buffer
        if is_changed:
            setattr(module, name, buffer)
        if buffer is not None and content is not None and not torch.equal(buffer, content):
            buffer.copy_(content)
            is_changed = True
        return is_changed


def share(places: Sequence[Place], group: Group) -> None:
    """Give every rank the content that the buffers have on rank 0."""
    for module, name in places:
        buffer: Tensor | None = getattr(module, name)
        if buffer is not None:
            group.broadcast(buffer.detach())
