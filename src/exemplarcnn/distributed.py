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


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Sum the gradients over all ranks.

    In one piece and always the same order: what sums them bucket by bucket as they come may change the order after the
    first step, and a training that is resumed would differ in last bits.
    """
    if world() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


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
