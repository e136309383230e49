"""Any model by its name: ``get_model('mlp')(config)``."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from hpc.base import yamlfile
from hpc.base.errors import UserError, raise_all
from hpc.base.yamlfile import Leaf, Tree
from stockpred.config import registry
from stockpred.config.base import ModelConfig
from stockpred.config.registry import MODELS
from stockpred.data import universe
from stockpred.data.universe import Universe
from stockpred.library.configuration import Config
from stockpred.tasks.next_token.tokenizer import FEATURES, Tokenizer

GIVEN = "get_model"


def get_model(name: str) -> ModelBuilder:
    """Return what builds the model of a file in stockpred/models; raise UserError with the nearest name."""
    return ModelBuilder(name, registry.load(MODELS, name))


@dataclass(frozen=True)
class ModelBuilder:
    """Builds one architecture: ``get_model('mlp')(config, num_features=5)``."""

    name: str
    module: ModuleType

    def __call__(self, config: Config | Mapping[str, Any], **sizes: Any) -> nn.Module:
        """Return a new model with random weights.

        ``config`` is a ``Config``, or a dict of the same form; its section ``model`` holds the settings. What
        the data decide (``num_features`` and so on) is taken from ``sizes``, from that section, or from what
        the file says about its data. Raises one UserError for everything that is missing or wrong.
        """
        config = config if isinstance(config, Config) else Config(_as_tree(config), Path())
        wanted = _sizes_of(self.module)
        if unknown := sorted(sizes.keys() - wanted):
            fix = f"it takes {', '.join(wanted)}"
            raise UserError(f"{self.name} does not take {', '.join(unknown)}", where=GIVEN, fix=fix)
        settings, problems = yamlfile.validate(*self._settings(config, wanted), section="model")
        raise_all(problems)
        values = {name: self._size(name, sizes, config) for name in wanted}
        model: nn.Module = self.module.build(settings, **values)
        return model

    def _settings(self, config: Config, wanted: Collection[str]) -> tuple[type[ModelConfig], Tree]:
        """Return the schema that ``build`` declares and its values; what may be None may be left out."""
        schema: type[ModelConfig] = typing.get_type_hints(self.module.build)["config"]
        fields = schema.model_fields
        tree = {
            name: Leaf(None, GIVEN)
            for name, field in fields.items()
            if type(None) in typing.get_args(field.annotation)
        }
        is_section = "model" in config.tree  # a flat file may say much else
        for key, value in _section(config).items():
            if key in fields or (is_section and key not in wanted):
                tree[key] = value
        return schema, {**tree, "name": Leaf(self.name, GIVEN)}

    def _size(self, name: str, sizes: Mapping[str, Any], config: Config) -> Any:
        if name in sizes:
            return sizes[name]
        section = Config(_section(config), config.path)
        if name in section:
            return section[name]
        found = FROM_DATA[name](config) if name in FROM_DATA else None
        if found is None:
            raise UserError(
                f"{name} of {self.name} is not known",
                where=f"model.{name}",
                fix=f"write model.{name} into the file, or get_model({self.name!r})(config, {name}=...)",
            )
        return found


def _section(config: Config) -> dict[str, Tree]:
    section = config.tree.get("model", config.tree)
    return section if isinstance(section, dict) else {}


def _sizes_of(module: ModuleType) -> tuple[str, ...]:
    """Return what ``build`` must know about the data: its keyword-only parameters."""
    parameters = inspect.signature(module.build).parameters.values()
    needed = (parameter for parameter in parameters if parameter.default is inspect.Parameter.empty)
    return tuple(parameter.name for parameter in needed if parameter.kind is inspect.Parameter.KEYWORD_ONLY)


def _num_features(config: Config) -> int | None:
    """Return the features of the asset's category, or of all categories where they have equally many."""
    features = _at(config, "series.features")
    if not features:
        return None
    assets = _universe(config)
    categories = assets.categories if assets and _at(config, "data.symbol") else tuple(features)
    counts = {len(features[category]) for category in categories if category in features}
    return counts.pop() if len(counts) == 1 else None


def _num_assets(config: Config) -> int | None:
    assets = _universe(config)
    return len(assets.assets) if assets else None


def _num_categories(config: Config) -> int | None:
    assets = _universe(config)
    return len(assets.categories) if assets else None


def _centroids(config: Config) -> Tensor | None:
    """Return the candles of a run's tokenizer; without one, random candles in standardised units."""
    tokenizer = _tokenizer(config)
    if tokenizer is not None:
        return torch.from_numpy(tokenizer.centroids)
    vocab_size = _vocab_size(config)
    if vocab_size is None:
        return None
    return torch.randn(vocab_size, len(FEATURES), generator=torch.Generator().manual_seed(0))


def _log_prior(config: Config) -> Tensor | None:
    """Return the tokens' log frequencies; without a tokenizer all are alike."""
    tokenizer = _tokenizer(config)
    if tokenizer is not None:
        return torch.from_numpy(tokenizer.log_unigram)
    vocab_size = _vocab_size(config)
    return None if vocab_size is None else torch.full((vocab_size,), float(vocab_size)).log().neg()


FROM_DATA: dict[str, Callable[[Config], Any]] = {
    "num_features": _num_features,
    "num_assets": _num_assets,
    "num_categories": _num_categories,
    "centroids": _centroids,
    "log_prior": _log_prior,
}
"""What a file says about its data, by the name of ``build``'s parameter."""


def _universe(config: Config) -> Universe | None:
    """Return the assets of ``data.universe``, a path from the workspace that the file lies in."""
    name = _at(config, "data.universe")
    if name is None:
        return None
    roots = [Path(), *config.path.resolve().parents]
    path = next((root / name for root in roots if (root / name).is_file()), Path(name))
    return universe.read(path).restricted_to(_at(config, "data.symbol"))


def _tokenizer(config: Config) -> Tokenizer | None:
    path = config.path.parent / "tokenizer.json"
    return Tokenizer.load(path) if path.is_file() else None


def _vocab_size(config: Config) -> int | None:
    size = _at(config, "tokenizer.vocab_size")
    return size if isinstance(size, int) else None


def _at(config: Config, key: str) -> Any:
    """Return the value of a dotted key, None where the file says nothing."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Config) or part not in value:
            return None
        value = value[part]
    return value


def _as_tree(values: Mapping[str, Any]) -> dict[str, Tree]:
    return {str(key): _as_leaf(value) for key, value in values.items()}


def _as_leaf(value: Any) -> Tree:
    if isinstance(value, Mapping):
        return _as_tree(value)
    if isinstance(value, list | tuple):
        return [_as_leaf(item) for item in value]
    return Leaf(None if value is None else str(value), GIVEN)
