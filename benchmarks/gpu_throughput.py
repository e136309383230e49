"""Tokens per second and MFU of a training step on a GPU, against a plain loop around the same model.

python benchmarks/gpu_throughput.py [--case NAME ...] [--steps N] [--compile] [--cpu]

Ours is a step as a run makes it: the updater with its learner, clipping, AdamW, the check for what is not
finite. The rival is nanoGPT's loop: batch, autocast, cross-entropy, backward, clip, AdamW. Same model, same
synthetic tokens, bf16, one GPU; steps take turns, and the clock stops when the GPU is done. MFU = tokens per
second x operations per token (PaLM, appendix B, not discounted for the causal mask) / dense bf16 peak.
``--cpu`` runs a tiny model, to see that the script works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from checkpoint_stall import experiment_of, model_of
from comparison import in_turns, show
from torch import nn
from torch.nn import functional

from hpc.run.jobenv import JobEnv
from stockpred.config.next_token import NextTokenExperiment
from stockpred.learners.language_model import LanguageModel
from stockpred.models.market_gpt import model_flops_per_token
from stockpred.train.core import prepare
from stockpred.train.distributed import Group
from stockpred.train.learner import Batch, to_device

CASES = ("crypto", "full_market")
NUM_WARM_UP = 20
TOKENS_PER_STEP = 32_768
NUM_TOKENS = 1_000_000
PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}
SLOWER_VARIANTS = ("PCIe", "NVL")
TINY = {"d_model": 32, "num_layers": 2, "num_heads": 4, "d_ff": 64, "context_length": 16}
OURS, RIVAL = "ours", "plain loop"
Step = Callable[[], object]


class Tokens:
    """Synthetic tokens of one asset, and batches of windows at random places."""

    def __init__(self, vocab_size: int, context_length: int, batch_size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.tokens_N = torch.randint(vocab_size, (NUM_TOKENS,), generator=generator)
        self.offset_T = torch.arange(context_length)
        self.batch_size = batch_size

    def batch(self) -> Batch:
        start_B = torch.randint(NUM_TOKENS - len(self.offset_T) - 1, (self.batch_size,))
        place_BT = start_B.unsqueeze(1) + self.offset_T
        return {
            "tokens": self.tokens_N[place_BT],
            "targets": self.tokens_N[place_BT + 1],
            "mask": torch.ones(place_BT.shape, dtype=torch.bool),
            "asset": torch.zeros(self.batch_size, dtype=torch.int64),
            "category": torch.zeros(self.batch_size, dtype=torch.int64),
            "loss_weight": torch.tensor(float(place_BT.numel())),
        }


def our_step(experiment: NextTokenExperiment, tokens: Tokens, device: torch.device) -> Step:
    """Return a step of the core, which goes on from where the last one ended."""
    settings = experiment.training
    group = Group(JobEnv.read({}), device)
    updater, _ = prepare(LanguageModel(model_of(experiment)), group, settings)
    steps = iter(range(1, 1_000_000))
    return lambda: updater.run(next(steps), [to_device(tokens.batch(), device)], {"model": settings.lr})


def plain_step(experiment: NextTokenExperiment, tokens: Tokens, device: torch.device) -> Step:
    """Return a step of nanoGPT's training loop (train.py of karpathy/nanoGPT) around the same model."""
    settings = experiment.training
    model = model_of(experiment).to(device).train()
    if settings.compile:
        model.compile()
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    others = [weight for weight in model.parameters() if weight.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        fused=device.type == "cuda",
    )

    def step() -> None:
        batch = to_device(tokens.batch(), device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits_BTV = model(batch["tokens"], batch["asset"], batch["category"])
            loss = functional.cross_entropy(logits_BTV.flatten(0, 1), batch["targets"].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def peak_of(device_name: str) -> float | None:
    """Return the dense bf16 operations per second of a known GPU; None rather than a guess."""
    known = next((peak for name, peak in PEAKS.items() if name in device_name), None)
    is_slower = "A100" not in device_name and any(word in device_name for word in SLOWER_VARIANTS)
    return None if is_slower else known


def to_its_end(step: Step, device: torch.device) -> Step:
    """Return a step whose end is the device's, not that of the calls."""

    def whole() -> None:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return whole


def measure(experiment: NextTokenExperiment, title: str, device: torch.device, num_steps: int) -> None:
    """Print seconds per step, tokens per second and MFU of both."""
    config = experiment.model
    batch_size = experiment.training.batch_size
    tokens = Tokens(experiment.tokenizer.vocab_size, config.context_length, batch_size)
    steps = {
        OURS: to_its_end(our_step(experiment, tokens, device), device),
        RIVAL: to_its_end(plain_step(experiment, tokens, device), device),
    }
    in_turns(steps, NUM_WARM_UP if device.type == "cuda" else 1)
    samples = in_turns(steps, num_steps)
    show(f"{title}, {batch_size} x {config.context_length} tokens a step, bf16", samples, rival=RIVAL)
    peak = peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    flops = model_flops_per_token(config, experiment.tokenizer.vocab_size)
    for name, seconds in samples.items():
        speed = batch_size * config.context_length / statistics.median(seconds)
        share = f"MFU {speed * flops / peak:.1%}" if peak else "no MFU: the peak of this device is not known"
        print(f"  {name}: {speed:,.0f} tokens/s, {share}")


def benchmarked(case: str, *, is_tiny: bool, is_compiled: bool) -> NextTokenExperiment:
    """Return the case's experiment in bf16, with batches that fill a GPU."""
    with tempfile.TemporaryDirectory() as folder:
        experiment = experiment_of(case, Path(folder))
    model = experiment.model.model_copy(update=TINY if is_tiny else {})
    batch_size = 4 if is_tiny else TOKENS_PER_STEP // model.context_length
    training = experiment.training.model_copy(
        update={"precision": "bf16", "batch_size": batch_size, "accumulate": 1, "compile": is_compiled}
    )
    return experiment.model_copy(update={"model": model, "training": training})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", nargs="+", default=CASES)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--compile", action="store_true", help="compile the model, for both")
    parser.add_argument("--cpu", action="store_true", help="a tiny model on the CPU")
    arguments = parser.parse_args()
    if not arguments.cpu and not torch.cuda.is_available():
        sys.exit(
            f"torch {torch.__version__} sees no GPU; --cpu runs a tiny model, whose figures mean nothing"
        )
    device = torch.device("cpu" if arguments.cpu else "cuda")
    for case in arguments.case:
        experiment = benchmarked(case, is_tiny=arguments.cpu, is_compiled=arguments.compile)
        where = "a tiny model on the CPU" if arguments.cpu else torch.cuda.get_device_name(device)
        measure(experiment, f"{case} on {where}", device, arguments.steps)


if __name__ == "__main__":
    main()
