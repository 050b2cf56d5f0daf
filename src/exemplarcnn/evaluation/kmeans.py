"""Control: single-layer k-means features (docs/method.md, section 4.2).

Coates, Ng and Lee, *An Analysis of Single-Layer Networks in Unsupervised Feature Learning*, AISTATS 2011, which also
introduced STL-10. Small whitened patches are clustered; an image's features are how close its patches are to each
centre, summed over the four quadrants. This takes no labels, no gradients, and minutes on a CPU.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from exemplarcnn import rng, threads
from exemplarcnn.config.variants import KMeans
from exemplarcnn.data.types import Pool
from exemplarcnn.networks.features import FeatureExtractor
from exemplarcnn.progress import tqdm

# Added to the variance of a patch (of pixels 0–255), of a whitened direction, and of a feature, as the authors do.
PATCH_NOISE, WHITENING_NOISE, FEATURE_NOISE = 10.0, 0.1, 0.01
BATCH, EPOCHS = 10_000, 20
IMAGES_AT_ONCE = 16


@dataclass(frozen=True)
class Dictionary:
    """What is learned from patches.

    Attributes
    ----------
    side, patch
        Sides of the shrunk image and of a patch, in pixels.
    mean, whitening
        (3·patch²,) and (3·patch², 3·patch²), float32.
    centres
        Centres of whitened patches, (centres, 3·patch²) float32.
    """

    side: int
    patch: int
    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]
    centres: NDArray[np.float32]


def learn(pool: Pool, chosen: NDArray[np.int64], params: KMeans, seed: int) -> Dictionary:
    """Learn whitening and centres from random patches.

    Parameters
    ----------
    pool, chosen
        Unlabelled images, and the indices of those to use, (images,) int64.
    params
        Sizes and numbers of patches and centres.
    seed
        The experiment's seed.
    """
    params.check_images(len(chosen))
    generator = rng.generator(seed, rng.Purpose.KMEANS)
    drawn = []
    for start in tqdm(range(0, len(chosen), IMAGES_AT_ONCE), desc="patches", unit="batch"):
        found = _patches(pool.batch(chosen[start : start + IMAGES_AT_ONCE]), params.side, params.patch).numpy()
        drawn += [
            each[generator.choice(len(each), params.patches_per_image, replace=len(each) < params.patches_per_image)]
            for each in found
        ]
    patches = np.concatenate(drawn)
    mean = patches.mean(axis=0, dtype=np.float64)
    values, axes = np.linalg.eigh(np.cov(patches.astype(np.float64).T))
    whitening = (axes / np.sqrt(np.maximum(values, 0) + WHITENING_NOISE)) @ axes.T
    white = ((patches - mean) @ whitening).astype(np.float32)
    # Several threads add partial sums in any order, and when to stop depends on the sums.
    with threadpool_limits(1):
        clustering = MiniBatchKMeans(
            params.centres,
            batch_size=BATCH,
            max_iter=EPOCHS,
            n_init=1,
            random_state=int(generator.integers(2**32)),
        ).fit(white)
    return Dictionary(
        params.side,
        params.patch,
        mean.astype(np.float32),
        whitening.astype(np.float32),
        clustering.cluster_centers_.astype(np.float32),
    )


def _patches(images: NDArray[np.uint8], side: int, patch: int) -> Tensor:
    """Cut all patches of shrunk images and normalise their contrast, (n, positions, 3·patch²) float32."""
    small = np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images])
    pixels = torch.from_numpy(small).permute(0, 3, 1, 2).float()
    found = F.unfold(pixels, patch).transpose(1, 2)
    found = found - found.mean(dim=2, keepdim=True)
    return found / torch.sqrt(found.var(dim=2, keepdim=True) + PATCH_NOISE)


def activations(images: NDArray[np.uint8], dictionary: Dictionary) -> Tensor:
    """Compute the triangle activation of each centre, summed over each quadrant of the images.

    Parameters
    ----------
    images
        (n, height, width, 3) uint8.
    dictionary
        From `learn`.

    Returns
    -------
    Tensor
        (n, 4·centres) float32. A patch activates a centre by how much closer it is than its mean distance to all
        centres, and not at all if it is farther.
    """
    centres = torch.from_numpy(dictionary.centres)
    found = _patches(images, dictionary.side, dictionary.patch)
    white = (found - torch.from_numpy(dictionary.mean)) @ torch.from_numpy(dictionary.whitening)
    squared = white.square().sum(dim=2, keepdim=True) + centres.square().sum(dim=1) - 2 * white @ centres.T
    distances = squared.clamp_(min=0).sqrt_()
    active = (distances.mean(dim=2, keepdim=True) - distances).clamp_(min=0)
    across = dictionary.side - dictionary.patch + 1
    maps = active.reshape(len(images), across, across, len(centres))
    middle = (across + 1) // 2
    sides = slice(None, middle), slice(middle, None)
    quadrants = [maps[:, rows, columns].sum(dim=(1, 2)) for rows in sides for columns in sides]
    return torch.cat(quadrants, dim=1)


def kmeans_features(pool: Pool, params: KMeans, seed: int) -> FeatureExtractor:
    """Build the function that computes features, learned from a pool of unlabelled images.

    Features are standardised by mean and standard deviation over the images that patches were taken from, then divided
    by the square root of their number, so that a value of C means about the same as for features of unit length.

    Parameters
    ----------
    pool
        Unlabelled images; ``params.images`` of them are drawn.
    params, seed
        Sizes and numbers of patches and centres; the experiment's seed.

    Returns
    -------
    callable
        (n, height, width, 3) uint8 to (n, 4·centres) float32.
    """
    count = min(params.images, len(pool))
    chosen = np.sort(rng.generator(seed, rng.Purpose.KMEANS, 1).choice(len(pool), count, replace=False))
    dictionary = learn(pool, chosen, params, seed)

    def raw(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            parts = [
                activations(images[start : start + IMAGES_AT_ONCE], dictionary)
                for start in range(0, len(images), IMAGES_AT_ONCE)
            ]
            found: NDArray[np.float32] = torch.cat(parts).numpy()
            return found

    bar = tqdm(range(0, count, IMAGES_AT_ONCE), desc="statistics", unit="batch")
    images = (pool.batch(chosen[start : start + IMAGES_AT_ONCE]) for start in bar)
    known = np.concatenate(list(threads.ahead(raw, images, threads.count())))
    mean = known.mean(axis=0, dtype=np.float64)
    scale = np.sqrt((known.var(axis=0, dtype=np.float64) + FEATURE_NOISE) * known.shape[1])

    def extract(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        standardised: NDArray[np.float32] = ((raw(images) - mean) / scale).astype(np.float32)
        return standardised

    return extract
