"""Drive a learner's generators: seed, forward, backward, apply, one yielded loss after another."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stockpred.config.base import TrainingConfig
from stockpred.train.cadence import random_key
from stockpred.train.distributed import Group
from stockpred.train.learner import Batch, Learner, Networks
from stockpred.train.optim import NetworkOptimizer, Precision, autocast

Update = Iterator[tuple[str, Tensor]]
Losses = dict[str, list[Tensor]]


class Updater:
    """The updates of one step, on this rank's micro-batches."""

    def __init__(
        self,
        learner: Learner,
        optimizers: Mapping[str, NetworkOptimizer],
        group: Group,
        settings: TrainingConfig,
        precision: Precision,
    ) -> None:
        self.learner = learner
        self.optimizers = optimizers
        self.group = group
        self.seed = settings.seed
        self.precision = precision
        self.networks = Networks(
            learner.networks, {name: wrap(network, group) for name, network in learner.networks.items()}
        )
        self.first_bad_step = torch.full((), -1, dtype=torch.int64, device=group.device)
        self._changing_buffers: list[Tensor] = []

    def run(self, step: int, batches: Sequence[Batch], lr: float) -> dict[str, Tensor]:
        """Make every update of ``step``; return each network's mean loss on this rank, on the device."""
        losses: Losses = {}
        for name in self._backwards(step, batches, losses):
            norm = self.optimizers[name].apply(lr)
            self._note_bad(step, losses[name][-1])
            if not self.optimizers[name].is_overflow_skipped():
                self._note_bad(step, norm)
        for buffer in self._changing_buffers:
            self.group.broadcast(buffer)
        return {name: torch.stack(values).mean() for name, values in losses.items()}

    def rehearse(self, batch: Batch) -> None:
        """Run every update once without applying it, and put everything back.

        DDP lays out its buckets anew after the first backward pass, which changes the order of sums over
        three ranks and more. Having that behind before the first real step, in fresh and in resumed runs
        alike, makes their numbers equal bit for bit. Buffers that a forward pass changes are found here.
        """
        remembered = copy.deepcopy(self.learner.state_dict())
        before = [(buffer, buffer._version, buffer.clone()) for buffer in self._buffers()]
        for _ in self._backwards(0, [batch], {}):
            pass
        for buffer, version, content in before:
            if buffer._version != version:
                self._changing_buffers.append(buffer)
                with torch.no_grad():
                    buffer.copy_(content)
        self.learner.load_state_dict(remembered)

    def forward_context(self) -> torch.autocast:
        return autocast(self.precision, self.group.device)

    def _backwards(self, step: int, batches: Sequence[Batch], losses: Losses) -> Iterator[str]:
        """Yield a network's name when its gradients stand; they are gone when the next is asked for."""
        generators = [self.learner.updates(batch, self.networks) for batch in batches]
        index = 0
        while (name := self._backward(generators, (step, index), losses)) is not None:
            yield name
            for network in self.learner.networks.values():
                network.zero_grad(set_to_none=True)
            index += 1

    def _backward(self, generators: Sequence[Update], at: tuple[int, int], losses: Losses) -> str | None:
        """Take the next loss of every micro-batch in lockstep; only the last backward talks to ranks."""
        names: set[str | None] = set()
        total = torch.zeros((), device=self.group.device)
        for micro, generator in enumerate(generators):
            with ExitStack() as stack:
                if micro < len(generators) - 1:
                    self._hold_back_gradients(stack)
                part = self.group.rank * len(generators) + micro
                torch.manual_seed(random_key(self.seed, "update", at[0], part, at[1]))
                with self.forward_context():
                    name, loss = next(generator, (None, None))
                names.add(name)
                if name is not None and loss is not None:
                    loss = loss / len(generators)
                    self.optimizers[name].backward(loss)
                    total += loss.detach()
        if len(names) != 1:
            raise ValueError(
                f"a learner's updates must not depend on the batch; at one point it gave {names}"
            )
        (only,) = names
        if only is not None:
            losses.setdefault(only, []).append(total)
        return only

    def _hold_back_gradients(self, stack: ExitStack) -> None:
        for name in self.learner.networks:
            wrapped = self.networks[name]
            if isinstance(wrapped, DistributedDataParallel):
                stack.enter_context(wrapped.no_sync())

    def _note_bad(self, step: int, value: Tensor) -> None:
        """Remember the first step with a non-finite value without waiting for the device."""
        is_first = ~torch.isfinite(value) & (self.first_bad_step < 0)
        self.first_bad_step = torch.where(is_first, step, self.first_bad_step)

    def _buffers(self) -> Iterator[Tensor]:
        for network in self.learner.networks.values():
            yield from network.buffers()


def wrap(network: nn.Module, group: Group) -> nn.Module:
    """Let DDP average the network's gradients; a world of one needs nothing."""
    if group.world_size == 1:
        return network
    # The switch got a new name in torch 2.13, and the old one warns there.
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    switches: dict[str, Any] = {buffers: False}
    return DistributedDataParallel(
        network,
        device_ids=[group.device.index] if group.device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        **switches,
    )
