"""Bring the cluster up stage by stage, and down again without a trace."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from string import Template

import daemons
import jobs
from layout import DEFAULT_NAME, NUM_GPUS, ClusterError, Settings, default_dir, save

HERE = Path(__file__).resolve().parent
SYSTEM_CONF = Path("/etc/slurm/slurm.conf")
READY_WITHIN_S = 120.0
USABLE = {"idle", "mixed", "allocated", "completing"}


def say(stage: str, text: str) -> None:
    sys.stderr.write(f"{stage:>15}  {text}\n")


def up(settings: Settings) -> None:
    """Start whatever of the cluster does not run yet, and wait until every node is usable."""
    began = time.monotonic()
    lay_out(settings)
    say("authentication", "munged")
    start_munge(settings)
    if settings.accounting:
        say("accounting", "mariadbd, slurmdbd")
        start_accounting(settings)
    say("controller", f"slurmctld on port {settings.ports[0]}")
    daemons.start(settings, "slurmctld", ["slurmctld", "-D", "-f", settings.slurm_conf])
    say("nodes", f"{len(settings.nodes)} slurmd, {NUM_GPUS} fake A100s each")
    for node in settings.nodes:
        start_node(settings, node)
    wait_until_ready(settings)
    link(settings)
    say("ready", f"after {time.monotonic() - began:.1f} s")


def lay_out(settings: Settings) -> None:
    """Write configuration, directories and devices; refuse what is not ours or what is taken."""
    root = settings.root
    if root.exists() and not settings.file.exists() and any(root.iterdir()):
        raise ClusterError(f"{root} holds something else; give another --dir")
    if daemons.running_pid(settings, "slurmctld") is None:
        refuse_taken_ports(settings)
    for name in (
        "run",
        "logs",
        "state",
        "munge",
        "database/data",
        *(f"spool/{node}" for node in settings.nodes),
    ):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, mode in ((".", 0o755), ("munge", 0o755), ("state", 0o700), ("database", 0o700)):
        (root / name).chmod(mode)
    save(settings)
    for name in ("slurm.conf", "gres.conf", "slurmdbd.conf"):
        text = Template((HERE / f"{name}.template").read_text()).substitute(settings.template_fields())
        (root / name).write_text(text)
    (root / "slurmdbd.conf").chmod(0o600)
    make_gpus(settings)


def refuse_taken_ports(settings: Settings) -> None:
    for port in settings.ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError as error:
                raise ClusterError(
                    f"port {port} is taken ({error.strerror}); give another --ports-from"
                ) from error


def make_gpus(settings: Settings) -> None:
    """Make the fake GPUs: Slurm wants character devices, and any will do."""
    for device in (settings.root / f"gpu{number}" for number in range(NUM_GPUS)):
        if device.exists():
            continue
        try:
            os.mknod(device, 0o020666, os.makedev(1, 3))
        except PermissionError:
            if device.name == "gpu0":
                say("devices", "mknod is not allowed here: links to /dev/null instead")
            device.symlink_to("/dev/null")


def start_munge(settings: Settings) -> None:
    home = settings.munge_socket.parent
    key = home / "key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
    command = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={settings.munge_socket}"]
    files = [f"--pid-file={home}/pid", f"--log-file={home}/log", f"--seed-file={home}/seed"]
    daemons.start(settings, "munged", [*command, *files], socket=settings.munge_socket)


def start_accounting(settings: Settings) -> None:
    """Start a database of our own and slurmdbd, and register the cluster, an account and the user."""
    home, user = settings.database_socket.parent, settings.template_fields()["user"]
    # No passwords: the socket lies in a directory that only its owner may enter, and there is no network.
    database = ["mariadbd", "--no-defaults", f"--user={user}", "--skip-networking", "--skip-grant-tables"]
    database += [f"--datadir={home}/data", f"--socket={settings.database_socket}", f"--pid-file={home}/pid"]
    daemons.start(settings, "mariadbd", database, socket=settings.database_socket)
    daemons.start(settings, "slurmdbd", ["slurmdbd", "-D"])
    if not daemons.wait_for(lambda: ask(settings, "sacctmgr", "-n", "show", "qos"), timeout_s=READY_WITHIN_S):
        raise ClusterError(f"slurmdbd does not answer; see {settings.log('slurmdbd')}")
    if not ask(settings, "sacctmgr", "-n", "show", "cluster", settings.name):
        ask(settings, "sacctmgr", "-i", "add", "cluster", settings.name)
        ask(settings, "sacctmgr", "-i", "add", "account", "research", "Description=research")
        ask(settings, "sacctmgr", "-i", "add", "user", user, "Account=research")


def start_node(settings: Settings, node: str) -> None:
    refuse_unknown(settings, node)
    daemons.start(settings, f"slurmd-{node}", ["slurmd", "-D", "-N", node, "-f", settings.slurm_conf])


def kill_node(settings: Settings, node: str, *, with_jobs: bool) -> None:
    """Kill a node's slurmd with -9. Step managers and tasks survive that, unless ``with_jobs``."""
    refuse_unknown(settings, node)
    daemons.stop(settings, f"slurmd-{node}", patience_s=0.0)
    if with_jobs:
        daemons.end(jobs.processes(settings, node=node), patience_s=0.0)


def refuse_unknown(settings: Settings, node: str) -> None:
    if node not in settings.nodes:
        raise ClusterError(f"there is no node {node!r}; use one of: {', '.join(settings.nodes)}")


def ask(settings: Settings, *command: str) -> str | None:
    """Return what a Slurm command prints; None when it fails."""
    try:
        answer = subprocess.run(
            command, env=settings.environment(), capture_output=True, text=True, timeout=20, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def node_states(settings: Settings) -> dict[str, str]:
    """Return each node's state as sinfo spells it; empty when the controller does not answer."""
    rows = (ask(settings, "sinfo", "-h", "-N", "-p", "long", "-o", "%N %T") or "").splitlines()
    return {node: state for node, state in (row.split() for row in rows)}


def is_ready(settings: Settings) -> bool:
    states = node_states(settings)
    return len(states) == len(settings.nodes) and set(states.values()) <= USABLE


def wait_until_ready(settings: Settings) -> None:
    if not daemons.wait_for(lambda: is_ready(settings), timeout_s=READY_WITHIN_S):
        found = node_states(settings) or "slurmctld does not answer"
        raise ClusterError(f"the nodes are not ready: {found}; see {settings.root / 'logs'}")


def link(settings: Settings) -> None:
    """Let plain sinfo and sbatch find the default cluster in any shell, where no other Slurm is set up."""
    is_default = settings.name == DEFAULT_NAME and settings.dir == default_dir(DEFAULT_NAME)
    if is_default and os.geteuid() == 0 and not os.path.lexists(SYSTEM_CONF):
        SYSTEM_CONF.parent.mkdir(parents=True, exist_ok=True)
        SYSTEM_CONF.symlink_to(settings.slurm_conf)


def is_linked(settings: Settings) -> bool:
    return SYSTEM_CONF.is_symlink() and SYSTEM_CONF.readlink() == settings.slurm_conf


def down(settings: Settings, *, keep: bool) -> None:
    """Cancel the jobs, stop the daemons in the reverse order, remove the directory unless ``keep``."""
    if daemons.running_pid(settings, "slurmctld"):
        say("jobs", "cancelled")
        cancel_jobs(settings)
    say("daemons", "stopped")
    for name in settings.daemons[::-1]:
        daemons.stop(settings, name)
        if name == "slurmd-" + settings.nodes[0]:
            daemons.end(jobs.processes(settings), patience_s=1.0)
    if is_linked(settings):
        SYSTEM_CONF.unlink()
    if not keep:
        shutil.rmtree(settings.root)
    say("directory", f"{settings.root} {'kept' if keep else 'removed'}")


def cancel_jobs(settings: Settings) -> None:
    ids = (ask(settings, "squeue", "-h", "-o", "%A") or "").split()
    if ids:
        ask(settings, "scancel", *ids)
        busy = ("squeue", "-h", "-t", "running,completing")
        daemons.wait_for(lambda: not ask(settings, *busy), timeout_s=settings.kill_wait_s + 5.0)
