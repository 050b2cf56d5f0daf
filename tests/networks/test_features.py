"""Features against slow references, and their independence of what else goes through the network."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exemplarcnn import threads
from exemplarcnn.config.sections import ClusterFeatures, Features, Network
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN, initialise
from exemplarcnn.networks.features import (
    FeatureExtractor,
    cluster_features,
    eval_features,
    write_features,
)
from tests.pools import Images

# On a processor without bfloat16, too: slowly, but networks are small here.
pytestmark = pytest.mark.usefixtures("bfloat16")

CPU = torch.device("cpu")
LAYERS = ("conv1", "conv2", "conv3", "dense1", "dense2")
PARAMS = Network(widths=(4, 5, 6), dense=9, dropout_conv=0.25, dropout_dense=0.5, batch_norm=False)
WIDTHS = {"conv1": 4, "conv2": 5, "conv3": 6, "dense1": 9, "dense2": 7}


def pixels(count: int, seed: int = 0) -> np.ndarray:
    """Images of very different contrast, so that a sum over a batch would show."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 96, 96, 3)).astype(float)
    return (images * generator.uniform(0.1, 1, (count, 1, 1, 3))).astype(np.uint8)


def build(patch: int = 32) -> ExemplarCNN:
    return initialise(PARAMS, 7, patch, 3, [0.3, 0.4, 0.5], [0.2, 0.25, 0.3])


def params(**changes: Any) -> Features:
    values = {"layers": LAYERS, "pool": 2, "dense_stride": 7, "normalise": True, "batch_size": 4, "precision": "fp32"}
    return Features(**(values | {"mirror": False, "power": 1.0} | changes))


@pytest.fixture
def network() -> ExemplarCNN:
    return build()


@pytest.fixture(params=["eval", "cluster"])
def extract(request: pytest.FixtureRequest) -> Iterator[FeatureExtractor]:
    if request.param == "eval":
        yield eval_features(build(), params(), CPU)
    else:
        yield cluster_features(
            build(), ClusterFeatures(layers=LAYERS, before_relu=True, pool=2, precision="fp32"), 7, CPU
        )


def slow_pool(map_: np.ndarray, size: int) -> list[float]:
    """Adaptive max pooling of (channels, rows, columns), bin by bin; one position enters once."""
    height, width = map_.shape[1:]
    if height == width == 1:
        return [float(channel[0, 0]) for channel in map_]
    numbers = []
    for channel in map_:
        for row in range(size):
            for column in range(size):
                top, bottom = row * height // size, -(-(row + 1) * height // size)
                left, right = column * width // size, -(-(column + 1) * width // size)
                numbers.append(max(float(channel[y, x]) for y in range(top, bottom) for x in range(left, right)))
    return numbers


def slow_maps(network: ExemplarCNN, image: np.ndarray, stride: int, side: int) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        maps = network.eval().maps(network.normalise(torch.from_numpy(image[None])), stride)
    return {name: both[side][0].numpy() for name, both in maps.items()}


def unit(numbers: list[float]) -> np.ndarray:
    values = np.array(numbers, np.float64)
    length = float(np.sqrt((values**2).sum()))
    return values / length if length else values


# Features for the classifier


@pytest.mark.parametrize("pool", [1, 2, 3])
@pytest.mark.parametrize("normalise", [True, False])
def test_eval_features_against_a_slow_reference(network: ExemplarCNN, pool: int, normalise: bool) -> None:
    images = pixels(3)
    found = eval_features(network, params(pool=pool, normalise=normalise), CPU)(images)
    assert found.dtype == np.float32
    for row, image in zip(found, images, strict=True):
        maps = slow_maps(network, image, 7, 1)
        blocks = [slow_pool(maps[layer], pool) for layer in LAYERS]
        expected = np.concatenate([unit(block) if normalise else np.array(block) for block in blocks])
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)


def test_mirrored_features_are_the_mean_over_image_and_mirror_image(network: ExemplarCNN) -> None:
    images = pixels(3)
    plain = eval_features(network, params(), CPU)
    found = eval_features(network, params(mirror=True), CPU)(images)
    turned = np.ascontiguousarray(images[:, :, ::-1])
    np.testing.assert_allclose(found, (plain(images) + plain(turned)) / 2, rtol=1e-5, atol=1e-6)
    assert not np.allclose(found, plain(images))
    np.testing.assert_array_equal(found, eval_features(network, params(mirror=True), CPU)(turned))


@pytest.mark.parametrize("power", [0.5, 0.3])
def test_numbers_are_raised_to_a_power_before_the_scaling(network: ExemplarCNN, power: float) -> None:
    images = pixels(3)
    raised = eval_features(network, params(normalise=False), CPU)(images).astype(np.float64) ** power
    np.testing.assert_allclose(
        eval_features(network, params(normalise=False, power=power), CPU)(images), raised, rtol=1e-5
    )
    edges = np.cumsum([0, *(4 * width for width in WIDTHS.values())])
    scaled = np.hstack([[unit(row) for row in raised[:, start:stop]] for start, stop in pairwise(edges)])
    np.testing.assert_allclose(eval_features(network, params(power=power), CPU)(images), scaled, rtol=1e-4)


def test_each_layers_block_has_unit_length(network: ExemplarCNN) -> None:
    found = eval_features(network, params(), CPU)(pixels(4))
    edges = np.cumsum([0, *(4 * width for width in WIDTHS.values())])
    assert found.shape == (4, edges[-1])
    for start, stop in pairwise(edges):
        np.testing.assert_allclose(np.linalg.norm(found[:, start:stop], axis=1), 1, rtol=1e-5)


# Sides of the maps of conv3 and dense1, by hand: two poolings of 3 with stride 2, a 7×7 kernel with stride 7.
@pytest.mark.parametrize(("side", "third", "dense"), [(32, 7, 1), (48, 11, 1), (64, 15, 2), (128, 31, 4), (256, 63, 9)])
def test_images_of_another_side_against_a_slow_reference(
    network: ExemplarCNN, side: int, third: int, dense: int
) -> None:
    images = np.random.default_rng(side).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    found = eval_features(network, params(), CPU)(images)
    for row, image in zip(found, images, strict=True):
        maps = slow_maps(network, image, 7, 1)
        assert [maps[layer].shape[-1] for layer in ("conv1", "conv3", "dense1", "dense2")] == [
            side,
            third,
            dense,
            dense,
        ]
        expected = np.concatenate([unit(slow_pool(maps[layer], 2)) for layer in LAYERS])
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)
    cells = [4, 4, 4, *([4, 4] if dense > 1 else [1, 1])]
    assert found.shape[1] == sum(count * WIDTHS[layer] for count, layer in zip(cells, LAYERS, strict=True))


def test_features_for_the_classifier_are_after_relu(network: ExemplarCNN) -> None:
    assert (eval_features(network, params(pool=96), CPU)(pixels(1)) >= 0).all()


def test_a_layer_of_zeros_stays_zero(network: ExemplarCNN) -> None:
    with torch.no_grad():
        network.dense1.bias.fill_(-1e6)
    found = eval_features(network, params(layers=("dense1",)), CPU)(pixels(2))
    np.testing.assert_array_equal(found, 0)


def test_layers_come_in_the_networks_order(network: ExemplarCNN) -> None:
    images = pixels(2)
    found = eval_features(network, params(layers=("dense1", "conv2")), CPU)(images)
    parts = [eval_features(network, params(layers=(layer,)), CPU)(images) for layer in ("conv2", "dense1")]
    np.testing.assert_allclose(found, np.concatenate(parts, axis=1), atol=1e-6)


def test_a_map_of_one_position_enters_once() -> None:
    found = eval_features(build(patch=96), params(normalise=False), CPU)(pixels(2))
    convolutions = 4 * (4 + 5 + 6)
    assert found.shape == (2, convolutions + 9 + 7)
    maps = slow_maps(build(patch=96), pixels(2)[1], 7, 1)
    np.testing.assert_allclose(found[1, convolutions:-7], maps["dense1"][:, 0, 0], rtol=1e-4, atol=1e-5)


def test_dense_stride_is_obeyed(network: ExemplarCNN) -> None:
    images = pixels(1)
    wide = eval_features(network, params(normalise=False, pool=1, dense_stride=7), CPU)(images)
    close = eval_features(network, params(normalise=False, pool=1, dense_stride=1), CPU)(images)
    np.testing.assert_allclose(close[:, :15], wide[:, :15], rtol=1e-5)
    # A stride of one sees all windows that a stride of seven sees, and more.
    assert (close[:, 15:] >= wide[:, 15:] - 1e-5).all()
    assert not np.allclose(close[:, 15:], wide[:, 15:])


def test_dropout_is_off_even_for_a_network_in_train_mode(network: ExemplarCNN) -> None:
    images = pixels(2)
    expected = eval_features(build().eval(), params(), CPU)(images)
    np.testing.assert_array_equal(eval_features(network.train(), params(), CPU)(images), expected)


# Features for clustering


@pytest.mark.parametrize("before_relu", [True, False])
def test_cluster_features_against_a_slow_reference(network: ExemplarCNN, before_relu: bool) -> None:
    images, layers = pixels(3), ("conv1", "conv2", "conv3")
    wanted = ClusterFeatures(layers=layers, before_relu=before_relu, pool=16, precision="fp32")
    found = cluster_features(network, wanted, 7, CPU)(images)
    assert (found < 0).any() == before_relu
    for row, image in zip(found, images, strict=True):
        maps = slow_maps(network, image, 7, 0 if before_relu else 1)
        expected = unit([x for layer in layers for x in slow_pool(maps[layer], 16)])
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-6)


def test_full_cluster_features_have_3440_numbers_of_unit_length() -> None:
    full = Network(widths=(92, 256, 512), dense=8, dropout_conv=0, dropout_dense=0, batch_norm=False)
    wanted = ClusterFeatures(layers=("conv1", "conv2", "conv3"), before_relu=True, pool=2, precision="fp32")
    found = cluster_features(initialise(full, 2, 32, 0), wanted, 7, CPU)(pixels(1))
    assert found.shape == (1, 3_440)
    np.testing.assert_allclose(np.linalg.norm(found), 1, rtol=1e-5)


# Independence


def test_features_do_not_depend_on_the_rest_of_the_batch(extract: FeatureExtractor) -> None:
    images = pixels(6)
    together = extract(images)
    for place in range(6):
        np.testing.assert_allclose(extract(images[place : place + 1])[0], together[place], rtol=0, atol=1e-5)
    order = np.array([3, 0, 3, 5, 1])
    np.testing.assert_allclose(extract(images[order]), together[order], rtol=0, atol=1e-5)


def written(path: Path, images: np.ndarray, extract: FeatureExtractor, chunk: int = 4) -> np.ndarray:
    write_features(path, Images(images), extract, chunk)
    found: np.ndarray = np.load(path)
    return found


@pytest.mark.parametrize(("count", "chunk"), [(1, 4), (4, 4), (10, 4), (3, 1), (3, 64)])
def test_written_features_are_the_extracted_ones(
    tmp_path: Path, extract: FeatureExtractor, count: int, chunk: int
) -> None:
    images = pixels(count)
    found = written(tmp_path / "train.npy", images, extract, chunk)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, extract(images), rtol=0, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["train.npy"]


def test_written_bytes_depend_on_the_image_and_its_place_alone(tmp_path: Path, extract: FeatureExtractor) -> None:
    images = pixels(10)
    found = written(tmp_path / "a.npy", images, extract)

    others = pixels(10, seed=1)
    others[[3, 9]] = images[[3, 9]]
    np.testing.assert_array_equal(written(tmp_path / "b.npy", others, extract)[[3, 9]], found[[3, 9]])

    np.testing.assert_array_equal(written(tmp_path / "d.npy", images[:5], extract), found[:5])
    # A matrix product may sum the first and the last rows of a chunk in different orders.
    order = np.random.default_rng(0).permutation(10)
    np.testing.assert_allclose(written(tmp_path / "c.npy", images[order], extract), found[order], rtol=0, atol=1e-7)

    write_features(tmp_path / "e.npy", Images(images), extract, 4)
    assert (tmp_path / "e.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_number_of_threads_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    extract = eval_features(build(), params(precision=precision), CPU)
    for count in (1, 2, 3):
        monkeypatch.setattr(threads, "_count", count)
        written(tmp_path / f"{count}.npy", pixels(21), extract)
    assert len({(tmp_path / f"{count}.npy").read_bytes() for count in (1, 2, 3)}) == 1


def test_bfloat16_is_another_arithmetic_of_the_same_features() -> None:
    images = pixels(5)
    found = {}
    for precision in ("fp32", "bf16"):
        wanted = ClusterFeatures(layers=LAYERS, before_relu=True, pool=2, precision=precision)
        extracts = eval_features(build(), params(precision=precision), CPU), cluster_features(build(), wanted, 7, CPU)
        found[precision] = [extract(images) for extract in extracts]
    for full, short in zip(found["fp32"], found["bf16"], strict=True):
        assert short.dtype == np.float32
        assert not np.array_equal(full, short)
        np.testing.assert_allclose(short, full, rtol=0, atol=0.02)


def test_every_chunk_has_the_same_size(tmp_path: Path) -> None:
    seen = []

    def extract(images: np.ndarray) -> np.ndarray:
        seen.append(images.shape)
        return images[:, 0, 0].astype(np.float32)

    images = pixels(9)
    np.testing.assert_array_equal(written(tmp_path / "f.npy", images, extract), images[:, 0, 0])
    assert seen == [(4, 96, 96, 3)] * 3


def test_nothing_is_left_of_a_failed_run(tmp_path: Path) -> None:
    def extract(images: np.ndarray) -> np.ndarray:
        if images[0, 0, 0, 0] != first:
            raise RuntimeError("out of memory")
        return images[:, 0, 0].astype(np.float32)

    images = pixels(9)
    images[4] = images[0] + 1
    first = images[0, 0, 0, 0]
    with pytest.raises(RuntimeError, match="out of memory"):
        written(tmp_path / "f.npy", images, extract)
    assert list(tmp_path.iterdir()) == []
