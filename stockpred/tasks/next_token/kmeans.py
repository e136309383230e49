"""k-means with the same bits in every run: k-means++ seeds, Lloyd's steps, fixed block sizes.

D. Arthur, S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007. Shape suffixes: N
points, K centroids, F features. All blocks have one shape, so that a point's nearest centroid does not depend
on how many points are asked about at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

BLOCK_CELLS = 1 << 20  # distances held at once: they stay in the processor's cache
MAX_STEPS = 40
SETTLED_SHARE = 1e-3  # stop once fewer points than this change their centroid


def fit(points_NF: Points, num_centroids: int, seed: int) -> Points:
    """Return [K, F] centroids; ``points_NF`` must hold at least K distinct points."""
    centroids = _seeds(points_NF, num_centroids, np.random.default_rng(seed))
    labels = nearest(points_NF, centroids)
    for _ in range(MAX_STEPS):
        centroids = _means(points_NF, labels, centroids)
        before, labels = labels, nearest(points_NF, centroids)
        if np.count_nonzero(labels != before) <= SETTLED_SHARE * len(points_NF):
            break
    return centroids


def nearest(points_NF: Points, centroids_KF: Points) -> Labels:
    """Return the index of each point's nearest centroid; the lower index where two are equally near."""
    num_points, num_features = points_NF.shape
    block = max(BLOCK_CELLS // len(centroids_KF), 16)
    # |x - c|^2 = |x|^2 + |c|^2 - 2 x.c; |x|^2 is the same for all c.
    weights = np.vstack([-2 * centroids_KF.T, np.square(centroids_KF).sum(axis=1)]).astype(np.float32)
    padded = np.ones((block, num_features + 1), np.float32)
    distance = np.empty((block, len(centroids_KF)), np.float32)
    labels = np.empty(num_points, np.int64)
    for start in range(0, num_points, block):
        part = points_NF[start : start + block]
        padded[: len(part), :num_features] = part
        np.matmul(padded, weights, out=distance)
        labels[start : start + block] = distance.argmin(axis=1)[: len(part)]
    return labels


def _seeds(points_NF: Points, num_centroids: int, rng: np.random.Generator) -> Points:
    """Draw seeds, each with a chance that grows with its squared distance from the seeds before it."""
    chosen = np.empty((num_centroids, points_NF.shape[1]), np.float32)
    chosen[0] = points_NF[rng.integers(len(points_NF))]
    columns = np.ascontiguousarray(points_NF.T)
    distance = _squared_distance(columns, chosen[0])
    for place in range(1, num_centroids):
        reach = np.cumsum(distance, dtype=np.float64)
        drawn = int(np.searchsorted(reach, rng.random() * reach[-1], side="right"))
        chosen[place] = points_NF[min(drawn, len(points_NF) - 1)]
        np.minimum(distance, _squared_distance(columns, chosen[place]), out=distance)
    return chosen


def _squared_distance(columns_FN: Points, point_F: Points) -> Points:
    total = np.zeros(columns_FN.shape[1], np.float32)
    for column, value in zip(columns_FN, point_F, strict=True):
        total += np.square(column - value)
    return total


def _means(points_NF: Points, labels: Labels, centroids_KF: Points) -> Points:
    """Move centroids to the mean of their points; one without points goes to the most distant point."""
    num_centroids, num_features = centroids_KF.shape
    counts = np.bincount(labels, minlength=num_centroids)
    sums = [np.bincount(labels, points_NF[:, f], num_centroids) for f in range(num_features)]
    means = (np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]).astype(np.float32)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        error = np.square(points_NF - centroids_KF[labels]).sum(axis=1)
        means[empty] = points_NF[np.argsort(-error, kind="stable")[: len(empty)]]
    return means
