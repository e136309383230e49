"""A person's script, as a test starts it in processes of its own.

Usage: scripts.py OUT REQUEST_JSON, with what torchrun, srun or a person's hand puts into the environment. The
script writes what came out to ``OUT/RANK.pt``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from tests.forked import Rank
from tests.holds.control import PYTHONPATH

REPOSITORY = Path(__file__).parents[3]
NUM_SAMPLES = 50


class Line(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Points of a noisy line."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(11)
        self.inputs = torch.randn(NUM_SAMPLES, 4, generator=generator)
        noise = 0.1 * torch.randn(NUM_SAMPLES, generator=generator)
        self.targets = (self.inputs @ torch.tensor([1.0, -2.0, 3.0, 0.5]) + noise)[:, None]

    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inputs[index], self.targets[index]


def new_model(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(1)
    layers = [nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1)]
    return nn.Sequential(*layers)


def train(
    settings: dict[str, Any],
    *,
    batch_size: int,
    num_epochs: int,
    dropout: float = 0.0,
    load: str | None = None,
) -> dict[str, Any]:
    """Train as a person would, and return what came out."""
    from stockpred import DistributedConfig, DistributedTrainer

    model = new_model(dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    trainer = DistributedTrainer(model, DistributedConfig(**settings))
    if load is not None:
        trainer.load_checkpoint(load, optimizer, scheduler)
    dataset = Line()
    history = trainer.train(
        DataLoader(dataset, batch_size=batch_size, shuffle=True),
        optimizer,
        nn.MSELoss(),
        num_epochs,
        val_loader=DataLoader(dataset, batch_size=7),
        scheduler=scheduler,
    )
    return {"history": history, "model": model.state_dict(), "optimizer": optimizer.state_dict()}


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "HPC_"))}
    return {**kept, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1", **more}


Started = "subprocess.Popen[str] | Rank"


def start(out: Path, request: Mapping[str, Any], *launcher: str, **environ: str) -> Started:
    """Start the script in ``out``, where it can be held, by a launcher or by itself.

    By itself it is forked from a process that has imported torch.
    """
    out.mkdir(parents=True, exist_ok=True)
    command = [__file__, str(out), json.dumps(request)]
    env = environment(**environ)
    if not launcher:
        return Rank(command, cwd=out, env=env)
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen([*launcher, *command], cwd=out, env=env, stdout=pipe, stderr=both, text=True)


def ended(process: Started, expected: int = 0, limit_s: float = 500.0) -> str:
    said = process.communicate(timeout=limit_s)[0]
    assert process.returncode == expected, said
    return said


def result(out: Path, rank: int = 0) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(out / f"{rank}.pt", weights_only=True)
    return content


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


if __name__ == "__main__":
    # A person's script as it stands: no guard is needed, but the tests import this file too.
    found = train(**json.loads(sys.argv[2]))
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
    torch.save(found, Path(sys.argv[1]) / f"{rank}.pt")
