"""The processes of one run, as torchrun starts them; a single process is the same with one."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Who this process is.

    Attributes:
        rank: 0 for the one that writes.
        world_size: How many there are.
        device: Where this one computes.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes checkpoints and metrics."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """Take this process's share of a global batch; every process gets at least one item."""
        mine = list(items[self.rank :: self.world_size])
        return mine or [items[self.rank % len(items)]]

    def sum(self, value: Tensor) -> Tensor:
        """Add a number up over the processes; without gradient."""
        value = value.detach().clone()
        if self.world_size > 1:
            dist.all_reduce(value)
        return value


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the run that torchrun started, or be a run of one."""
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if "WORLD_SIZE" not in os.environ:
        yield Processes(0, 1, device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
