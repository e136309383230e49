"""A real Slurm on one machine: four nodes with eight fake A100s each, and accounting.

``python3 slurm/devcluster up``, and ``python3 slurm/devcluster --help`` for the rest. Standard library only,
so that it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import cluster
import daemons
import packages
from layout import DEFAULT_NAME, ClusterError, Settings, default_dir, load, refuse_odd

NUMBERS = {
    "--ports-from": ("ports_from", "first of six ports in a row (default 17000)"),
    "--kill-wait": ("kill_wait_s", "seconds between TERM and KILL (default 5)"),
    "--grace": ("grace_s", "seconds that a preempted job has (default 20)"),
    "--min-job-age": ("min_job_age_s", "seconds until Slurm forgets a finished job (default 60)"),
    "--slurmd-timeout": ("slurmd_timeout_s", "seconds until a silent node is down (default 10)"),
}


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default=DEFAULT_NAME, help=f"the cluster's name (default {DEFAULT_NAME})")
    common.add_argument("--dir", help=f"where it keeps everything (default {default_dir('NAME')})")
    program = argparse.ArgumentParser(
        prog="python3 slurm/devcluster", description=(__doc__ or "").split("\n")[0]
    )
    verbs = program.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, what: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=what, description=what, parents=[common])

    bring_up = verb("up", "install what is missing, start what does not run, wait until the nodes are idle")
    bring_up.add_argument("--no-accounting", dest="accounting", action="store_false", default=None)
    for flag, (field, text) in NUMBERS.items():
        bring_up.add_argument(flag, dest=field, type=int, metavar="N", help=text)
    take_down = verb("down", "cancel the jobs, stop the daemons, remove the directory")
    take_down.add_argument(
        "--keep", action="store_true", help="keep the directory with its logs and job history"
    )
    take_down.add_argument("--after", type=int, metavar="PID", help="wait until this process is gone")
    verb("status", "say which daemons run and what the nodes do; exit code 0 when all is well")
    verb("env", "print the line that points a shell at this cluster")
    verb("install", "install Debian's packages and start nothing")
    kill = verb("kill-node", "kill -9 a node's slurmd")
    kill.add_argument("node")
    kill.add_argument("--with-jobs", action="store_true", help="its tasks too, as when the machine dies")
    verb("start-node", "start a node's slurmd again").add_argument("node")
    return program


def wanted(arguments: argparse.Namespace) -> Settings:
    """Return the settings asked for; those of the cluster that is there already, where it is."""
    directory = str(Path(arguments.dir or default_dir(arguments.name)).absolute())
    fields = ["accounting", *(field for field, _ in NUMBERS.values())]
    given = {field: getattr(arguments, field) for field in fields if getattr(arguments, field) is not None}
    there = load(directory)
    if there and replace(there, **given) != there:
        raise ClusterError(f"the cluster in {directory} has other settings; take it down first")
    settings = there or Settings(directory, name=arguments.name, **given)
    refuse_odd(settings)
    return settings


def existing(arguments: argparse.Namespace) -> Settings:
    directory = str(Path(arguments.dir or default_dir(arguments.name)).absolute())
    settings = load(directory)
    if settings is None:
        raise ClusterError(f"there is no cluster in {directory}; start one: make cluster-up")
    return settings


def install(*, accounting: bool) -> None:
    absent = packages.missing(accounting=accounting)
    if absent:
        cluster.say("packages", " ".join(absent))
        packages.install(absent)


def up(arguments: argparse.Namespace) -> int:
    settings = wanted(arguments)
    install(accounting=settings.accounting)
    cluster.up(settings)
    flag = "" if settings.dir == default_dir(DEFAULT_NAME) else f" --dir {settings.dir}"
    if not cluster.is_linked(settings):
        cluster.say("next", f'eval "$(python3 slurm/devcluster env{flag})"')
    cluster.say("next", f"sinfo; make submit CASE=crypto; python3 slurm/devcluster down{flag}")
    return 0


def down(arguments: argparse.Namespace) -> int:
    if arguments.after:
        daemons.wait_for(lambda: daemons.start_time(arguments.after) is None, timeout_s=math.inf)
    try:
        settings = existing(arguments)
    except ClusterError:
        cluster.say("down", "it was not up")
        return 0
    cluster.down(settings, keep=arguments.keep)
    return 0


def status(arguments: argparse.Namespace) -> int:
    settings = existing(arguments)
    pids = {name: daemons.running_pid(settings, name) for name in settings.daemons}
    states = cluster.node_states(settings)
    for name, pid in pids.items():
        state = states.get(name.removeprefix("slurmd-"), "")
        sys.stdout.write(f"{name:<15} {f'pid {pid}' if pid else 'dead':<12} {state}".rstrip() + "\n")
    return 0 if all(pids.values()) and cluster.is_ready(settings) else 1


def act(arguments: argparse.Namespace) -> int:
    """Carry out one verb and return the exit code."""
    if arguments.verb in ("up", "down", "status"):
        return {"up": up, "down": down, "status": status}[arguments.verb](arguments)
    if arguments.verb == "install":
        install(accounting=True)
    elif arguments.verb == "env":
        sys.stdout.write(f"export SLURM_CONF={shlex.quote(str(existing(arguments).slurm_conf))}\n")
    elif arguments.verb == "kill-node":
        cluster.kill_node(existing(arguments), arguments.node, with_jobs=arguments.with_jobs)
    else:
        cluster.start_node(existing(arguments), arguments.node)
    return 0


def main() -> int:
    try:
        return act(parser().parse_args())
    except ClusterError as error:
        sys.stderr.write(f"devcluster: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
