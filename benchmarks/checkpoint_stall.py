"""How long training stands still for a checkpoint, against torch.save of the same state.

python benchmarks/checkpoint_stall.py [--repeats N] [--case NAME] [--dir DIR]

The state is that of the case's model and AdamW after one step. Ours hashes while it writes, flushes to the
disk, writes a manifest and renames. Bare torch.save does none of that: a kill may leave half a file.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from comparison import in_turns, show

from hpc.base.records import write_text
from hpc.plan import config
from hpc.run.paths import RunPaths
from stockpred.config.next_token import NextTokenExperiment
from stockpred.models.market_gpt import MarketGPT, build
from stockpred.tasks.next_token.tokenizer import FEATURES
from stockpred.train import checkpoint

ROOT = Path(__file__).resolve().parents[1]
NUM_ASSETS, NUM_CATEGORIES = 20, 1
KEPT = 2
RIVAL = "torch.save"


def experiment_of(case: str, folder: Path) -> NextTokenExperiment:
    """Return the case's experiment as a run would read it."""
    paths = RunPaths(folder)
    write_text(
        paths.config, config.resolve(ROOT, case, preset=config.TABLE, overrides=(), cluster=None).dump()
    )
    return NextTokenExperiment.load(paths.config)


def model_of(experiment: NextTokenExperiment) -> MarketGPT:
    """Return the experiment's model, new, for tokens that stand for no candles."""
    vocab_size = experiment.tokenizer.vocab_size
    return build(
        experiment.model,
        centroids=torch.zeros(vocab_size, len(FEATURES)),
        log_prior=torch.zeros(vocab_size),
        num_assets=NUM_ASSETS,
        num_categories=NUM_CATEGORIES,
    )


def state_of(model: torch.nn.Module) -> dict[str, Any]:
    """Return what a checkpoint holds: the weights, and AdamW's two moments of each."""
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return {"networks": model.state_dict(), "optimizers": optimizer.state_dict()}


def plainly(state: dict[str, Any], folder: Path, *, is_flushed: bool) -> Callable[[], None]:
    """Save into a new file each time and keep two, as ours does."""
    files = [folder / f"{is_flushed}_{number}.pt" for number in range(KEPT + 1)]

    def save() -> None:
        files.append(files.pop(0))
        with files[-1].open("wb") as file:
            torch.save(state, file)
            if is_flushed:
                file.flush()
                os.fsync(file.fileno())
        files[0].unlink(missing_ok=True)

    return save


def ours(state: dict[str, Any], folder: Path) -> Callable[[], None]:
    steps = iter(range(1, 1_000_000))

    def save() -> None:
        checkpoint.save(folder, next(steps), state, about={}, keep=KEPT, check_lease=lambda: None)

    return save


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--case", default="crypto")
    parser.add_argument(
        "--dir", type=Path, help="where to write; by default the usual place for temporary files"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as name:
        folder = Path(name)
        state = state_of(model_of(experiment_of(arguments.case, folder)))
        acts = {
            RIVAL: plainly(state, folder, is_flushed=False),
            "torch.save, flushed to disk": plainly(state, folder, is_flushed=True),
            "ours": ours(state, folder / "ours"),
        }
        in_turns(acts, KEPT + 1)
        samples = in_turns(acts, arguments.repeats)
        megabytes = next(folder.glob("*_*.pt")).stat().st_size / 1e6
    show(f"checkpoint of {arguments.case}'s model and optimizer, {megabytes:.0f} MB", samples, rival=RIVAL)


if __name__ == "__main__":
    main()
