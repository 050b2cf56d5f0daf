"""Share work among the processes that ``torchrun`` starts; a single process needs no process group.

Functions are named after the operations of torch.distributed that they use.
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
    """Join the process group of ``torchrun``, if it started this process."""
    # Job schedulers set variables of the same names; only torchrun also says how the processes find each other.
    if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) < 2:
        yield
        return
    # Small arrays are exchanged on the CPU, gradients on their own device. NCCL needs a GPU for each process.
    enough = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    dist.init_process_group("cpu:gloo,cuda:nccl" if enough and dist.is_nccl_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process, from 0; 0 if it is the only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def orphaned() -> bool:
    """Tell whether the launcher of several processes is gone, so that nobody waits for this one any more."""
    return world() > 1 and os.getppid() != PARENT


def local_device(device: torch.device) -> torch.device:
    """Return the device of this process: the processes of one machine divide its GPUs among themselves."""
    if device.type != "cuda" or world() == 1:
        return device
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())


def broadcast_scalar(value: float) -> float:
    """Return rank 0's number on all ranks: on processors of different kinds the last digits differ."""
    if world() == 1:
        return value
    box = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(box, 0)
    return float(box)


def on_rank_zero(work: Callable[[], Result]) -> Result | None:
    """Call a function on rank 0 while the other ranks wait; if it fails there, all ranks fail.

    Parameters
    ----------
    work
        The function.

    Returns
    -------
    object
        What the function returns; None on the other ranks.

    Raises
    ------
    FailedElsewhereError
        On the other ranks. Rank 0 raises the function's own error.
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

    They are exchanged as one array, of which each rank sums a part: the traffic of an all-reduce, but in a known order.
    Summed in buckets, as torch's DistributedDataParallel does, the order may change after the first step, and a resumed
    training would differ in its last bits.

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
    """Sum each number over all ranks, in float64: integers are exact up to 2**53."""
    box = torch.tensor(numbers, dtype=torch.float64)
    if world() > 1:
        dist.all_reduce(box)
    sums: list[float] = box.tolist()
    return sums


def any_rank(*flags: bool) -> list[bool]:
    """Tell for each flag whether any rank has set it."""
    return [total > 0 for total in all_reduce_sum(*flags)]


def all_gather(*columns: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Concatenate arrays of all ranks, in the order of the ranks; every rank gets the whole.

    Parameters
    ----------
    columns
        (n,) arrays, all of one length, which may differ between ranks.
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
