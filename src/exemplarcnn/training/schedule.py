"""The learning rates of each epoch (docs/method.md, section 3)."""

from torch.optim import Optimizer

from exemplarcnn.config.sections import Schedule


def rate_factor(epoch: int, epochs: int, schedule: Schedule) -> float:
    """Return the factor by which an epoch's learning rates differ from the initial ones.

    Parameters
    ----------
    epoch
        Epochs done before this one.
    epochs
        Epochs in all; the schedule's milestones scale with it.
    schedule
        The drops of the rate, and the number of epochs that they refer to.
    """
    factor = 1.0
    for milestone, drop in schedule.drops:
        if epoch >= round(milestone * epochs / schedule.epochs):
            factor *= drop
    return factor


def scale_rates(optimiser: Optimizer, factor: float) -> None:
    """Set each group's learning rate to a multiple of its initial one."""
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * factor
