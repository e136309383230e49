"""Train a model of one's own: on one device, on all that a machine has, on several nodes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from stockpred.library import checkpoints, launch, training
from stockpred.library.checkpoints import History
from stockpred.library.learner import Criterion
from stockpred.library.loaders import Loader
from stockpred.library.optimizer import Interval, Scheduler
from stockpred.library.options import DistributedConfig
from stockpred.library.placement import Role, placement_of
from stockpred.library.processes import Device, current_group, setup_distributed
from stockpred.library.training import Supplied
from stockpred.library.wrappers import unwrapped
from stockpred.train import devices


class DistributedTrainer:
    """Trains a model on one or several processes, GPUs and nodes, as ``config`` says.

    In a rank that torchrun, srun or a person has started, it is that rank. In any other process it starts the
    ranks of this node, where there are to be several, and takes their result over.
    """

    def __init__(self, model: nn.Module, config: DistributedConfig | None = None) -> None:
        self.model = model
        self.config = config or DistributedConfig()
        self._start: checkpoints.EpochCheckpoint | None = None

    def train(
        self,
        train_loader: Loader,
        optimizer: Optimizer,
        criterion: Criterion | None = None,
        num_epochs: int = 1,
        val_loader: Loader | None = None,
        scheduler: Scheduler | None = None,
        scheduler_interval: Interval = "epoch",
    ) -> History:
        """Train up to ``num_epochs`` in all; return one value per epoch of epoch, losses and rate.

        The loader gives (inputs, targets), or with no criterion what ``model`` makes a loss of; its
        ``batch_size`` is that of one process. With a ``checkpoint_dir`` the same call goes on where it was
        killed. Raises UserError for wrong use, SystemExit (85) where it was asked to stop and has saved.
        """
        supplied = Supplied(
            self.model,
            optimizer,
            criterion,
            train_loader,
            val_loader,
            num_epochs,
            scheduler,
            scheduler_interval,
            self._start,
        )
        training.check(supplied)
        history = self._train(supplied)
        self._start = None  # more epochs go on from these, not from the epoch that was gone back to
        return history

    def _train(self, supplied: Supplied) -> History:
        placement = placement_of(self.config)
        if placement.role is Role.STARTER:
            result = launch.run_ranks(functools.partial(_train_rank, supplied, self.config), placement)
            return _take_over(supplied, result)
        if self.config.exact:
            devices.make_exact()
        if placement.role is Role.RANK:
            _join(self.config)
        return _train_here(supplied, self.config, alone=placement.role is Role.ALONE)

    def load_checkpoint(
        self,
        checkpoint_path: str | Path,
        optimizer: Optimizer | None = None,
        scheduler: Scheduler | None = None,
    ) -> int:
        """Load a ``checkpoint_epoch_N.pt`` and return N; ``train`` goes on from there.

        Raises UserError for a file that is none, and for the checkpoint of another model or optimizer.
        """
        path = Path(checkpoint_path)
        content = checkpoints.load(path)
        checkpoints.load_weights(self.model, content.model_state_dict, path)
        if optimizer is not None:
            checkpoints.load_optimizer(optimizer, content.optimizer_state_dict, path)
        if scheduler is not None and content.scheduler_state_dict is not None:
            scheduler.load_state_dict(dict(content.scheduler_state_dict))
        self._start = content
        return content.epoch

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass instead of keeping them: less memory, more time."""
        self.config = replace(self.config, gradient_checkpointing=True)


class Launched(History):
    """The history of ``launch_distributed_training``; ``model`` holds the weights after the last epoch."""

    def __init__(self, history: History, model: nn.Module) -> None:
        super().__init__(history)
        self.model = model


class Trainer:
    """Trains a model in this process, on one device; as one of several ranks where it is started as one.

    ``model(batch)`` gives ``{'loss': ...}``, or a criterion is given and the loader gives (inputs, targets).
    The model may be wrapped in ``DataParallel`` or DDP already. Further settings are those of
    ``DistributedConfig``, such as ``checkpoint_dir``.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        criterion: Criterion | None = None,
        device: Device = "auto",
        scheduler: Scheduler | None = None,
        **settings: Any,
    ) -> None:
        word = device if isinstance(device, int) else str(device)
        self.trainer = DistributedTrainer(model, DistributedConfig(gpus_per_node=1, device=word, **settings))
        self.optimizer, self.criterion, self.scheduler = optimizer, criterion, scheduler

    @property
    def model(self) -> nn.Module:
        return self.trainer.model

    def train(
        self,
        train_loader: Loader,
        val_loader: Loader | None = None,
        epochs: int = 1,
        criterion: Criterion | None = None,
        scheduler_interval: Interval = "epoch",
    ) -> History:
        """Train up to ``epochs`` in all; return the history (see ``DistributedTrainer.train``)."""
        return self.trainer.train(
            train_loader,
            self.optimizer,
            criterion or self.criterion,
            epochs,
            val_loader,
            self.scheduler,
            scheduler_interval,
        )

    def load_checkpoint(self, checkpoint_path: str | Path) -> int:
        """Load a ``checkpoint_epoch_N.pt`` into model, optimizer and scheduler; return N."""
        return self.trainer.load_checkpoint(checkpoint_path, self.optimizer, self.scheduler)

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass instead of keeping them: less memory, more time."""
        self.trainer.enable_gradient_checkpointing()


def launch_distributed_training(
    model_fn: Callable[[], nn.Module],
    train_dataset: Dataset[Any],
    val_dataset: Dataset[Any] | None,
    config: DistributedConfig,
    num_epochs: int,
    batch_size: int,
    learning_rate: float,
    criterion: Criterion | None = nn.functional.mse_loss,
) -> Launched:
    """Train what ``model_fn`` makes on two datasets with AdamW, on all ranks that ``config`` asks for.

    ``batch_size`` is that of one process. The loss is the mean squared error unless a criterion is given;
    with None it is what ``model(batch)`` gives. Returns the history, and with it the trained
    ``model``.
    """
    torch.manual_seed(config.seed)
    model = model_fn()
    loader = functools.partial(DataLoader, batch_size=batch_size)
    history = DistributedTrainer(model, config).train(
        loader(train_dataset, shuffle=True),
        torch.optim.AdamW(model.parameters(), lr=learning_rate),
        criterion,
        num_epochs,
        val_loader=None if val_dataset is None else loader(val_dataset),
    )
    return Launched(history, model)


def _join(config: DistributedConfig, meeting_place: Path | None = None) -> None:
    """Become a rank, where this process is none yet."""
    if dist.is_initialized():
        return
    if meeting_place is None and config.checkpoint_dir is not None:
        meeting_place = Path(config.checkpoint_dir)
    setup_distributed(
        backend=config.backend,
        device=config.device,
        timeout_s=config.timeout_s,
        nccl_debug=config.nccl_debug,
        meeting_place=meeting_place,
    )


def _train_here(supplied: Supplied, config: DistributedConfig, *, alone: bool) -> History:
    is_in_group = not alone or isinstance(supplied.model, DistributedDataParallel)
    return training.train(supplied, config, current_group(config.device, alone=not is_in_group))


def _train_rank(supplied: Supplied, config: DistributedConfig, meeting_place: Path) -> dict[str, Any]:
    """Train as one of several ranks; return what the process that started them takes over."""
    if config.exact:
        devices.make_exact()
    _join(config, meeting_place)
    history = _train_here(supplied, config, alone=False)
    scheduler = supplied.scheduler
    return {
        "history": history,
        "model": {key: value.cpu() for key, value in unwrapped(supplied.model).state_dict().items()},
        "optimizer": supplied.optimizer.state_dict(),
        "scheduler": scheduler.state_dict() if scheduler is not None else None,
    }


def _take_over(supplied: Supplied, result: dict[str, Any]) -> History:
    unwrapped(supplied.model).load_state_dict(result["model"])
    supplied.optimizer.load_state_dict(result["optimizer"])
    if supplied.scheduler is not None:
        supplied.scheduler.load_state_dict(result["scheduler"])
    history: History = result["history"]
    return history
