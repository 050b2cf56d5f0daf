"""The loss as a person sees it while a network trains: without the jumps from batch to batch."""

# What each new mean counts in the running one, but for the first few.
WEIGHT = 0.05


class RunningLoss:
    """The mean of the first losses, then one that forgets: an exponential moving average.

    Attributes
    ----------
    value
        The running loss.
    updates
        How many losses it is made of.
    """

    def __init__(self) -> None:
        self.value, self.updates = 0.0, 0
        self.start_epoch()

    def start_epoch(self, patches: float = 0.0, loss_sum: float = 0.0) -> None:
        """Begin an epoch, or go on after its first patches, whose losses have this sum."""
        self._patches, self._loss_sum = patches, loss_sum

    def update(self, patches: float, loss_sum: float) -> bool:
        """Take in the mean loss of the patches since the last update.

        Parameters
        ----------
        patches, loss_sum
            Patches seen in this epoch, and the sum of their losses.

        Returns
        -------
        bool
            Whether there were any.
        """
        if patches <= self._patches:
            return False
        latest = (loss_sum - self._loss_sum) / (patches - self._patches)
        self._patches, self._loss_sum = patches, loss_sum
        self.updates += 1
        weight = max(WEIGHT, 1 / self.updates)
        self.value = (1 - weight) * self.value + weight * latest
        return True
