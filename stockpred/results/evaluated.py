"""Which model a test was made with; the same for every way of learning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluated:
    """Which model was evaluated: its name, its size, and the step that validation chose."""

    model: str
    num_parameters: int
    best_step: int
