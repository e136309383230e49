"""One training of a person's model by the core, as each of its ranks runs it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from hpc.base import records
from hpc.base.errors import ExitCode, UserError
from hpc.run.attempt import Attempt
from stockpred.library.checkpoints import EpochCheckpoint, History
from stockpred.library.epochs import EpochEnd
from stockpred.library.holding import held
from stockpred.library.learner import Criterion, SuppliedModel
from stockpred.library.loaders import Loader, epochs_of
from stockpred.library.optimizer import Interval, Ramp, Scheduler, SuppliedOptimizer, check_optimizer
from stockpred.library.options import DistributedConfig
from stockpred.library.stream import LoaderStream, Share
from stockpred.library.wrappers import unwrapped
from stockpred.train import core
from stockpred.train.distributed import Group, lost_peers_explained
from stockpred.train.failures import disk_refused
from stockpred.train.optim import Precision

log = logging.getLogger(__name__)

STARTED_FROM = "started_from.json"


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


def train(supplied: Supplied, config: DistributedConfig, group: Group) -> History:
    """Train to the end and return the history; the model then holds the last weights. Collective.

    With a ``checkpoint_dir`` that holds an earlier attempt of the same training, it goes on from there.
    Raises SystemExit with code 85 after a save, where it was asked to stop.
    """
    check_optimizer(supplied.optimizer, unwrapped(supplied.model))
    if group.warning is not None and group.is_main:
        log.warning(group.warning)
    with _folder(config, group) as folder, held(folder, group) as attempt:
        try:
            with lost_peers_explained(group.env, attempt.paths):
                return _train(supplied, config, group, attempt)
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(error) from error
        except OSError as error:
            raise disk_refused(error, folder) from error


def _train(supplied: Supplied, config: DistributedConfig, group: Group, attempt: Attempt) -> History:
    share = Share(group.rank, group.world_size, config.gradient_accumulation_steps)
    stream = _stream(supplied, config, share)
    epoch_end = _epoch_end(supplied, config, stream, attempt if group.is_main else None)
    first_step = supplied.start.epoch * stream.steps_per_epoch if supplied.start else 0
    learner = SuppliedModel(
        supplied.model,
        supplied.criterion,
        lambda precision, device: _optimizer(supplied, config, stream, precision, device),
        epoch_end,
        first_step=first_step,
        is_validated=supplied.val_loader is not None,
    )
    if group.is_main:
        _go_back(attempt, supplied.start)
    outcome = core.train(
        learner=learner,
        stream=stream,
        settings=config.training(supplied.num_epochs, is_validated=supplied.val_loader is not None),
        group=group,
        attempt=attempt,
    )
    if outcome is core.Outcome.CONTINUE_LATER:
        log.info("asked to stop: saved in %s; the same call goes on from there", attempt.paths.root)
        raise SystemExit(int(ExitCode.CONTINUE_LATER))
    return epoch_end.history


def _stream(supplied: Supplied, config: DistributedConfig, share: Share) -> LoaderStream:
    training = epochs_of(supplied.train_loader, seed=config.seed, name="train_loader")
    validation = None
    if supplied.val_loader is not None:
        validation = epochs_of(supplied.val_loader, seed=config.seed, name="val_loader")
    return LoaderStream(training, validation, share)


def _epoch_end(
    supplied: Supplied, config: DistributedConfig, stream: LoaderStream, attempt: Attempt | None
) -> EpochEnd:
    """Return what closes an epoch; without an attempt it writes no file."""
    return EpochEnd(
        supplied.start.history if supplied.start else {},
        training=stream.training,
        steps_per_epoch=stream.steps_per_epoch,
        attempt=attempt,
        every=config.save_frequency,
        keep=config.keep_n_checkpoints,
    )


def _optimizer(
    supplied: Supplied,
    config: DistributedConfig,
    stream: LoaderStream,
    precision: Precision,
    device: torch.device,
) -> SuppliedOptimizer:
    scale = stream.share.num_parts if config.scale_learning_rate else 1
    num_steps = round(config.warmup_epochs * stream.steps_per_epoch)
    return SuppliedOptimizer(
        supplied.optimizer,
        supplied.scheduler,
        interval=supplied.interval,
        ramp=Ramp(float(scale), num_steps),
        gradient_clip=config.gradient_clip,
        precision=precision,
        device=device,
    )


@contextmanager
def _folder(config: DistributedConfig, group: Group) -> Iterator[Path]:
    """Return the checkpoint folder, or where nothing is to be kept one that is gone afterwards."""
    if config.checkpoint_dir is not None:
        yield Path(config.checkpoint_dir)
        return
    with tempfile.TemporaryDirectory(prefix="stockpred-") as folder:
        yield Path(folder)


def _go_back(attempt: Attempt, start: EpochCheckpoint | None) -> None:
    """Drop what lies beyond the epoch that a person has loaded, the first time they go on from it."""
    record = attempt.paths.root / STARTED_FROM
    if start is None or records.read_json_if_any(record) == start.identity:
        return
    attempt.check_lease()
    for directory in attempt.paths.checkpoints.glob("step_*"):
        directory.rename(directory.with_name(f"{directory.name}.old-{start.epoch}"))
    records.write_json(record, start.identity)


def _out_of_memory(error: torch.OutOfMemoryError) -> UserError:
    return UserError(
        f"the GPU's memory is full: {str(error).splitlines()[0]}",
        fix="lower the loader's batch_size and raise gradient_accumulation_steps by as much; else set "
        "gradient_checkpointing=True or use_mixed_precision=True",
        exit_code=ExitCode.FAILED,
    )
