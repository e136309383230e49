"""Models in wrappers: the module inside, and several GPUs in one process."""

from __future__ import annotations

import logging

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from hpc.base.errors import UserError

log = logging.getLogger(__name__)


class MultiGPUWrapper(DataParallel[nn.Module]):
    """A model on several GPUs of one process: each takes a share of every batch.

    One process for each GPU (``DistributedTrainer``, torchrun) is faster. ``num_gpus=None`` takes all GPUs.
    Without any GPU the model runs on the CPU as it is. Raises UserError for more GPUs than there are.
    """

    def __init__(self, model: nn.Module, num_gpus: int | None = None) -> None:
        available = torch.cuda.device_count()
        if num_gpus is not None and (num_gpus < 1 or (available and num_gpus > available)):
            raise UserError(
                f"num_gpus is {num_gpus}, and this process sees {available} GPUs",
                where="MultiGPUWrapper",
                fix=f"give 1 to {max(1, available)}, or leave num_gpus out",
            )
        if not available:
            log.warning("no GPU was visible: the model runs on the CPU")
        super().__init__(model, device_ids=list(range(num_gpus or available)) if available else None)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside ``DataParallel`` or DDP; any other as it is."""
    return model.module if isinstance(model, DataParallel | DistributedDataParallel) else model
