"""Several processes that share one piece of work, as ``torchrun`` starts them; a single process needs none of it.

Functions have the names of the operations in torch.distributed that they are made of.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from exemplarcnn.errors import FailedElsewhereError

Result = TypeVar("Result")
PARENT = os.getppid()


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


def orphaned() -> bool:
    """Say whether the launcher that started this process and others is gone: nobody waits for them any more."""
    return world() > 1 and os.getppid() != PARENT


def local_device(device: torch.device) -> torch.device:
    """Return this process's share of a device: the processes of one machine divide its GPUs among themselves."""
    if device.type != "cuda" or world() == 1:
        return device
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())


def broadcast_scalar(value: float) -> float:
    """Return rank 0's number on all ranks: processors of different kinds differ in last digits."""
    if world() == 1:
        return value
    box = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(box, 0)
    return float(box)


def on_rank_zero(work: Callable[[], Result]) -> Result | None:
    """Do something on rank 0 while the other ranks wait; if it fails there, all fail.

    Returns
    -------
    object
        What the work returns; None on the other ranks.

    Raises
    ------
    FailedElsewhereError
        On the other ranks. On rank 0 it is the error of the work.
    """
    if world() == 1:
        return work()
    result: Result | None = None
    error: Exception | None = None
    if rank() == 0:
        try:
            result = work()
        except Exception as caught:
            error = caught
    if any(any_rank(error is not None)):
        raise error or FailedElsewhereError("the first process failed")
    return result


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Overwrite the tensors of all ranks with those of rank 0."""
    if world() == 1:
        return
    for tensor in tensors:
        box = tensor.detach().contiguous()
        dist.broadcast(box, 0)
        tensor.detach().copy_(box)


def pairwise_sum(parts: list[Tensor]) -> Tensor:
    """Sum tensors of one shape over a binary tree: neighbours first, then neighbouring sums.

    So that whoever sums the first 1, 2, 4, 8 … of them, or any later group of that size, makes a sum of the tree.

    Parameters
    ----------
    parts
        They are overwritten: the sum is made in the first.
    """
    while len(parts) > 1:
        pairs = [left.add_(right) for left, right in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[2 * len(pairs) :]
    return parts[0]


def sum_shards(parts: list[list[Tensor]]) -> list[Tensor]:
    """Sum lists of tensors over all shards of all ranks, in the order of `pairwise_sum`.

    Each rank sums a part of the numbers, which costs the traffic of an all-reduce; those come in no known order.

    Parameters
    ----------
    parts
        For each shard of this rank, its tensors; they are overwritten.

    Returns
    -------
    list of Tensor
        The sums, in the shapes of the tensors; the same on every rank.
    """
    own = [pairwise_sum(list(same)) for same in zip(*parts, strict=True)]
    if (ranks := world()) == 1:
        return own
    flat = torch.cat([each.reshape(-1) for each in own])
    if flat.is_cuda:  # one shard a rank; NCCL keeps to an order of its own
        dist.all_reduce(flat)
    else:
        count = len(flat)
        padded = torch.nn.functional.pad(flat, (0, -count % ranks))
        received = torch.empty_like(padded)
        dist.all_to_all_single(received, padded)
        dist.all_gather_into_tensor(padded, pairwise_sum(list(received.chunk(ranks))).contiguous())
        flat = padded[:count]
    sizes = [each.numel() for each in own]
    return [each.copy_(part.view_as(each)) for each, part in zip(own, torch.split(flat, sizes), strict=True)]


def all_reduce_sum(*numbers: float) -> list[float]:
    """Sum each number over all ranks; whole numbers exactly to 2**53."""
    box = torch.tensor(numbers, dtype=torch.float64)
    if world() > 1:
        dist.all_reduce(box)
    sums: list[float] = box.tolist()
    return sums


def any_rank(*flags: bool) -> list[bool]:
    """Say of each flag whether it is set on any rank."""
    return [total > 0 for total in all_reduce_sum(*flags)]


def all_gather(*columns: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Join columns of all ranks, in the order of the ranks; every rank gets all.

    Parameters
    ----------
    columns
        Arrays of one length, which can differ between ranks.
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
