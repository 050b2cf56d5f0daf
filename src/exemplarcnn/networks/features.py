"""Turn images into features: pooled maps of a network (docs/method.md, sections 4 and 5.1).

Images go through the network in chunks of one fixed size (`chunks.padded_chunks`), so that neither the number of images
nor the other images can change a feature. A different position in a chunk can change its last bits.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from exemplarcnn.config.base import LAYERS
from exemplarcnn.config.sections import ClusterFeatures, Features
from exemplarcnn.data.types import Pool
from exemplarcnn.files import atomic_write
from exemplarcnn.networks.chunks import map_chunks
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN, taking_turns, to_device
from exemplarcnn.networks.kept_rows import npy_pieces
from exemplarcnn.networks.precision import float32_convolutions, mixed_precision
from exemplarcnn.progress import tqdm

# From (n, height, width, 3) images to (n, features).
FeatureExtractor = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def _unit(block: Tensor) -> Tensor:
    """Scale each row to length one; rows of zeros stay zero."""
    return F.normalize(block, dim=1)


def _pooled(map_: Tensor, size: int) -> Tensor:
    """Max-pool a map adaptively to size×size and flatten it; a 1×1 map is only flattened."""
    if map_.shape[-2:] != (1, 1):
        map_ = F.adaptive_max_pool2d(map_, size)
    return map_.flatten(1).float()


def eval_features(network: ExemplarCNN, params: Features, device: torch.device) -> FeatureExtractor:
    """Build the function that computes the features for classifiers (docs/method.md, section 4).

    Parameters
    ----------
    network
        Moved to ``device`` and put in eval mode, in place.
    params
        Layers, pooled size, stride of dense1, power, normalisation, mirror images, precision of the maps.
    device
        Where to compute.

    Returns
    -------
    callable
        (n, height, width, 3) uint8 to (n, features) float32: of each layer the map after ReLU, max-pooled to
        ``pool`` by ``pool``, raised to ``power`` and, if ``normalise``, scaled to unit length per image. Layers are in
        the network's order.
        If ``mirror``, the mean of these numbers over the image and its mirror image.
    """
    return _through(network, params.precision, device, partial(described, network, params=params))


def described(network: ExemplarCNN, images: Tensor, params: Features) -> Tensor:
    """Compute the features for classifiers, (n, features) float32, of normalised images, (n, 3, height, width)."""
    features = _joined(network.maps(images, params.dense_stride), params)
    if params.mirror:
        features = (features + _joined(network.maps(images.flip(-1), params.dense_stride), params)) / 2
    return features


def _joined(maps: dict[str, tuple[Tensor, Tensor]], params: Features) -> Tensor:
    blocks = [_pooled(maps[layer][1], params.pool) for layer in LAYERS if layer in params.layers]
    if params.power != 1:
        blocks = [block**params.power for block in blocks]
    return torch.cat([_unit(block) for block in blocks] if params.normalise else blocks, dim=1)


def cluster_features(
    network: ExemplarCNN, params: ClusterFeatures, dense_stride: int, device: torch.device
) -> FeatureExtractor:
    """Build the function that computes the features for clustering (docs/method.md, section 5.1).

    Parameters
    ----------
    network
        Moved to ``device`` and put in eval mode, in place.
    params
        Layers, before or after ReLU, pooled size, precision of the maps.
    dense_stride
        Stride of dense1 as a convolution.
    device
        Where to compute.

    Returns
    -------
    callable
        (n, height, width, 3) uint8 to (n, features) float32, each image's of unit length.
    """
    side = 0 if params.before_relu else 1

    def pooled(images: Tensor) -> Tensor:
        maps = network.maps(images, dense_stride)
        blocks = [_pooled(maps[layer][side], params.pool) for layer in LAYERS if layer in params.layers]
        return _unit(torch.cat(blocks, dim=1))

    return _through(network, params.precision, device, pooled)


def _through(
    network: ExemplarCNN, precision: str, device: torch.device, describe: Callable[[Tensor], Tensor]
) -> FeatureExtractor:
    network = to_device(network, device, torch.channels_last).eval()
    turn = taking_turns(device)

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with turn, float32_convolutions(device), torch.inference_mode():
            batch = network.normalise(torch.from_numpy(images).to(device))
            with mixed_precision(device, precision):
                result: NDArray[np.float32] = describe(batch).cpu().numpy()
            return result

    return run


def write_features(path: Path, pool: Pool, extract: FeatureExtractor, batch_size: int) -> None:
    """Write the features of all images of a pool, in chunks, into one ``.npy`` file.

    Parameters
    ----------
    path
        The file: (images, features) float32.
    pool
        Images of one size.
    extract
        The function from images to features.
    batch_size
        Images at a time. The last chunk is padded with the last image.
    """
    with (
        atomic_write(path) as partial,
        partial.open("wb") as file,
        tqdm(total=len(pool), desc=f"{path.parent.name}/{path.stem}", unit="image") as bar,
    ):
        before = 0
        for done, piece in npy_pieces(len(pool), map_chunks(pool.batch, extract, len(pool), batch_size)):
            file.write(piece)
            bar.update(done - before)
            before = done
