"""Gradient checkpointing: compute activations again in the backward pass (Chen et al. 2016)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_activations(network: nn.Module) -> None:
    """Keep only what goes into each block of a network; its activations are computed again when needed.

    Blocks are the elements of the outermost ``nn.ModuleList`` and ``nn.Sequential``; a network without any is
    one block. A network that knows its own way (``gradient_checkpointing_enable``) is asked to take it. The
    names of its weights stay, and so do its numbers.
    """
    own_way = getattr(network, "gradient_checkpointing_enable", None)
    if callable(own_way):
        own_way()
        return
    for block in list(_blocks(network)) or [network]:
        if not isinstance(block.forward, _Recomputed):
            block.forward = _Recomputed(block, block.forward)


class _Recomputed:
    """A block's forward pass whose activations are not kept while it is trained."""

    def __init__(self, block: nn.Module, forward: Callable[..., Any]) -> None:
        self.block, self.forward = block, forward
        functools.update_wrapper(self, forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (self.block.training and torch.is_grad_enabled()):
            return self.forward(*args, **kwargs)
        return checkpoint(self.forward, *args, use_reentrant=False, **kwargs)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, nn.ModuleList | nn.Sequential):
        yield from (block for block in module if any(True for _ in block.parameters()))
        return
    for child in module.children():
        yield from _blocks(child)
