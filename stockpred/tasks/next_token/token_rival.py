"""What a rival of tokens is: a simple forecaster of the next token; found by the name of its file.

A file in ``stockpred/tasks/next_token/rivals`` declares ``LABEL`` (its name for people) and
``fit(dataset) -> FittedRival``. What it fits reads training targets, what it chooses validation targets; the
forecast of a bar reads bars before it, of the same segment. Test bars fit and choose nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from stockpred.config import registry
from stockpred.data.arrays import Floats, Ints
from stockpred.tasks.next_token.dataset import TokenDataset

RIVALS = "stockpred.tasks.next_token.rivals"


class FittedRival(Protocol):
    """A rival that is ready to forecast any target of the dataset that it was fitted on."""

    @property
    def settings(self) -> Mapping[str, float]:
        """What was chosen, for the report."""
        ...

    def log_probs(self, positions_M: Ints) -> Floats:
        """Return the log probability of each token at each of M targets, [M, K]."""
        ...


class TokenRival(Protocol):
    """A module in ``RIVALS``."""

    @property
    def LABEL(self) -> str: ...

    def fit(self, dataset: TokenDataset) -> FittedRival: ...


def names() -> tuple[str, ...]:
    """Return the names of all rivals of tokens, sorted."""
    return registry.names(RIVALS)


def load(name: str) -> TokenRival:
    """Return the rival of that name; raise UserError where there is none."""
    return cast(TokenRival, registry.load(RIVALS, name))
