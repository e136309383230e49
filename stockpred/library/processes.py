"""This process among its ranks: join a group, take part in one that a person has made, leave it."""

from __future__ import annotations

import atexit
import getpass
import importlib
import os
import socket
import tempfile
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from hpc.base.errors import ExitCode, UserError
from hpc.run import jobenv
from hpc.run.jobenv import JobEnv
from hpc.run.paths import RunPaths
from stockpred.library.explaining import our_words
from stockpred.library.options import Backend
from stockpred.train import devices, distributed
from stockpred.train.distributed import Group

Device = str | int | torch.device
"""``auto``, ``cuda``, ``cuda:1``, ``mps``, ``cpu``, or the number of a GPU."""


@our_words()
def setup_distributed(
    rank: int | None = None,
    world_size: int | None = None,
    *,
    backend: Backend = "auto",
    device: Device = "auto",
    timeout_s: float = 600.0,
    nccl_debug: str | None = None,
    meeting_place: Path | None = None,
) -> torch.device:
    """Join this process to its ranks; return its device.

    ``rank`` and ``world_size`` are read from RANK and WORLD_SIZE, or from srun's variables, where they are
    not given. Ranks meet at MASTER_ADDR and MASTER_PORT; without these, those of one machine that one process
    has started find each other by themselves, as do those that share a folder ``meeting_place``. Raises
    UserError when they do not, and for a backend that this machine cannot offer.
    """
    _refuse_backend(backend)
    env = environment(rank, world_size)
    if nccl_debug is not None:
        os.environ["NCCL_DEBUG"] = nccl_debug
    torch.set_num_threads(devices.num_threads(env))
    chosen = choose_device(device, env)
    # DDP imports this; once the group exists, that would put the group into default arguments for ever.
    importlib.import_module("torch._dynamo")
    if "MASTER_ADDR" in os.environ:
        _meet_at_address(env, backend, timeout_s)
        agreed = current_group(device)
    else:
        agreed = distributed.connect(
            env,
            chosen,
            "auto" if device == "auto" else chosen.type,
            RunPaths(meeting_place or _place_of_parent()),
            timeout_s=distributed.SETUP_TIMEOUT_S,
            collective_timeout_s=timeout_s,
            nccl=backend != "gloo",
        )
    atexit.register(cleanup_distributed)
    return agreed.device


def cleanup_distributed() -> None:
    """Leave the group; do nothing where there is none."""
    if dist.is_initialized():
        distributed.take_apart(None)


@our_words()
def current_group(device: Device, *, alone: bool = False) -> Group:
    """Return this process's place in its process group; a world of one where there is none, or if ``alone``.

    Collective where there is a group.
    """
    if alone or not dist.is_initialized():
        env = JobEnv.read({name: value for name, value in os.environ.items() if name == jobenv.DEADLINE})
        return _at_work(Group(env, choose_device(device, env)))
    env = _environment_of_group()
    chosen = choose_device(device, env)
    control = None if _talks_on_cpu() else dist.new_group(backend="gloo")
    names = Group(env, chosen, control=control).gather(devices.name_gpu(chosen))
    own, warning = devices.own_device(chosen, "auto" if device == "auto" else chosen.type, names)
    return _at_work(Group(env, own, warning, control))


def _at_work(group: Group) -> Group:
    if group.device.type == "cuda":
        torch.cuda.set_device(group.device)
    return group


def environment(
    rank: int | None = None, world_size: int | None = None, environ: Mapping[str, str] | None = None
) -> JobEnv:
    """Return this rank's place; arguments win over variables. Raises UserError for one without the other."""
    environ = dict(os.environ if environ is None else environ)
    given = {"RANK": rank, "WORLD_SIZE": world_size}
    environ |= {name: str(value) for name, value in given.items() if value is not None}
    missing = [name for name in given if name not in environ]
    is_told_by_srun = "SLURM_PROCID" in environ and "RANK" not in environ and world_size is None
    if missing and not is_told_by_srun:
        raise UserError(
            f"{' and '.join(missing)} is not set",
            where="setup_distributed",
            fix="give rank and world_size, set RANK and WORLD_SIZE, or start with torchrun or srun",
        )
    if "RANK" in environ and "LOCAL_WORLD_SIZE" not in environ:
        num_ranks, num_gpus = int(environ["WORLD_SIZE"]), torch.cuda.device_count()
        num_local = min(num_ranks, num_gpus or num_ranks)
        environ["LOCAL_WORLD_SIZE"] = str(num_local)
        environ.setdefault("LOCAL_RANK", str(int(environ["RANK"]) % num_local))
    return JobEnv.read(environ)


def choose_device(wanted: Device, env: JobEnv) -> torch.device:
    """Return the device that a person names; a number is that GPU, and the CPU where there is no GPU."""
    if isinstance(wanted, int):
        wanted = f"cuda:{wanted}" if torch.cuda.is_available() else "cpu"
    name = str(wanted)
    if name in ("auto", "cuda", "mps"):
        return devices.choose_device(name, env)
    try:
        device = torch.device(name)
    except RuntimeError:
        fix = "use auto, cuda, cuda:1, mps, cpu or the number of a GPU"
        raise UserError(f"there is no device {name!r}", where="device", fix=fix) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"the device is {name}, but this process sees {torch.cuda.device_count()} GPUs",
            where="device",
            fix="use auto, or the number of a GPU that is there",
        )
    return device


def backends(wanted: Backend) -> str:
    """Return what torch calls the backends; numbers on the CPU always travel by gloo."""
    if wanted == "gloo" or not torch.cuda.is_available():
        return "gloo"
    return "cpu:gloo,cuda:nccl"


def _refuse_backend(backend: str) -> None:
    if backend not in ("auto", "nccl", "gloo"):
        raise UserError(f"there is no backend {backend!r}", where="backend", fix="use auto, nccl or gloo")
    if backend == "nccl" and not torch.cuda.is_available():
        raise UserError(
            "the backend is nccl, but this process sees no GPU", where="backend", fix="use auto or gloo"
        )


def _meet_at_address(env: JobEnv, backend: Backend, timeout_s: float) -> None:
    address, port = os.environ["MASTER_ADDR"], os.environ.get("MASTER_PORT")
    if port is None:
        raise UserError(
            "MASTER_ADDR is set, but MASTER_PORT is not", fix="set it to a free port of that host"
        )
    try:
        dist.init_process_group(
            backends(backend), rank=env.rank, world_size=env.world_size, timeout=timedelta(seconds=timeout_s)
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"rank {env.rank} of {env.world_size} has not met the others: {str(error).splitlines()[0]}",
            where=f"{address}:{port}",
            fix="see whether every rank has started, rank 0 is on MASTER_ADDR and MASTER_PORT is free there",
            exit_code=ExitCode.FAILED,
        ) from error


def _place_of_parent() -> Path:
    """Return a folder that the ranks started by one process have in common."""
    return Path(tempfile.gettempdir()) / f"stockpred-{getpass.getuser()}" / str(os.getppid())


def _environment_of_group() -> JobEnv:
    rank, world_size = dist.get_rank(), dist.get_world_size()
    hosts: list[Any] = [None] * world_size
    dist.all_gather_object(hosts, socket.gethostname())
    local_rank = int(os.environ.get("LOCAL_RANK", hosts[:rank].count(hosts[rank])))
    place = {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(Counter(hosts)[hosts[rank]]),
    }
    return JobEnv.read({**os.environ, **place})


def _talks_on_cpu() -> bool:
    return "gloo" in dist.get_backend() or "cpu" in str(dist.get_backend_config())
