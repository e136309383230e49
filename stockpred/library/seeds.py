"""Random numbers of a person's own code: torch's, numpy's and Python's global generators, set by a key.

Samplers, datasets and collate functions draw from them. A key that says what a draw is for makes the draw the
same after a restart, with nothing to save.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

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
    of_torch, of_numpy, of_python = torch.get_rng_state(), np.random.get_state(), random.getstate()
    seed_all(key)
    try:
        yield
    finally:
        torch.set_rng_state(of_torch)
        np.random.set_state(of_numpy)
        random.setstate(of_python)
