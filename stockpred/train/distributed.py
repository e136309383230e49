"""Ranks that find each other, agree on numbers and leave together.

Rank 0 binds a store on a free port first and publishes the address afterwards: no port is ever guessed.
What ranks tell each other here are a few numbers over gloo; gradients are DDP's business.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import PrefixStore, Store

from hpc.base import records
from hpc.base.errors import ExitCode, UserError
from hpc.run.jobenv import JobEnv
from hpc.run.paths import RunPaths
from stockpred.config.base import TrainingConfig
from stockpred.train.devices import choose_device, make_exact, name_gpu, num_threads, own_device

SETUP_TIMEOUT_S = 300.0
POLL_S = 0.05
SIGNS_OF_LATENESS = ("timed out", "timeout")
SIGNS_OF_A_LOST_PEER = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "socket")


class LostContact(UserError):
    """Another rank is gone; its own log tells why."""


@dataclass(frozen=True)
class Group:
    """This process among its ranks; a world of one needs no process group.

    ``warning`` says what a reader of the run must know about the device. ``control`` is the process group
    that numbers on the CPU travel by, where the default one has no way for them.
    """

    env: JobEnv
    device: torch.device
    warning: str | None = None
    control: dist.ProcessGroup | None = None

    @property
    def rank(self) -> int:
        return self.env.rank

    @property
    def world_size(self) -> int:
        return self.env.world_size

    @property
    def is_main(self) -> bool:
        return self.env.is_main

    def parts(self, accumulate: int) -> range:
        """Return the numbers of this rank's parts, its micro-batches among those of a step."""
        return range(self.rank * accumulate, (self.rank + 1) * accumulate)

    def reduce_max(self, values: list[float]) -> list[float]:
        """Return the element-wise maximum over all ranks."""
        if self.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.control)
        return [float(value) for value in tensor]

    def gather_floats(self, values: list[float]) -> list[list[float]]:
        """Return every rank's ``values``, equally many each, in the order of ranks."""
        if self.world_size == 1:
            return [values]
        mine = torch.tensor(values, dtype=torch.float64)
        ranks = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(ranks, mine, group=self.control)
        return [rank.tolist() for rank in ranks]

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's ``value`` in the order of ranks: sums over them are equal everywhere."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def gather_on_main(self, value: Any) -> list[Any]:
        """Return every rank's ``value`` in the order of ranks on rank 0, an empty list on the others."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size if self.is_main else None
        dist.gather_object(value, values, dst=0, group=self.control)
        return values or []

    def from_main(self, value: Any) -> Any:
        """Return rank 0's ``value`` on every rank; nobody goes on before rank 0 has come here."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control, device=torch.device("cpu"))
        return values[0]

    def broadcast(self, tensor: torch.Tensor) -> None:
        """Overwrite ``tensor`` with rank 0's."""
        if self.world_size > 1:
            dist.broadcast(tensor, src=0)


@contextmanager
def joined(
    env: JobEnv, paths: RunPaths, settings: TrainingConfig, *, timeout_s: float = SETUP_TIMEOUT_S
) -> Iterator[Group]:
    """Bring all ranks of this attempt together, and take them apart at the end.

    Raises UserError when they do not find each other within ``timeout_s``, and when one is lost on the way.
    """
    torch.set_num_threads(num_threads(env))
    if settings.exact:
        make_exact()
    if settings.nccl_debug is not None:
        os.environ["NCCL_DEBUG"] = settings.nccl_debug
    device = choose_device(settings.device, env)
    if env.world_size == 1:
        yield _settled(env, device, settings.device, [name_gpu(device)])
        return
    collective_timeout_s = settings.collective_timeout_s
    group = connect(
        env,
        device,
        settings.device,
        paths,
        timeout_s=timeout_s,
        collective_timeout_s=collective_timeout_s,
    )
    try:
        with lost_peers_explained(env, paths):
            yield group
            dist.barrier()
    except LostContact:
        raise  # a thread may wait for the lost rank: the group is left as it is
    except UserError as error:
        take_apart(error)
        raise
    take_apart(None)


@contextmanager
def lost_peers_explained(env: JobEnv, paths: RunPaths) -> Iterator[None]:
    """Raise LostContact in the place of what torch says when another rank is gone."""
    try:
        yield
    except RuntimeError as error:
        if not _is_lost_peer(error):
            raise
        raise LostContact(
            f"rank {env.rank} lost contact with another rank: {str(error).splitlines()[0]}",
            where=str(paths.logs),
            fix="read the other ranks' logs for the first error; the run continues from its last checkpoint",
            exit_code=ExitCode.FAILED,
        ) from error


def connect(
    env: JobEnv,
    device: torch.device,
    wanted: str,
    paths: RunPaths,
    *,
    timeout_s: float,
    collective_timeout_s: float,
    nccl: bool = True,
) -> Group:
    """Form the process group with the ranks that share ``paths``; return this rank's place in it.

    Raises UserError when they do not find each other within ``timeout_s``.
    """
    if env.num_nodes == 1 and "lo" in (name for _, name in socket.if_nameindex()):
        # A host name that resolves to an unreachable address must not matter to ranks of one host.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # DDP imports this; once the group exists, that would put the group into default arguments for ever.
    importlib.import_module("torch._dynamo")
    meeting_place = paths.rendezvous(env.attempt)
    begin = time.monotonic()
    deadline = begin + timeout_s
    try:
        store = _publish(env, meeting_place) if env.is_main else _find(env, meeting_place, deadline)
        store.set(f"rank_{env.rank}", json.dumps(name_gpu(device)))
        everyone = [f"rank_{rank}" for rank in range(env.world_size)]
        store.wait(everyone, timedelta(seconds=max(1.0, deadline - time.monotonic())))
        group = _settled(env, device, wanted, [json.loads(store.get(rank)) for rank in everyone])
        is_cuda = group.device.type == "cuda" and nccl
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if is_cuda else "gloo",
            store=store,
            rank=env.rank,
            world_size=env.world_size,
            timeout=timedelta(seconds=collective_timeout_s),
            device_id=group.device if is_cuda else None,
        )
        dist.barrier()
    except (RuntimeError, TimeoutError) as error:
        raise _did_not_meet(env, time.monotonic() - begin, error) from error
    return group


def _settled(env: JobEnv, device: torch.device, wanted: str, gpus: Sequence[str | None]) -> Group:
    group = Group(env, *own_device(device, wanted, gpus))
    if group.device.type == "cuda":
        torch.cuda.set_device(group.device)
    return group


def take_apart(error: BaseException | None) -> None:
    """End the group and its threads: one that outlives the interpreter aborts the process.

    What holds the group are DDP's cycles, and the frames of an error on its way up. After a lost peer this is
    left undone, because a thread may wait for that peer; such a process should leave by ``os._exit``.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    gc.collect()
    dist.destroy_process_group()


def _publish(env: JobEnv, meeting_place: Path) -> Store:
    host = "127.0.0.1" if env.num_nodes == 1 else socket.gethostname()
    server = TCPStore("127.0.0.1", 0, None, is_master=True, wait_for_workers=False)
    token = uuid.uuid4().hex
    server.set(token, "here")
    address = {"host": host, "port": server.port, "job_id": env.job_id, "token": token}
    records.write_json(meeting_place, address)
    return PrefixStore(token, server)


def _find(env: JobEnv, meeting_place: Path, deadline: float) -> Store:
    """Wait for an address of this job at which someone listens; an older attempt's file is passed over."""
    while time.monotonic() < deadline:
        address = records.read_json_if_any(meeting_place)
        if address is not None and address.get("job_id") == env.job_id and _listens(address):
            client = TCPStore(
                _reachable(str(address["host"])),
                address["port"],
                None,
                is_master=False,
                timeout=timedelta(seconds=max(1.0, deadline - time.monotonic())),
                wait_for_workers=False,
            )
            if client.check([address["token"]]):
                return PrefixStore(address["token"], client)
        time.sleep(POLL_S)
    raise TimeoutError(f"rank 0 has not published its address in {meeting_place}")


def _listens(address: dict[str, Any]) -> bool:
    try:
        with socket.create_connection((_reachable(str(address["host"])), address["port"]), timeout=5.0):
            return True
    except OSError:
        return False


def _reachable(host: str) -> str:
    return "127.0.0.1" if host == socket.gethostname() else host


def _did_not_meet(env: JobEnv, waited_s: float, error: RuntimeError | TimeoutError) -> UserError:
    reason = str(error).splitlines()[0]
    is_late = isinstance(error, TimeoutError) or any(word in reason.lower() for word in SIGNS_OF_LATENESS)
    what = (
        f"waited {waited_s:.0f} s for the others in vain: {reason}"
        if is_late
        else f"the process group could not be formed: {reason}"
    )
    return UserError(
        f"rank {env.rank} of {env.world_size}: {what}",
        fix="see whether every rank has started, and whether the nodes reach each other (GLOO_SOCKET_IFNAME, "
        "NCCL_SOCKET_IFNAME)",
        exit_code=ExitCode.FAILED,
    )


def _is_lost_peer(error: RuntimeError) -> bool:
    said = str(error).lower()
    if isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, dist.DistError) or any(sign in said for sign in SIGNS_OF_A_LOST_PEER)
