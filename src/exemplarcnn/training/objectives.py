"""What a network learns from its patches: the outputs, the batches and the loss of each objective.

All objectives share the network up to dense1, the patches, and the number and size of batches. `OBJECTIVES` lists them
by the name that ``variants.train.VARIANT.objective`` gives (docs/method.md, section 3.3).
"""

import math
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from exemplarcnn.config.objectives import LIGHTLY, PAIRED, TURNS
from exemplarcnn.config.sections import Train
from exemplarcnn.errors import PipelineError
from exemplarcnn.training.batches import Labelled

# Batches among whose pairs one batch is put together, so that it has no class twice.
LOOKED_AHEAD = 4


class ObjectiveError(PipelineError):
    """An objective cannot be used."""


class Objective(Protocol):
    """What a network learns.

    Attributes
    ----------
    outputs
        How many numbers the network's last layer gives for a patch.
    guessing
        The loss of a network that knows nothing; None where nobody knows it.
    coupled
        Whether the loss of a patch depends on the others of its batch.
    """

    outputs: int
    guessing: float | None
    coupled: bool

    def order(self, source: Labelled, draw: np.random.Generator) -> NDArray[np.int64]:
        """Return the rows of an epoch in the order in which they are shown, (n,) int64 for a source of n.

        Parameters
        ----------
        source
            Patches and their surrogate classes.
        draw
            Random numbers of this epoch.
        """

    def prepare(self, images: Tensor, labels: Tensor, draw: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """Return what the network is shown, (n, side, side, 3) uint8, and what it is to tell, (n,) int64.

        Parameters
        ----------
        images, labels
            Patches and their surrogate classes, (n, side, side, 3) uint8 and (n,) int64.
        draw
            Random numbers of these patches; None in validation.
        """

    def loss(self, outputs: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses, and how many patches are told right.

        Parameters
        ----------
        outputs
            (n, `outputs`) float32; those of a whole batch, in its order, if the objective is coupled.
        targets
            (n,) int64; None if the objective is coupled: the order of the outputs says which belong together.
        """


class Exemplar:
    """Tell the surrogate class of each patch: the method of the paper.

    Parameters
    ----------
    outputs
        How many classes there are.
    smoothing
        Share of each target that goes to all classes alike, in validation, too.
    """

    coupled = False

    def __init__(self, outputs: int, smoothing: float = 0.0):
        self.outputs, self.smoothing = outputs, smoothing
        self.guessing: float | None = math.log(outputs)

    def order(self, source: Labelled, draw: np.random.Generator) -> NDArray[np.int64]:
        """Return all rows, shuffled."""
        return draw.permutation(len(source))

    def prepare(self, images: Tensor, labels: Tensor, draw: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """Return both as they are."""
        return images, labels

    def loss(self, outputs: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the cross entropy of the softmax, and how often the target has the largest output."""
        assert targets is not None
        loss = F.cross_entropy(outputs, targets, reduction="sum", label_smoothing=self.smoothing)
        return loss, (outputs.argmax(1) == targets).sum()


class Rotation(Exemplar):
    """Tell by how many quarter turns a patch was turned (Gidaris et al. 2018).

    Each patch of a batch gets one turn, drawn at random, where the paper shows all four: batches are as large as those
    of the other objectives.
    """

    def __init__(self) -> None:
        super().__init__(TURNS)

    def prepare(self, images: Tensor, labels: Tensor, draw: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """Return the turned patches and their turns; in validation they come in order, beginning with none."""
        count = len(images)
        drawn = np.arange(count) % TURNS if draw is None else draw.integers(TURNS, size=count)
        turns = torch.from_numpy(drawn).to(images.device)
        turned = torch.empty_like(images)
        for turn in range(TURNS):
            turned[turns == turn] = torch.rot90(images[turns == turn], turn, (1, 2))
        return turned, turns


class Pairs:
    """Bring the outputs of two patches of a class together, and those of different classes apart.

    A batch has two patches of each of many classes, in rows 0 and 1, 2 and 3, and so on.

    Parameters
    ----------
    outputs, batch_size
        Numbers that the last layer gives for a patch, and patches in a batch.
    loss
        Takes the outputs of the first patches of the pairs and of the second ones, and returns the mean loss.
    guessing
        The loss of a network that knows nothing, if it is known.
    """

    coupled = True

    def __init__(self, outputs: int, batch_size: int, loss: Any, guessing: float | None = None):
        self.outputs, self.batch_size, self.guessing, self._loss = outputs, batch_size, guessing, loss

    def order(self, source: Labelled, draw: np.random.Generator) -> NDArray[np.int64]:
        """Pair the patches of each class at random, and deal the pairs so that no batch has a class twice.

        A class with an odd number of patches shows one of them twice, and as many rows are left out at the end. Where
        that is not possible within a few batches, as with fewer classes than a batch has pairs, or at the end of an
        epoch, classes do come twice in a batch.

        Raises
        ------
        ObjectiveError
            If a class has one patch alone.
        """
        known = source.labels.cpu().numpy()
        shuffled = draw.permutation(len(known))
        rows = shuffled[np.argsort(known[shuffled], kind="stable")]
        classes, starts, counts = np.unique(known[rows], return_index=True, return_counts=True)
        if counts.min() < 2:
            raise ObjectiveError(
                f"cannot pair patches: class {classes[counts.argmin()]} has one alone; set more patches, for training "
                "and for validation"
            )
        odd = counts % 2 == 1
        pairs = np.insert(rows, (starts + counts)[odd], rows[starts[odd]]).reshape(-1, 2)
        dealt = _deal(np.repeat(classes, (counts + 1) // 2), self.batch_size // 2, draw)
        found: NDArray[np.int64] = pairs[dealt].reshape(-1)[: len(known)]
        return found

    def prepare(self, images: Tensor, labels: Tensor, draw: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """Return both as they are."""
        return images, labels

    def loss(self, outputs: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the loss of all pairs, and how many patches are nearest to their partner, by cosine.

        A last patch without a partner adds nothing to either, nor does a single pair.
        """
        count = len(outputs) // 2 * 2
        if count < 4:
            return outputs.sum() * 0, torch.zeros((), device=outputs.device)
        loss: Tensor = self._loss(outputs[0:count:2], outputs[1:count:2]) * count
        with torch.no_grad():
            units = F.normalize(outputs[:count])
            nearest = (units @ units.T).fill_diagonal_(-torch.inf).argmax(1)
            partners = torch.arange(count, device=outputs.device) ^ 1
        return loss, (nearest == partners).sum()


def _deal(classes: NDArray[np.int64], most: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """Order pairs at random, so that each ``most`` of them, counted from the first, are of different classes."""
    order = draw.permutation(len(classes))
    dealt: list[NDArray[np.int64]] = []
    window, ahead = order[:0], 0
    while len(window) or ahead < len(order):
        room = LOOKED_AHEAD * most - len(window)
        window, ahead = np.concatenate([window, order[ahead : ahead + room]]), ahead + room
        # First those that come first of their class, then the others, if those do not fill a batch.
        again = np.ones(len(window), bool)
        again[np.unique(classes[window], return_index=True)[1]] = False
        taken = np.sort(np.argsort(again, kind="stable")[:most])
        dealt.append(window[taken])
        window = np.delete(window, taken)
    return np.concatenate(dealt)


def exemplar(classes: int, params: Train) -> Objective:
    """Tell the surrogate class of each patch."""
    return Exemplar(classes, params.label_smoothing)


def rotation(classes: int, params: Train) -> Objective:
    """Tell by how many quarter turns a patch was turned."""
    return Rotation()


def simclr(classes: int, params: Train) -> Objective:
    """Tell which other patch of the batch is of the same class: NT-Xent, by lightly (Chen et al. 2020)."""
    loss = _lightly("simclr").NTXentLoss(params.pairs.temperature)
    # By chance one of the others, all of them but the patch itself.
    return Pairs(params.pairs.outputs, params.batch_size, loss, math.log(params.batch_size // 2 * 2 - 1))


def vicreg(classes: int, params: Train) -> Objective:
    """Make outputs of a class alike that vary and do not correlate: VICReg, by lightly (Bardes et al. 2022)."""
    return Pairs(params.pairs.outputs, params.batch_size, _lightly("vicreg").VICRegLoss())


OBJECTIVES = {"exemplar": exemplar, "rotation": rotation, "simclr": simclr, "vicreg": vicreg}


def of(name: str, classes: int, params: Train) -> Objective:
    """Return an objective of `OBJECTIVES`, for so many surrogate classes and a training's parameters."""
    return OBJECTIVES[name](classes, params)


def packages_of(name: str) -> tuple[str, ...]:
    """Name the packages that weights depend on."""
    return ("numpy", "torch", *(("lightly",) if name in PAIRED else ()))


def _lightly(objective: str) -> Any:
    """Import the losses of lightly.

    Raises
    ------
    ObjectiveError
        If lightly is not installed.
    """
    try:
        return import_module("lightly.loss")
    except ImportError as error:
        raise ObjectiveError(f"cannot train with {objective}: {LIGHTLY}") from error
