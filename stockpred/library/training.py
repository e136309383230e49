"""One training of a person's model by the core, as each of its ranks runs it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from hpc.base.errors import ExitCode, UserError
from hpc.run.attempt import Attempt
from stockpred.library.checkpoints import EpochCheckpoint, History
from stockpred.library.epochs import EpochEnd
from stockpred.library.explaining import explained
from stockpred.library.goingback import EpochFiles, begin_from, forget_start
from stockpred.library.holding import held
from stockpred.library.learner import Criterion, SuppliedModel
from stockpred.library.loaders import Loader, epochs_of
from stockpred.library.optimizer import (
    Interval,
    Ramp,
    Scheduler,
    SuppliedOptimizer,
    check_optimizer,
    check_scheduling,
)
from stockpred.library.options import DistributedConfig
from stockpred.library.stream import LoaderStream, Share
from stockpred.library.wrappers import unwrapped
from stockpred.train import core
from stockpred.train.distributed import Group
from stockpred.train.optim import Precision

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Supplied:
    """What a person gives for one training. ``start`` is the epoch checkpoint to go on from, if any."""

    model: nn.Module
    optimizer: Optimizer
    criterion: Criterion | None
    train_loader: Loader
    val_loader: Loader | None = None
    num_epochs: int = 1
    scheduler: Scheduler | None = None
    interval: Interval = "epoch"
    start: EpochCheckpoint | None = None


def check(supplied: Supplied) -> None:
    """Raise UserError for what cannot be trained, before any rank starts."""
    check_optimizer(supplied.optimizer, unwrapped(supplied.model))
    check_scheduling(supplied.scheduler, supplied.interval)
    if not isinstance(supplied.num_epochs, Integral) or supplied.num_epochs < 1:
        raise UserError(
            f"num_epochs (of Trainer: epochs) is {supplied.num_epochs!r}",
            where="train",
            fix="give the number of epochs in all, a whole number from 1",
        )


def train(supplied: Supplied, config: DistributedConfig, group: Group) -> History:
    """Train to the end and return the history; the model then holds the last weights. Collective.

    With a ``checkpoint_dir`` that holds an earlier attempt of the same training, it goes on from there.
    Raises SystemExit with code 85 after a save, where it was asked to stop.
    """
    if group.warning is not None and group.is_main:
        log.warning(group.warning)
    with _folder(config) as folder, explained(folder, group), held(folder, group) as attempt:
        return _train(supplied, config, group, attempt)


def _train(supplied: Supplied, config: DistributedConfig, group: Group, attempt: Attempt) -> History:
    share = Share(group.rank, group.world_size, config.gradient_accumulation_steps)
    stream = _stream(supplied, config, share)
    epoch_end = EpochEnd(
        supplied.start.history if supplied.start else {},
        training=stream.training,
        steps_per_epoch=stream.steps_per_epoch,
    )
    first_step = _first_step(supplied, stream)
    learner = SuppliedModel(
        supplied.model,
        supplied.criterion,
        lambda precision, device: _optimizer(supplied, config, stream, precision, device),
        epoch_end,
        first_step=first_step,
        is_validated=supplied.val_loader is not None,
    )
    if group.is_main:
        begin_from(attempt, supplied.start)
    outcome = core.train(
        learner=learner,
        stream=stream,
        settings=config.training(supplied.num_epochs, is_validated=supplied.val_loader is not None),
        group=group,
        attempt=attempt,
        milestones=_epoch_files(supplied, config, stream, learner, attempt),
    )
    if outcome is core.Outcome.CONTINUE_LATER:
        log.info("asked to stop: saved in %s; the same call goes on from there", attempt.paths.root)
        raise SystemExit(int(ExitCode.CONTINUE_LATER))
    if group.is_main:
        forget_start(attempt)
        attempt.record("finished")
        _warn_of_more_epochs(epoch_end.history, supplied.num_epochs)
    return epoch_end.history


def _warn_of_more_epochs(history: History, num_epochs: int) -> None:
    trained = len(history.get("epoch", []))
    if trained > num_epochs:
        log.warning(
            "checkpoint_dir holds a training of %d epochs: it is returned, not cut to %d; load_checkpoint "
            "goes back to an epoch",
            trained,
            num_epochs,
        )


def _stream(supplied: Supplied, config: DistributedConfig, share: Share) -> LoaderStream:
    training = epochs_of(supplied.train_loader, seed=config.seed, name="train_loader")
    validation = None
    if supplied.val_loader is not None:
        validation = epochs_of(supplied.val_loader, seed=config.seed, name="val_loader")
    return LoaderStream(training, validation, share)


def _epoch_files(
    supplied: Supplied,
    config: DistributedConfig,
    stream: LoaderStream,
    learner: SuppliedModel,
    attempt: Attempt,
) -> EpochFiles:
    return EpochFiles(
        attempt.paths.root if config.checkpoint_dir is not None else None,
        learner,
        attempt.check_lease,
        stream.steps_per_epoch,
        num_epochs=supplied.num_epochs,
        every=config.save_frequency,
        keep=config.keep_n_checkpoints,
        spared=supplied.start.epoch if supplied.start else None,
    )


def _first_step(supplied: Supplied, stream: LoaderStream) -> int:
    return supplied.start.epoch * stream.steps_per_epoch if supplied.start else 0


def _optimizer(
    supplied: Supplied,
    config: DistributedConfig,
    stream: LoaderStream,
    precision: Precision,
    device: torch.device,
) -> SuppliedOptimizer:
    scale = stream.share.num_parts if config.scale_learning_rate else 1
    num_steps = round(config.warmup_epochs * stream.steps_per_epoch)
    optimizer = SuppliedOptimizer(
        supplied.optimizer,
        supplied.scheduler,
        interval=supplied.interval,
        ramp=Ramp(float(scale), num_steps),
        gradient_clip=config.gradient_clip,
        precision=precision,
        device=device,
    )
    if supplied.start is not None:
        optimizer.begin_after(_first_step(supplied, stream), supplied.start.scaler_state_dict)
    return optimizer


@contextmanager
def _folder(config: DistributedConfig) -> Iterator[Path]:
    """Return the checkpoint folder, or where nothing is to be kept one that is gone afterwards."""
    if config.checkpoint_dir is not None:
        yield Path(config.checkpoint_dir)
        return
    with tempfile.TemporaryDirectory(prefix="stockpred-") as folder:
        yield Path(folder)
