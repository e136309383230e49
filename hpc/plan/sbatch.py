"""The sbatch script: a case's template filled with what the plan decided, for dry run and submit."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from hpc.base.errors import UserError
from hpc.plan.resources import Resources

_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")
_MAX_WIDTH = 100


class Expanded(str):
    """A word that the shell fills in when the script runs; it brings its own quotes."""

    __slots__ = ()


@dataclass(frozen=True)
class Tasks:
    """The runs of an array: run ``n`` is task ``n``, and only those in ``chosen`` are submitted."""

    run_ids: tuple[str, ...]
    values: tuple[str, ...]
    chosen: tuple[int, ...]
    at_once: int | None

    @property
    def option(self) -> str:
        """Return what ``sbatch --array`` takes, such as ``0-2,5%4``."""
        limit = f"%{self.at_once}" if self.at_once else ""
        return f"{','.join(_ranges(self.chosen))}{limit}"


@dataclass(frozen=True)
class Script:
    """What a script depends on. ``run_dir`` is relative to ``root``; ``recipe`` makes the plan again.

    In an array, ``name`` is the array's and the run directory's name is only known to each task.
    """

    root: Path
    case: str
    name: str
    run_dir: str
    log: str
    resources: Resources
    recipe: tuple[str, ...]
    python: str
    tasks: Tasks | None = None


def render(templates: Path, script: Script) -> str:
    """Return the text of the sbatch script; raise UserError where the template cannot be filled."""
    name = f"cases/{script.case}/job.sbatch.j2"
    try:
        return _environment(templates).get_template(name).render(_context(script))
    except jinja2.TemplateNotFound as error:
        fix = 'write one line: {% extends "slurm/base.sbatch.j2" %}'
        raise UserError(f"there is no template {error.name}", where=name, fix=fix) from None
    except jinja2.TemplateSyntaxError as error:
        raise UserError(
            f"the template is broken: {error.message}",
            where=f"{error.name}:{error.lineno}",
            fix="mend this line; the syntax is Jinja2's, with <# and #> around comments",
        ) from None
    except jinja2.UndefinedError as error:
        fix = f"the template knows: {', '.join(sorted(_context(script)))}"
        raise UserError(
            f"the template asks for what is not there: {error.message}", where=name, fix=fix
        ) from None


def options(script: Script) -> list[str]:
    """Return the #SBATCH options in order; ``resources.extra`` has the last word on memory."""
    resources = script.resources
    found = [
        f"job-name=hpc-{script.case}-{script.name}",
        *([f"array={script.tasks.option}"] if script.tasks else []),
        *_given("partition", resources.partition),
        f"time={resources.limit}",
        f"nodes={resources.nodes}",
        f"ntasks-per-node={resources.gpus}",
        f"cpus-per-task={resources.cpus_per_gpu}",
        *_memory(resources),
        *_gpus(resources),
        *_given("account", resources.account),
        *_given("qos", resources.qos),
        *_given("constraint", resources.constraint),
        *_given("exclude", resources.exclude),
        "requeue" if resources.requeue else "no-requeue",
        "open-mode=append",
        f"output={script.log}",
        *([f"signal=USR2@{resources.signal_lead_s}"] if resources.gets_early_signal else []),
    ]
    if _PLAIN_PATH.fullmatch(str(script.root)):
        found.append(f"chdir={script.root}")
    return found + [
        name if value is None else f"{name}={shlex.quote(value)}" for name, value in resources.extra.items()
    ]


def _environment(templates: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="<#",  # ${#array} is bash, not a comment
        comment_end_string="#>",
    )
    environment.filters["quoted"] = _quoted
    environment.filters["wrapped"] = _wrapped
    return environment


def _context(script: Script) -> dict[str, Any]:
    resources = script.resources
    return {
        "options": options(script),
        "root": script.root,
        "case": script.case,
        "run_dir": script.run_dir,
        "tasks": script.tasks,
        "resources": resources,
        "num_threads": resources.cpus_per_gpu,
        "setup": resources.setup,
        "attempt": [script.python, "-m", "hpc", "attempt", *script.recipe],
        "train": [script.python, "-u", "-m", "stockpred", "train", _as_in(script, script.run_dir)],
    }


def _as_in(script: Script, word: str) -> str:
    """Return a word that names the run directory as the script writes it."""
    return Expanded(f'"{word}"') if script.tasks else word


def _quoted(word: object) -> str:
    return str(word) if isinstance(word, Expanded) else shlex.quote(str(word))


def _ranges(numbers: Sequence[int]) -> Iterator[str]:
    """Yield ``0-3`` for 0, 1, 2, 3 and ``5`` for a number alone."""
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        yield f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0])


def _wrapped(command: Sequence[str] | str) -> str:
    """Join a command's words for a shell, wrapped to a readable width.

    A list is quoted here; a text has a word on each line, quoted already.
    """
    words = command.split("\n") if isinstance(command, str) else [_quoted(word) for word in command]
    return " \\\n    ".join(_lines([word.strip() for word in words if word.strip()]))


def _lines(words: Sequence[str]) -> Iterator[str]:
    line = ""
    for word in words:
        if line and len(line) + len(word) > _MAX_WIDTH:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    yield line


def _given(name: str, value: str | None) -> list[str]:
    return [] if value is None else [f"{name}={shlex.quote(value)}"]


def _memory(resources: Resources) -> list[str]:
    """Return the one form in which memory is asked for: two of them at once are refused."""
    chosen = {"mem", "mem-per-cpu", "mem-per-gpu"} & set(resources.extra)
    return [] if chosen else [f"mem={resources.memory_gb_per_node}G"]


def _gpus(resources: Resources) -> list[str]:
    if resources.gpu_request == "none":
        return []
    kind = f"{resources.gpu_type}:" if resources.gpu_type else ""
    name = "gres=gpu:" if resources.gpu_request == "gres" else "gpus-per-node="
    return [f"{name}{kind}{resources.gpus}"]
