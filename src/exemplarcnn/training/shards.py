"""A batch in shards, so that neither the number of threads nor that of processes changes a bit of a training.

Each shard goes forward and backward by itself, in one thread, with its own dropout masks and batch statistics. Where
the loss of a patch depends on the whole batch, the outputs of all shards meet between the two. What the shards give is
summed in one fixed order (`distributed.pairwise_sum`), whoever computed it.
"""

import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from exemplarcnn import distributed, rng
from exemplarcnn.config.sections import ResNet, Train
from exemplarcnn.errors import PipelineError
from exemplarcnn.networks.exemplar_cnn import Classifier
from exemplarcnn.networks.precision import mixed_precision
from exemplarcnn.threads import Team
from exemplarcnn.training.objectives import Objective


class ShardError(PipelineError):
    """The processes cannot divide the shards among themselves."""


@dataclass(frozen=True)
class Layout:
    """Which shards a batch has, and which of them are this process's.

    Attributes
    ----------
    count
        Shards of each batch.
    own
        Those of this process.
    """

    count: int
    own: range

    @classmethod
    def here(cls, count: int, device: torch.device) -> "Layout":
        """Return this process's layout: so many shards; on a GPU always one for each process.

        Raises
        ------
        ShardError
            If the processes cannot divide the shards and still add in the order in which one process adds.
        """
        rank, world = distributed.rank(), distributed.world()
        if device.type == "cuda":
            return cls(world, range(rank, rank + 1))
        each, rest = divmod(count, world)
        # One process's shards must be a whole branch of the tree in which they are summed.
        if world > 1 and (rest or each.bit_count() != 1):
            fitting = [1] + [n for n in range(2, count + 1) if count % n == 0 and (count // n).bit_count() == 1]
            raise ShardError(
                f"cannot divide the {count} shards of a batch among {world} processes: each must get 1, 2, 4, 8 … of "
                f"them; set machine.processes to {' or '.join(map(str, fitting))}, or train.shards (resnet.shards) to "
                "another number, which changes the weights in their last bits"
            )
        return cls(count, range(rank * each, (rank + 1) * each))

    def sizes(self, images: int) -> list[int]:
        """Return how many images of a batch each shard of this process has."""
        return [len(range(shard, images, self.count)) for shard in self.own]

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those rows of a batch that are this process's, shard by shard."""
        return np.concatenate([rows[shard :: self.count] for shard in self.own])

    def gather(self, parts: list[Tensor], images: int) -> Tensor:
        """Return the numbers of a whole batch in its order, from those of each shard of this process.

        Parameters
        ----------
        parts
            (n, d) float32 for each shard of this process.
        images
            Images in the batch.
        """
        mine = torch.cat(parts)
        if self.count == 1:
            return mine
        (all_of,) = distributed.all_gather(mine.cpu().numpy().reshape(-1))
        rows = np.concatenate([np.arange(images)[shard :: self.count] for shard in range(self.count)])
        batch = torch.empty(images, mine.shape[1], dtype=mine.dtype, device=mine.device)
        batch[torch.from_numpy(rows)] = torch.from_numpy(all_of.reshape(images, -1)).to(mine.device)
        return batch


class Shards:
    """Computes the gradients of a batch, shard by shard.

    Parameters
    ----------
    network
        All shards share its parameters. Its running statistics of batches become the mean of theirs.
    params
        The training's parameters.
    layout, team
        The shards of this process, and the threads that compute them.
    seed
        The experiment's seed.
    objective
        What the network learns.
    """

    def __init__(
        self,
        network: Classifier,
        params: Train | ResNet,
        layout: Layout,
        team: Team,
        seed: int,
        objective: Objective,
    ):
        self.network, self.params, self.layout, self.team = network, params, layout, team
        self.objective = objective
        self.parameters = list(network.parameters())
        self._masks = rng.Stream(seed, rng.Purpose.DROPOUT)
        self._shown = rng.Stream(seed, rng.Purpose.OBJECTIVE)

    @cached_property
    def _replicas(self) -> list[Classifier]:
        """A network for each shard, with the parameters of the one, and generator and buffers of its own."""
        if self.layout.count == 1:
            self.network.generator = torch.Generator(self.parameters[0].device)
            return [self.network]
        shared = {id(parameter): parameter for parameter in self.parameters}
        replicas = [copy.deepcopy(self.network, dict(shared)) for _ in self.layout.own]
        for replica in replicas:
            replica.generator = torch.Generator(self.parameters[0].device)
        return replicas

    def gradients(self, images: Tensor, labels: Tensor, count: int, place: tuple[int, int]) -> "Gradients":
        """Go forward and backward through every shard of this process.

        Parameters
        ----------
        images, labels
            This process's share of a batch, in the order of `Layout.of`: (n, side, side, 3) uint8 and (n,) int64.
        count
            Images of the whole batch, of which the loss is the mean.
        place
            Epoch and step, from 0: with the shard they decide the dropout masks.
        """
        epoch, step = place
        sizes = self.layout.sizes(count)
        parts = []
        shards = zip(
            self._replicas, self.layout.own, torch.split(images, sizes), torch.split(labels, sizes), strict=True
        )
        for replica, shard, some, classes in shards:
            assert replica.generator is not None
            seed = self._masks.at(epoch, step * self.layout.count + shard).integers(2**63)
            replica.generator.manual_seed(int(seed))
            draw = self._shown.at(epoch, step * self.layout.count + shard)
            parts.append((replica, *self.objective.prepare(some, classes, draw)))
        if self.objective.coupled:
            return self._coupled(parts, count)
        found = self.team.map(lambda part: self._one(*part, count), parts)
        return Gradients([each for each, _ in found], torch.stack([sums for _, sums in found]))

    def _one(self, replica: Classifier, images: Tensor, targets: Tensor, count: int) -> tuple[list[Tensor], Tensor]:
        if len(images) == 0:  # of the last batch of an epoch
            return self._nothing(), torch.zeros(2, dtype=torch.float64, device=images.device)
        loss, right = self.objective.loss(outputs_of(replica, images, self.params), targets)
        return list(torch.autograd.grad(loss / count, self.parameters)), loss_and_right(loss, right)

    def _nothing(self) -> list[Tensor]:
        return [torch.zeros_like(parameter) for parameter in self.parameters]

    def _coupled(self, parts: list[tuple[Classifier, Tensor, Tensor]], count: int) -> "Gradients":
        """Go forward, compute the loss of the whole batch from the outputs of all shards, and go backward."""
        found = self.team.map(lambda part: outputs_of(part[0], part[1], self.params), parts)
        # Every process computes the loss of the batch: the outputs are few numbers, and all get the same bits.
        batch = self.layout.gather([each.detach() for each in found], count).requires_grad_()
        loss, right = self.objective.loss(batch, None)
        (slope,) = torch.autograd.grad(loss / count, batch)

        def back(part: tuple[int, Tensor]) -> list[Tensor]:
            shard, outputs = part
            if len(outputs) == 0:
                return self._nothing()
            return list(torch.autograd.grad(outputs, self.parameters, slope[shard :: self.layout.count]))

        gradients = self.team.map(back, zip(self.layout.own, found, strict=True))
        shares = torch.tensor([len(each) / count for each in found], dtype=torch.float64, device=batch.device)
        return Gradients(gradients, shares[:, None] * loss_and_right(loss, right))

    def train(self) -> None:
        """Put the networks of all shards in training mode."""
        for replica in self._replicas:
            replica.train()

    def load_statistics(self) -> None:
        """Give each shard the network's running statistics of batches."""
        for mine, theirs in self._statistics():
            for each in theirs:
                each.copy_(mine)

    def save_statistics(self) -> None:
        """Set them, of the network and of all shards, to the mean over the shards."""
        pairs = self._statistics()
        if not pairs or self.layout.count == 1:
            return
        moving = [(mine, theirs) for mine, theirs in pairs if mine.is_floating_point()]
        parts = [[theirs[shard].clone() for _, theirs in moving] for shard in range(len(self.layout.own))]
        for (mine, _), total in zip(moving, distributed.sum_shards(parts), strict=True):
            mine.copy_(total / self.layout.count)
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs[0])
        self.load_statistics()

    def _statistics(self) -> list[tuple[Tensor, list[Tensor]]]:
        """Pair the buffers of each layer of batch normalisation with those of the shards."""
        all_of = [_batch_statistics(each) for each in self._replicas]
        return list(zip(_batch_statistics(self.network), map(list, zip(*all_of, strict=True)), strict=True))


def _batch_statistics(network: nn.Module) -> list[Tensor]:
    return [buffer for layer in network.modules() if isinstance(layer, _BatchNorm) for buffer in layer.buffers()]


@dataclass(frozen=True)
class Gradients:
    """What the shards of a process give.

    Attributes
    ----------
    shards
        For each shard the gradient of its images' part of the loss, in the order of the network's parameters.
    sums
        (shards, 2) float64: the sum of each shard's losses, and how many images were told right.
    """

    shards: list[list[Tensor]]
    sums: Tensor


def outputs_of(network: Classifier, images: Tensor, params: Train | ResNet) -> Tensor:
    """Return the outputs for uint8 images, (n, outputs) float32, in a training's precision and memory layout."""
    normalised = network.normalise(images)
    if not params.channels_last:
        normalised = normalised.contiguous()
    with mixed_precision(images.device, params.precision):
        outputs: Tensor = network(normalised)
    return outputs.float()


def loss_and_right(loss: Tensor, right: Tensor) -> Tensor:
    """Return (2,) float64: the summed loss, and how many images are told right."""
    return torch.stack([loss.detach().double(), right.double()])
