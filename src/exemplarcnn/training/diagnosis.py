"""Trainings that diverge or do not learn: what is wrong, and what to try."""

import logging

from exemplarcnn import distributed
from exemplarcnn.config.sections import ResNet, Train
from exemplarcnn.errors import PipelineError
from exemplarcnn.training.checkpoint import Checkpoint, Progress
from exemplarcnn.training.running_loss import RunningLoss
from exemplarcnn.training.schedule import Length

# A training should beat guessing within a tenth of its steps, but is not judged before this many steps, nor before this
# many updates of its running loss.
FEWEST_STEPS = 100
FEWEST_UPDATES = 20
# A loss above this share of guessing's counts as guessing.
GUESSING = 0.99

log = logging.getLogger(__name__)


class TrainingError(PipelineError):
    """Training cannot continue."""


def diverged(epoch: int, params: Train | ResNet, checkpoint: Checkpoint, saved: Progress | None) -> TrainingError:
    """Return the error for a training whose loss or weights are not finite.

    Parameters
    ----------
    epoch
        Epochs done before the one that diverged.
    params
        The training's parameters.
    checkpoint, saved
        Its checkpoint, and the progress last saved there; None if nothing was saved.
    """
    kept = f". {checkpoint.path} holds the last good state, {saved}: remove it to start over" if saved else ""
    section = _section(params)
    return TrainingError(
        f"training diverged in epoch {epoch + 1}: the loss or a weight is no longer a finite number. "
        f"Divide the learning rates ({section}.groups.*.lr) by ten, or set {section}.precision: fp32{kept}"
    )


class GuessingCheck:
    """Warn once if a network has learned nothing in a tenth of its training.

    Parameters
    ----------
    length
        The training's length and parameters.
    guessing
        The loss of a network that guesses; None where nobody knows it: then nothing is checked.
    """

    def __init__(self, length: Length, guessing: float | None):
        self.length, self.guessing = length, guessing
        self._done = guessing is None

    def __call__(self, step: int, loss: RunningLoss) -> None:
        """Compare the loss with that of guessing, once enough steps are done.

        Parameters
        ----------
        step
            Steps done.
        loss
            The running loss.
        """
        if self._done or step < max(FEWEST_STEPS, self.length.steps / 10) or loss.updates < FEWEST_UPDATES:
            return
        self._done = True
        assert self.guessing is not None
        if loss.value > GUESSING * self.guessing and distributed.rank() == 0:
            log.warning(
                "after %d of %d steps the loss is %.3f, and guessing gives %.3f: the network has not "
                "started to learn. Multiply or divide the learning rates (%s.groups.*.lr) by ten%s, or check the "
                "training images",
                step,
                self.length.steps,
                loss.value,
                self.guessing,
                _section(self.length.params),
                "" if isinstance(self.length.params, ResNet) else ", use less dropout",
            )


def _section(params: Train | ResNet) -> str:
    """Return the section of params.yaml that holds a training's parameters."""
    return "resnet" if isinstance(params, ResNet) else "train"
