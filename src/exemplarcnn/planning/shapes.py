"""How many weights networks have, and how many numbers describe an image: by arithmetic, without a network."""

from itertools import pairwise

from exemplarcnn.config.base import Layer
from exemplarcnn.config.params import Config
from exemplarcnn.config.sections import ClusterFeatures, Features, Network, ResNet
from exemplarcnn.config.variants import KMeans, RawPixels

# Side of the convolutions' kernels; side of the map that dense1 gets.
KERNEL, DENSE_MAP = 5, 7
# Weights of torchvision's residual networks without their last layer, which has so many inputs.
RESNET_WEIGHTS = {10: 4_903_890, 18: 11_178_458, 34: 21_294_058, 50: 23_553_531}
# Blocks of each of the four stages; the deepest has bottlenecks.
RESNET_BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
RESNET_INPUTS = {10: 512, 18: 512, 34: 512, 50: 2_048}


def weights(network: Network, classes: int) -> int:
    """Return how many weights a network for patches has, whatever their side; mean and deviation of pixels included."""
    sizes = (3, *network.widths)
    convolutions = sum(KERNEL**2 * before * width + width for before, width in pairwise(sizes))
    dense = (sizes[-1] * DENSE_MAP**2 + 1) * network.dense + (network.dense + 1) * classes
    # Of each of three layers: scale, shift, mean and variance of each map, and a counter.
    normalisation = 4 * sum(network.widths) + 3 if network.batch_norm else 0
    return convolutions + normalisation + dense + 6


def resnet_weights(config: Config, classes: int) -> int:
    """Return how many weights the residual network has, with the running statistics."""
    depth = config.resnet.depth
    return RESNET_WEIGHTS[depth] + (RESNET_INPUTS[depth] + 1) * classes


def resnet_maps(params: ResNet, side: int) -> int:
    """Return how many numbers all maps of the residual network have for an image of a side, in pixels."""
    side = -(-side // params.stem_stride)
    found, channels = 3 * 64 * side**2, 64
    if params.stem_pool:
        side = -(-side // 2)
        found += 64 * side**2
    bottleneck = params.depth == 50
    for stage, count in enumerate(RESNET_BLOCKS[params.depth]):
        width = 64 * 2**stage
        wide = 4 * width if bottleneck else width
        for block in range(count):
            inner = side  # of a bottleneck's first convolution, which has stride 1
            if block == 0 and stage > 0:
                side = -(-side // 2)
            if bottleneck:
                found += 3 * width * inner**2 + 3 * width * side**2 + 2 * wide * side**2 + wide * side**2
            else:
                found += 6 * width * side**2
            if block == 0 and (channels != wide or stage > 0):
                found += 2 * wide * side**2
            channels = wide
    return found


def maps(network: Network, side: int, patch: int, dense_stride: int, classes: int) -> dict[Layer, tuple[int, int]]:
    """Return channels and side of each layer's map of an image.

    Parameters
    ----------
    network
        The sizes of the layers.
    side, patch
        Sides of the image, and of the patches that the network is for, in pixels.
    dense_stride
        Stride of dense1 as a convolution.
    classes
        Number of surrogate classes.
    """
    second = (side - 3) // 2 + 1
    third = (second - 3) // 2 + 1
    dense = ((third if patch == 32 else DENSE_MAP) - DENSE_MAP) // dense_stride + 1
    first, second_width, third_width = network.widths
    return {
        "conv1": (first, side),
        "conv2": (second_width, second),
        "conv3": (third_width, third),
        "dense1": (network.dense, dense),
        "dense2": (classes, dense),
    }


def features(config: Config, params: Features | ClusterFeatures, patch: int, classes: int, side: int) -> int:
    """Return how many numbers a network describes an image with.

    Parameters
    ----------
    config
        The parameters.
    params
        Which layers, and to which side their maps are pooled.
    patch, classes
        Side of the network's patches in pixels, and number of its surrogate classes.
    side
        Side of the images in pixels.
    """
    stride = params.dense_stride if isinstance(params, Features) else config.features.dense_stride
    found = maps(config.network, side, patch, stride, classes)
    sizes = (found[layer] for layer in params.layers)
    return sum(channels * (1 if across == 1 else params.pool**2) for channels, across in sizes)


def control_features(params: RawPixels | KMeans) -> int:
    """Return how many numbers a control describes an image with."""
    return 3 * params.side**2 if isinstance(params, RawPixels) else 4 * params.centres
