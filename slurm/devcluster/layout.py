"""What a development cluster is made of: its settings, its files, its ports."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

DEFAULT_NAME = "dev"
NUM_NODES = 4
NUM_GPUS = 8
MIN_JOB_AGE_FLOOR_S = 30
CALLER_VARIABLES = re.compile(r"(SLURM|SLURMD|SBATCH|SRUN|SALLOC|SQUEUE|SINFO|SACCT|SACCTMGR|SCANCEL)_")


class ClusterError(Exception):
    """What went wrong and what to do about it, in one line."""


@dataclass(frozen=True)
class Settings:
    """A cluster as asked for; kept in its directory, so that every other verb needs only ``--dir``."""

    dir: str
    name: str = DEFAULT_NAME
    ports_from: int = 17000
    accounting: bool = True
    kill_wait_s: int = 5
    grace_s: int = 20
    min_job_age_s: int = 60
    slurmd_timeout_s: int = 10

    @property
    def root(self) -> Path:
        return Path(self.dir)

    @property
    def file(self) -> Path:
        return self.root / "settings.json"

    @property
    def slurm_conf(self) -> Path:
        return self.root / "slurm.conf"

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(f"a100-{number}" for number in range(1, NUM_NODES + 1))

    @property
    def daemons(self) -> tuple[str, ...]:
        """The daemons in the order in which they start."""
        accounting = ("mariadbd", "slurmdbd") if self.accounting else ()
        return ("munged", *accounting, "slurmctld", *(f"slurmd-{node}" for node in self.nodes))

    @property
    def munge_socket(self) -> Path:
        return self.root / "munge" / "socket"

    @property
    def database_socket(self) -> Path:
        return self.root / "database" / "socket"

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports: of the controller, of the accounting, of each node."""
        return tuple(range(self.ports_from, self.ports_from + 2 + NUM_NODES))

    def log(self, daemon: str) -> Path:
        return self.root / "logs" / f"{daemon}.log"

    def environment(self) -> dict[str, str]:
        """Return the caller's environment without what an outer job or shell says about Slurm."""
        kept = {name: value for name, value in os.environ.items() if not CALLER_VARIABLES.match(name)}
        own = {"SLURM_CONF": str(self.slurm_conf), "MYSQL_UNIX_PORT": str(self.database_socket)}
        return {**kept, **own, "PATH": search_path()}

    def template_fields(self) -> dict[str, str]:
        """Return what the templates beside this file ask for."""
        return {
            **{name: str(value) for name, value in asdict(self).items()},
            "host": socket.gethostname().split(".")[0],
            "user": getpass.getuser(),
            "munge_socket": str(self.munge_socket),
            "controller_port": str(self.ports[0]),
            "accounting_port": str(self.ports[1]),
            "accounting": self.accounting_lines(),
            "nodes": f"a100-[1-{NUM_NODES}]",
            "node_ports": f"[{self.ports[2]}-{self.ports[-1]}]",
            "gpus": str(NUM_GPUS),
            "last_gpu": str(NUM_GPUS - 1),
        }

    def accounting_lines(self) -> str:
        """Return the lines of slurm.conf that switch accounting on or off."""
        if not self.accounting:
            return "AccountingStorageType=accounting_storage/none"
        return "\n".join(
            (
                "AccountingStorageType=accounting_storage/slurmdbd",
                "AccountingStorageHost=127.0.0.1",
                f"AccountingStoragePort={self.ports[1]}",
                f"AccountingStoragePass=socket={self.munge_socket}",
                "AccountingStorageTRES=gres/gpu",
                "JobAcctGatherType=jobacct_gather/linux",
                "JobAcctGatherFrequency=task=5",
            )
        )


def search_path() -> str:
    """Return PATH with the places where daemons live, which an ordinary user's PATH may lack."""
    return os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))


def default_dir(name: str) -> str:
    """Return where a cluster lives: not below TMPDIR, so that `up` and `down` agree in every shell."""
    return f"/tmp/devcluster-{name}"


def refuse_odd(settings: Settings) -> None:
    """Refuse what Slurm's files and sockets cannot hold."""
    if not re.fullmatch(r"[\w./+-]{1,80}", settings.dir):
        raise ClusterError(f"--dir {settings.dir!r}: Slurm needs at most 80 letters, digits and . _ + - /")
    if not re.fullmatch(r"[a-z0-9_]+", settings.name):
        raise ClusterError(f"--name {settings.name!r}: use small letters, digits and _")
    if settings.min_job_age_s < MIN_JOB_AGE_FLOOR_S:
        raise ClusterError(f"--min-job-age {settings.min_job_age_s}: give at least {MIN_JOB_AGE_FLOOR_S}")
    if not 1024 <= settings.ports_from <= 65535 - len(settings.ports):
        raise ClusterError(f"--ports-from {settings.ports_from}: give a port from 1024 to 65000")


def save(settings: Settings) -> None:
    settings.file.write_text(json.dumps(asdict(settings), indent=1) + "\n")


def load(directory: str) -> Settings | None:
    """Return the settings of the cluster in ``directory``; None where there is none."""
    file = Settings(directory).file
    return Settings(**json.loads(file.read_text())) if file.exists() else None
