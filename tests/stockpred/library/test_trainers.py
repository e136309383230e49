"""The front door in this process: a plain PyTorch loop, and the same from ``Trainer``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel
from torch.utils.data import DataLoader, Sampler, TensorDataset

from hpc.base.errors import UserError
from hpc.run.history import Ledger
from stockpred import DistributedConfig, DistributedTrainer, MultiGPUWrapper, Trainer
from stockpred import launch_distributed_training as launch
from tests.stockpred.library.compare import assert_identical
from tests.stockpred.library.scripts import Line, new_model

BATCH_SIZE = 8
Optimizers = dict[str, Callable[[Any], torch.optim.Optimizer]]
OPTIMIZERS: Optimizers = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True),
    "groups": lambda parameters: torch.optim.AdamW(
        [{"params": [p], "weight_decay": 0.1 * n} for n, p in enumerate(parameters)], lr=0.01
    ),
}


def loader(**options: Any) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(4)
    return DataLoader(Line(), BATCH_SIZE, shuffle=True, generator=generator, **options)


def plain_loop(
    model: nn.Module, optimizer: torch.optim.Optimizer, num_epochs: int, scheduler: Any = None
) -> dict[str, list[float]]:
    """The loop that a person would write."""
    batches, criterion = loader(), nn.MSELoss()
    history: dict[str, list[float]] = {"train_loss": [], "lr": []}
    for _ in range(num_epochs):
        model.train()
        total = 0.0
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(inputs)
        history["train_loss"].append(total / len(Line()))
        history["lr"].append(optimizer.param_groups[0]["lr"])
        if scheduler is not None:
            scheduler.step()
    return history


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_a_plain_loop_and_the_trainer_give_the_same_bits(
    make: Callable[[Any], torch.optim.Optimizer],
) -> None:
    mine, theirs = new_model(), new_model()
    own, given = make(mine.parameters()), make(theirs.parameters())
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7) for optimizer in (own, given)]
    expected = plain_loop(mine, own, 3, schedulers[0])
    history = Trainer(theirs, given, nn.MSELoss(), device="cpu", scheduler=schedulers[1]).train(
        loader(), loader(), epochs=3
    )
    assert_identical(theirs.state_dict(), mine.state_dict())
    assert_identical(given.state_dict(), own.state_dict())
    assert {name: history[name] for name in expected} == expected
    assert history["epoch"] == [1, 2, 3]
    assert len(history["val_loss"]) == 3


def test_the_validation_loss_is_the_mean_over_samples_of_the_model_in_evaluation_mode() -> None:
    model = new_model(dropout=0.5)
    trainer = Trainer(model, OPTIMIZERS["adam"](model.parameters()), nn.MSELoss(), device="cpu")
    history = trainer.train(loader(), DataLoader(Line(), 7), epochs=2)
    model.eval()
    data = Line()
    with torch.no_grad():
        expected = nn.functional.mse_loss(model(data.inputs), data.targets)
    assert history["val_loss"][-1] == pytest.approx(float(expected), rel=1e-6)


class OwnLoss(nn.Module):
    """Takes the batch as the loader gives it, and says itself what it lost."""

    def __init__(self) -> None:
        super().__init__()
        self.body = new_model()

    def forward(self, batch: Any) -> dict[str, Tensor]:
        inputs, targets = batch
        return {"loss": nn.functional.mse_loss(self.body(inputs), targets)}


@pytest.mark.parametrize("wrap", [lambda m: m, DataParallel, MultiGPUWrapper], ids=["bare", "dp", "wrapper"])
def test_a_model_with_its_own_loss_learns_the_same_in_any_wrapper(
    wrap: Callable[[nn.Module], nn.Module],
) -> None:
    expected = new_model()
    plain_loop(expected, OPTIMIZERS["adam"](expected.parameters()), 2)
    model = OwnLoss()
    Trainer(wrap(model), OPTIMIZERS["adam"](model.parameters()), device="cpu").train(loader(), epochs=2)
    assert_identical(model.body.state_dict(), expected.state_dict())


def test_gradient_checkpointing_changes_no_number() -> None:
    plain, saving = new_model(dropout=0.3), new_model(dropout=0.3)
    for model in (plain, saving):
        trainer = Trainer(model, OPTIMIZERS["adam"](model.parameters()), nn.MSELoss(), device="cpu")
        if model is saving:
            trainer.enable_gradient_checkpointing()
        trainer.train(loader(), epochs=2)
    assert_identical(plain.state_dict(), saving.state_dict())


def kept(folder: Path, **settings: Any) -> DistributedConfig:
    return DistributedConfig(use_distributed=False, checkpoint_dir=folder, checkpoint_every_s=0.0, **settings)


def train(config: DistributedConfig, num_epochs: int, dataset: Any = None, load: Path | None = None) -> Any:
    model = new_model(dropout=0.2)
    optimizer = OPTIMIZERS["adam"](model.parameters())
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
    trainer = DistributedTrainer(model, config)
    epoch = trainer.load_checkpoint(load, optimizer, scheduler) if load else None
    batches = DataLoader(dataset or Line(), BATCH_SIZE, shuffle=True)
    history = trainer.train(batches, optimizer, nn.MSELoss(), num_epochs, DataLoader(Line(), 16), scheduler)
    found = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
    return found if epoch is None else found | {"loaded": epoch}


class Interrupted(Exception):
    """Stands for whatever ends a process."""


class Breaking(Line):
    """Breaks off in the middle of an epoch."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.left -= 1
        if self.left < 0:
            raise Interrupted
        return super().__getitem__(index)


@pytest.mark.parametrize("after", [75, 100, 130])
def test_after_a_break_within_an_epoch_the_same_call_goes_on_bit_for_bit(tmp_path: Path, after: int) -> None:
    whole = train(kept(tmp_path / "whole"), 4)
    with pytest.raises(Interrupted):
        train(kept(tmp_path / "parts"), 4, Breaking(after))
    assert_identical(train(kept(tmp_path / "parts"), 4), whole)


def test_more_epochs_go_on_from_the_last(tmp_path: Path) -> None:
    whole = train(kept(tmp_path / "whole"), 4)
    train(kept(tmp_path / "parts"), 2)
    assert_identical(train(kept(tmp_path / "parts"), 4), whole)


def test_the_ledger_says_of_each_call_that_it_finished(tmp_path: Path) -> None:
    train(kept(tmp_path), 1)
    train(kept(tmp_path), 2)

    history = Ledger(tmp_path / "events.jsonl").history()

    assert history.finished
    assert [attempt.cause for attempt in history.attempts] == ["finished", "finished"]


def test_fewer_epochs_than_were_trained_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(kept(tmp_path), 2)
    train(kept(tmp_path), 1)
    assert "a training of 2 epochs: it is returned, not cut to 1" in caplog.text


def test_an_epoch_checkpoint_is_plain_tensors_and_as_many_are_kept_as_asked_for(tmp_path: Path) -> None:
    train(kept(tmp_path, keep_n_checkpoints=2, save_frequency=2), 7)
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == [
        "checkpoint_epoch_6.pt",
        "checkpoint_epoch_7.pt",
    ]
    content = torch.load(tmp_path / "checkpoint_epoch_6.pt", weights_only=True)
    assert content["epoch"] == 6
    assert content["history"]["epoch"] == [1, 2, 3, 4, 5, 6]
    new_model().load_state_dict(content["model_state_dict"])


def test_a_loaded_epoch_goes_on_as_if_it_had_never_been_left(tmp_path: Path) -> None:
    whole = train(kept(tmp_path / "whole"), 4)
    start = tmp_path / "whole" / "checkpoint_epoch_2.pt"
    elsewhere = train(kept(tmp_path / "other"), 4, load=start)
    assert elsewhere.pop("loaded") == 2
    assert_identical(elsewhere, whole)
    again = train(kept(tmp_path / "whole"), 4, load=start)
    assert again.pop("loaded") == 2
    assert_identical(again, whole)


def test_broken_off_after_a_loaded_epoch_the_same_call_goes_on(tmp_path: Path) -> None:
    whole = train(kept(tmp_path / "whole"), 4)
    start = tmp_path / "whole" / "checkpoint_epoch_2.pt"
    with pytest.raises(Interrupted):
        train(kept(tmp_path / "parts"), 4, Breaking(70), load=start)
    found = train(kept(tmp_path / "parts"), 4, load=start)
    found.pop("loaded")
    assert_identical(found, whole)


class Shuffling(Sampler[int]):
    """Has random numbers of its own, and is told no epoch."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rng.permutation(len(self)).tolist())

    def __len__(self) -> int:
        return len(Line())


def train_on(batches: Any, folder: Path, num_epochs: int, load: Path | None = None) -> Any:
    model = new_model(dropout=0.2)
    optimizer = OPTIMIZERS["adam"](model.parameters())
    trainer = DistributedTrainer(model, kept(folder))
    if load is not None:
        trainer.load_checkpoint(load, optimizer)
    history = trainer.train(batches, optimizer, nn.MSELoss(), num_epochs)
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}


REMEMBERING: dict[str, Callable[[Any], DataLoader[Any]]] = {
    "generator": lambda data: DataLoader(
        data, BATCH_SIZE, shuffle=True, generator=torch.Generator().manual_seed(4)
    ),
    "sampler": lambda data: DataLoader(data, BATCH_SIZE, sampler=Shuffling()),
}


@pytest.mark.parametrize("make", REMEMBERING.values(), ids=REMEMBERING.keys())
def test_one_loader_goes_on_in_one_process_also_when_it_was_read_meanwhile(
    make: Callable[[Any], DataLoader[Any]], tmp_path: Path
) -> None:
    whole = train_on(make(Line()), tmp_path / "whole", 4)
    batches = make(Line())
    train_on(batches, tmp_path / "parts", 2)
    list(batches)
    assert_identical(train_on(batches, tmp_path / "parts", 4), whole)


@pytest.mark.parametrize("make", REMEMBERING.values(), ids=REMEMBERING.keys())
def test_a_loader_that_remembers_goes_on_in_a_late_epoch_after_a_break(
    make: Callable[[Any], DataLoader[Any]], tmp_path: Path
) -> None:
    whole = train_on(make(Line()), tmp_path / "whole", 5)
    with pytest.raises(Interrupted):
        train_on(make(Breaking(4 * 50 - 5)), tmp_path / "parts", 5)
    assert_identical(train_on(make(Line()), tmp_path / "parts", 5), whole)


def test_one_loader_goes_on_from_a_loaded_epoch(tmp_path: Path) -> None:
    batches = REMEMBERING["generator"](Line())
    whole = train_on(batches, tmp_path, 4)
    assert_identical(train_on(batches, tmp_path, 4, load=tmp_path / "checkpoint_epoch_2.pt"), whole)


def test_scaled_rates_rise_to_their_multiple_and_the_schedulers_rate_stays() -> None:
    """Six batches an epoch, two to a step: in the third of three steps of warm-up the factor is 2."""
    model = new_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rates: list[float] = []
    optimizer.register_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    config = DistributedConfig(
        use_distributed=False, gradient_accumulation_steps=2, scale_learning_rate=True, warmup_epochs=1.0
    )
    batches = DataLoader(TensorDataset(Line().inputs[:48], Line().targets[:48]), BATCH_SIZE)
    DistributedTrainer(model, config).train(batches, optimizer, nn.MSELoss(), 2)
    assert rates == pytest.approx([0.1 * (1 + step / 3) for step in (1, 2, 3)] + [0.2] * 3)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_launch_trains_what_a_function_makes(tmp_path: Path) -> None:
    config = DistributedConfig(gpus_per_node=1, checkpoint_dir=tmp_path)
    history = launch(new_model, Line(), Line(), config, num_epochs=2, batch_size=10, learning_rate=0.01)
    assert history["train_loss"][1] < history["train_loss"][0]
    assert (tmp_path / "checkpoint_epoch_2.pt").exists()


def wrong(**options: Any) -> Callable[[], Any]:
    """Return a wrong use of the trainer, with one thing changed."""

    def use() -> Any:
        model = options.get("model", new_model())
        parameters = options.get("parameters", model.parameters())
        trainer = Trainer(
            model,
            torch.optim.SGD(parameters, lr=0.1),
            options.get("criterion", nn.MSELoss()),
            device=options.get("device", "cpu"),
        )
        return trainer.train(options.get("loader", DataLoader(Line(), 8)), epochs=1)

    return use


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (wrong(loader=[]), "train_loader has no batches"),
        (wrong(loader=[torch.zeros(3, 4)]), r"the loader gives a Tensor, and a criterion needs two"),
        (wrong(loader=[(torch.zeros(3, 4),) * 3]), "the loader gives 3 values"),
        (wrong(loader=[torch.zeros(3, 4)], criterion=None), "gives a Tensor without a loss"),
        (wrong(parameters=nn.Linear(2, 2).parameters()), "parameters are not the model's"),
        (wrong(device="cdua"), "there is no device 'cdua'"),
        (lambda: DistributedConfig(backend="mpi"), "there is no backend 'mpi'"),  # type: ignore[arg-type]
        (lambda: MultiGPUWrapper(new_model(), num_gpus=0), "num_gpus is 0"),
    ],
)
def test_wrong_use_is_one_clear_error(use: Callable[[], Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        use()
    assert caught.value.fix


def test_the_checkpoint_of_another_model_or_of_other_data_is_refused(tmp_path: Path) -> None:
    train(kept(tmp_path), 1)
    other = nn.Linear(4, 1)
    trainer = DistributedTrainer(other, kept(tmp_path))
    optimizer = torch.optim.Adam(other.parameters())
    with pytest.raises(UserError, match="checkpoint of another model"):
        trainer.train(DataLoader(Line(), BATCH_SIZE), optimizer, nn.MSELoss(), 1)
    with pytest.raises(UserError, match="checkpoint of another model"):
        trainer.load_checkpoint(tmp_path / "checkpoint_epoch_1.pt")
    with pytest.raises(UserError, match="there is no such checkpoint"):
        trainer.load_checkpoint(tmp_path / "checkpoint_epoch_9.pt")
    with pytest.raises(UserError, match="have 7 batches, now the loader gives 6"):
        train(kept(tmp_path), 2, TensorDataset(Line().inputs[:45], Line().targets[:45]))


def test_memory_that_is_full_is_told_with_what_to_lower() -> None:
    class Full(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4, 1))

        def forward(self, inputs: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(UserError, match="memory is full") as caught:
        wrong(model=Full())()
    assert "batch_size" in str(caught.value.fix)
    assert "gradient_checkpointing" in str(caught.value.fix)


IMPORTS = (
    "import sys, stockpred; "
    "print([name for name in ('torch', 'numpy', 'pandas') if name in sys.modules], dir(stockpred))"
)


def test_importing_the_package_imports_no_torch_and_shows_every_name() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    assert "'DistributedTrainer'" in done.stdout
