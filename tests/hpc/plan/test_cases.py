"""The cases as they stand: the table of settings, and what the training program thinks of every preset."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc.plan import config, program
from hpc.plan.program import Question

REPOSITORY = Path(__file__).parents[3]
CASES = config.case_names(REPOSITORY)
PRESETS = [(case, preset) for case in CASES for preset in config.preset_names(REPOSITORY, case)]

TABLE = {
    "full_market": "4096 512 768 12 12 3072 64 32 32 3e-4 100 15",
    "reduced": "2048 256 512 8 8 2048 32 16 32 5e-4 100 10",
    "crypto": "1024 128 256 6 8 1024 16 8 32 3e-4 50 10",
}
KEYS = [
    "tokenizer.vocab_size",
    "model.context_length",
    "model.d_model",
    "model.num_layers",
    "model.num_heads",
    "model.d_ff",
    "model.asset_embed_dim",
    "model.category_embed_dim",
    "training.batch_size",
    "training.lr",
    "training.epochs",
    "training.patience",
]


@pytest.mark.parametrize(("case", "values"), TABLE.items())
def test_the_table_preset_is_the_table(case: str, values: str) -> None:
    resolved = config.resolve(REPOSITORY, case)

    assert {key: resolved.value(key) for key in KEYS} == dict(zip(KEYS, values.split(), strict=True))
    assert (resolved.value("model.dropout"), resolved.value("training.gradient_clip")) == ("0.1", "1.0")
    split = ["0.70", "0.15", "0.15"] if case == "crypto" else ["2022-10-01", "2023-07-01"]
    assert resolved.experiment["data"]["split"] == split
    resources = resolved.resources
    assert (resources.nodes, resources.gpus, resources.gpu_type) == (1, 2, "a100")
    assert (resources.cpus_per_gpu, resources.memory_gb_per_gpu) == (32, 64)
    assert (resources.limit, resources.partition) == ("7-00:00:00", "long")


def test_the_training_program_accepts_every_preset() -> None:
    experiments = [config.resolve(REPOSITORY, case, preset=preset).experiment for case, preset in PRESETS]

    (answer,) = program.ask(REPOSITORY, [Question(tuple(experiments))]).cases

    assert [run.problems for run in answer.runs] == [()] * len(PRESETS)


@pytest.mark.parametrize(("case", "preset"), PRESETS)
def test_only_the_demo_reads_synthetic_bars(case: str, preset: str) -> None:
    source = config.resolve(REPOSITORY, case, preset=preset).value("data.source")

    assert (source == "synthetic") == (preset == "demo")


@pytest.mark.parametrize("cluster", config.cluster_names(REPOSITORY))
def test_every_cluster_layer_is_valid(cluster: str) -> None:
    assert config.resolve(REPOSITORY, "crypto", cluster=cluster).cluster == cluster
