"""Several processes that share one piece of work, as ``torchrun`` starts them; a single process needs none of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes of ``torchrun``, if it started this one."""
    # Job schedulers set variables of the same names; only torchrun's launcher says how processes find each other.
    if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) < 2:
        yield
        return
    # Small arrays are exchanged on the CPU, gradients where they lie. NCCL wants a GPU for each process.
    enough = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    dist.init_process_group("cpu:gloo,cuda:nccl" if enough and dist.is_nccl_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process, from 0; 0 also if it is the only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def own(device: torch.device) -> torch.device:
    """Return this process's share of a device: the processes of one machine divide its GPUs among themselves."""
    if device.type != "cuda" or world() == 1:
        return device
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())


def agreed(value: float) -> float:
    """Return what the first process says, in all: processors of different kinds differ in last digits."""
    if world() == 1:
        return value
    box = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(box, 0)
    return float(box)


def summed(*numbers: float) -> list[float]:
    """Sum each number over all processes; whole numbers exactly to 2**53."""
    box = torch.tensor(numbers, dtype=torch.float64)
    if world() > 1:
        dist.all_reduce(box)
    sums: list[float] = box.tolist()
    return sums


def anywhere(*flags: bool) -> list[bool]:
    """Say of each flag whether it is set in any process."""
    return [total > 0 for total in summed(*flags)]


def gathered(*columns: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Join columns of all processes, in the order of the processes; every process gets all.

    Parameters
    ----------
    columns
        Arrays of one length, which can differ between processes.
    """
    if world() == 1:
        return columns
    mine = torch.tensor([len(columns[0])])
    lengths = [torch.zeros_like(mine) for _ in range(world())]
    dist.all_gather(lengths, mine)
    longest = max(int(length) for length in lengths)
    result = []
    for column in columns:
        padded = torch.zeros(longest, dtype=torch.from_numpy(column[:0]).dtype)
        padded[: len(column)] = torch.from_numpy(column)
        parts = [torch.empty_like(padded) for _ in range(world())]
        dist.all_gather(parts, padded)
        result.append(np.concatenate([part[: int(n)].numpy() for part, n in zip(parts, lengths, strict=True)]))
    return tuple(result)
