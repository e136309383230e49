"""Next-token runs with results, written to disk without training, and what a summary of them says."""

from __future__ import annotations

import csv
import html
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

from hpc.base import records
from hpc.run.paths import RunPaths
from stockpred.report.summary import gather
from stockpred.score.metrics import EvaluatedModel
from stockpred.tasks.next_token import baselines
from stockpred.tasks.next_token.dataset import TokenDataset
from stockpred.tasks.next_token.evaluate import evaluate_test
from stockpred.tasks.next_token.summary import rows
from stockpred.tasks.next_token.summary.build import PART
from stockpred.tasks.next_token.summary.rows import CaseRows
from stockpred.train.learner import Batch
from tests.stockpred.token_market import market


@cache
def cached_market(num_days: int) -> TokenDataset:
    return market(num_assets=3, num_days=num_days)


def write_run(
    root: Path,
    run_id: str,
    *,
    case: str = "crypto",
    seed: int | None = None,
    share: float = 0.0,
    num_days: int = 300,
    written: int = 1_000,
    overrides: Sequence[str] = (),
) -> Path:
    """Write a run whose model puts this share of probability on the token that comes; noise by its seed.

    A negative share goes to a token that does not come.
    """
    data = cached_market(num_days)
    rng = np.random.default_rng(0 if seed is None else seed)
    noise = torch.from_numpy(0.02 * rng.standard_normal(data.tokenizer.vocab_size))
    base = torch.softmax(torch.from_numpy(baselines.fit_unigram(data).log_probs_K) + noise, -1)

    def scorer(batch: Batch) -> torch.Tensor:
        tokens = batch["targets"].long() if share >= 0 else (batch["targets"].long() + 8) % len(base)
        known = torch.nn.functional.one_hot(tokens, len(base)).double()
        return torch.log((1.0 - abs(share)) * base + abs(share) * known)

    paths = RunPaths(root / case / run_id)
    paths.root.mkdir(parents=True)
    model = EvaluatedModel("market_gpt", 561_664, 40)
    evaluate_test(data, scorer, paths=paths, evaluated=model, context_length=12, stride=6, batch_size=64)
    os.utime(paths.test_results, (written, written))
    training = "" if seed is None else f"training: {{seed: {seed}}}\n"
    paths.config.write_text(f"task: {{name: next_token}}\n{training}")
    records.write_json(paths.plan, {"overrides": list(overrides)})
    return paths.root


def write_seeds(root: Path, *seeds: int, share: float = 0.05) -> list[Path]:
    """Write the runs of an array over ``training.seed``."""
    return [
        write_run(root, f"run-{seed}", seed=seed, share=share, overrides=[f"training.seed={seed}"])
        for seed in seeds
    ]


def cases_of(run_dirs: Sequence[Path]) -> tuple[CaseRows, ...]:
    return rows.of(gather.gather(gather.read(run_dirs), PART.reader))


def rows_of(prefix: Path) -> list[dict[str, str]]:
    with prefix.with_name(f"{prefix.name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def text_of(prefix: Path) -> str:
    page = prefix.with_name(f"{prefix.name}.html").read_text()
    bare = re.sub(r"<(style|svg).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).replace("\u00a0", " ").split())
