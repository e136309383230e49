"""What a checkpoint holds, and how training takes it up: networks, optimizers, state, state of parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hpc.base.errors import UserError
from hpc.run.attempt import Attempt
from stockpred.config.base import TrainingConfig
from stockpred.train import checkpoint
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

    def gather_parts(self) -> dict[int, Any] | None:
        """Return the state of every part on rank 0; None where the learner's parts have none. Collective."""
        if type(self.learner).part_state is Learner.part_state:
            return None
        own = {part: self.learner.part_state(part) for part in self._own_parts()}
        ranks = self.group.gather_on_main(own)
        return {part: state for rank in ranks for part, state in rank.items()}

    def save(self, now: Progressed, parts: Mapping[int, Any] | None) -> None:
        """Commit a checkpoint; on rank 0, with what ``gather_parts`` returned."""
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
        if parts is not None:
            contents["parts"] = dict(parts)
        about = {
            "world_size": self.group.world_size,
            "threads": torch.get_num_threads(),
            "best_step": now.tracker.best_step,
        }
        keep = self.settings.keep_checkpoints
        checkpoint.save(
            self.paths.checkpoints, now.step, contents, about=about, keep=keep, guard=self.check_lease
        )
        checkpoint.prune_best(self.paths.best, self.paths.checkpoints)

    def load(self, directory: Path, global_batch: int) -> Progressed:
        """Take up a checkpoint; raise UserError where its steps have another number of samples."""
        state = checkpoint.load(directory, "state", torch.device("cpu"))
        self._refuse_another_batch(state["global_batch"], global_batch)
        networks = checkpoint.load(directory, "networks", self.group.device)
        optimizers = checkpoint.load(directory, "optimizers", self.group.device)
        for name, network in self.learner.networks.items():
            network.load_state_dict(networks[name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(optimizers[name])
        self.learner.load_state_dict(state["learner"])
        if (directory / "parts.pt").exists():
            parts = checkpoint.load(directory, "parts", torch.device("cpu"))
            for part in self._own_parts():
                self.learner.load_part_state(part, parts[part])
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
            guard=self.check_lease,
        )

    def return_to_best(self, tracker: Tracker, warn: Callable[[str], None]) -> bool:
        """Let no weights of a future that was erased by a kill be the best; say whether there are any."""
        has_best = checkpoint.return_to_best(
            self.paths.best,
            tracker.best_step,
            metric=self.selection.metric,
            value=tracker.best,
            guard=self.check_lease,
        )
        checkpoint.prune_best(self.paths.best, self.paths.checkpoints)
        if not has_best:
            step = tracker.best_step
            warn(f"the best weights so far, of step {step}, are lost: only later ones can be chosen")
        return has_best

    def _own_parts(self) -> Iterable[int]:
        accumulate = self.settings.accumulate
        return range(self.group.rank * accumulate, (self.group.rank + 1) * accumulate)

    def _refuse_another_batch(self, saved: int, now: int) -> None:
        if saved != now:
            raise UserError(
                f"this run's steps have {saved} samples, now they would have {now}",
                where=str(self.paths.config),
                fix="keep ranks x training.batch_size x training.accumulate the same, or begin a new run",
            )
