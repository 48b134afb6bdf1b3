"""The processes of one run, as torchrun starts them; a single process is the same with one."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")

_PATIENCE = timedelta(hours=2)
"""How long a process waits for another: the first transcribes the dev speakers while the others wait."""


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
        """Take this process's share of a global batch; one without a share borrows an item, see `has_share`."""
        return list(items[self.rank :: self.world_size]) or [items[0]]

    def has_share(self, num_items: int) -> bool:
        """Say whether a global batch has an item for this process. What was borrowed has to count for nothing."""
        return self.rank < num_items

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Let the first process do something before the others do it."""
        if self.world_size > 1 and not self.is_first:
            dist.barrier()
        yield
        if self.world_size > 1 and self.is_first:
            dist.barrier()

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
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
