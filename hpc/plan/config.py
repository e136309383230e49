"""A case's configuration: five layers laid over one another, each value knowing where it came from.

``cases/_base/config.yaml`` < ``cases/NAME/config.yaml`` < ``slurm/clusters/CLUSTER.yaml`` (resources only)
< the chosen preset < ``key.path=value`` on the command line. This package reads ``resources``, ``retry`` and
``array``; the other sections belong to the training program, which checks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.base import text, yamlfile
from hpc.base.errors import UserError, raise_all
from hpc.base.yamlfile import Leaf, Tree
from hpc.plan.program import Problem
from hpc.plan.resources import Array, Resources, Retry

TABLE = "table"
"""The preset that every case has: its own configuration, as it stands."""

DATA_DIR = "data.dir"
"""The one setting of the training program that the launcher knows: where the data lies on this machine."""

BASE = "cases/_base/config.yaml"
EXTENDS = "extends"
"""The key by which a case names the layer of cases/_base that its kind of experiment starts from."""

OWN_SECTIONS = ("resources", "retry", "array")


@dataclass(frozen=True)
class Config:
    """A case as resolved. ``tree`` keeps every value as typed, with its origin."""

    case: str
    preset: str
    cluster: str | None
    resources: Resources
    retry: Retry
    array: Array
    tree: dict[str, Tree]

    @property
    def experiment(self) -> dict[str, Any]:
        """The sections that belong to the training program, as plain text."""
        return _experiment(self.tree)

    def origin(self, key: str) -> str | None:
        """Return where a dotted key was set: ``cases/crypto/config.yaml:14`` or ``command line``."""
        return yamlfile.origin_of(self.tree, key)

    def value(self, key: str) -> str | None:
        """Return a scalar as typed, None where it is nothing or not there."""
        node = _at(self.tree, key)
        return node.text if isinstance(node, Leaf) else None

    def dump(self) -> str:
        """Return the text of a run's config.yaml: every value as typed, its origin beside it."""
        return yamlfile.dump(self.tree, with_origins=True)


def case_names(root: Path) -> list[str]:
    """Return the cases of a workspace: the directories under cases/ that hold a config.yaml."""
    found = (path.parent.name for path in (root / "cases").glob("*/config.yaml"))
    return sorted(name for name in found if not name.startswith("_"))


def preset_names(root: Path, case: str) -> list[str]:
    """Return the presets of a case, the table first."""
    tree, _ = _case_layers(root, case)
    return [TABLE, *_mapping(tree.get("presets"))]


def cluster_names(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "slurm" / "clusters").glob("*.yaml"))


def resolve(
    root: Path,
    case: str,
    *,
    preset: str = TABLE,
    overrides: Sequence[str] = (),
    cluster: str | None = None,
) -> Config:
    """Lay the layers over one another and check the launcher's sections; raise every problem at once.

    The other sections are the training program's; ``errors_of`` turns what it has against them into errors.
    """
    tree, problems = _case_layers(root, case)
    cluster_tree, cluster_problems = _cluster_layer(root, cluster)
    raise_all(problems + cluster_problems)
    presets = tree.pop("presets", {})
    preset_tree, problems = _preset_layer(case, presets, preset)
    layered = yamlfile.merge(yamlfile.merge(tree, cluster_tree), preset_tree)
    resolved, override_problems = _with_overrides(layered, overrides, root)
    resources, resource_problems = yamlfile.validate(
        Resources, resolved.get("resources", {}), section="resources"
    )
    retry, retry_problems = yamlfile.validate(Retry, resolved.get("retry", {}), section="retry")
    array, array_problems = yamlfile.validate(Array, resolved.get("array", {}), section="array")
    raise_all(problems + override_problems + resource_problems + retry_problems + array_problems)
    assert resources is not None
    assert retry is not None
    assert array is not None
    return Config(case, preset, cluster, resources, retry, array, resolved)


def errors_of(config: Config, problems: Sequence[Problem]) -> list[UserError]:
    """Return what the training program has against a case as errors with their places."""
    return [
        _experiment_problem(config.tree, config.case, problem)
        for problem in problems
        if not _follows(problem, problems)
    ]


def require_key(config: Config, key: str, root: Path) -> None:
    """Raise UserError unless some layer of the case states a value for ``key``."""
    problem = _unknown_key(config.tree, yamlfile.parse_override(f"{key}=1"), root)
    if problem:
        raise problem


def _case_layers(root: Path, case: str) -> tuple[dict[str, Tree], list[UserError]]:
    """Return base and case merged, and what could not be read or is in no known section."""
    names = case_names(root)
    if case not in names:
        raise UserError(
            f"there is no case {case!r}", where=str(root / "cases"), fix=text.suggestion(case, names)
        )
    base, problems = _loaded(root, BASE)
    own, own_problems = _loaded(root, f"cases/{case}/config.yaml")
    kind, kind_problems = _extended(root, own.pop(EXTENDS, None))
    base, problems = yamlfile.merge(base, kind), problems + kind_problems
    if not problems:
        sections = {*base, "presets", *OWN_SECTIONS}
        own_problems += _unknown_sections(own, sections)
        for tree in _mapping(own.get("presets")).values():
            own_problems += _unknown_sections(_mapping(tree), sections - {"presets"})
    return yamlfile.merge(base, own), problems + own_problems


def _extended(root: Path, wanted: Tree) -> tuple[dict[str, Tree], list[UserError]]:
    """Return the layer that a case extends; none where it names none."""
    if not isinstance(wanted, Leaf) or wanted.text is None:
        return {}, []
    known = sorted(path.stem for path in (root / BASE).parent.glob("*.yaml") if path.name != Path(BASE).name)
    if wanted.text in known:
        return _loaded(root, f"{Path(BASE).parent}/{wanted.text}.yaml")
    what = f"there is no {wanted.text!r} to extend in {Path(BASE).parent}"
    return {}, [UserError(what, where=wanted.origin, fix=text.suggestion(wanted.text, known))]


def _cluster_layer(root: Path, cluster: str | None) -> tuple[dict[str, Tree], list[UserError]]:
    if cluster is None:
        return {}, []
    names = cluster_names(root)
    if cluster not in names:
        fix = text.suggestion(cluster, names) if names else "write slurm/clusters/NAME.yaml"
        return {}, [
            UserError(f"there is no cluster {cluster!r}", where=str(root / "slurm/clusters"), fix=fix)
        ]
    tree, problems = _loaded(root, f"slurm/clusters/{cluster}.yaml")
    return tree, problems + _unknown_sections(tree, {"resources"})


def _preset_layer(case: str, presets: Tree, preset: str) -> tuple[dict[str, Tree], list[UserError]]:
    known = _mapping(presets)
    if preset == TABLE or preset in known:
        return _mapping(known.get(preset)), []
    fix = text.suggestion(preset, [TABLE, *known])
    return {}, [UserError(f"case {case!r} has no preset {preset!r}", where=yamlfile.COMMAND_LINE, fix=fix)]


def _free_sections(root: Path) -> set[str]:
    base, _ = _loaded(root, BASE)
    return {key for key in _keys(base) if _at(base, key) == {}}


def _with_overrides(
    tree: dict[str, Tree], overrides: Sequence[str], root: Path
) -> tuple[dict[str, Tree], list[UserError]]:
    problems: list[UserError] = []
    for override in overrides:
        try:
            over = yamlfile.parse_override(override)
        except UserError as error:
            problems.append(error)
            continue
        problem = _unknown_key(tree, over, root)
        if problem:
            problems.append(problem)
        else:
            tree = yamlfile.merge(tree, over)
    return tree, problems


def _unknown_key(tree: dict[str, Tree], over: Tree, root: Path) -> UserError | None:
    """Say what is wrong with an override's key: it must name a value that some layer states.

    Sections that cases/_base leaves empty, such as ``resources.extra: {}``, take any key.
    """
    problem = _unstated_key(tree, over)
    if problem is None:
        return None
    (key, *_) = _keys(over)
    return None if any(key.startswith(f"{section}.") for section in _free_sections(root)) else problem


def _unstated_key(tree: dict[str, Tree], over: Tree) -> UserError | None:
    node: Tree = tree
    key = ""
    while isinstance(over, dict) and isinstance(node, dict):
        part, over = next(iter(over.items()), ("", None))
        key = f"{key}.{part}".strip(".")
        if part not in node:
            fix = text.suggestion(key, _keys(tree))
            return UserError(f"there is no key {key!r}", where=yamlfile.COMMAND_LINE, fix=fix)
        node = node[part]
    if isinstance(node, dict):
        what = f"{key} is a section, not a value"
        return UserError(what, where=yamlfile.COMMAND_LINE, fix=f"set one of: {', '.join(node)}")
    if isinstance(over, dict):
        return UserError(
            f"{key} is a value, not a section", where=yamlfile.COMMAND_LINE, fix=f"write {key}=VALUE"
        )
    return None


def _at(tree: Tree, key: str) -> Tree:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _keys(tree: Tree, prefix: str = "") -> list[str]:
    if not isinstance(tree, dict) or not tree:
        return [prefix]
    return [key for name, value in tree.items() for key in _keys(value, f"{prefix}.{name}".strip("."))]


def _experiment_problem(tree: dict[str, Tree], case: str, problem: Problem) -> UserError:
    where = yamlfile.origin_of(tree, problem.key)
    if where and where.startswith(f"{Path(BASE).parent}/") and _at(tree, problem.key) == Leaf(None, where):
        fix = f"add a line `{problem.key.rpartition('.')[2]}: ...`"
        return UserError(f"{problem.key} is not set", where=f"cases/{case}/config.yaml", fix=fix)
    return UserError(f"{problem.key}: {problem.what}", where=where, fix=problem.fix)


def _follows(problem: Problem, problems: Sequence[Problem]) -> bool:
    """Say whether a value is only missing because its key is misspelt, which is reported already."""
    section, _, name = problem.key.rpartition(".")
    return any(
        other is not problem and other.key.rpartition(".")[0] == section and repr(name) in (other.fix or "")
        for other in problems
    )


def _experiment(tree: dict[str, Tree]) -> dict[str, Any]:
    return {name: yamlfile.plain(value) for name, value in tree.items() if name not in OWN_SECTIONS}


def _unknown_sections(tree: dict[str, Tree], known: set[str]) -> list[UserError]:
    return [
        UserError(
            f"there is no section {name!r}",
            where=yamlfile.origin_of(tree, name),
            fix=text.suggestion(name, known),
        )
        for name in tree
        if name not in known
    ]


def _loaded(root: Path, name: str) -> tuple[dict[str, Tree], list[UserError]]:
    try:
        return yamlfile.load(root / name, shown_as=name), []
    except UserError as error:
        return {}, [error]


def _mapping(tree: Tree) -> dict[str, Tree]:
    return tree if isinstance(tree, dict) else {}
