"""How long a training is, and its learning rates (docs/method.md, section 3)."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exemplarcnn.config.sections import ResNet, Schedule, Train

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass(frozen=True)
class Length:
    """How long a training is.

    Parameters
    ----------
    images
        Training images in a whole epoch.
    params
        The training's parameters: ``steps``, or ``epochs`` if that is null, ``batch_size`` and ``schedule``.
    """

    images: int
    params: Train | ResNet

    @property
    def epoch_steps(self) -> int:
        """Steps of a whole epoch; the last of them may have fewer images."""
        return -(-self.images // self.params.batch_size)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.params.steps or self.params.epochs * self.epoch_steps

    @property
    def epochs(self) -> int:
        """Epochs, the last of which may be a part of one."""
        return -(-self.steps // self.epoch_steps)

    def images_until(self, step: int) -> int:
        """Return how many images the training has shown after so many steps."""
        epochs, rest = divmod(step, self.epoch_steps)
        return epochs * self.images + min(rest * self.params.batch_size, self.images)

    def images_of(self, epoch: int) -> int:
        """Return the number of images of an epoch, counted from 0; the last can have fewer."""
        first = epoch * self.epoch_steps
        return self.images_until(min(first + self.epoch_steps, self.steps)) - self.images_until(first)

    def rate_factor(self, step: int) -> float:
        """Return the factor by which a step's learning rates differ from the initial ones.

        Parameters
        ----------
        step
            Steps done before this one. With a budget in epochs, rates drop between epochs only; along a cosine, and
            while they rise, they change with each step.
        """
        schedule = self.params.schedule
        rising = round(schedule.warmup * self.steps)
        warm = min(1.0, (step + 1) / rising) if rising else 1.0
        if schedule.cosine:
            return warm * (1 + math.cos(math.pi * step / self.steps)) / 2
        if self.params.steps is None:
            return warm * rate_factor(step // self.epoch_steps, self.epochs, schedule)
        return warm * rate_factor(step, self.steps, schedule)


def rate_factor(done: int, total: int, schedule: Schedule) -> float:
    """Return the factor by which learning rates differ from the initial ones.

    Parameters
    ----------
    done, total
        Epochs done and epochs in all, or steps done and steps in all; the schedule's milestones scale with the total.
    schedule
        The drops of the rate, and the number of epochs that they refer to.
    """
    factor = 1.0
    for milestone, drop in schedule.drops:
        if done >= round(milestone * total / schedule.epochs):
            factor *= drop
    return factor


def scale_rates(optimiser: "Optimizer", factor: float) -> None:
    """Set each group's learning rate to a multiple of its initial one."""
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * factor
