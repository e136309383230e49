"""The one training loop, for any learner: begin or go on, update, evaluate, write down, agree, save."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Literal, TypeVar, cast

import torch
from torch import Tensor

from hpc.base.errors import ExitCode, UserError
from hpc.base.records import Row
from hpc.run.history import Ledger
from hpc.run.paths import RunPaths
from hpc.run.stop import Agreement, Stop, StopCause
from stockpred.config.base import TrainingConfig
from stockpred.train import checkpoint
from stockpred.train.cadence import Cadence, random_key
from stockpred.train.checkpoint import Guard, unguarded
from stockpred.train.distributed import Group
from stockpred.train.failures import disk_refused
from stockpred.train.learner import Batch, Learner, Networks, Stream, to_device
from stockpred.train.optim import NetworkOptimizer, choose_precision, learning_rate
from stockpred.train.prefetch import Prefetch
from stockpred.train.tracking import MetricsLog, Progress, Tracker
from stockpred.train.updater import Updater

T = TypeVar("T")


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
    paths: RunPaths,
    stop: Stop,
    ledger: Ledger,
    guard: Guard = unguarded,
) -> Outcome:
    """Train until done, out of patience, stopped or out of time; return why it ended.

    Collective: every rank calls it. ``guard`` raises when this attempt has lost its run; it is called before
    every write that counts. Raises UserError on all ranks when a loss is not finite or a checkpoint cannot be
    saved.
    """
    core = Core(learner, stream, settings, group, paths, stop, ledger, guard)
    core.resume_or_start()
    if core.is_done:
        return Outcome.DONE
    with core.batches:
        core.rehearse()
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
            if agreement.save:
                core.save("periodic")


class Core:
    """What one rank holds while it trains. ``step`` counts finished steps."""

    def __init__(
        self,
        learner: Learner,
        stream: Stream,
        settings: TrainingConfig,
        group: Group,
        paths: RunPaths,
        stop: Stop,
        ledger: Ledger,
        guard: Guard,
    ) -> None:
        self.learner, self.stream, self.settings = learner, stream, settings
        self.group, self.paths, self.stop, self.ledger, self.guard = group, paths, stop, ledger, guard
        self.cadence = Cadence.of(settings, stream.num_samples, group.world_size)
        self.batches = Prefetch(
            self._own_batches, num_workers=settings.num_workers, end=self.cadence.total_steps
        )
        self.step = 0
        self.tracker = Tracker()
        self.metrics = MetricsLog(paths, guard, tensorboard=settings.tensorboard)
        self.progress = Progress(paths, self.cadence, group.env.attempt, guard)
        self.saved_at = time.monotonic()
        self.updater, self.optimizers = prepare(learner, group, settings)

    @property
    def is_done(self) -> bool:
        return self.step >= self.cadence.total_steps or self.tracker.is_out_of_patience(
            self.settings.patience
        )

    def resume_or_start(self) -> None:
        """Take up the newest complete checkpoint, else begin; histories are cut to its step."""
        found = self._on_main(self._find_checkpoint)
        if found.directory is not None:
            self._load(found)
        if not self._on_main(self._return_to_best):
            self.tracker = Tracker()
        self.saved_at = time.monotonic()

    def rehearse(self) -> None:
        """Run one update for nothing, which settles the order in which DDP adds up (see Updater.rehearse)."""
        self.updater.rehearse(self._batches(self.step)[0])

    def update(self) -> None:
        """Make one optimizer step of every update; remember the losses on the device."""
        begin = time.monotonic()
        self.lr = learning_rate(self.step + 1, self.cadence.total_steps, self.settings)
        batches = self._batches(self.step)
        self.step += 1
        self.losses = self.updater.run(self.step, batches, self.lr)
        time.sleep(max(0.0, self.settings.min_step_s - (time.monotonic() - begin)))
        self.stop.measured("step", time.monotonic() - begin)

    def evaluate_if_due(self) -> dict[str, float] | None:
        """Return the validation metrics when this step has an evaluation; keep the best weights."""
        if not self.cadence.evaluates(self.step):
            return None
        begin = time.monotonic()
        self._check_finite()
        validation = validate(self.learner, self.stream, self.updater, self.group, self.settings, self.step)
        value = self._selected(validation)
        self.tracker = self.tracker.after(value, self.step)
        if self.tracker.best_step == self.step:
            self._on_main(self._save_best)
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
            self._record("stop_agreed", step=self.step, cause=str(cause))
        self.save("stop")

    def save(self, reason: Literal["periodic", "stop", "final"]) -> None:
        """Commit a checkpoint; no rank goes on, or leaves, before it is on disk."""
        begin = time.monotonic()
        self._check_finite()
        self._on_main(self._save)
        seconds = time.monotonic() - begin
        self.stop.measured("save", seconds)
        self.saved_at = time.monotonic()
        if self.group.is_main:
            self._record("checkpoint", step=self.step, seconds=round(seconds, 3), reason=reason)
            self.progress.tick(self.step, self.tracker, is_last=reason != "periodic")

    def _row(self, validation: dict[str, float] | None) -> Row:
        row = {
            "step": self.step,
            "epoch": self.cadence.epoch(self.step),
            "loss": self.progress.loss,
            "lr": self.lr,
        }
        return row if validation is None else {**row, "validation": validation}

    def _batches(self, step: int) -> list[Batch]:
        return [to_device(batch, self.group.device) for batch in self.batches[step]]

    def _own_batches(self, step: int) -> list[Batch]:
        """Return this rank's micro-batches of ``step``; several threads may ask at once."""
        accumulate = self.settings.accumulate
        parts = range(self.group.rank * accumulate, (self.group.rank + 1) * accumulate)
        num_parts = self.group.world_size * accumulate
        return [self.stream.batch(step, part, num_parts, self.settings.batch_size) for part in parts]

    def _find_checkpoint(self) -> checkpoint.Found:
        found = checkpoint.find_newest(self.paths.checkpoints)
        self.guard()
        checkpoint.clean(self.paths.checkpoints, found)
        self.metrics.begin_after(found.step)
        self.progress.begin_after(found.step)
        if found.directory or found.skipped:
            self._record("resumed", step=found.step, skipped=list(found.skipped))
        return found

    def _save(self) -> None:
        self.metrics.sync()
        contents = {
            "networks": {name: network.state_dict() for name, network in self.learner.networks.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "state": {
                "step": self.step,
                "global_batch": self.cadence.global_batch,
                "tracker": self.tracker.state_dict(),
                "learner": self.learner.state_dict(),
            },
        }
        about = {
            "world_size": self.group.world_size,
            "threads": torch.get_num_threads(),
            "best_step": self.tracker.best_step,
        }
        keep = self.settings.keep_checkpoints
        checkpoint.save(self.paths.checkpoints, self.step, contents, about=about, keep=keep, guard=self.guard)
        checkpoint.prune_best(self.paths.best, self.paths.checkpoints)

    def _save_best(self) -> None:
        weights = {name: network.state_dict() for name, network in self.learner.networks.items()}
        assert self.tracker.best is not None
        checkpoint.save_best(
            self.paths.best,
            self.step,
            weights,
            metric=self.learner.selection_metric,
            value=self.tracker.best,
            guard=self.guard,
        )

    def _return_to_best(self) -> bool:
        """Let no weights of a future that was erased by a kill be the best."""
        has_best = checkpoint.return_to_best(
            self.paths.best,
            self.tracker.best_step,
            metric=self.learner.selection_metric,
            value=self.tracker.best,
            guard=self.guard,
        )
        checkpoint.prune_best(self.paths.best, self.paths.checkpoints)
        if not has_best:
            step = self.tracker.best_step
            lost = f"the best weights so far, of step {step}, are lost: only later ones can be chosen"
            self._record("warning", text=lost)
        return has_best

    def _load(self, found: checkpoint.Found) -> None:
        assert found.directory is not None
        device = self.group.device
        state = checkpoint.load(found.directory, "state", torch.device("cpu"))
        self._refuse_another_batch(state["global_batch"])
        networks = checkpoint.load(found.directory, "networks", device)
        optimizers = checkpoint.load(found.directory, "optimizers", device)
        for name, network in self.learner.networks.items():
            network.load_state_dict(networks[name])
            self.optimizers[name].load_state_dict(optimizers[name])
        self.learner.load_state_dict(state["learner"])
        self.tracker = Tracker(**state["tracker"])
        self.step = state["step"]

    def _refuse_another_batch(self, saved: int) -> None:
        if saved != self.cadence.global_batch:
            raise UserError(
                f"this run's steps have {saved} samples, now they would have {self.cadence.global_batch}",
                where=str(self.paths.config),
                fix="keep ranks x training.batch_size x training.accumulate the same, or begin a new run",
            )

    def _check_finite(self) -> None:
        """Raise on every rank when any rank has seen a loss or a gradient that is not finite."""
        first_bad = int(self.updater.first_bad_step)
        (earliest,) = self.group.reduce_max([-float(first_bad) if first_bad >= 0 else -math.inf])
        if earliest > -math.inf:
            raise _diverged("the loss or its gradient", int(-earliest))

    def _selected(self, validation: dict[str, float]) -> float:
        for name, value in validation.items():
            if not math.isfinite(value):
                raise _diverged(f"validation {name}", self.step)
        return validation[self.learner.selection_metric]

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
                error = disk_refused(problem, self.paths.root)
        facts = (error.what, error.where, error.fix, error.exit_code) if error else None
        result, failure = self.group.from_main((result, facts))
        if failure is not None:
            what, where, fix, exit_code = failure
            raise UserError(what, where=where, fix=fix, exit_code=exit_code) from error
        return cast(T, result)

    def _record(self, kind: str, **fields: object) -> None:
        self.guard()
        self.ledger.append(kind, attempt=self.group.env.attempt, **fields)


def prepare(
    learner: Learner, group: Group, settings: TrainingConfig
) -> tuple[Updater, dict[str, NetworkOptimizer]]:
    """Move the networks to the device, wrap them for gradient averaging, give each its optimizer."""
    # Rank 0 decides: gradients that one rank scales and another does not must never be averaged.
    precision = group.from_main(choose_precision(settings.precision, group.device))
    for network in learner.networks.values():
        network.to(group.device).train()
        if settings.compile:
            network.compile()
    optimizers = {
        name: NetworkOptimizer(network, settings, precision, group.device)
        for name, network in learner.networks.items()
    }
    return Updater(learner, optimizers, group, settings, precision), optimizers


def validate(
    learner: Learner, stream: Stream, updater: Updater, group: Group, settings: TrainingConfig, step: int
) -> dict[str, float]:
    """Return each metric over all validation samples; every rank takes a share and gets the whole."""
    sums: dict[str, Tensor] = {}
    networks = Networks(learner.networks, learner.networks)
    for network in learner.networks.values():
        network.eval()
    batches = stream.evaluation(group.rank, group.world_size, settings.batch_size)
    with torch.no_grad():
        for index, batch in enumerate(batches):
            torch.manual_seed(random_key(settings.seed, "evaluate", step, group.rank, index))
            with updater.forward_context():
                metrics = learner.evaluate(to_device(batch, group.device), networks)
            for name, (total, weight) in metrics.items():
                pair = torch.stack([in_double(total), in_double(weight)])
                sums[name] = sums[name] + pair if name in sums else pair
    for network in learner.networks.values():
        network.train()
    return _joined_means(group.gather({name: pair.tolist() for name, pair in sums.items()}))


def in_double(value: Tensor) -> Tensor:
    """Return ``value`` as float64; on the CPU where its device, MPS, has no such numbers."""
    return (value.cpu() if value.device.type == "mps" else value).double()


def _joined_means(ranks: list[dict[str, list[float]]]) -> dict[str, float]:
    names = dict.fromkeys(name for rank in ranks for name in rank)
    means = {}
    for name in names:
        pairs = [rank[name] for rank in ranks if name in rank]
        weight = sum(pair[1] for pair in pairs)
        means[name] = sum(pair[0] for pair in pairs) / weight if weight else math.nan
    return means


def _diverged(what: str, step: int) -> UserError:
    return UserError(
        f"{what} is not finite at step {step}",
        fix="lower training.lr or training.gradient_clip, or use training.precision=fp32; "
        "checkpoints before this step are intact",
        exit_code=ExitCode.FAILED,
    )
