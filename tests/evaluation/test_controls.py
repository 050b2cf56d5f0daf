"""Features that no network learned: shrunk pixels against slow means, and what each method's name gives."""

from pathlib import Path
from typing import Any, get_args

import numpy as np

from exemplarcnn.config.variants import KMeans, RawPixels, Variants
from exemplarcnn.data.stl10 import write_images
from exemplarcnn.evaluation.controls import CONTROLS, pixel_features
from exemplarcnn.evaluation.kmeans import kmeans_features
from tests.pools import Images


def images_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)


def test_pixel_features_are_means_of_squares() -> None:
    images = images_of(2)
    found = pixel_features(24)(images)
    assert found.dtype == np.float32
    expected = np.empty((2, 24, 24, 3))
    for row in range(24):
        for column in range(24):
            expected[:, row, column] = images[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean(axis=(1, 2))
    np.testing.assert_allclose(found * 255 * (24 * 24 * 3) ** 0.5, expected.reshape(2, -1), atol=0.501)


def test_pixel_features_of_full_size_are_the_image() -> None:
    images = images_of(2)
    expected = images.reshape(2, -1) / 255 / (96 * 96 * 3) ** 0.5
    np.testing.assert_allclose(pixel_features(96)(images), expected, rtol=1e-6)


def test_pixel_features_do_not_depend_on_the_rest_of_the_batch() -> None:
    images, extract = images_of(6), pixel_features(24)
    order = np.array([3, 0, 3, 5, 1])
    np.testing.assert_array_equal(extract(images[order]), extract(images)[order])
    np.testing.assert_array_equal(extract(images[4:5]), extract(images)[4:5])


def test_every_method_of_the_parameters_has_its_function() -> None:
    union, _ = get_args(get_args(Variants.model_fields["control"].annotation)[1])
    methods: set[Any] = {get_args(kind.model_fields["method"].annotation)[0] for kind in get_args(union)}
    assert set(CONTROLS) == methods


def test_each_control_is_what_its_name_says(tmp_path: Path) -> None:
    pool, asked = images_of(20), images_of(3, seed=1)
    write_images(tmp_path / "unlabeled_X.bin", pool)
    found = CONTROLS["pixels"](RawPixels(method="pixels", side=8), tmp_path, 0)
    np.testing.assert_array_equal(found(asked), pixel_features(8)(asked))
    params = KMeans(method="kmeans", images=10, side=12, patch=3, patches_per_image=20, centres=5)
    learned = CONTROLS["kmeans"](params, tmp_path, 1)
    np.testing.assert_array_equal(learned(asked), kmeans_features(Images(pool), params, 1)(asked))
