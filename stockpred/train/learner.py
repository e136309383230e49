"""What the core asks of a way of learning and of its data: it yields losses, the core does the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]
Metrics = dict[str, tuple[Tensor, Tensor]]


class Networks:
    """A learner's networks by name, as the core has prepared them."""

    def __init__(self, raw: Mapping[str, nn.Module], wrapped: Mapping[str, nn.Module]) -> None:
        self._raw = dict(raw)
        self._wrapped = dict(wrapped)

    def __getitem__(self, name: str) -> nn.Module:
        """Return the network whose loss is yielded next: its gradients are averaged over ranks."""
        return self._wrapped[name]

    def raw(self, name: str) -> nn.Module:
        """Return the bare module, to pass through a network that is not being updated."""
        return self._raw[name]


class Stream(Protocol):
    """A sequence of batches that depends on the seed and the step, never on the number of ranks."""

    @property
    def num_samples(self) -> int:
        """Return how many samples one pass has."""
        ...

    def batch(self, step: int, part: int, num_parts: int, part_size: int) -> Batch:
        """Return slice ``part`` of the ``num_parts * part_size`` samples of ``step`` (which counts from 0).

        Several threads may ask at once, and for steps in any order.
        Each carries ``loss_weight``, a scalar such that the mean over parts of (this part's summed losses /
        ``loss_weight``) is the mean loss of the joint batch.
        """
        ...

    def evaluation(self, part: int, num_parts: int, batch_size: int) -> Iterator[Batch]:
        """Yield this part's share of the validation samples; over all parts each comes exactly once."""
        ...


class Learner(Protocol):
    """A way of learning: its networks, its losses, its evaluation.

    ``updates`` is called once per micro-batch; each call yields the same network names in the same order, and
    every network is among them, with a loss that reaches all of its parameters. Randomness comes from torch's
    global generators, which the core seeds before every loss. ``state_dict`` holds tensors and plain values
    that are equal on all ranks.
    """

    networks: dict[str, nn.Module]
    selection_metric: str

    def updates(self, batch: Batch, networks: Networks) -> Iterator[tuple[str, Tensor]]:
        """Yield (network name, scalar loss) for one update after another; forward passes run in here."""
        ...

    def evaluate(self, batch: Batch, networks: Networks) -> Metrics:
        """Return metric -> (sum, weight); the core adds both up over batches and ranks, and divides."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what the learner remembers beyond its networks."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Task(Protocol):
    """An experiment on prepared bars: what the core trains, and how the result is tested.

    A learner's module makes it. ``prepare(experiment, paths, check_lease=...)`` of that module has made
    the bars ready before, on rank 0.
    """

    @property
    def learner(self) -> Learner: ...

    @property
    def stream(self) -> Stream: ...

    def describe(self) -> str:
        """Return one line about model and data, without the device."""
        ...

    def test(self, best_step: int, device: torch.device, guard: Callable[[], None]) -> Iterator[str]:
        """Score the networks once on the test period and write the results; yield lines for the log.

        The networks hold the best weights and lie on ``device``. ``guard`` is called before each write.
        """
        ...


def num_parameters(network: nn.Module) -> int:
    """Return how many numbers training may change; a shared tensor counts once."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on ``device``; a copy to CUDA runs beside the computation."""
    if device.type != "cuda":
        return {name: tensor.to(device) for name, tensor in batch.items()}
    return {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in batch.items()}
