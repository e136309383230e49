"""The one training loop, for any learner: begin or go on, update, evaluate, write down, agree, save."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Literal, TypeVar, cast

import torch

from hpc.base.errors import ExitCode, UserError
from hpc.base.records import Row
from hpc.run.attempt import Attempt
from hpc.run.stop import Agreement, StopCause
from stockpred.config.base import TrainingConfig
from stockpred.train import checkpoint
from stockpred.train.cadence import Cadence, Milestones, random_key
from stockpred.train.distributed import Group
from stockpred.train.failures import disk_refused
from stockpred.train.learner import Batch, Learner, Stream, num_parameters, to_device
from stockpred.train.optim import (
    NetworkOptimizer,
    choose_precision,
    learning_rate,
    refuse_unknown_networks,
    scaled,
    settings_of,
)
from stockpred.train.prefetch import Prefetch
from stockpred.train.recompute import recompute_activations
from stockpred.train.saving import Contents, Progressed, Saver
from stockpred.train.tracking import MetricsLog, Progress, Tracker
from stockpred.train.updater import Updater
from stockpred.train.validation import Selection, validate

T = TypeVar("T")
log = logging.getLogger("stockpred")


class Outcome(StrEnum):
    """Why training ended."""

    DONE = "done"
    CONTINUE_LATER = "continue_later"


def train(
    *,
    learner: Learner,
    stream: Stream,
    settings: TrainingConfig,
    group: Group,
    attempt: Attempt,
    milestones: Milestones | None = None,
) -> Outcome:
    """Train until done, out of patience, stopped or out of time; return why it ended.

    With ``milestones`` it also saves at these and before its first step. Collective: every rank calls it. The
    attempt's lease is checked before every write that counts. Raises UserError on all ranks when a loss is
    not finite or a checkpoint cannot be saved.
    """
    core = Core(learner, stream, settings, group, attempt, milestones)
    core.resume_or_start()
    if core.is_done:
        return Outcome.DONE
    with core.batches:
        while True:
            core.update()
            validation = core.evaluate_if_due()
            core.write_row_if_due(validation)
            if core.is_done:
                core.save("final")
                return Outcome.DONE
            agreement = core.agree()
            if agreement.stop is not None:
                core.leave(agreement.stop)
                return Outcome.CONTINUE_LATER
            if agreement.save or core.is_at_milestone:
                core.save("periodic")


class Core:
    """What one rank holds while it trains. ``step`` counts finished steps."""

    def __init__(
        self,
        learner: Learner,
        stream: Stream,
        settings: TrainingConfig,
        group: Group,
        attempt: Attempt,
        milestones: Milestones | None = None,
    ) -> None:
        self.milestones = milestones
        self.cadence = Cadence.of(settings, stream.num_samples, group.world_size)
        settings = scaled(settings, self.cadence.global_batch)
        self.learner, self.stream, self.settings = learner, stream, settings
        self.group, self.attempt, self.stop = group, attempt, attempt.stop
        self.batches = Prefetch(
            self._stream_batches, num_workers=settings.num_workers, end=self.cadence.total_steps
        )
        self.step = learner.first_step
        self.warm_phases: set[str] = set()
        self.tracker = Tracker()
        self.metrics = MetricsLog(attempt, tensorboard=settings.tensorboard)
        self.progress = Progress(attempt, self.cadence)
        self.saved_at = time.monotonic()
        self.selection = Selection.of(settings.selection, learner.metrics, self.cadence.total_steps)
        self.updater, self.optimizers = prepare(learner, group, settings)
        self.saver = Saver(learner, self.optimizers, self.selection, settings, group, attempt)

    @property
    def is_done(self) -> bool:
        return self.step >= self.cadence.total_steps or self.tracker.is_out_of_patience(
            self.settings.patience
        )

    @property
    def is_at_milestone(self) -> bool:
        return self.milestones is not None and self.milestones.is_due(self.step)

    def resume_or_start(self) -> None:
        """Take up the newest complete checkpoint, else begin; histories are cut to its step."""
        found = self._on_main(self._find_checkpoint)
        if found.directory is not None:
            saved = self.saver.load(found.directory, self.cadence.global_batch, self.updater.compression)
            self.step, self.tracker = saved.step, saved.tracker
        if not self._on_main(lambda: self.saver.return_to_best(self.tracker, self._warn)):
            self.tracker = Tracker()
        self.saved_at = time.monotonic()
        if found.directory is None and self.milestones is not None:
            self.save("start")
        elif self.is_at_milestone:
            self._on_main(lambda: self._pass_milestone(is_new=False))

    def update(self) -> None:
        """Make one optimizer step of every update; remember the losses on the device."""
        begin = time.monotonic()
        self._warm_up_phase()
        self.lrs = {
            name: optimizer.rate(self.step + 1, self.cadence.total_steps)
            for name, optimizer in self.optimizers.items()
        }
        batches = self._batches()
        self.step += 1
        self.losses = self.updater.run(self.step, batches, self.lrs)
        self.stop.measured("step", time.monotonic() - begin)

    def evaluate_if_due(self) -> dict[str, float] | None:
        """Return the validation metrics when this step has an evaluation; keep the best weights."""
        if not self.cadence.evaluates(self.step):
            return None
        begin = time.monotonic()
        self._check_finite()
        validation = validate(self.learner, self.stream, self.updater, self.group, self.settings, self.step)
        self._select(validation)
        self.learner.after_evaluation(self.step, validation)
        self.stop.measured("evaluate", time.monotonic() - begin)
        return validation

    def write_row_if_due(self, validation: dict[str, float] | None) -> None:
        """Append what is known of this step; every number in it is the same in every repetition."""
        if self.cadence.writes_row(self.step):
            self._check_finite()
            ranks = self.group.gather_floats([float(loss) for loss in self.losses.values()])
            means = [sum(values) / len(ranks) for values in zip(*ranks, strict=True)]
            self.progress.loss = dict(zip(self.losses, means, strict=True))
            if self.group.is_main:
                self.metrics.append(self._row(validation))
        if self.group.is_main:
            self.progress.tick(self.step, self.tracker)

    def agree(self) -> Agreement:
        """Ask all ranks whether to stop or to save at this boundary."""
        is_due = time.monotonic() - self.saved_at >= self.settings.checkpoint_every_s
        return self.stop.agree(
            self.step,
            next_evaluates=self.cadence.evaluates(self.step + 1),
            save_is_due=is_due and self.group.is_main,
            reduce_max=self.group.reduce_max,
        )

    def leave(self, cause: StopCause) -> None:
        if self.group.is_main:
            self.attempt.record("stop_agreed", step=self.step, cause=str(cause))
        self.save("stop")

    def save(self, reason: Literal["start", "periodic", "stop", "final"]) -> None:
        """Commit a checkpoint; no rank goes on, or leaves, before it is on disk."""
        begin = time.monotonic()
        self._check_finite()
        state = self.saver.gather(self.updater.compression)
        self._on_main(lambda: self._save(state, is_new=reason != "start"))
        seconds = time.monotonic() - begin
        self.stop.measured("save", seconds)
        self.saved_at = time.monotonic()
        if self.group.is_main:
            self.attempt.record("checkpoint", step=self.step, seconds=round(seconds, 3), reason=reason)
            self.progress.tick(self.step, self.tracker, is_last=reason in ("stop", "final"))

    def _save(self, gathered: Contents, *, is_new: bool) -> None:
        self.metrics.sync()
        self.saver.save(Progressed(self.step, self.cadence.global_batch, self.tracker), gathered)
        self._pass_milestone(is_new=is_new)

    def _pass_milestone(self, *, is_new: bool) -> None:
        if self.milestones is not None and self.milestones.is_due(self.step):
            self.milestones.passed(self.step, is_new=is_new)

    def _warm_up_phase(self) -> None:
        """Settle the order in which DDP adds up before a phase's first step in this process."""
        if self.learner.phase(self.step) in self.warm_phases:
            return
        self.warm_phases.add(self.learner.phase(self.step))
        parts = {part: copy.deepcopy(self.learner.part_state(part)) for part in self._parts()}
        self.updater.warm_up_ddp(self.step + 1, self._batches()[0])
        for part, state in parts.items():
            self.learner.load_part_state(part, state)

    def _row(self, validation: dict[str, float] | None) -> Row:
        shared = learning_rate(self.step, self.cadence.total_steps, self.settings)
        row: Row = {
            "step": self.step,
            "epoch": self.cadence.epoch(self.step),
            "loss": self.progress.loss,
            "lr": shared if self.settings.optimizers else next(iter(self.lrs.values()), shared),
        }
        if self.settings.optimizers:
            row["network_lr"] = self.lrs
        return row if validation is None else {**row, "validation": validation}

    def _batches(self) -> list[Batch]:
        """Return this rank's micro-batches of the coming step, the learner's own or the stream's."""
        if type(self.learner).make_batch is Learner.make_batch:
            return [to_device(batch, self.group.device) for batch in self.batches[self.step]]
        return [to_device(self._own_batch(part), self.group.device) for part in self._parts()]

    def _own_batch(self, part: int) -> Batch:
        torch.manual_seed(random_key(self.settings.seed, "make_batch", self.step, part))
        with torch.no_grad(), self.updater.forward_context():
            batch = self.learner.make_batch(self.step, part, self.updater.networks)
        if batch is None:
            num_parts = self.group.world_size * self.settings.accumulate
            return self.stream.batch(self.step, part, num_parts, self.settings.batch_size)
        return batch

    def _stream_batches(self, step: int) -> list[Batch]:
        """Return this rank's micro-batches of ``step``; several threads may ask at once."""
        num_parts = self.group.world_size * self.settings.accumulate
        return [self.stream.batch(step, part, num_parts, self.settings.batch_size) for part in self._parts()]

    def _parts(self) -> range:
        return self.group.parts(self.settings.accumulate)

    def _find_checkpoint(self) -> checkpoint.Found:
        checkpoints = self.attempt.paths.checkpoints
        found = checkpoint.find_newest(checkpoints)
        self.attempt.check_lease()
        checkpoint.clean(checkpoints, found)
        first_step = found.step if found.directory else self.learner.first_step
        self.metrics.begin_after(first_step)
        self.progress.begin_after(first_step)
        if found.directory or found.skipped:
            log.info("going on from the checkpoint of step %d", found.step)
            self.attempt.record("resumed", step=found.step, skipped=list(found.skipped))
        return found

    def _check_finite(self) -> None:
        """Raise on every rank when any rank has seen a loss or a gradient that is not finite."""
        first_bad = int(self.updater.first_bad_step)
        (earliest,) = self.group.reduce_max([-float(first_bad) if first_bad >= 0 else -math.inf])
        if earliest > -math.inf:
            raise _diverged("the loss or its gradient", int(-earliest))

    def _select(self, validation: dict[str, float]) -> None:
        """Compare an evaluation with the best so far, and keep the weights where it is better."""
        for name, value in validation.items():
            if not math.isfinite(value):
                raise _diverged(f"validation {name}", self.step)
        if self.step < self.selection.first_step:
            return
        value = self.selection.value(validation, self.step)
        is_better = self.selection.is_better(value, self.tracker.best)
        self.tracker = self.tracker.after(value, self.step, is_better=is_better)
        if is_better:
            self._on_main(lambda: self.saver.save_best(self.tracker))

    def _on_main(self, act: Callable[[], T]) -> T:
        """Let rank 0 act and the others wait for its result; its failure ends all ranks alike."""
        result: T | None = None
        error: UserError | None = None
        if self.group.is_main:
            try:
                result = act()
            except UserError as problem:
                error = problem
            except OSError as problem:
                error = disk_refused(problem, self.attempt.paths.root)
        facts = (error.what, error.where, error.fix, error.exit_code) if error else None
        result, failure = self.group.from_main((result, facts))
        if failure is not None:
            what, where, fix, exit_code = failure
            raise UserError(what, where=where, fix=fix, exit_code=exit_code) from error
        return cast(T, result)

    def _warn(self, text: str) -> None:
        self.attempt.record("warning", text=text)


def prepare(
    learner: Learner, group: Group, settings: TrainingConfig
) -> tuple[Updater, dict[str, NetworkOptimizer]]:
    """Move the networks to the device, wrap them for gradient averaging, give each its optimizer."""
    # Rank 0 decides: gradients that one rank scales and another does not must never be averaged.
    precision = group.from_main(choose_precision(settings.precision, group.device))
    for network in learner.networks.values():
        network.to(group.device)
        if not network.training:  # in a network that trains, a part that is in evaluation mode is frozen
            network.train()
        if settings.gradient_checkpointing:
            recompute_activations(network)
        if settings.compile:
            network.compile()
    refuse_unknown_networks(settings, learner.networks)
    optimizers = {
        name: learner.make_optimizer(name, settings_of(settings, name), precision, group.device)
        for name, network in learner.networks.items()
        if num_parameters(network)
    }
    return Updater(learner, optimizers, group, settings, precision), optimizers


def _diverged(what: str, step: int) -> UserError:
    return UserError(
        f"{what} is not finite at step {step}",
        fix="lower training.lr or training.gradient_clip, or use training.precision=fp32; "
        "checkpoints before this step are intact",
        exit_code=ExitCode.FAILED,
    )
