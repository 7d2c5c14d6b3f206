"""The processes that train one network together: `torchrun` starts them, each knows its place."""

import os
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True)
class World:
    """One process of `size`; that of `rank` 0 writes and tells."""

    rank: int
    size: int
    device: torch.device

    @staticmethod
    def of_this_process() -> "World":
        """From `torchrun`'s environment: NCCL and a GPU each where there is CUDA, else gloo."""
        size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
        cuda = torch.cuda.is_available()
        device = torch.device("cuda", local) if cuda else torch.device("cpu")
        if size == 1:
            return World(0, 1, device)
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if cuda else "gloo")
        return World(distributed.get_rank(), size, device)

    def meet(self) -> None:
        """Waits for the others, so that what the first one wrote is there for all."""
        if self.size > 1:
            distributed.barrier()
