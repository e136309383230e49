"""The masked cross-entropy, its weights over parts, what it may not see, and the scores of a run."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.config.next_token import TransformerConfig
from stockpred.data.splits import Split
from stockpred.learners.language_model import LanguageModel
from stockpred.models import market_gpt
from stockpred.score import results
from stockpred.tasks.next_token import evaluate, task
from stockpred.tasks.next_token.task import NextTokenTask
from stockpred.train.checkpoint import without_lease
from stockpred.train.learner import Batch, Networks
from tests.stockpred.conftest import MakeExperiment, WriteUniverse

V, T = 16, 12
PRIOR = torch.linspace(-1.0, 1.0, V).log_softmax(0)


def learner() -> LanguageModel:
    config = TransformerConfig(
        name="market_gpt",
        context_length=T,
        d_model=16,
        num_layers=2,
        num_heads=2,
        d_ff=32,
        dropout=0.2,
        asset_embed_dim=4,
        category_embed_dim=4,
        token_embedding="candle",
    )
    torch.manual_seed(0)
    centroids = torch.randn(V, 5)
    return LanguageModel(
        market_gpt.build(config, centroids=centroids, log_prior=PRIOR, num_assets=4, num_categories=2)
    )


def batch_of(size: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(V, (size, T + 1), generator=generator)
    mask = torch.rand(size, T, generator=generator) > 0.3
    return {
        "tokens": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "mask": mask,
        "asset": torch.arange(size) % 4,
        "category": torch.arange(size) % 2,
        "loss_weight": mask.sum(),
    }


def part_of(batch: Batch, chosen: slice, loss_weight: Tensor) -> Batch:
    return {name: value[chosen] for name, value in batch.items() if name != "loss_weight"} | {
        "loss_weight": loss_weight
    }


def as_given(learner: LanguageModel) -> Networks:
    return Networks(learner.networks, learner.networks)


def loss_of(learner: LanguageModel, batch: Batch) -> Tensor:
    ((name, loss),) = learner.updates(batch, as_given(learner), 0)
    assert name == "model"
    return loss


def test_the_loss_is_the_mean_surprise_of_the_bars_that_count() -> None:
    mine, batch = learner(), batch_of()
    mine.networks["model"].eval()
    log_probs = mine.predict_log_probs(batch)
    picked = log_probs.gather(-1, batch["targets"].unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(loss_of(mine, batch), -picked[batch["mask"]].mean())
    total, count = mine.evaluate(batch, as_given(mine)).sums["cross_entropy"]
    torch.testing.assert_close(total / count, -picked[batch["mask"]].mean())
    hits, _ = mine.evaluate(batch, as_given(mine)).sums["accuracy"]
    assert hits == (log_probs.argmax(-1) == batch["targets"])[batch["mask"]].sum()


def test_the_mean_over_uneven_parts_is_the_loss_of_the_joint_batch() -> None:
    mine, batch = learner(), batch_of()
    mine.networks["model"].eval()
    batch["mask"][:3, 2:] = False
    joint = batch | {"loss_weight": batch["mask"].sum()}
    share = joint["loss_weight"] / 2
    parts = [part_of(batch, chosen, share) for chosen in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(sum(loss_of(mine, part) for part in parts) / 2, loss_of(mine, joint))


def test_masked_targets_change_nothing_whatever_they_hold() -> None:
    mine, batch = learner(), batch_of()
    mine.networks["model"].eval()
    other = batch | {"targets": torch.where(batch["mask"], batch["targets"], -1)}
    assert torch.equal(loss_of(mine, batch), loss_of(mine, other))


@pytest.mark.parametrize("is_training", [True, False])
def test_no_loss_up_to_t_sees_a_bar_after_t(is_training: bool) -> None:
    mine, batch, t = learner(), batch_of(), 6
    mine.networks["model"].train(is_training)
    past = torch.arange(T) <= t
    changed = batch["tokens"].clone()
    changed[:, t + 1 :] = (changed[:, t + 1 :] + 5) % V
    losses = []
    for tokens in (batch["tokens"], changed):
        torch.manual_seed(4)
        losses.append(loss_of(mine, batch | {"tokens": tokens, "mask": batch["mask"] & past}))
    assert torch.equal(losses[0], losses[1])


def test_forecasts_are_distributions_and_leave_the_mode_as_it_was() -> None:
    mine = learner()
    mine.networks["model"].train()
    first, second = (mine.predict_log_probs(batch_of()) for _ in range(2))
    assert first.shape == (6, T, V)
    assert first.dtype == torch.float32
    assert not first.requires_grad
    torch.testing.assert_close(first.exp().sum(-1), torch.ones(6, T))
    assert torch.equal(first, second), "dropout is off"
    assert mine.networks["model"].training


CPU = torch.device("cpu")


@pytest.fixture
def own_task(
    make_experiment: MakeExperiment, write_universe: WriteUniverse, run_paths: RunPaths
) -> NextTokenTask:
    """Return an untrained task on bars of three assets, which the universe lists in no order."""
    rows = ("Z,z,us_equity,,,", "A,a,index,,,", "M,m,us_equity,,,")
    experiment = make_experiment(write_universe(*rows))
    task.prepare(experiment, run_paths)
    return task.task(experiment, run_paths)


def test_validation_and_test_are_scored_and_every_rival_has_its_line(own_task: NextTokenTask) -> None:
    paths = own_task.paths
    for split in (Split.VALIDATION, Split.TEST):
        lines = list(own_task.score(split, 7, CPU, without_lease))
        scores = results.read(paths.test_results if split is Split.TEST else paths.validation_results)
        assert scores.split == split.text
        assert scores.evaluated.best_step == 7
        assert len(lines) == 1 + len(scores.pooled.rivals)
        model = scores.pooled.model
        pattern = (
            rf"{split.text}  market_gpt +{model.nats:.4f} nats  CRPS {model.crps_bp:.1f} bp"
            rf"  log loss {re.escape(f'{model.log_loss:.4f}')}  "
        )
        assert re.match(pattern, lines[0])
        assert {group.name for group in scores.categories} == {"us_equity", "index"}
    table = pd.read_parquet(paths.predictions)
    assert set(table["split"].unique()) == {"validation", "test"}


def test_the_history_of_rivals_has_the_returns_and_categories_of_the_tokens(own_task: NextTokenTask) -> None:
    dataset = own_task.dataset
    bars = evaluate.history(dataset, own_task.paths.prepared)
    segment = np.repeat(np.arange(len(dataset.segment_start)), dataset.segment_length)
    np.testing.assert_allclose(
        bars.change[dataset.row], np.expm1(dataset.close_return), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_array_equal(bars.split[dataset.row], dataset.split)
    np.testing.assert_array_equal(bars.category[dataset.row], dataset.segment_category[segment])


def test_an_attempt_that_lost_its_run_writes_no_scores(own_task: NextTokenTask) -> None:
    def lost() -> None:
        raise UserError("another attempt holds this run")

    with pytest.raises(UserError, match="another attempt"):
        list(own_task.score(Split.TEST, 7, CPU, lost))
    assert not own_task.paths.test_results.exists()
    assert not own_task.paths.predictions.exists()
