"""The random generators that a person's loader holds: in its attributes, its samplers' and its dataset's."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils.data import Sampler

from hpc.base.errors import UserError

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
States = dict[str, Any]
"""By the place of a generator, its state as plain numbers in lists and dicts, which a checkpoint can hold."""
HOLDERS = ("sampler", "dataset")
"""How attributes are called that hold generators in turn."""


class Sources:
    """The generators that a loader holds; ``name`` is what the person calls it."""

    def __init__(self, loader: Any, name: str) -> None:
        self.name = name
        self.generators = _found(loader, name)

    def states(self) -> States:
        return {place: _state(generator) for place, generator in self.generators.items()}

    def set(self, states: Mapping[str, Any]) -> None:
        """Set every generator. Raises UserError for the states of other generators."""
        try:
            if states.keys() != self.generators.keys():
                held, given = (", ".join(places) or "none" for places in (self.generators, states))
                raise ValueError(f"{given} then, {held} now")
            for place, generator in self.generators.items():
                _set_state(generator, states[place])
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise UserError(
                f"this training began with other random generators in its loader: {error}",
                where=self.name,
                fix="give the loader as it was, or another checkpoint_dir",
            ) from error

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Leave the generators after the body as they were before it."""
        before = self.states()
        try:
            yield
        finally:
            self.set(before)


def _found(loader: Any, name: str) -> dict[str, Generator]:
    found: dict[str, Generator] = {}
    seen: set[int] = set()
    coming = [(name, loader)]
    while coming:
        place, value = coming.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Generator) and not isinstance(value, random.SystemRandom):
            found[place] = value
        elif value is loader or isinstance(value, Sampler) or place.endswith(HOLDERS):
            coming += [(f"{place}.{key}", held) for key, held in getattr(value, "__dict__", {}).items()]
    return found


def _state(generator: Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state().tolist()
    if isinstance(generator, random.Random):
        version, numbers, gauss = generator.getstate()
        return [version, list(numbers), gauss]
    state: Any = (
        generator.bit_generator.state
        if isinstance(generator, np.random.Generator)
        else generator.get_state(legacy=False)
    )
    return pytree.tree_map_only(np.ndarray, np.ndarray.tolist, state)


def _set_state(generator: Generator, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(torch.tensor(state, dtype=torch.uint8))
    elif isinstance(generator, random.Random):
        version, numbers, gauss = state
        generator.setstate((version, tuple(numbers), gauss))
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)
