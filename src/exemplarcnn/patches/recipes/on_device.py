"""The recipes in torch, on the device that holds the images (tested on CPUs only).

The recipes define what a patch is. Here the same draws give the same patches up to rounding (docs/method.md, section
2.6). Patches are planes, (n, 3, side, side) float32 in 0–1, until :func:`apply` rounds them.
"""

from collections.abc import Callable
from typing import Any

import albumentations as A
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from exemplarcnn.patches.recipes import colours, geometry
from exemplarcnn.patches.recipes.colours import RangePolicy
from exemplarcnn.patches.recipes.transform import FLAT, Parameters

# For saturation and for value: one number for each patch.
Pair = tuple[Tensor, Tensor] | Tensor
# OpenCV adds this to the divisors of saturation and hue, so that they are not zero for black and grey.
EPSILON = torch.finfo(torch.float32).eps


def apply(recipe: A.Compose, images: Tensor, parameters: list[Parameters]) -> Tensor:
    """Return the patches that :func:`exemplarcnn.patches.recipes.transform.apply` does, up to rounding.

    Parameters
    ----------
    recipe
        What to apply.
    images
        (1 or n, height, width, 3) uint8, on the device that computes: one image for all patches, or one for each.
    parameters
        From :func:`exemplarcnn.patches.recipes.transform.draw_parameters`.

    Returns
    -------
    Tensor
        (n, side, side, 3) uint8 on the same device.
    """
    with torch.inference_mode():
        planes = images.permute(0, 3, 1, 2).float().div_(255)
        for transform, drawn in zip(recipe.transforms, parameters, strict=True):
            planes = TRANSFORMS[type(transform)](planes, transform, drawn)
        return planes.permute(0, 2, 3, 1).clamp(0, 1).mul_(255).round_().to(torch.uint8)


def into_range(patches: Tensor, policy: RangePolicy) -> Tensor:
    """Bring patches back to 0–1 after a colour step, as ``colours.into_range`` does."""
    clipped = patches.clamp(0, 1)
    if policy == "clip":
        return clipped
    low, high = patches.amin((1, 2, 3), keepdim=True), patches.amax((1, 2, 3), keepdim=True)
    return torch.where(high - low > FLAT, (patches - low) * (1 / (high - low)), clipped)


def anchored_crop(images: Tensor, transform: geometry.AnchoredCrop, drawn: Parameters) -> Tensor:
    """Sample only the patches' pixels, where the scaled images would have them.

    ``images`` holds one image for all patches, or one for each.
    """
    # grid_sample wants -1 and 1 at the outer borders of the image; its border mode repeats the last pixel.
    rows, columns = (
        2 * ((start[:, None] + np.arange(transform.patch) + 0.5) / scaled[:, None]) - 1
        for scaled, start in zip(drawn["size"].T, drawn["corner"].T, strict=True)
    )
    grid = _to(images, np.stack(np.broadcast_arrays(columns[:, None, :], rows[:, :, None]), axis=-1))
    number, side = len(grid), transform.patch
    if len(images) == 1:
        grid = grid.reshape(1, number * side, side, 2)
    sampled = F.grid_sample(images, grid, "bilinear", "border", align_corners=False)
    if len(images) == 1:
        sampled = sampled.view(3, number, side, side).transpose(0, 1).contiguous()
    return sampled


def rotated_crop(images: Tensor, transform: geometry.RotatedCrop, drawn: Parameters) -> Tensor:
    """Sample the pixels of a scaled and rotated square."""
    side = transform.patch
    angle = np.deg2rad(drawn["angle"])[:, None, None]
    down, across = np.mgrid[:side, :side] - (side - 1) / 2
    factor, centre = drawn["factor"][:, None, None], drawn["centre"][:, :, None, None]
    x = centre[:, 1] + (np.cos(angle) * across - np.sin(angle) * down) / factor
    y = centre[:, 0] + (np.sin(angle) * across + np.cos(angle) * down) / factor
    # grid_sample wants -1 and 1 at the outer borders of the image; its border mode repeats the last pixel.
    height, width = images.shape[2:]
    grid = _to(images, np.stack([2 * x / width - 1, 2 * y / height - 1], axis=-1))
    images = images.expand(len(grid), -1, -1, -1)
    return F.grid_sample(images, grid, "bilinear", "border", align_corners=False)


def pool_pca_contrast(patches: Tensor, transform: colours.PoolPCAContrast, drawn: Parameters) -> Tensor:
    """Stretch each patch along the pool's axes."""
    matrices = _to(patches, transform.matrices(drawn["factors"]))
    stretched = torch.baddbmm(matrices[:, :, 3:], matrices[:, :, :3], patches.flatten(2))
    return into_range(stretched.reshape(patches.shape), "clip")


def pca_contrast(patches: Tensor, transform: colours.PCAContrast, drawn: Parameters) -> Tensor:
    """Stretch each patch along its own axes."""
    pixels = patches.flatten(2)
    mean = pixels.mean(dim=2, keepdim=True, dtype=torch.float64).float()
    # Padding with zeros changes no sum, and makes every patch start at a multiple of 64 bytes. Otherwise the start
    # would decide in which order products are summed, and so their last bits.
    number = pixels.shape[2]
    centred = F.pad(pixels - mean, (0, -number % 16))
    # eigh sorts eigenvalues in ascending order; the factors belong to descending order.
    axes = torch.linalg.eigh(torch.bmm(centred, centred.mT).double()).eigenvectors.flip(2)
    factors = torch.from_numpy(drawn["factors"]).to(patches.device)
    stretch = ((axes * factors[:, None, :]) @ axes.mT).float()
    stretched = torch.baddbmm(mean, stretch, centred)[:, :, :number]
    return into_range(stretched.reshape(patches.shape), transform.range_policy)


def flip_rotate(patches: Tensor, transform: geometry.FlipRotate, drawn: Parameters) -> Tensor:
    """Mirror, then rotate about the centre."""
    height, width = patches.shape[2:]
    angle = np.deg2rad(drawn["angle"])[:, None, None]
    # Offsets from the centre, rotated back: where each pixel of the result comes from.
    down, across = np.mgrid[:height, :width] - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    x = np.cos(angle) * across - np.sin(angle) * down
    y = np.sin(angle) * across + np.cos(angle) * down
    x = np.where(drawn["mirrored"][:, None, None], -x, x)
    grid = np.stack([x / ((width - 1) / 2), y / ((height - 1) / 2)], axis=-1)
    return F.grid_sample(patches, _to(patches, grid), "bilinear", "reflection", align_corners=True)


def hsv_contrast(patches: Tensor, transform: colours.HSVContrast, drawn: Parameters) -> Tensor:
    """Change saturation and value with the same draws."""
    power, factor, shift = _to(patches, drawn["drawn"]).T[:, :, None, None]
    return _hsv_contrast(patches, (power, power), (factor, factor), (shift, shift), transform.range_policy)


def separate_hsv_contrast(patches: Tensor, transform: colours.SeparateHSVContrast, drawn: Parameters) -> Tensor:
    """Change saturation and value, each with its own draws."""
    powers = _to(patches, drawn["powers"]).T[:, :, None, None]
    factors = _to(patches, drawn["factors"]).T[:, :, None, None]
    return _hsv_contrast(patches, powers, factors, torch.zeros_like(powers), "clip")


def _hsv_contrast(patches: Tensor, power: Pair, factor: Pair, shift: Pair, policy: RangePolicy) -> Tensor:
    hue, saturation, value = _to_hsv(patches)
    grey = saturation * value < FLAT
    hue, saturation = hue.masked_fill_(grey, 0), saturation.masked_fill_(grey, 0)
    saturation = saturation.pow_(power[0]).mul_(factor[0]).add_(shift[0]).clamp_(0, 1)
    value = value.pow(power[1]).mul_(factor[1]).add_(shift[1])
    if policy == "clip":
        value.clamp_(0, 1)
    return into_range(_to_rgb(hue, saturation, value), policy)


def hue_shift(patches: Tensor, transform: colours.HueShift, drawn: Parameters) -> Tensor:
    """Turn the hue."""
    hue, saturation, value = _to_hsv(patches)
    hue = hue.add_(_to(patches, 6 * drawn["turn"])[:, None, None]).remainder_(6)
    return _to_rgb(hue, saturation, value)


def _to_hsv(patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue in 0–6, saturation and value in 0–1, each (n, side, side), of patches in 0–1."""
    red, green, blue = patches.clamp(0, 1).unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    per = 1 / (spread + EPSILON)
    hue = torch.where(value == green, (blue - red) * per + 2, (red - green) * per + 4)
    hue = torch.where(value == red, (green - blue) * per, hue)
    hue = torch.where(hue < 0, hue + 6, hue)
    return hue, spread / (value + EPSILON), value


def _to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return (n, 3, side, side) from a hue in 0–6, a saturation in 0–1 and any value."""
    chroma = value * saturation
    red = ((hue - 3).abs_() - 1).clamp_(0, 1)
    green = (2 - (hue - 2).abs_()).clamp_(0, 1)
    blue = (2 - (hue - 4).abs_()).clamp_(0, 1)
    return torch.stack([value - chroma * (1 - share) for share in (red, green, blue)], dim=1)


def _to(like: Tensor, array: NDArray[Any]) -> Tensor:
    """Copy numbers to the device of a tensor, as float32."""
    return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(like.device)


Transform = Callable[[Tensor, Any, Parameters], Tensor]
TRANSFORMS: dict[type[A.BasicTransform], Transform] = {
    geometry.AnchoredCrop: anchored_crop,
    colours.PCAContrast: pca_contrast,
    geometry.FlipRotate: flip_rotate,
    colours.HSVContrast: hsv_contrast,
    colours.HueShift: hue_shift,
    geometry.RotatedCrop: rotated_crop,
    colours.PoolPCAContrast: pool_pca_contrast,
    colours.SeparateHSVContrast: separate_hsv_contrast,
}
