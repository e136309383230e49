"""Drive a learner's generators: seed, forward, backward, apply, one yielded loss after another."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from hpc.base.errors import UserError
from stockpred.config.base import TrainingConfig
from stockpred.train.buffers import Place, RememberedBuffers, share
from stockpred.train.cadence import random_key
from stockpred.train.compression import compress
from stockpred.train.distributed import Group
from stockpred.train.learner import Batch, Learner, Networks, Update, copied
from stockpred.train.optim import NetworkOptimizer, Precision, autocast

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
        synced = {
            name: learner.wrappers.get(name) or wrap(network, group, settings)
            for name, network in learner.networks.items()
        }
        self.networks = Networks(learner.networks, synced)
        self.compression = compress(synced, settings.gradient_compression, settings.seed)
        self.first_bad_step = torch.full((), -1, dtype=torch.int64, device=group.device)
        self._changing_buffers: dict[Place, None] = {}

    def run(self, step: int, batches: Sequence[Batch], lrs: Mapping[str, float]) -> dict[str, Tensor]:
        """Make every update of ``step`` (which counts from 1), each network at its learning rate.

        Return each updated network's mean loss on this rank, on the device.
        """
        losses: Losses = {}
        for names in self._backwards(step, batches, losses):
            for name in names:
                norm = self.optimizers[name].apply(lrs[name])
                self._note_bad(step, losses[name][-1])
                if not self.optimizers[name].is_overflow_skipped():
                    self._note_bad(step, norm)
        self.learner.after_step(step - 1)
        share(tuple(self._changing_buffers), self.group)
        return {name: torch.stack(values).mean() for name, values in losses.items()}

    def warm_up_ddp(self, step: int, batch: Batch) -> None:
        """Run the updates of a phase once without applying them, before its first step in this process.

        DDP lays out a network's buckets anew after its first backward pass, which changes the order of sums
        over three ranks and more. Having that behind before a network's first real update, in fresh and in
        resumed runs alike, makes their numbers equal bit for bit. Buffers that a forward pass changes are
        found here. ``step`` counts from 1. Everything is put back, and ``batch`` is left as it is.
        """
        remembered = copy.deepcopy(self.learner.state_dict())
        buffers = RememberedBuffers(self.learner.networks.values())
        with ExitStack() as stack:
            for memory in self.compression.values():
                stack.enter_context(memory.set_aside())
            for _ in self._backwards(step, [copied(batch)], {}):
                pass
        self._changing_buffers |= dict.fromkeys(buffers.agree(buffers.restore(), self.group))
        self.learner.load_state_dict(remembered)

    def forward_context(self) -> torch.autocast:
        return autocast(self.precision, self.group.device)

    def _backwards(self, step: int, batches: Sequence[Batch], losses: Losses) -> Iterator[tuple[str, ...]]:
        """Yield the networks whose gradients stand; they are gone when the next are asked for."""
        generators = [self.learner.updates(batch, self.networks, step - 1) for batch in batches]
        index = 0
        while names := self._backward(generators, (step, index), losses):
            yield names
            for network in self.learner.networks.values():
                network.zero_grad(set_to_none=True)
            index += 1

    def _backward(
        self, generators: Sequence[Iterator[Update]], at: tuple[int, int], losses: Losses
    ) -> tuple[str, ...]:
        """Take the next loss of every micro-batch in lockstep; only the last backward talks to ranks.

        Return the networks that the losses are for; none when the generators have ended.
        """
        found: set[tuple[str, ...]] = set()
        total = torch.zeros((), device=self.group.device)
        for micro, generator in enumerate(generators):
            with ExitStack() as stack:
                if micro < len(generators) - 1:
                    self._hold_back_gradients(stack)
                part = self.group.rank * len(generators) + micro
                torch.manual_seed(random_key(self.seed, "update", at[0], part, at[1]))
                with self.forward_context():
                    names, loss = next(generator, ((), None))
                names = (names,) if isinstance(names, str) else names
                found.add(names)
                if loss is not None:
                    loss = loss / len(generators)
                    self._scaler_of(names).backward(loss)
                    total += loss.detach()
        if len(found) != 1:
            raise ValueError(
                f"a learner's updates must not depend on the batch; at one point it gave {found}"
            )
        (common,) = found
        for name in common:
            losses.setdefault(name, []).append(total)
        return common

    def _scaler_of(self, names: tuple[str, ...]) -> NetworkOptimizer:
        """Return the optimizer that scales a loss; raise UserError where several would have to agree."""
        if len(names) > 1 and self.precision == "fp16":
            raise UserError(
                f"one loss trains {', '.join(names)}, and in fp16 each network has a loss scale of its own",
                where="training.precision",
                fix="set training.precision=bf16 or fp32",
            )
        return self.optimizers[names[0]]

    def _hold_back_gradients(self, stack: ExitStack) -> None:
        for name in self.learner.networks:
            network = self.networks.synced(name)
            if isinstance(network, DistributedDataParallel):
                stack.enter_context(network.no_sync())

    def _note_bad(self, step: int, value: Tensor) -> None:
        """Remember the first step with a non-finite value without waiting for the device."""
        is_first = ~torch.isfinite(value) & (self.first_bad_step < 0)
        self.first_bad_step = torch.where(is_first, step, self.first_bad_step)


def wrap(network: nn.Module, group: Group, settings: TrainingConfig) -> nn.Module:
    """Let DDP average the network's gradients; a world of one, or a network that rests, needs nothing.

    With ``training.parallel=data_parallel`` one process shares each batch out to all GPUs that it sees.
    """
    if settings.parallel == "data_parallel":
        return _shared_out(network, group)
    if group.world_size == 1 or not any(parameter.requires_grad for parameter in network.parameters()):
        return network
    # DDP would give all ranks rank 0's buffers before every forward pass, in place: autograd refuses the
    # backward pass of a loss that takes two of them, as a critic's does. The updater shares after each step
    # what a forward pass changes. The switch got a new name in torch 2.13, and the old one warns there.
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    switches: dict[str, Any] = {buffers: False}
    return DistributedDataParallel(
        network,
        device_ids=[group.device.index] if group.device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        **switches,
    )


def _shared_out(network: nn.Module, group: Group) -> nn.Module:
    if group.world_size > 1:
        raise UserError(
            f"training.parallel is data_parallel, one process, and there are {group.world_size} ranks",
            where="training.parallel",
            fix="set training.parallel=ddp, or resources.gpus=1 and let the process see several GPUs",
        )
    if group.device.type != "cuda":
        return network
    others = [index for index in range(torch.cuda.device_count()) if index != group.device.index]
    return DataParallel(network, device_ids=[group.device.index, *others])
