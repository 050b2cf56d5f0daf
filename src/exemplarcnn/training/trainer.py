"""Train a network on labelled images (docs/method.md, section 3), in one process or several under ``torchrun``.

An interrupted training continues from its last checkpoint and, on a CPU, ends with the same weights: the order of the
patches is a function of (seed, epoch), dropout one of (seed, epoch, step, shard), and the checkpoint holds the rest.
:mod:`exemplarcnn.training.shards` says why the number of threads and processes changes nothing.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exemplarcnn import distributed, rng, threads
from exemplarcnn.config.sections import ResNet, Train
from exemplarcnn.networks.exemplar_cnn import Classifier, to_device
from exemplarcnn.networks.precision import computed
from exemplarcnn.progress import tqdm
from exemplarcnn.training import checkpoint, diagnosis, schedule
from exemplarcnn.training.batches import Batch, Labelled, Source, TrainingData
from exemplarcnn.training.checkpoint import Checkpoint, Progress
from exemplarcnn.training.diagnosis import TrainingError
from exemplarcnn.training.learning_curve import Epoch
from exemplarcnn.training.objectives import Exemplar, Objective
from exemplarcnn.training.running_loss import RunningLoss
from exemplarcnn.training.sgd import SGD
from exemplarcnn.training.shards import Layout, Shards, loss_and_right, outputs_of
from exemplarcnn.training.signals import StopRequest

# Images that one thread validates at a time.
VALIDATION_BATCH = 64
# Steps between checks of the loss and the clock, where a check has to wait for a GPU or for other processes.
STEPS_BETWEEN_LOOKS = 10

log = logging.getLogger(__name__)


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

    Each batch is split into shards, which threads and, under ``torchrun``, processes divide among themselves: the batch
    size does not depend on their number.

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
    objective
        What the network learns; None: to tell the classes of the images apart.
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
        objective: Objective | None = None,
    ):
        self.objective = objective or Exemplar(network.classes)
        self.data, self.params, self.seed, self.device = data, params, seed, device
        self.checkpoint, self.probe = checkpoint, probe
        layout = torch.channels_last if params.channels_last else torch.contiguous_format
        self.network = to_device(network, device, layout)
        self.rank, self.world = distributed.rank(), distributed.world()
        self.computed_in = computed(params.precision, device)
        self._check_same_precision()
        self.threads = 1 if device.type == "cuda" else threads.count()
        team = threads.Team(self.threads)
        self.layout = Layout.here(params.shards, device)
        self._warn_of_idle_threads()
        self.shards = Shards(network, params, self.layout, team, seed, self.objective)
        groups = network.parameter_groups(params.groups)
        self.optimiser = SGD(groups, list(network.parameters()), params.momentum, team)
        self.history: list[Epoch] = []
        self.length = schedule.Length(len(data.train), params)
        # In the current epoch: steps done and, for each shard here, summed loss and number of correct predictions.
        self._step = 0
        self._sums = torch.zeros(len(self.layout.own), 2, dtype=torch.float64, device=device)
        self._saved: Progress | None = None
        self._saved_at = time.monotonic()
        self._running_loss = RunningLoss()
        self._check_guessing = diagnosis.GuessingCheck(self.length, self.objective.guessing)
        self._stop = StopRequest()
        if self.objective.coupled:  # what cannot be paired ends the training before it begins
            for source in (data.train, data.valid):
                self._order(source, rng.generator(seed, rng.Purpose.VALIDATION))

    def _check_same_precision(self) -> None:
        (able,) = distributed.all_reduce_sum(float(self.computed_in == "bf16"))
        if 0 < able < self.world:
            raise diagnosis.TrainingError(
                f"cannot train together: {able:.0f} of {self.world} processes run on processors with instructions for "
                "bfloat16, and the others would compute in float32; use machines of one kind, or precision: fp32"
            )

    def _warn_of_idle_threads(self) -> None:
        if self.rank == 0 and self.threads > (here := len(self.layout.own)):
            log.warning(
                "machine.threads is %d, but this process computes %d shards of each batch, each in one thread: other "
                "threads only help to update the weights. To use them, set more `shards` beside batch_size, which "
                "changes the weights",
                self.threads,
                here,
            )

    def run(self, after_epoch: Callable[[Epoch], None] = lambda row: None) -> list[Epoch]:
        """Train to the last step, from the checkpoint if there is one.

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
        self.shards.load_statistics()
        epochs, length = self.length.epochs, self.length
        done, total = length.images_until(self._steps_done()), length.images_until(length.steps)
        unit = "image" if isinstance(self.params, ResNet) else "patch"
        bar = tqdm(total=total, initial=done, unit=unit, unit_scale=True, disable=self.rank > 0)
        with bar, self._stop.listen():
            for epoch in range(len(self.history), epochs):
                bar.set_description(f"epoch {epoch + 1}/{epochs}")
                self._train(epoch, bar)
                valid_loss, valid_accuracy = self._validate()
                # If an epoch's last step breaks the weights, only validation shows it.
                if not math.isfinite(valid_loss):
                    raise self._diverged(epoch)
                loss, accuracy = (math.fsum(each) / length.images_of(epoch) for each in self._all_sums())
                step = self._steps_done()
                rate = self.optimiser.param_groups[0]["initial_lr"] * length.rate_factor(step - 1)
                probed = self.probe(self.network, epoch + 1) if self.probe is not None else None
                self.history.append(Epoch(epoch + 1, step, rate, loss, accuracy, valid_loss, valid_accuracy, probed))
                self._step = 0
                self._sums.zero_()
                self._running_loss.start_epoch()
                self._save()
                distributed.on_rank_zero(partial(after_epoch, self.history[-1]))
        return self.history

    def _train(self, epoch: int, bar: tqdm) -> None:
        """Take the remaining steps of an epoch."""
        batch, shown = self.params.batch_size, self.length.images_of(epoch)
        order = self._order(self.data.train, rng.generator(self.seed, rng.Purpose.EPOCH, epoch))[:shown]
        starts = range(self._step * batch, shown, batch)
        shares = (self.layout.of(order[start : start + batch]) for start in starts)
        self.shards.train()
        between = 1 if self.device.type == "cpu" and self.world == 1 else STEPS_BETWEEN_LOOKS
        for images, labels in self.data.train.each(shares, epoch):
            count = min(batch, shown - self._step * batch)
            schedule.scale_rates(self.optimiser, self.length.rate_factor(self._steps_done()))
            self.step(images, labels, count, epoch)
            self._step += 1
            bar.update(count)
            if self._step % between == 0:
                self._log_progress(epoch, bar)
                self._check_stop()
        self._log_progress(epoch, bar)
        self._check_stop()

    def step(self, images: Tensor, labels: Tensor, count: int, epoch: int = 0) -> None:
        """Take one step of SGD.

        Parameters
        ----------
        images, labels
            This process's share of a batch: (n, side, side, 3) uint8 and (n,) int64, on the device.
        count
            Images in the whole batch, over which the loss is averaged.
        epoch
            Counted from 0.
        """
        found = self.shards.gradients(images, labels, count, (epoch, self._step))
        self.optimiser.step(found.shards if self.world == 1 else [distributed.sum_shards(found.shards)])
        self.shards.save_statistics()
        self._sums += found.sums

    def _validate(self) -> tuple[float, float]:
        """Return mean loss and accuracy on the validation images."""
        self.network.eval()
        size, batch = len(self.data.valid), VALIDATION_BATCH
        order = np.arange(size)
        if self.objective.coupled:  # the loss depends on how many others a batch has
            batch = self.params.batch_size
            order = self._order(self.data.valid, rng.generator(self.seed, rng.Purpose.VALIDATION))
        starts = range(0, size, batch)
        rows = (order[start : start + batch] for start in starts[self.rank :: self.world])
        found = threads.ahead(self._validate_batch, self.data.valid.each(rows, 0), self.threads)
        sums: list[list[float]] = []
        for _ in range(0, len(starts), self.world):
            sums += islice(found, 1)  # nothing, if another process has one batch more
            self._check_stop()
        loss, right = distributed.all_gather(*np.array(sums, np.float64).reshape(-1, 2).T.copy())
        return math.fsum(loss) / size, math.fsum(right) / size

    def _validate_batch(self, batch: Batch) -> list[float]:
        images, labels = batch
        with torch.inference_mode():
            shown, targets = self.objective.prepare(images, labels, None)
            outputs = outputs_of(self.network, shown, self.params)
            loss, right = self.objective.loss(outputs, None if self.objective.coupled else targets)
            found: list[float] = loss_and_right(loss, right).tolist()
        return found

    def _order(self, source: Source, draw: np.random.Generator) -> NDArray[np.int64]:
        # Objectives that look at the labels get them from surrogate sets alone, where each row has its own.
        return self.objective.order(cast(Labelled, source), draw)

    def _log_progress(self, epoch: int, bar: tqdm) -> None:
        """Show the loss; raise if it is not finite, warn if it is no better than guessing."""
        loss, right = self._sums.sum(dim=0).tolist()
        if any(distributed.any_rank(not math.isfinite(loss))):
            raise self._diverged(epoch)
        seen = self._seen()
        if self._running_loss.update(seen, loss):
            bar.set_postfix(loss=f"{self._running_loss.value:.3f}", accuracy=f"{right / seen:.3f}", refresh=False)
            self._check_guessing(self._steps_done(), self._running_loss)

    def _steps_done(self) -> int:
        return len(self.history) * self.length.epoch_steps + self._step

    def _seen(self) -> float:
        """Return how many patches a process with so many shards has seen in this epoch, on average."""
        share = len(self.layout.own) / self.layout.count
        return min(self._step * self.params.batch_size, len(self.data.train)) * share

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
        sums = np.stack(self._all_sums(), axis=1).tolist()
        progress = Progress(list(self.history), self._step, sums)

        def write() -> None:
            self.checkpoint.save(checkpoint.collect_tensors(self.network, self.optimiser), progress)

        distributed.on_rank_zero(write)
        self._saved, self._saved_at = progress, time.monotonic()

    def _all_sums(self) -> tuple[NDArray[np.float64], ...]:
        """Return the losses and the right ones, of each shard of all processes."""
        return distributed.all_gather(*self._sums.T.contiguous().cpu().numpy())

    def _resume(self) -> None:
        tensors, progress = self.checkpoint.load()
        checkpoint.restore_tensors(tensors, self.network, self.optimiser)
        self.history, self._step, self._saved = list(progress.history), progress.step, progress
        own = progress.sums[self.layout.own.start : self.layout.own.stop]
        self._sums = torch.tensor(own, dtype=torch.float64, device=self.device)
        self._running_loss.start_epoch(self._seen(), float(self._sums[:, 0].sum()))

    def _diverged(self, epoch: int) -> TrainingError:
        return diagnosis.diverged(epoch, self.params, self.checkpoint, self._saved)
