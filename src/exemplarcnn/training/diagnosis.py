"""Trainings that come to nothing: what is wrong, and what to try."""

import logging
import math

from exemplarcnn import distributed
from exemplarcnn.config.sections import ResNet, Train
from exemplarcnn.errors import PipelineError
from exemplarcnn.training.checkpoint import Checkpoint, Progress
from exemplarcnn.training.running_loss import RunningLoss

# A tenth of its steps is what a training gets to become better than guessing, but no less than this.
FEWEST_STEPS = 100
FEWEST_UPDATES = 20
GUESSING = 0.99

log = logging.getLogger(__name__)


class TrainingError(PipelineError):
    """Training cannot go on."""


def diverged(epoch: int, params: Train | ResNet, checkpoint: Checkpoint, saved: Progress | None) -> TrainingError:
    """Return the error of a training whose loss or weights are not finite.

    Parameters
    ----------
    epoch
        Epochs done before the one in which it happened.
    params
        The training's parameters.
    checkpoint, saved
        Its checkpoint, and how far the training was when it was last saved; None: it was not.
    """
    kept = f". {checkpoint.path} holds {saved}, all finite: remove it to start over" if saved else ""
    section = _section(params)
    return TrainingError(
        f"in epoch {epoch + 1} the loss or a weight stopped being a finite number: training diverged. "
        f"Lower the learning rates ({section}.groups.*.lr), by ten for a start, or set {section}.precision: fp32{kept}"
    )


class GuessingCheck:
    """Warns, once, of a network that has learned nothing in a tenth of its training.

    Parameters
    ----------
    params
        The training's parameters.
    patches, classes
        Patches of an epoch, and how many classes they are of.
    """

    def __init__(self, params: Train | ResNet, patches: int, classes: int):
        self.params, self.classes = params, classes
        self._epoch_steps = math.ceil(patches / params.batch_size)
        self._done = False

    def __call__(self, epoch: int, step: int, loss: RunningLoss) -> None:
        """Compare the loss with that of guessing, if it is time to.

        Parameters
        ----------
        epoch, step
            Epochs done, and steps of the next one.
        loss
            The running loss.
        """
        step, all_steps = epoch * self._epoch_steps + step, self.params.epochs * self._epoch_steps
        if self._done or step < max(FEWEST_STEPS, all_steps / 10) or loss.updates < FEWEST_UPDATES:
            return
        self._done = True
        guessing = math.log(self.classes)
        if loss.value > GUESSING * guessing and distributed.rank() == 0:
            log.warning(
                "after %d of %d steps the loss is %.3f, where guessing among %d classes gives %.3f: the network has "
                "not begun to learn. Try other learning rates (%s.groups.*.lr, ten times as high or as low), less "
                "dropout, or look at what it is shown",
                step,
                all_steps,
                loss.value,
                self.classes,
                guessing,
                _section(self.params),
            )


def _section(params: Train | ResNet) -> str:
    """Where in params.yaml the parameters of a training stand."""
    return "resnet" if isinstance(params, ResNet) else "train"
