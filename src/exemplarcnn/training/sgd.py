"""Stochastic gradient descent with momentum and L2, as ``torch.optim.SGD``, on gradients that come in shards.

Summing the shards and updating the weights is one pass over memory, slice by slice, shared out among threads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from exemplarcnn.distributed import pairwise_sum
from exemplarcnn.threads import Team

# Numbers of a tensor that are updated at a time: they stay in a core's cache.
SLICE = 1 << 17


@dataclass(frozen=True)
class Slice:
    """Rows of a parameter.

    Attributes
    ----------
    group
        The parameter's group, with its learning rate and L2 factor.
    number
        The parameter's place in the network.
    rows
        Along its first axis.
    """

    group: dict[str, Any]
    number: int
    rows: slice


class SGD(torch.optim.Optimizer):
    """SGD; the state of a parameter is its ``momentum_buffer``, as with torch's own.

    Parameters
    ----------
    groups
        As `Classifier.parameter_groups` gives them.
    parameters
        All of them, in the network's order.
    momentum
        Factor.
    team
        The threads that share the work.
    """

    def __init__(self, groups: list[dict[str, Any]], parameters: list[torch.nn.Parameter], momentum: float, team: Team):
        super().__init__(groups, {"momentum": momentum})
        self.parameters, self.team = parameters, team
        for parameter in parameters:
            self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        slices = list(self._slices())
        # The threads take turns, so that large and small parameters are spread over them.
        self._shares = [slices[first :: team.threads] for first in range(team.threads)]

    def _slices(self) -> Iterator[Slice]:
        group_of = {id(parameter): group for group in self.param_groups for parameter in group["params"]}
        for number, parameter in enumerate(self.parameters):
            count = len(parameter)
            rows = count if parameter.is_cuda else max(1, SLICE // (parameter.numel() // count))
            for start in range(0, count, rows):
                yield Slice(group_of[id(parameter)], number, slice(start, min(start + rows, count)))

    @torch.no_grad()
    def step(self, gradients: list[list[Tensor]]) -> None:  # type: ignore[override]  # torch's takes a closure
        """Take a step.

        Parameters
        ----------
        gradients
            For each shard those of all parameters; they are overwritten.
        """

        def update(share: list[Slice]) -> None:
            with torch.no_grad():  # of each thread
                for each in share:
                    self._update(each, [shard[each.number][each.rows] for shard in gradients])

        self.team.map(update, self._shares)

    def _update(self, one: Slice, gradients: list[Tensor]) -> None:
        weights = self.parameters[one.number]
        velocity = self.state[weights]["momentum_buffer"][one.rows]
        gradient = pairwise_sum(gradients)
        if one.group["weight_decay"]:
            gradient.add_(weights[one.rows], alpha=one.group["weight_decay"])
        velocity.mul_(one.group["momentum"]).add_(gradient)
        weights[one.rows].add_(velocity, alpha=-one.group["lr"])
