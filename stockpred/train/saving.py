"""What a checkpoint holds, and how training takes it up: networks, optimizers, state, state of parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from hpc.base.errors import UserError
from hpc.run.attempt import Attempt
from stockpred.config.base import TrainingConfig
from stockpred.train import checkpoint
from stockpred.train.compression import PowerSGD
from stockpred.train.distributed import Group
from stockpred.train.learner import Learner
from stockpred.train.optim import NetworkOptimizer
from stockpred.train.tracking import Tracker
from stockpred.train.validation import Selection

Contents = dict[str, Any]


@dataclass(frozen=True)
class Progressed:
    """How far training has come: finished steps, samples of each step, and the best so far."""

    step: int
    global_batch: int
    tracker: Tracker


class Saver:
    """Writes checkpoints and best weights, and loads them; ``gather`` and ``load`` are collective."""

    def __init__(
        self,
        learner: Learner,
        optimizers: Mapping[str, NetworkOptimizer],
        selection: Selection,
        settings: TrainingConfig,
        group: Group,
        attempt: Attempt,
    ) -> None:
        self.learner, self.optimizers, self.selection = learner, optimizers, selection
        self.settings, self.group = settings, group
        self.paths, self.check_lease = attempt.paths, attempt.check_lease

    def gather(self, compression: Mapping[str, PowerSGD]) -> Contents:
        """Return on rank 0 what differs between ranks: the states of parts, and of ``compression``.

        On the CPU: unpickled as they lie, the others' tensors would open contexts on all of their GPUs here.
        Either is left out where there is none. Collective.
        """
        gathered: Contents = {}
        if type(self.learner).part_state is not Learner.part_state:
            own = {part: self.learner.part_state(part) for part in self.group.parts(self.settings.accumulate)}
            ranks = self.group.gather_on_main(pytree.tree_map_only(Tensor, lambda tensor: tensor.cpu(), own))
            gathered["parts"] = {part: state for rank in ranks for part, state in rank.items()}
        if compression:
            states = {name: memory.state_dict() for name, memory in compression.items()}
            gathered["compression"] = dict(enumerate(self.group.gather_on_main(states)))
        return gathered

    def save(self, now: Progressed, gathered: Contents) -> None:
        """Commit a checkpoint; on rank 0, with what ``gather`` returned."""
        contents: Contents = {
            "networks": {name: network.state_dict() for name, network in self.learner.networks.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "state": {
                "step": now.step,
                "global_batch": now.global_batch,
                "tracker": now.tracker.state_dict(),
                "learner": self.learner.state_dict(),
            },
        }
        contents |= gathered
        about = {
            "world_size": self.group.world_size,
            "threads": torch.get_num_threads(),
            "best_step": now.tracker.best_step,
        }
        keep = self.settings.keep_checkpoints
        checkpoint.save(
            self.paths.checkpoints, now.step, contents, about=about, keep=keep, check_lease=self.check_lease
        )
        checkpoint.prune_best(self.paths.best, self.paths.checkpoints)

    def load(self, directory: Path, global_batch: int, compression: Mapping[str, PowerSGD]) -> Progressed:
        """Take up a checkpoint.

        Raises UserError where its steps have another number of samples, and for that of another model.
        """
        state = checkpoint.load(directory, "state", torch.device("cpu"))
        self._refuse_another_batch(state["global_batch"], global_batch)
        networks = checkpoint.load(directory, "networks", self.group.device)
        optimizers = checkpoint.load(directory, "optimizers", self.group.device)
        for name, network in self.learner.networks.items():
            load_weights(network, networks[name], directory)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(optimizers[name])
        self.learner.load_state_dict(state["learner"])
        if (directory / "parts.pt").exists():
            parts = checkpoint.load(directory, "parts", torch.device("cpu"))
            for part in self.group.parts(self.settings.accumulate):
                self.learner.load_part_state(part, parts[part])
        self._load_compression(directory, compression)
        return Progressed(state["step"], state["global_batch"], Tracker(**state["tracker"]))

    def save_best(self, tracker: Tracker) -> None:
        """Make the weights at hand the best; on rank 0."""
        assert tracker.best is not None
        assert tracker.best_step is not None
        checkpoint.save_best(
            self.paths.best,
            tracker.best_step,
            {name: network.state_dict() for name, network in self.learner.networks.items()},
            metric=self.selection.metric,
            value=tracker.best,
            check_lease=self.check_lease,
        )

    def return_to_best(self, tracker: Tracker, warn: Callable[[str], None]) -> bool:
        """Let no weights of a future that was erased by a kill be the best; say whether there are any."""
        has_best = checkpoint.return_to_best(
            self.paths.best,
            tracker.best_step,
            metric=self.selection.metric,
            value=tracker.best,
            check_lease=self.check_lease,
        )
        checkpoint.prune_best(self.paths.best, self.paths.checkpoints)
        if not has_best:
            step = tracker.best_step
            warn(f"the best weights so far, of step {step}, are lost: only later ones can be chosen")
        return has_best

    def _load_compression(self, directory: Path, compression: Mapping[str, PowerSGD]) -> None:
        """Take up this rank's memories of compressed gradients; begin anew where the checkpoint has none."""
        path = directory / "compression.pt"
        if not compression or not path.exists():
            return
        ranks = checkpoint.load(directory, "compression", torch.device("cpu"))
        if len(ranks) != self.group.world_size:
            raise UserError(
                f"this run's gradients were compressed by {len(ranks)} ranks, now there are "
                f"{self.group.world_size}",
                where=str(path),
                fix="take as many ranks as before, or training.gradient_compression=none",
            )
        for name, memory in compression.items():
            memory.load_state_dict(ranks[self.group.rank][name], self.group.device)

    def _refuse_another_batch(self, saved: int, now: int) -> None:
        if saved != now:
            raise UserError(
                f"this run's steps have {saved} samples, now they would have {now}",
                where=str(self.paths.config),
                fix="keep ranks x training.batch_size x training.accumulate the same, or begin a new run",
            )


def load_weights(network: nn.Module, weights: Mapping[str, Any], where: Path) -> None:
    """Load weights into a network; raise UserError for those of another model."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        differences = " ".join(line.strip() for line in str(error).splitlines()[1:])
        raise UserError(
            f"this is a checkpoint of another model: {differences}",
            where=str(where),
            fix="build the model that the checkpoint was made with, or begin in another directory",
        ) from None
