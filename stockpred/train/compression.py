"""Gradients made smaller on their way between ranks: bfloat16, or PowerSGD (Vogels et al. 2019).

PowerSGD sends two thin matrices in the place of each gradient and remembers what they leave out. That memory
decides later gradients, so it is part of a checkpoint, one for each rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

Compression = Literal["none", "bf16", "powersgd"]
POWERSGD_RANK = 4
POWERSGD_START = 10
"""Steps with whole gradients at the beginning, whose sizes and directions change the most."""

MEMORIES = ("error_dict", "p_memory_dict", "q_memory_dict")


class PowerSGD:
    """The memory of one network's hook; ``set_aside`` keeps it out of a pass that is not to count."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.state = self._new()

    def attach(self, network: DistributedDataParallel) -> None:
        # DDP refuses annotations that are text, as they are in this file; a lambda has none.
        network.register_comm_hook(self, lambda memory, bucket: powerSGD_hook(memory.state, bucket))

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Let the body work with a memory of its own."""
        kept, self.state = self.state, self._new()
        try:
            yield
        finally:
            self.state = kept

    def state_dict(self) -> dict[str, Any]:
        random_state: Any = self.state.rng.get_state()
        _, words, position, _, _ = random_state
        memories = {name: _on_cpu(getattr(self.state, name)) for name in MEMORIES}
        random = {"words": torch.from_numpy(words.astype(np.int64)), "position": int(position)}
        return {**memories, "iter": self.state.iter, "random": random}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.state = self._new()
        for name in MEMORIES:
            setattr(self.state, name, {key: tensor.to(device) for key, tensor in state[name].items()})
        self.state.iter = state["iter"]
        words = state["random"]["words"].numpy().astype(np.uint32)
        self.state.rng.set_state(("MT19937", words, state["random"]["position"], 0, 0.0))

    def _new(self) -> PowerSGDState:
        return PowerSGDState(
            process_group=None,
            matrix_approximation_rank=POWERSGD_RANK,
            start_powerSGD_iter=POWERSGD_START,
            random_seed=self.seed % 2**32,
        )


def compress(networks: Mapping[str, torch.nn.Module], kind: Compression, seed: int) -> dict[str, PowerSGD]:
    """Let DDP networks compress their gradients; return the memories that a checkpoint needs, by name."""
    wrapped = {
        name: network for name, network in networks.items() if isinstance(network, DistributedDataParallel)
    }
    if kind == "bf16":
        for network in wrapped.values():
            # In a lambda, because DDP refuses torch's own by name on gloo, which can add bfloat16 too.
            network.register_comm_hook(
                dist.group.WORLD, lambda group, bucket: default_hooks.bf16_compress_hook(group, bucket)
            )
    if kind != "powersgd":
        return {}
    memories = {name: PowerSGD(seed) for name in wrapped}
    for name, memory in memories.items():
        memory.attach(wrapped[name])
    return memories


def _on_cpu(memory: Mapping[int, Tensor]) -> dict[int, Tensor]:
    return {key: tensor.detach().cpu() for key, tensor in memory.items()}
