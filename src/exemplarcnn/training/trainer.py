"""Training a network on labelled images (docs/method.md, section 3), by one process or several under ``torchrun``.

An interrupted training continues from its last checkpoint and ends with the same weights: the order of the patches is a
function of (seed, epoch), dropout one of (seed, epoch, step), and the checkpoint holds all the rest.
"""

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from torch.nn import functional as F

from exemplarcnn import distributed, rng
from exemplarcnn.config import ResNet, Schedule, Train
from exemplarcnn.errors import PipelineError
from exemplarcnn.networks.exemplar_cnn import Classifier, to_device
from exemplarcnn.progress import tqdm
from exemplarcnn.training import checkpoint
from exemplarcnn.training.batches import Source
from exemplarcnn.training.checkpoint import Epoch, Progress

VALIDATION_BATCH = 512
# A second signal is obeyed at once, but not what is one and the same: `torchrun` passes on the one that a terminal or
# a scheduler has sent to all processes already.
SECONDS_OF_ONE_SIGNAL = 2.0
# Steps between looks at the loss and the clock, where looking means waiting for a GPU or for other processes.
STEPS_BETWEEN_LOOKS = 10
# A tenth of its steps is what a training gets to become better than guessing, but no less than this.
FEWEST_STEPS = 100
FEWEST_LOOKS = 20
GUESSING = 0.99

log = logging.getLogger(__name__)


class TrainingError(PipelineError):
    """Training cannot start, or cannot go on."""


def rate_factor(epoch: int, epochs: int, schedule: Schedule) -> float:
    """Return what the initial learning rates are multiplied by during an epoch.

    Parameters
    ----------
    epoch
        Epochs done before this one.
    epochs
        Epochs in all; the schedule's milestones scale with it.
    schedule
        The milestones.
    """
    factor = 1.0
    for milestone, drop in schedule.drops:
        if epoch >= round(milestone * epochs / schedule.epochs):
            factor *= drop
    return factor


class Trainer:
    """Trains one network on one set of images with labels.

    Under ``torchrun`` each process takes its share of every batch, so that the batch, and with it the method, is the
    same however many there are.

    Parameters
    ----------
    network
        With its initial weights; trained in place.
    train, valid
        The training images, a surrogate set's patches as a rule, and those that the training is watched by.
    params, seed, device
        Training parameters, the experiment's seed, where to compute.
    path
        The checkpoint: written after each epoch and every ``minutes``, and continued from where it exists.
    configuration
        What the training's result depends on. A checkpoint of another one is refused.
    minutes
        Time between checkpoints within an epoch.
    probe, probe_every
        Judges the network after every so many epochs; 0: never.
    """

    def __init__(
        self,
        network: Classifier,
        train: Source,
        valid: Source,
        params: Train | ResNet,
        seed: int,
        device: torch.device,
        path: Path,
        configuration: dict[str, Any],
        minutes: float = 10.0,
        probe: Callable[[Any], float] | None = None,
        probe_every: int = 0,
    ):
        self.params, self.seed, self.device = params, seed, device
        self.path, self.configuration, self.minutes = path, configuration, minutes
        self.probe, self.probe_every = probe, probe_every
        layout = torch.channels_last if params.channels_last else torch.contiguous_format
        self.network = to_device(network, device, layout)
        self.optimiser = torch.optim.SGD(network.parameter_groups(params.groups), momentum=params.momentum)
        self.train, self.valid = train, valid
        self.rank, self.world = distributed.rank(), distributed.world()
        self.history: list[Epoch] = []
        self._step = 0
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._dropout = rng.Stream(seed, rng.Purpose.DROPOUT)
        self._kept: Progress | None = None
        self._saved_at = time.monotonic()
        self._asked_to_stop: float | None = None
        # The loss of late, smoothed; and patches and sum of losses of this epoch when it was last looked at.
        self._recent, self._looks, self._looked_at = 0.0, 0, (0.0, 0.0)
        self._warned = False

    def run(self, after_epoch: Callable[[Epoch], None] = lambda epoch: None) -> list[Epoch]:
        """Train to the last epoch, from the checkpoint if there is one.

        Parameters
        ----------
        after_epoch
            Called with each epoch's row, those of the checkpoint included, by the first process.

        Returns
        -------
        list of Epoch
            The learning curve.

        Raises
        ------
        TrainingError
            If the loss or a weight is not finite.
        CheckpointError
            If the checkpoint cannot be read or written, or belongs to something else.
        KeyboardInterrupt
            After Ctrl-C or SIGTERM, once all is saved.
        """
        if distributed.agreed(float(self.path.exists())):
            self._resume()
        for row in self.history:
            distributed.by_the_first(partial(after_epoch, row))
        distributed.share(self.network.parameters())
        epochs, size = self.params.epochs, len(self.train)
        done = len(self.history) * size + min(self._step * self.params.batch_size, size)
        bar = tqdm(total=epochs * size, initial=done, unit="patch", unit_scale=True, disable=self.rank > 0)
        with bar, self._signals():
            for epoch in range(len(self.history), epochs):
                bar.set_description(f"epoch {epoch + 1}/{epochs}")
                row = self._epoch(epoch, bar)
                # The last step of an epoch may be the one that breaks the weights: only validation shows it.
                if not math.isfinite(row.valid_loss):
                    raise TrainingError(self._diverged(epoch))
                self.history.append(self._probed(row))
                self._begin_epoch()
                self._save()
                distributed.by_the_first(partial(after_epoch, self.history[-1]))
        return self.history

    def _epoch(self, epoch: int, bar: tqdm) -> Epoch:
        size, batch = len(self.train), self.params.batch_size
        factor = rate_factor(epoch, self.params.epochs, self.params.schedule)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        order = rng.generator(self.seed, rng.Purpose.EPOCH, epoch).permutation(size)
        starts = range(self._step * batch, size, batch)
        shares = (order[start : start + batch][self.rank :: self.world] for start in starts)
        between = 1 if self.device.type == "cpu" and self.world == 1 else STEPS_BETWEEN_LOOKS
        self.network.train()
        for patches, labels in self.train.each(shares, epoch):
            count = min(batch, size - self._step * batch)
            torch.manual_seed(int(self._dropout.at(epoch, self._step * self.world + self.rank).integers(2**63)))
            self.step(patches, labels, count)
            self._step += 1
            bar.update(count)
            if self._step % between == 0:
                self._look(epoch, bar)
        self._look(epoch, bar)
        valid_loss, valid_accuracy = self._validate()
        loss, right = distributed.summed(*self._sums.tolist())
        rate = self.optimiser.param_groups[0]["lr"]
        return Epoch(epoch + 1, rate, loss / size, right / size, valid_loss, valid_accuracy)

    def step(self, patches: Tensor, labels: Tensor, count: int) -> None:
        """Take one step of SGD.

        Parameters
        ----------
        patches, labels
            This process's share of a batch: (n, side, side, 3) uint8 and (n,) int64, on the device.
        count
            Patches of the whole batch, of which the loss is the mean.
        """
        logits = self._forward(patches)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        self.optimiser.zero_grad()
        torch.autograd.backward(loss / count)
        distributed.sum_gradients(self.network.parameters())
        self.optimiser.step()
        self._sums += _judge(logits, labels, loss)

    def _forward(self, patches: Tensor) -> Tensor:
        images = self.network.normalise(patches)
        if not self.params.channels_last:
            images = images.contiguous()
        mixed = torch.autocast(self.device.type, torch.bfloat16) if self.params.precision == "bf16" else nullcontext()
        with mixed:
            logits: Tensor = self.network(images)
        return logits.float()

    def _validate(self) -> tuple[float, float]:
        """Return the mean loss of the validation patches, and the share that is classified right."""
        # Statistics of batches are each process's own, and have no part in training.
        distributed.share(self.network.buffers())
        self.network.eval()
        size = len(self.valid)
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        starts = range(0, size, VALIDATION_BATCH)
        shares = (np.arange(start + self.rank, min(start + VALIDATION_BATCH, size), self.world) for start in starts)
        with torch.inference_mode():
            for number, (patches, labels) in enumerate(self.valid.each(shares, 0), 1):
                logits = self._forward(patches)
                sums += _judge(logits, labels, F.cross_entropy(logits, labels, reduction="sum"))
                if number % STEPS_BETWEEN_LOOKS == 0:
                    self._heed()
        loss, right = distributed.summed(*sums.tolist())
        return loss / size, right / size

    def _probed(self, row: Epoch) -> Epoch:
        if self.probe is None or not self.probe_every or row.epoch % self.probe_every:
            return row
        accuracy = distributed.by_the_first(partial(self.probe, self.network))
        return replace(row, probe_accuracy=accuracy)

    def _look(self, epoch: int, bar: tqdm) -> None:
        """Look at the loss, the clock, and whether to stop."""
        loss, right = self._sums.tolist()
        if any(distributed.anywhere(not math.isfinite(loss))):
            raise TrainingError(self._diverged(epoch))
        seen, (seen_before, loss_before) = self._seen(), self._looked_at
        if seen > seen_before:
            latest = (loss - loss_before) / (seen - seen_before)
            self._looks, self._looked_at = self._looks + 1, (seen, loss)
            # The mean of the first looks, then one that forgets.
            share = max(0.05, 1 / self._looks)
            self._recent = (1 - share) * self._recent + share * latest
            bar.set_postfix(loss=f"{self._recent:.3f}", accuracy=f"{right / seen:.3f}", refresh=False)
            self._warn_if_guessing(epoch)
        self._heed()

    def _seen(self) -> float:
        """Patches that this process has seen in this epoch (of a last batch, its share in the mean)."""
        return min(self._step * self.params.batch_size, len(self.train)) / self.world

    def _heed(self) -> None:
        """Save if it is time to, or if asked to stop; then stop."""
        due = self.rank == 0 and time.monotonic() - self._saved_at >= 60 * self.minutes
        asked = self._asked_to_stop is not None or distributed.orphaned()
        stop, due = distributed.anywhere(asked, due)
        if stop or due:
            self._save()
        if stop:
            raise KeyboardInterrupt

    def _warn_if_guessing(self, epoch: int) -> None:
        """Say so, once, if the network has learned nothing in a tenth of the training."""
        steps = math.ceil(len(self.train) / self.params.batch_size)
        step, all_steps = epoch * steps + self._step, self.params.epochs * steps
        if self._warned or step < max(FEWEST_STEPS, all_steps / 10) or self._looks < FEWEST_LOOKS:
            return
        self._warned = True
        classes = self.network.classes
        if self._recent > GUESSING * math.log(classes) and self.rank == 0:
            log.warning(
                "after %d of %d steps the loss is %.3f, where guessing among %d classes gives %.3f: the network has "
                "not begun to learn. Try other learning rates (%s.groups.*.lr, ten times as high or as low), less "
                "dropout, or look at what it is shown",
                step,
                all_steps,
                self._recent,
                classes,
                math.log(classes),
                self._section,
            )

    @property
    def _section(self) -> str:
        """Where in params.yaml the parameters of this training stand."""
        return "resnet" if isinstance(self.params, ResNet) else "train"

    def _begin_epoch(self) -> None:
        self._step = 0
        self._sums.zero_()
        self._looked_at = 0.0, 0.0

    def _diverged(self, epoch: int) -> str:
        kept = f". {self.path} holds {self._kept}, all finite: remove it to start over" if self._kept else ""
        return (
            f"in epoch {epoch + 1} the loss or a weight stopped being a finite number: training diverged. "
            f"Lower the learning rates ({self._section}.groups.*.lr), by ten for a start, or set "
            f"{self._section}.precision: fp32{kept}"
        )

    def _save(self) -> None:
        # The loss may be finite that led to the weights, and nothing has been computed with them yet.
        finite = all(bool(parameter.isfinite().all()) for parameter in self.network.parameters())
        if any(distributed.anywhere(not finite)):
            raise TrainingError(self._diverged(len(self.history) - (self._step == 0)))
        loss, right = (np.array([number]) for number in self._sums.tolist())
        sums = np.stack(distributed.gathered(loss, right), axis=1).tolist()
        progress = Progress(list(self.history), self._step, sums)
        distributed.by_the_first(lambda: checkpoint.save(self.path, self._tensors(), progress, self.configuration))
        self._kept, self._saved_at = progress, time.monotonic()

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"network.{k}": v for k, v in self.network.tensors().items()}
        for name, parameter in self.network.named_parameters():
            momentum = self.optimiser.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum.detach().cpu().contiguous()
        return tensors

    def _resume(self) -> None:
        tensors, progress = checkpoint.load(self.path, self.configuration)
        weights = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        self.network.load_state_dict(weights)
        for name, parameter in self.network.named_parameters():
            if (momentum := tensors.get(f"momentum.{name}")) is not None:
                buffer = torch.empty_like(parameter).copy_(momentum)
                self.optimiser.state[parameter]["momentum_buffer"] = buffer
        self.history, self._step, self._kept = list(progress.history), progress.step, progress
        mine = progress.sums[self.rank]
        self._sums = torch.tensor(mine, dtype=torch.float64, device=self.device)
        self._looked_at = self._seen(), mine[0]

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Note Ctrl-C and a scheduler's SIGTERM, to be heeded between two steps; obey a second one at once."""

        def note(number: int, frame: object) -> None:
            now = time.monotonic()
            if self._asked_to_stop is None:
                self._asked_to_stop = now
            elif now - self._asked_to_stop > SECONDS_OF_ONE_SIGNAL:
                raise KeyboardInterrupt

        if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
            yield
            return
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep others from a training whose checkpoint lies in a folder: they would write the same one.

    Raises
    ------
    TrainingError
        If another process is at it.
    """
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))

    def acquire() -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise TrainingError(
                f"another process is training {folder.name} (it holds {lock.lock_file}): wait for it, or end it; "
                "then rerun to continue from its last checkpoint"
            ) from None

    distributed.by_the_first(acquire)
    try:
        yield
    finally:
        lock.release()


def _judge(logits: Tensor, labels: Tensor, loss: Tensor) -> Tensor:
    """Return (2,) float64: the summed loss, and how many are classified right."""
    right = (logits.argmax(1) == labels).sum()
    return torch.stack([loss.detach().double(), right.double()])
