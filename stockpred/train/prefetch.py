"""Batches made ready ahead of time, in threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Values of a pure function of the step; ``num_workers`` threads work on the steps that come next.

    With 0 workers each value is made when it is asked for. Nothing is made ahead for ``end`` and beyond. An
    error is raised where the value of its step is asked for. The threads end with the ``with`` block.
    """

    def __init__(self, make: Callable[[int], T], *, num_workers: int, end: int) -> None:
        self.make = make
        self.num_workers = num_workers
        self.end = end
        self._coming: dict[int, Future[T]] = {}
        self._pool = ThreadPoolExecutor(num_workers, "batches") if num_workers else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._coming.clear()

    def __getitem__(self, step: int) -> T:
        """Return the value of ``step``, made as often as it is asked for."""
        if self._pool is None:
            return self.make(step)
        own = self._coming.pop(step, None) or self._pool.submit(self.make, step)
        for later in range(step + 1, min(step + 1 + self.num_workers, self.end)):
            if later not in self._coming:
                self._coming[later] = self._pool.submit(self.make, later)
        return own.result()
