"""What the core asks of a way of learning and of its data: it yields losses, the core does the rest."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from stockpred.config.base import TrainingConfig
from stockpred.data.splits import Split
from stockpred.train.optim import NetworkOptimizer, Precision

Batch = dict[str, Tensor]
Names = str | tuple[str, ...]
"""The network that a loss is for, or all of those that one loss is for."""
Update = tuple[Names, Tensor]
Direction = Literal["min", "max"]


class Networks:
    """A learner's networks by name, as the core has prepared them."""

    def __init__(self, local: Mapping[str, nn.Module], synced: Mapping[str, nn.Module]) -> None:
        self._local = dict(local)
        self._synced = dict(synced)

    def synced(self, name: str) -> nn.Module:
        """Return the network through which a loss must pass to have its gradients averaged over ranks."""
        return self._synced[name]

    def local(self, name: str) -> nn.Module:
        """Return the bare module, to pass through a network that the next loss does not train."""
        return self._local[name]


@dataclass(frozen=True)
class Evaluation:
    """What one batch of the validation set contributes to its metrics.

    ``sums`` holds metric -> (sum, weight): the core adds both up over batches and ranks, and divides.
    ``rows`` holds one entry per sample, [B, ...], for metrics of the whole set (see ``Learner.score``);
    ``rows["sample"]``, [B] int64, is each sample's number in the set, by which the core orders them.
    """

    sums: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    rows: Mapping[str, Tensor] = field(default_factory=dict)


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
        """Yield this part's share of the validation samples; over all parts each comes exactly once.

        Where whole batches are dealt out in turn, an evaluation that draws random numbers draws the same for
        every number of parts.
        """
        ...


class Learner(ABC):
    """A way of learning: its networks, its losses, and what validation measures.

    ``networks`` are the modules by name; one without trainable parameters gets no optimizer. ``metrics`` maps
    each validation metric to its better direction; the first one chooses the best weights, unless
    ``training.selection`` names another. Randomness comes from torch's global generators, which the core
    seeds before every loss; ``step`` counts finished optimizer steps, from 0.

    Two kinds of state are saved beside the networks: what is equal on all ranks (``state_dict``), and what
    belongs to a part (``part_state``), such as an environment. A part is a micro-batch's number among those
    of a step, so its state does not depend on how many ranks share the parts.
    """

    networks: dict[str, nn.Module]
    metrics: Mapping[str, Direction]
    wrappers: Mapping[str, nn.Module] = MappingProxyType({})
    """Networks that come wrapped in DDP or ``DataParallel`` already; the core does not wrap them again."""
    first_step: int = 0
    """The finished steps with which a training begins that has no checkpoint."""

    @abstractmethod
    def updates(self, batch: Batch, networks: Networks, step: int) -> Iterator[Update]:
        """Yield (network, scalar loss) for one update after another; forward passes run in here.

        Called once per micro-batch; within a step each call yields the same networks in the same order. A
        loss reaches every trainable parameter of the networks that it is yielded for, through
        ``networks.synced``. What follows a ``yield`` sees the updated weights.
        """

    @abstractmethod
    def evaluate(self, batch: Batch, networks: Networks) -> Evaluation:
        """Return what a validation batch contributes; called without gradients, in evaluation mode."""

    def score(self, rows: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the metrics of the whole validation set, from all of its rows on the CPU, in order.

        Called on rank 0, for whom the others wait, and not where there are no rows. Torch's generators are
        seeded by the step alone: what is drawn here does not depend on the number of ranks.
        """
        return {}

    def phase(self, step: int) -> str:
        """Name the phase that ``step`` belongs to; in another phase other networks may be updated."""
        return ""

    def after_step(self, step: int) -> None:
        """Do what follows all updates of ``step``, such as averaging weights; the same on every rank."""
        return

    def after_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take note of what validation measured after ``step`` finished steps; called on every rank."""
        return

    def make_optimizer(
        self, name: str, settings: TrainingConfig, precision: Precision, device: torch.device
    ) -> NetworkOptimizer:
        """Return the optimizer of a network that lies on ``device``: AdamW by ``settings``."""
        return NetworkOptimizer(self.networks[name], settings, precision, device)

    def make_batch(self, step: int, part: int, networks: Networks) -> Batch | None:
        """Return a batch that the learner makes itself; None takes the stream's.

        A function of the weights, the part's state, ``step`` and ``part`` alone; it may advance that state.
        Called without gradients, with torch's generators seeded for this step and part. The batch carries its
        ``loss_weight``, as those of a stream do.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values beyond the networks that are equal on all ranks."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        return

    def part_state(self, part: int) -> Any:
        """Return tensors and plain values that belong to ``part``; None where it has no state yet."""
        return None

    def load_part_state(self, part: int, state: Any) -> None:
        """Take up what ``part_state`` returned, on whatever rank has the part now; None: begin anew."""
        return


class Task(Protocol):
    """An experiment on prepared bars: what the core trains, and how the result is scored.

    ``tasks/NAME/task.py`` makes it. ``prepare(experiment, paths, check_lease=...)`` of that module has made
    the bars ready before, on rank 0. What its scoring calls of a learner beyond ``Learner`` stands there as a
    protocol named ``TaskLearner``, which is checked at submit and before training.
    """

    @property
    def learner(self) -> Learner: ...

    @property
    def stream(self) -> Stream: ...

    def describe(self) -> str:
        """Return one line about model and data, without the device."""
        ...

    def score(
        self, split: Split, best_step: int, device: torch.device, check_lease: Callable[[], None]
    ) -> Iterator[str]:
        """Score the networks once on validation or test and write the results; yield lines for the log.

        The networks hold the best weights and lie on ``device``. ``check_lease`` is called before each write.
        """
        ...


@contextmanager
def evaluation_mode(*networks: nn.Module) -> Iterator[None]:
    """Put networks into evaluation mode; afterwards each module has the mode that it had, frozen or not."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training


def num_parameters(network: nn.Module) -> int:
    """Return how many numbers training may change; a shared tensor counts once."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def copied(batch: Batch) -> Batch:
    """Return a batch that a forward pass may alter without altering ``batch``."""
    return {
        name: value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)
        for name, value in batch.items()
    }


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on ``device``; a copy to CUDA runs beside the computation."""
    if device.type != "cuda":
        return {name: tensor.to(device) for name, tensor in batch.items()}
    return {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in batch.items()}
