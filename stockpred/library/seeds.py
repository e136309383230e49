"""Random numbers of a person's own code: torch's, numpy's and Python's global generators, set by a key.

Samplers, datasets and collate functions draw from them. A key that says what a draw is for makes the draw the
same after a restart, with nothing to save.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

LARGEST_NUMPY_SEED = 2**32


def seed_all(key: int) -> None:
    """Set the global generators of torch, numpy and Python in this process."""
    torch.manual_seed(key)
    np.random.seed(key % LARGEST_NUMPY_SEED)
    random.seed(key)


@contextmanager
def seeded(key: int) -> Iterator[None]:
    """Set the global generators for the body, and put them back as they were."""
    before = _global_states()
    seed_all(key)
    try:
        yield
    finally:
        _set_global_states(before)


class OwnNumbers:
    """The global generators for one reader, whatever others draw from them between its turns.

    They begin with ``key``, and go on where the reader's last turn has left them.
    """

    def __init__(self, key: int) -> None:
        with seeded(key):
            self._states = _global_states()

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Let the body draw, and put the global generators back as they were."""
        before = _global_states()
        _set_global_states(self._states)
        try:
            yield
        finally:
            self._states = _global_states()
            _set_global_states(before)


def _global_states() -> tuple[Any, ...]:
    has_gpus = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    of_gpus = torch.cuda.get_rng_state_all() if has_gpus else []
    return torch.get_rng_state(), of_gpus, np.random.get_state(), random.getstate()


def _set_global_states(states: tuple[Any, ...]) -> None:
    of_torch, of_gpus, of_numpy, of_python = states
    torch.set_rng_state(of_torch)
    torch.cuda.set_rng_state_all(of_gpus)
    np.random.set_state(of_numpy)
    random.setstate(of_python)
