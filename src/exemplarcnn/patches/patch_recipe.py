"""The recipe of patches for images of your own, without a pipeline around it (docs/method.md, section 2)."""

import hashlib
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from exemplarcnn.config import profiles
from exemplarcnn.config.base import ConfigError
from exemplarcnn.config.sections import Surrogate
from exemplarcnn.data.colour_axes import Axes
from exemplarcnn.data.types import Indices, Pixels
from exemplarcnn.patches.errors import SurrogateError
from exemplarcnn.patches.sampler import PatchSampler
from exemplarcnn.rng import Purpose


class PatchRecipe:
    """Cut patches around strong edges of an image, and transform each.

    The same image, number, parameters and seed give the same bytes; with ``image_id``, those of the pipeline's training
    patches.

    Parameters
    ----------
    params
        The recipe: section ``surrogate`` of ``params.yaml``.
    patch
        Side of a patch in pixels.
    seed
        Of all random numbers.
    axes
        Principal axes of the images' colours, for the recipe ``dosovitskiy``: `exemplarcnn.data.colour_axes.measure`
        finds them.

    Raises
    ------
    SurrogateError
        If the recipe needs axes, and there are none.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    >>> PatchRecipe.from_profile("paper")(image, n=16).shape
    (16, 32, 32, 3)
    >>> PatchRecipe.from_profile("paper", rotate=0.0, translate={"amount": 0.5}).params.translate.amount
    0.5
    """

    def __init__(self, params: Surrogate, patch: int = 32, seed: int = 0, axes: Axes | None = None):
        self.params, self.patch, self.seed = params, patch, seed
        self.axes = axes
        self._sampler(np.zeros((patch, patch, 3), np.uint8))  # or it says what is missing

    @classmethod
    def from_profile(
        cls,
        name: str,
        patch: int = 32,
        seed: int = 0,
        axes: Axes | None = None,
        conf: Path | None = None,
        **surrogate: Any,
    ) -> Self:
        """Take the parameters from a profile, such as ``paper``.

        Parameters
        ----------
        name
            A profile in ``conf/profile``.
        patch, seed, axes
            As for `PatchRecipe`.
        conf
            The folder of the profiles; those that come with the package unless given.
        **surrogate
            Other values for keys of section ``surrogate``. A mapping, such as ``hsv={"power": (1, 1)}``, leaves the
            keys that it does not name as they are.

        Returns
        -------
        PatchRecipe
            The recipe with the profile's parameters.

        Raises
        ------
        ConfigError
            If there is no such profile, or a key or value is wrong.
        SurrogateError
            If the recipe needs axes, and there are none.
        """
        section = profiles.section(conf or profiles.PACKAGED, name, "surrogate")
        try:
            params = Surrogate.model_validate(profiles.merged(section, surrogate))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            raise ConfigError(
                f"cannot use these values: {wrong}; docs/method.md, section 2, explains each key of `surrogate`"
            ) from None
        return cls(params, patch, seed, axes)

    def __call__(self, image: Pixels, n: int = 1, image_id: int | None = None) -> Pixels:
        """Draw the first ``n`` patches of an image.

        Parameters
        ----------
        image
            (height, width, 3) uint8, of any size; one smaller than a patch is enlarged.
        n
            How many patches.
        image_id
            Which stream of random numbers to take, 0 or more: in the pipeline, the image's place in its pool. Unless it
            is given, it is a hash of the pixels, so that each image gets random numbers of its own.

        Returns
        -------
        ndarray
            (n, patch, patch, 3) uint8.

        Raises
        ------
        SurrogateError
            If that is no such image.
        """
        sampler, number = self._ready(image, image_id)
        return sampler.patches(number, n, Purpose.TRAIN_PATCH)

    def anchors(self, image: Pixels, image_id: int | None = None) -> NDArray[np.int64]:
        """Return the pixels that the patches of an image are cut around; patch i has anchor i modulo their number.

        Parameters
        ----------
        image, image_id
            As for a call.

        Returns
        -------
        ndarray
            (anchors_per_image, 2) int64, row and column, before ``translate`` moves them.

        Raises
        ------
        SurrogateError
            If that is no such image.
        """
        sampler, number = self._ready(image, image_id)
        return sampler.anchors(number)

    def _ready(self, image: Pixels, image_id: int | None) -> tuple[PatchSampler, int]:
        """Check an image, and return what draws its patches, and the number of its stream."""
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or min(pixels.shape) < 1:
            raise SurrogateError(
                f"cannot cut patches: found an array of shape {pixels.shape} and type {pixels.dtype}, expected "
                "(height, width, 3) and uint8; convert the image to RGB with values from 0 to 255"
            )
        if image_id is None:
            image_id = int(hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:12], 16)
        if not 0 <= image_id < 2**63:
            raise SurrogateError(f"cannot cut patches: found image_id {image_id}, expected a whole number from 0")
        return self._sampler(np.ascontiguousarray(pixels)), image_id

    def _sampler(self, image: Pixels) -> PatchSampler:
        return PatchSampler(_OneImage(image), self.params, self.patch, self.seed, self.axes)


class _OneImage:
    """A pool with the same image under every number."""

    path = Path("image")

    def __init__(self, image: Pixels):
        self.image = image

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Pixels:
        return self.image

    def read(self, index: int) -> tuple[Pixels, str]:
        return self.image, ""

    def size(self, index: int) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def name(self, index: int) -> str:
        return ""

    def batch(self, indices: Indices) -> Pixels:
        return np.stack([self.image for _ in indices])
