"""The order of samples: the same for any asker, thread and moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from stockpred.data.epochs import ShuffledEpochs


def test_each_pass_holds_every_sample_once_in_another_order() -> None:
    passes = ShuffledEpochs(num_samples=7, seed=3)
    places = passes.samples(0, 70).reshape(10, 7)
    assert all(sorted(one) == list(range(7)) for one in places)
    assert len({tuple(one) for one in places}) == 10


def test_the_order_of_a_pass_is_numpys_permutation_of_seed_and_number() -> None:
    expected = np.random.default_rng([3, 4]).permutation(11)
    np.testing.assert_array_equal(ShuffledEpochs(num_samples=11, seed=3).samples(44, 11), expected)


def test_threads_that_ask_far_apart_get_what_one_asker_gets() -> None:
    alone = ShuffledEpochs(num_samples=5, seed=1)
    expected = [ShuffledEpochs(5, 1).samples(7 * step, 7) for step in range(400)]
    shared = ShuffledEpochs(num_samples=5, seed=1)
    asked = np.random.default_rng(0).permutation(400)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda step: shared.samples(7 * int(step), 7), asked))
    for step, samples in zip(asked, found, strict=True):
        np.testing.assert_array_equal(samples, expected[step])
        np.testing.assert_array_equal(samples, alone.samples(7 * int(step), 7))
