"""The k-means control: against a slow reference patch by patch, and that it learns from unlabelled images alone."""

from typing import Any

import cv2
import numpy as np
import pytest

from exemplarcnn.config.base import ConfigError
from exemplarcnn.config.variants import KMeans
from exemplarcnn.evaluation import kmeans
from exemplarcnn.evaluation.kmeans import Dictionary, activations, kmeans_features, learn
from tests.pools import Images


def pool(count: int, seed: int = 0) -> Images:
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (count, 12, 12, 3)).astype(np.uint8)
    return Images(np.stack([cv2.resize(image, (96, 96)) for image in small]))


def params(**changes: Any) -> KMeans:
    return KMeans(
        **({"method": "kmeans", "images": 30, "side": 12, "patch": 3, "patches_per_image": 40, "centres": 7} | changes)
    )


def normal(patch: np.ndarray) -> np.ndarray:
    flat = patch.transpose(2, 0, 1).reshape(-1).astype(np.float64)
    flat -= flat.mean()
    result: np.ndarray = flat / np.sqrt(flat.var(ddof=1) + 10)
    return result


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize(("side", "patch"), [(12, 3), (11, 4)])
def test_activations_against_a_slow_reference(side: int, patch: int) -> None:
    generator = np.random.default_rng(3)
    width = 3 * patch**2
    mean, whitening, centres = (generator.normal(size=shape) for shape in ((width,), (width, width), (5, width)))
    dictionary = Dictionary(side, patch, *(x.astype(np.float32) for x in (mean, whitening, centres)))
    images = pool(2).images
    found = activations(images, dictionary).numpy()
    across = side - patch + 1
    half = (across + 1) // 2
    expected = np.zeros((2, 2, 2, 5))
    for number, image in enumerate(images):
        small = shrunk(image, side)
        for row in range(across):
            for column in range(across):
                white = (normal(small[row : row + patch, column : column + patch]) - mean) @ whitening
                distances = np.linalg.norm(white - centres, axis=1)
                expected[number, row // half, column // half] += np.maximum(distances.mean() - distances, 0)
    np.testing.assert_allclose(found, expected.reshape(2, 20), rtol=1e-3, atol=1e-3)


def test_whitened_patches_are_uncorrelated_and_centres_lie_among_them() -> None:
    images = pool(30)
    dictionary = learn(images, np.arange(30), params(patches_per_image=100), seed=0)
    assert dictionary.centres.shape == (7, 27)
    found = [
        normal(shrunk(image, 12)[row : row + 3, column : column + 3])
        for image in images.images
        for row in range(10)
        for column in range(10)
    ]
    white = (np.array(found) - dictionary.mean) @ dictionary.whitening
    # A hundred of a hundred positions: every patch was used. Directions without variance stay without it.
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-4)
    values = np.linalg.eigvalsh(np.cov(white.T))
    raw = np.linalg.eigvalsh(np.cov(np.array(found).T))
    np.testing.assert_allclose(np.sort(values), np.sort(raw / (raw + 0.1)), atol=1e-3)
    nearest = np.linalg.norm(white[:, None] - dictionary.centres, axis=2).argmin(axis=1)
    counts = np.bincount(nearest, minlength=7)
    assert (counts > 0).all()
    for centre in range(7):
        mine = white[nearest == centre].mean(axis=0)
        assert np.linalg.norm(mine - dictionary.centres[centre]) < 0.35 * np.linalg.norm(mine)


def test_features_are_standardised_over_the_pool() -> None:
    images = pool(40)
    extract = kmeans_features(images, params(images=40), seed=1)
    found = extract(images.images)
    assert found.shape == (40, 28)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(28 * found.var(axis=0), 1, atol=0.05)


def test_the_seed_decides_and_more_images_than_there_are_mean_all() -> None:
    images, others = pool(20), pool(5, seed=9).images
    first, again, other = (kmeans_features(images, params(images=99), seed)(others) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_an_image_is_described_alike_in_any_company(monkeypatch: pytest.MonkeyPatch) -> None:
    extract = kmeans_features(pool(20), params(), seed=0)
    images = pool(kmeans.IMAGES_AT_ONCE + 3, seed=5).images
    together = extract(images)
    np.testing.assert_allclose(together[-1:], extract(images[-1:]), atol=1e-5)


def test_too_few_patches_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"40 patches of 1 unlabelled images .* variants.control.kmeans.centres=50"):
        kmeans_features(pool(1), params(centres=50), seed=0)
