"""Which samples a step takes: an endless sequence of epochs, each in a random order of its own."""

from __future__ import annotations

import threading

import numpy as np

from stockpred.data.arrays import Ints

KEPT_ORDERS = 4


class ShuffledEpochs:
    """Epochs over ``num_samples`` samples; the order of each depends on (seed, its number) alone.

    Several threads may ask at once, for any positions in any order.
    """

    def __init__(self, num_samples: int, seed: int) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self._orders: dict[int, Ints] = {}
        self._lock = threading.Lock()

    def samples(self, first: int, count: int) -> Ints:
        """Return the samples [count] at positions first .. first+count-1 of the sequence."""
        number, within = np.divmod(np.arange(first, first + count), self.num_samples)
        samples = np.empty(count, np.int64)
        for one in np.unique(number):
            samples[number == one] = self._order(int(one))[within[number == one]]
        return samples

    def _order(self, number: int) -> Ints:
        """Return the permutation of epoch ``number``; the last few that were made are kept."""
        with self._lock:
            if number not in self._orders:
                while len(self._orders) >= KEPT_ORDERS:
                    del self._orders[next(iter(self._orders))]
                self._orders[number] = np.random.default_rng([self.seed, number]).permutation(
                    self.num_samples
                )
            return self._orders[number]
