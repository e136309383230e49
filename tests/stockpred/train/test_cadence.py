"""Steps at which things are due, and keys of random draws."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from stockpred.train.cadence import Cadence, random_key


@given(
    num_samples=st.integers(1, 5000),
    global_batch=st.integers(1, 512),
    epochs=st.integers(1, 20),
    per_epoch=st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]),
)
def test_evaluations_come_as_often_as_asked_and_at_the_end(
    num_samples: int, global_batch: int, epochs: int, per_epoch: float
) -> None:
    total_steps = math.ceil(epochs * num_samples / global_batch)
    cadence = Cadence(num_samples, global_batch, total_steps, per_epoch)
    due = [step for step in range(1, total_steps + 1) if cadence.evaluates(step)]
    assert due[-1] == total_steps
    assert len(due) <= math.floor(cadence.epoch(total_steps) * per_epoch) + 1
    if cadence.num_samples >= global_batch * per_epoch:  # at most one falls due in a step
        assert len(due) >= math.floor(epochs * per_epoch)
    assert all(cadence.writes_row(step) for step in due)


def test_keys_differ_wherever_anything_differs() -> None:
    keys = {
        random_key(s, p, a, b)
        for s in (0, 1)
        for p in ("update", "evaluate")
        for a in (1, 12)
        for b in (2, 21)
    }
    assert len(keys) == 16
    assert all(0 <= key < 2**63 for key in keys)
    assert random_key(0, "update", 1, 12) != random_key(0, "update", 11, 2)
