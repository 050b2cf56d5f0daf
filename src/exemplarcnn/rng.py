"""Counter-based randomness: every draw is a function of (seed, purpose, indices), never of earlier draws.

So one patch of one image can be drawn alone, in any process and in any order, and is always the same.
"""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What the random numbers are for; streams of different purposes never overlap."""

    SEED_IMAGES = 1
    ANCHOR = 2
    TRAIN_PATCH = 3
    VALID_PATCH = 4
    WEIGHTS = 5
    EPOCH = 6
    DROPOUT = 7
    HALVES = 8
    SINGLES = 9
    INNER_FOLDS = 10
    BOOTSTRAP = 11
    SHUFFLED_CLASSES = 12
    KMEANS = 13
    RESNET_WEIGHTS = 14
    AUGMENTATION = 15
    PASS = 16
    OBJECTIVE = 17
    VALIDATION = 18


class Stream:
    """A reusable generator that can be set to the start of any (major, minor, again) stream.

    Setting the state of an existing Philox costs a few microseconds, building a new generator takes ten times that.

    Parameters
    ----------
    seed
        The experiment's seed.
    purpose
        What the numbers are for.
    """

    def __init__(self, seed: int, purpose: Purpose):
        self._bits = np.random.Philox(key=np.array([seed, purpose], np.uint64))
        self._state = self._bits.state
        self.generator = np.random.Generator(self._bits)

    def at(self, major: int, minor: int = 0, again: int = 0) -> np.random.Generator:
        """Set the generator to the start of a stream, for instance (image, patch, epoch), and return it.

        Philox counts up from the lowest word, four 64-bit numbers a count: streams are 2**66 numbers apart.
        """
        self._state["state"]["counter"] = np.array([0, again, minor, major], np.uint64)
        self._state["buffer_pos"] = 4
        self._state["has_uint32"] = 0
        self._bits.state = self._state
        return self.generator


def generator(seed: int, purpose: Purpose, major: int = 0, minor: int = 0) -> np.random.Generator:
    """Return a new generator at the start of stream (major, minor)."""
    return Stream(seed, purpose).at(major, minor)


def torch_seed(seed: int, purpose: Purpose, major: int = 0) -> int:
    """Return a 63-bit seed for ``torch.manual_seed``."""
    return int(generator(seed, purpose, major).integers(2**63))
