"""The loss shown while a network trains: smoothed, so that it does not jump from batch to batch."""

# Weight of each new mean in the running loss, except for the first ones.
WEIGHT = 0.05


class RunningLoss:
    """An exponential moving average of the loss; at first the plain mean.

    Attributes
    ----------
    value
        The running loss.
    updates
        How many losses went into it.
    """

    def __init__(self) -> None:
        self.value, self.updates = 0.0, 0
        self.start_epoch()

    def start_epoch(self, patches: float = 0.0, loss_sum: float = 0.0) -> None:
        """Start an epoch, or continue one after ``patches`` patches whose losses sum to ``loss_sum``."""
        self._patches, self._loss_sum = patches, loss_sum

    def update(self, patches: float, loss_sum: float) -> bool:
        """Add the mean loss of the patches since the last update.

        Parameters
        ----------
        patches, loss_sum
            Patches seen in this epoch, and the sum of their losses.

        Returns
        -------
        bool
            Whether there were new patches.
        """
        if patches <= self._patches:
            return False
        latest = (loss_sum - self._loss_sum) / (patches - self._patches)
        self._patches, self._loss_sum = patches, loss_sum
        self.updates += 1
        weight = max(WEIGHT, 1 / self.updates)
        self.value = (1 - weight) * self.value + weight * latest
        return True
