"""Train a network on labelled images (docs/method.md, section 3), in one process or several under ``torchrun``.

An interrupted training continues from its last checkpoint and, on a CPU, ends with the same weights: the order of the
patches is a function of (seed, epoch), dropout one of (seed, epoch, step, process), and the checkpoint holds the rest.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from exemplarcnn import distributed, rng
from exemplarcnn.config.sections import ResNet, Train
from exemplarcnn.networks.exemplar_cnn import Classifier, to_device
from exemplarcnn.progress import tqdm
from exemplarcnn.training import checkpoint, diagnosis, schedule
from exemplarcnn.training.batches import TrainingData
from exemplarcnn.training.checkpoint import Checkpoint, Progress
from exemplarcnn.training.diagnosis import TrainingError
from exemplarcnn.training.learning_curve import Epoch
from exemplarcnn.training.running_loss import RunningLoss
from exemplarcnn.training.signals import StopRequest

VALIDATION_BATCH = 512
# Steps between checks of the loss and the clock, where a check has to wait for a GPU or for other processes.
STEPS_BETWEEN_LOOKS = 10


@dataclass(frozen=True)
class PeriodicProbe:
    """Measure how good a network's features are, every few epochs.

    Parameters
    ----------
    measure
        Takes the network and returns its accuracy, 0–1.
    every
        Epochs from one measurement to the next.
    """

    measure: Callable[[Any], float]
    every: int

    def __call__(self, network: Classifier, epoch: int) -> float | None:
        """Return the accuracy after an epoch, counted from 1; None in epochs between, and on ranks other than 0."""
        if epoch % self.every:
            return None
        return distributed.on_rank_zero(partial(self.measure, network))


class Trainer:
    """Train one network on one set of labelled images.

    Under ``torchrun`` each process takes its share of every batch, so that the batch size does not depend on the number
    of processes.

    Parameters
    ----------
    network
        With its initial weights; trained in place.
    data
        Training and validation images, usually patches of a surrogate set.
    params, seed, device
        Training parameters, the experiment's seed, the device that trains.
    checkpoint
        Where the training's state is kept. If the file exists, the training continues from it.
    probe
        Measures the features after some epochs; None: never.
    """

    def __init__(
        self,
        network: Classifier,
        data: TrainingData,
        params: Train | ResNet,
        seed: int,
        device: torch.device,
        checkpoint: Checkpoint,
        probe: PeriodicProbe | None = None,
    ):
        self.data, self.params, self.seed, self.device = data, params, seed, device
        self.checkpoint, self.probe = checkpoint, probe
        layout = torch.channels_last if params.channels_last else torch.contiguous_format
        self.network = to_device(network, device, layout)
        self.optimiser = torch.optim.SGD(network.parameter_groups(params.groups), momentum=params.momentum)
        self.rank, self.world = distributed.rank(), distributed.world()
        self.history: list[Epoch] = []
        # In the current epoch: steps done and, over them, the summed loss and the number of correct predictions.
        self._step = 0
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._saved: Progress | None = None
        self._saved_at = time.monotonic()
        self._dropout = rng.Stream(seed, rng.Purpose.DROPOUT)
        self._running_loss = RunningLoss()
        self._check_guessing = diagnosis.GuessingCheck(params, len(data.train), network.classes)
        self._stop = StopRequest()

    def run(self, after_epoch: Callable[[Epoch], None] = lambda row: None) -> list[Epoch]:
        """Train to the last epoch, from the checkpoint if there is one.

        Parameters
        ----------
        after_epoch
            Called by the first process with each epoch's row, those of the checkpoint included.

        Returns
        -------
        list of Epoch
            The learning curve.

        Raises
        ------
        TrainingError
            If the loss or a weight is not finite.
        CheckpointError
            If the checkpoint cannot be read or written, or belongs to another training.
        KeyboardInterrupt
            After Ctrl-C or SIGTERM, once the state is saved.
        """
        if distributed.broadcast_scalar(float(self.checkpoint.path.exists())):
            self._resume()
        for row in self.history:
            distributed.on_rank_zero(partial(after_epoch, row))
        distributed.broadcast(self.network.parameters())
        epochs, patches = self.params.epochs, len(self.data.train)
        done = len(self.history) * patches + min(self._step * self.params.batch_size, patches)
        bar = tqdm(total=epochs * patches, initial=done, unit="patch", unit_scale=True, disable=self.rank > 0)
        with bar, self._stop.listen():
            for epoch in range(len(self.history), epochs):
                bar.set_description(f"epoch {epoch + 1}/{epochs}")
                schedule.scale_rates(self.optimiser, schedule.rate_factor(epoch, epochs, self.params.schedule))
                self._train(epoch, bar)
                valid_loss, valid_accuracy = self._validate()
                # If an epoch's last step breaks the weights, only validation shows it.
                if not math.isfinite(valid_loss):
                    raise self._diverged(epoch)
                loss, accuracy = (each / patches for each in distributed.all_reduce_sum(*self._sums.tolist()))
                rate = self.optimiser.param_groups[0]["lr"]
                probed = self.probe(self.network, epoch + 1) if self.probe is not None else None
                self.history.append(Epoch(epoch + 1, rate, loss, accuracy, valid_loss, valid_accuracy, probed))
                self._step = 0
                self._sums.zero_()
                self._running_loss.start_epoch()
                self._save()
                distributed.on_rank_zero(partial(after_epoch, self.history[-1]))
        return self.history

    def _train(self, epoch: int, bar: tqdm) -> None:
        """Take the remaining steps of an epoch."""
        patches, batch = len(self.data.train), self.params.batch_size
        order = rng.generator(self.seed, rng.Purpose.EPOCH, epoch).permutation(patches)
        starts = range(self._step * batch, patches, batch)
        shares = (order[start : start + batch][self.rank :: self.world] for start in starts)
        between = 1 if self.device.type == "cpu" and self.world == 1 else STEPS_BETWEEN_LOOKS
        self.network.train()
        for images, labels in self.data.train.each(shares, epoch):
            count = min(batch, patches - self._step * batch)
            torch.manual_seed(int(self._dropout.at(epoch, self._step * self.world + self.rank).integers(2**63)))
            self.step(images, labels, count)
            self._step += 1
            bar.update(count)
            if self._step % between == 0:
                self._log_progress(epoch, bar)
                self._check_stop()
        self._log_progress(epoch, bar)
        self._check_stop()

    def step(self, images: Tensor, labels: Tensor, count: int) -> None:
        """Take one step of SGD.

        Parameters
        ----------
        images, labels
            This process's share of a batch: (n, side, side, 3) uint8 and (n,) int64, on the device.
        count
            Images in the whole batch, over which the loss is averaged.
        """
        logits = self._forward(images)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        self.optimiser.zero_grad()
        torch.autograd.backward(loss / count)
        distributed.sum_gradients(self.network.parameters())
        self.optimiser.step()
        self._sums += _loss_and_right(logits, labels, loss)

    def _forward(self, images: Tensor) -> Tensor:
        normalised = self.network.normalise(images)
        if not self.params.channels_last:
            normalised = normalised.contiguous()
        mixed = torch.autocast(self.device.type, torch.bfloat16) if self.params.precision == "bf16" else nullcontext()
        with mixed:
            logits: Tensor = self.network(normalised)
        return logits.float()

    def _validate(self) -> tuple[float, float]:
        """Return mean loss and accuracy on the validation images."""
        # Each process keeps its own running statistics of batch normalisation. Training does not use them; validation
        # takes those of rank 0.
        distributed.broadcast(self.network.buffers())
        self.network.eval()
        size = len(self.data.valid)
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        starts = range(0, size, VALIDATION_BATCH)
        shares = (np.arange(start + self.rank, min(start + VALIDATION_BATCH, size), self.world) for start in starts)
        with torch.inference_mode():
            for number, (images, labels) in enumerate(self.data.valid.each(shares, 0), 1):
                logits = self._forward(images)
                sums += _loss_and_right(logits, labels, F.cross_entropy(logits, labels, reduction="sum"))
                if number % STEPS_BETWEEN_LOOKS == 0:
                    self._check_stop()
        loss, right = distributed.all_reduce_sum(*sums.tolist())
        return loss / size, right / size

    def _log_progress(self, epoch: int, bar: tqdm) -> None:
        """Show the loss; raise if it is not finite, warn if it is no better than guessing."""
        loss, right = self._sums.tolist()
        if any(distributed.any_rank(not math.isfinite(loss))):
            raise self._diverged(epoch)
        seen = self._seen()
        if self._running_loss.update(seen, loss):
            bar.set_postfix(loss=f"{self._running_loss.value:.3f}", accuracy=f"{right / seen:.3f}", refresh=False)
            self._check_guessing(epoch, self._step, self._running_loss)

    def _seen(self) -> float:
        """Return how many patches each process has seen in this epoch, on average."""
        return min(self._step * self.params.batch_size, len(self.data.train)) / self.world

    def _check_stop(self) -> None:
        """Save if a checkpoint is due or a signal came; after a signal, stop."""
        due = self.rank == 0 and time.monotonic() - self._saved_at >= 60 * self.checkpoint.minutes
        asked = self._stop.asked or distributed.orphaned()
        stop, due = distributed.any_rank(asked, due)
        if stop or due:
            self._save()
        if stop:
            raise KeyboardInterrupt

    def _save(self) -> None:
        # Even after a finite loss the weights may be infinite, and nothing has been computed with them yet.
        finite = all(bool(parameter.isfinite().all()) for parameter in self.network.parameters())
        if any(distributed.any_rank(not finite)):
            raise self._diverged(len(self.history) - (self._step == 0))
        loss, right = (np.array([number]) for number in self._sums.tolist())
        sums = np.stack(distributed.all_gather(loss, right), axis=1).tolist()
        progress = Progress(list(self.history), self._step, sums)

        def write() -> None:
            self.checkpoint.save(checkpoint.collect_tensors(self.network, self.optimiser), progress)

        distributed.on_rank_zero(write)
        self._saved, self._saved_at = progress, time.monotonic()

    def _resume(self) -> None:
        tensors, progress = self.checkpoint.load()
        checkpoint.restore_tensors(tensors, self.network, self.optimiser)
        self.history, self._step, self._saved = list(progress.history), progress.step, progress
        loss, right = progress.sums[self.rank]
        self._sums = torch.tensor([loss, right], dtype=torch.float64, device=self.device)
        self._running_loss.start_epoch(self._seen(), loss)

    def _diverged(self, epoch: int) -> TrainingError:
        return diagnosis.diverged(epoch, self.params, self.checkpoint, self._saved)


def _loss_and_right(logits: Tensor, labels: Tensor, loss: Tensor) -> Tensor:
    """Return (2,) float64: the summed loss, and the number of correct predictions."""
    right = (logits.argmax(1) == labels).sum()
    return torch.stack([loss.detach().double(), right.double()])
