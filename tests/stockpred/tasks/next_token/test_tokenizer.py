from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from hpc.base.errors import UserError
from stockpred.tasks.next_token import features, kmeans, tokenizer
from stockpred.tasks.next_token.tokenizer import Tokenizer


def _features(count: int = 4000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.standard_t(4, (count, 5))
    values[:, 2:4] = np.abs(values[:, 2:4]) * 0.5
    return values


def _fit(values: np.ndarray, vocab_size: int = 64, **changes: int) -> Tokenizer:
    settings = {"seed": 0, "max_fit_bars": 10**6} | changes
    return tokenizer.fit(values, vocab_size=vocab_size, clip=5.0, **settings)


@pytest.fixture(scope="module")
def fitted() -> Tokenizer:
    return _fit(_features())


def test_nearest_agrees_with_the_definition() -> None:
    rng = np.random.default_rng(0)
    points, centroids = rng.standard_normal((500, 5)), rng.standard_normal((70, 5))
    distance = np.square(points[:, None] - centroids[None]).sum(axis=2)
    found = kmeans.nearest(points.astype(np.float32), centroids.astype(np.float32))
    np.testing.assert_array_equal(found, distance.argmin(axis=1))


def test_a_token_does_not_depend_on_its_company(fitted: Tokenizer) -> None:
    values = _features(50_000, seed=1)
    whole = fitted.encode(values)
    for start, end in ((0, 1), (7, 8), (100, 33_333), (49_990, 50_000)):
        np.testing.assert_array_equal(fitted.encode(values[start:end]), whole[start:end])


def test_k_means_is_as_good_as_scipys(fitted: Tokenizer) -> None:
    points = fitted.standardise(_features()).astype(np.float64)
    rivals = [kmeans2(points, 64, minit="++", seed=seed, iter=30) for seed in range(3)]
    rival = min(np.square(points - centroids[labels]).sum() for centroids, labels in rivals)
    own = np.square(
        points - fitted.centroids[kmeans.nearest(points.astype(np.float32), fitted.centroids)]
    ).sum()
    assert own < 1.02 * rival


def test_separate_clusters_are_found_exactly() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[x, y, 0, 0, 0] for x in range(-2, 3) for y in range(-2, 3)], float) * 10
    points = (centres.repeat(40, axis=0) + 0.01 * rng.standard_normal((1000, 5))).astype(np.float32)
    found = kmeans.fit(points, 25, seed=1)
    np.testing.assert_allclose(sorted(map(tuple, np.round(found))), sorted(map(tuple, centres)), atol=1e-6)


def test_every_process_fits_the_same_bits(fitted: Tokenizer, tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from stockpred.tasks.next_token import tokenizer\n"
        "values = np.load(sys.argv[1])\n"
        "t = tokenizer.fit(values, vocab_size=64, clip=5.0, seed=0, max_fit_bars=10**6)\n"
        "Path(sys.argv[2]).write_text(t.to_json())"
    )
    np.save(tmp_path / "values.npy", _features())
    arguments = [str(tmp_path / "values.npy"), str(tmp_path / "tokenizer.json")]
    root = Path(__file__).resolve().parents[4]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=environment)
    np.testing.assert_array_equal(Tokenizer.load(tmp_path / "tokenizer.json").centroids, fitted.centroids)


def test_the_file_keeps_every_bit(fitted: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(fitted.to_json())
    read = Tokenizer.load(path)
    for name in ("centroids", "log_unigram", "mean", "scale"):
        ours, theirs = getattr(fitted, name), getattr(read, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert read.clip == fitted.clip
    (tmp_path / "again.json").write_text(read.to_json())
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    for content in ("", "[]", json.dumps({"format": 99})):
        path.write_text(content)
        with pytest.raises(UserError, match="not a tokenizer"):
            Tokenizer.load(path)


def test_decoding_returns_to_the_same_token(fitted: Tokenizer) -> None:
    tokens = np.arange(fitted.vocab_size)
    np.testing.assert_array_equal(fitted.encode(fitted.decode(tokens)), tokens)


def test_every_token_decodes_to_a_valid_candle(fitted: Tokenizer) -> None:
    decoded = fitted.decode(np.arange(64))
    candles = features.to_candles(decoded, np.full(64, 100.0), np.full(64, 0.02))
    assert (candles["low"] <= np.minimum(candles["open"], candles["close"])).all()
    assert (candles["high"] >= np.maximum(candles["open"], candles["close"])).all()
    np.testing.assert_allclose(np.log(candles["close"] / 100), fitted.close_return_z * 0.02, rtol=1e-5)


def test_more_tokens_lose_less() -> None:
    values = _features()
    errors = []
    for vocab_size in (16, 64, 256):
        own = _fit(values, vocab_size)
        errors.append(np.abs(own.standardise(values) - own.centroids[own.encode(values)]).mean())
    assert errors[0] > 1.2 * errors[1] > 1.4 * errors[2]


def test_frequencies_are_counted_with_one_more_each(fitted: Tokenizer) -> None:
    counts = np.bincount(fitted.encode(_features()), minlength=64) + 1
    np.testing.assert_allclose(np.exp(fitted.log_unigram.astype(float)), counts / counts.sum(), rtol=1e-6)


def test_a_feature_that_never_moves_takes_no_tokens() -> None:
    values = _features()
    values[:, 1] = 1e-9 * np.random.default_rng(0).standard_normal(len(values))
    own = _fit(values)
    assert np.abs(own.standardise(values)[:, 1]).max() < 1e-6


def test_more_tokens_than_candles_are_refused() -> None:
    values = np.repeat(_features(10), 50, axis=0)
    with pytest.raises(UserError, match="vocab_size 64 is larger than the 10 distinct candles"):
        _fit(values)


def test_a_sample_of_bars_is_enough_to_fit() -> None:
    own = _fit(_features(20_000), max_fit_bars=2000)
    assert own.vocab_size == 64
    assert np.exp(own.log_unigram.astype(float)).sum() == pytest.approx(1.0, abs=1e-5)
