"""The network against plain numpy, and its sizes, parameter groups, dropout and initial weights."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from exemplarcnn.config.sections import Features, Group, Groups, Network
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN, initialise
from exemplarcnn.networks.features import eval_features

LAYERS = ("conv1", "conv2", "conv3", "dense1", "dense2")
FULL = Network(widths=(92, 256, 512), dense=1024, dropout_conv=0.25, dropout_dense=0.5, batch_norm=False)
SMALL = Network(widths=(4, 5, 6), dense=9, dropout_conv=0.25, dropout_dense=0.5, batch_norm=False)

GROUPS = (*LAYERS, "bias")


@pytest.fixture(scope="module")
def full() -> Iterator[ExemplarCNN]:
    yield initialise(FULL, classes=16_000, patch=32, seed=0).eval()


@pytest.fixture
def small() -> ExemplarCNN:
    return initialise(SMALL, classes=7, patch=32, seed=3).eval()


def noise(count: int, side: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 3, side, side)).astype(np.float32))


# Sizes


def test_full_network_shapes_of_a_patch(full: ExemplarCNN) -> None:
    seen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[name] = tuple(inputs[0].shape), tuple(output.shape)

        return hook

    handles = [getattr(full, name).register_forward_hook(watch(name)) for name in LAYERS]
    with torch.inference_mode():
        logits = full(noise(2, 32))
    for handle in handles:
        handle.remove()
    assert logits.shape == (2, 16_000)
    assert seen == {
        "conv1": ((2, 3, 32, 32), (2, 92, 32, 32)),
        "conv2": ((2, 92, 15, 15), (2, 256, 15, 15)),
        "conv3": ((2, 256, 7, 7), (2, 512, 7, 7)),
        "dense1": ((2, 25_088), (2, 1_024)),
        "dense2": ((2, 1_024), (2, 16_000)),
    }


def test_full_network_shapes_of_a_whole_image(full: ExemplarCNN) -> None:
    with torch.inference_mode():
        maps = full.maps(noise(1, 96), dense_stride=7)
    assert list(maps) == list(LAYERS)
    assert {name: tuple(after.shape[1:]) for name, (_, after) in maps.items()} == {
        "conv1": (92, 96, 96),
        "conv2": (256, 47, 47),
        "conv3": (512, 23, 23),
        "dense1": (1_024, 3, 3),
        "dense2": (16_000, 3, 3),
    }


def test_full_network_gives_71536_features(full: ExemplarCNN) -> None:
    params = Features(
        layers=LAYERS,
        pool=2,
        dense_stride=7,
        normalise=True,
        batch_size=1,
        precision="fp32",
        mirror=False,
        power=1.0,
    )
    describe = eval_features(full, params, torch.device("cpu"))
    assert describe(np.zeros((1, 96, 96, 3), np.uint8)).shape == (1, 71_536)


def test_weights_have_the_published_sizes(full: ExemplarCNN) -> None:
    assert {name: tuple(p.shape) for name, p in full.named_parameters()} == {
        "conv1.weight": (92, 3, 5, 5),
        "conv1.bias": (92,),
        "conv2.weight": (256, 92, 5, 5),
        "conv2.bias": (256,),
        "conv3.weight": (512, 256, 5, 5),
        "conv3.bias": (512,),
        "dense1.weight": (1_024, 25_088),
        "dense1.bias": (1_024,),
        "dense2.weight": (16_000, 1_024),
        "dense2.bias": (16_000,),
    }


# Values


def convolve(x: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    """Slow 5×5 convolution with two pixels of zeros around: (channels, rows, columns) in and out."""
    assert layer.bias is not None
    weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2)))
    out = np.empty((len(weight), *x.shape[1:]))
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            window = padded[:, row : row + 5, column : column + 5]
            out[:, row, column] = (weight * window).sum(axis=(1, 2, 3)) + bias
    return out


def shrink(x: np.ndarray) -> np.ndarray:
    """Slow 3×3 max pooling with stride 2 and without padding."""
    side = (x.shape[1] - 3) // 2 + 1
    out = np.empty((len(x), side, side))
    for row in range(side):
        for column in range(side):
            out[:, row, column] = x[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3].max(axis=(1, 2))
    return out


def bins(x: np.ndarray, size: int) -> np.ndarray:
    """Slow adaptive max pooling."""
    side = x.shape[1]
    out = np.empty((len(x), size, size))
    for row in range(size):
        for column in range(size):
            rows = slice(row * side // size, -(-(row + 1) * side // size))
            columns = slice(column * side // size, -(-(column + 1) * side // size))
            out[:, row, column] = x[:, rows, columns].max(axis=(1, 2))
    return out


def relu(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(x, 0))


def slow_forward(network: ExemplarCNN, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every layer's output before its ReLU."""
    out = {"conv1": convolve(x, network.conv1)}
    out["conv2"] = convolve(shrink(relu(out["conv1"])), network.conv2)
    out["conv3"] = convolve(shrink(relu(out["conv2"])), network.conv3)
    last = relu(out["conv3"])
    flat = (last if last.shape[1] == 7 else bins(last, 7)).reshape(-1)
    for name, layer in (("dense1", network.dense1), ("dense2", network.dense2)):
        out[name] = layer.weight.detach().double().numpy() @ flat + layer.bias.detach().double().numpy()
        flat = relu(out[name])
    return out


@pytest.mark.parametrize("side", [32, 64, 96])
def test_forward_against_plain_numpy(side: int) -> None:
    network = initialise(SMALL, classes=7, patch=side, seed=3).eval()
    x = noise(1, side)
    expected = slow_forward(network, x[0].double().numpy())["dense2"]
    with torch.inference_mode():
        np.testing.assert_allclose(network(x)[0].numpy(), expected, rtol=1e-4, atol=1e-5)


def trained_by_batches(side: int = 32) -> ExemplarCNN:
    """A network with batch normalisation, whose statistics are those of a batch that it has seen."""
    network = initialise(SMALL.model_copy(update={"batch_norm": True}), classes=7, patch=side, seed=3)
    with torch.no_grad():
        for layer in (network.norm1, network.norm2, network.norm3):
            assert isinstance(layer, nn.BatchNorm2d)
            layer.weight.uniform_(0.5, 2)
            layer.bias.uniform_(-1, 1)
    network.train()(noise(16, side))
    return network.eval()


def test_batch_normalisation_scales_each_map_before_its_relu() -> None:
    network = trained_by_batches()
    x, layers = noise(2, 32, seed=4), (network.norm1, network.norm2, network.norm3)
    with torch.inference_mode():
        maps = network.maps(x, dense_stride=7)
        flowing = x
        for name, conv, norm in zip(LAYERS, (network.conv1, network.conv2, network.conv3), layers, strict=False):
            assert isinstance(norm, nn.BatchNorm2d)
            plain = conv(flowing).double().numpy()
            known = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            mean, var, scale, shift = (each.numpy().reshape(1, -1, 1, 1) for each in known if each is not None)
            expected = (plain - mean) / np.sqrt(var + norm.eps) * scale + shift
            np.testing.assert_allclose(maps[name][0].numpy(), expected, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(maps[name][1].numpy(), relu(expected), rtol=1e-4, atol=1e-5)
            flowing = nn.functional.max_pool2d(maps[name][1], 3, 2)
        torch.testing.assert_close(maps["dense2"][0][:, :, 0, 0], network(x), rtol=1e-4, atol=1e-5)


def test_without_batch_normalisation_nothing_is_added(small: ExemplarCNN) -> None:
    normalised = trained_by_batches()
    assert set(small.state_dict()) == {name for name in normalised.state_dict() if not name.startswith("norm")}
    fresh = initialise(SMALL.model_copy(update={"batch_norm": True}), 7, 32, 3)
    for name, weight in initialise(SMALL, 7, 32, 3).named_parameters():
        assert torch.equal(weight, fresh.get_parameter(name)), "the same initial weights"
    groups = fresh.parameter_groups(Groups(**dict.fromkeys(GROUPS, Group(lr=0.1, l2=0.0))))
    members = {group["name"]: len(group["params"]) for group in groups}
    assert members == {**dict.fromkeys(LAYERS, 1), "bias": 5 + 6}


def test_maps_against_plain_numpy(small: ExemplarCNN) -> None:
    x = noise(1, 32)
    expected = slow_forward(small, x[0].double().numpy())
    with torch.inference_mode():
        maps = small.maps(x, dense_stride=7)
    for name, (before, after) in maps.items():
        wanted = expected[name].reshape(before.shape[1:])
        np.testing.assert_allclose(before[0].numpy(), wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(after[0].numpy(), relu(wanted), rtol=1e-4, atol=1e-5)
        assert (before < 0).any(), "a map without negative numbers would not tell before from after"


def test_dense_layers_as_convolutions_equal_the_dense_ones(full: ExemplarCNN) -> None:
    x = noise(2, 32)
    with torch.inference_mode():
        before, after = full.maps(x, dense_stride=7)["dense2"]
        logits = full(x)
    assert before.shape == (2, 16_000, 1, 1)
    torch.testing.assert_close(before[:, :, 0, 0], logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after[:, :, 0, 0], logits.relu(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stride", "side"), [(7, 3), (4, 5), (1, 17)])
def test_dense_stride_moves_the_window(small: ExemplarCNN, stride: int, side: int) -> None:
    with torch.inference_mode():
        maps = small.maps(noise(1, 96), stride)
        conv3 = maps["conv3"][1]
        dense1 = maps["dense1"][0]
        row, column = side - 1, side // 2
        window = conv3[:, :, row * stride : row * stride + 7, column * stride : column * stride + 7]
        expected = small.dense1(window.flatten(1))
    assert dense1.shape[2:] == (side, side)
    torch.testing.assert_close(dense1[:, :, row, column], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("patch", [64, 96])
def test_other_patch_sizes_give_one_dense_position_of_a_whole_image(patch: int) -> None:
    network = initialise(SMALL, classes=7, patch=patch, seed=1).eval()
    with torch.inference_mode():
        maps = network.maps(noise(2, 96), dense_stride=7)
        assert maps["conv3"][1].shape == (2, 6, 23, 23)
        assert maps["dense1"][0].shape == (2, 9, 1, 1)
        assert maps["dense2"][0].shape == (2, 7, 1, 1)
        pooled = bins(maps["conv3"][1][1].numpy().astype(np.float64), 7)
        weight, bias = network.dense1.weight.double().numpy(), network.dense1.bias.double().numpy()
        expected = weight @ pooled.reshape(-1) + bias
    np.testing.assert_allclose(maps["dense1"][0][1, :, 0, 0].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_patch_96_sees_at_evaluation_what_it_was_trained_on() -> None:
    network = initialise(SMALL, classes=7, patch=96, seed=1).eval()
    x = noise(2, 96)
    with torch.inference_mode():
        torch.testing.assert_close(
            network.maps(x, dense_stride=7)["dense2"][0][:, :, 0, 0], network(x), rtol=1e-4, atol=1e-5
        )


# Normalising


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.05, 1)] * 3),
)
def test_normalise_against_plain_numpy(
    seed: int, shape: tuple[int, int, int], mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    network = initialise(SMALL, 2, 32, 0, list(mean), list(std))
    given_ = torch.from_numpy(images.copy())
    result = network.normalise(given_)
    expected = ((images / 255 - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(given_.numpy(), images, "the images themselves are left alone")


def test_statistics_travel_with_the_weights_and_are_not_trained() -> None:
    network = initialise(SMALL, 2, 32, 0, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    state = network.state_dict()
    np.testing.assert_allclose(state["mean"].flatten().numpy(), [0.1, 0.2, 0.3], rtol=1e-6)
    np.testing.assert_allclose(state["std"].flatten().numpy(), [0.4, 0.5, 0.6], rtol=1e-6)
    assert not {"mean", "std"} & {name for name, _ in network.named_parameters()}


# Parameter groups


def test_each_parameter_is_in_one_group_with_its_rate_and_l2(small: ExemplarCNN) -> None:
    table = {  # learning rate and L2 as the paper has them
        "conv1": (0.1, 0.0),
        "conv2": (0.11, 0.001),
        "conv3": (0.12, 0.002),
        "dense1": (0.13, 0.004),
        "dense2": (0.025, 0.016),
        "bias": (0.2, 0.0),
    }
    groups = small.parameter_groups(Groups(**{k: Group(lr=lr, l2=l2) for k, (lr, l2) in table.items()}))
    names = {id(parameter): name for name, parameter in small.named_parameters()}
    found = {group["name"]: sorted(names[id(p)] for p in group["params"]) for group in groups}
    assert found == {
        **{layer: [f"{layer}.weight"] for layer in LAYERS},
        "bias": sorted(f"{layer}.bias" for layer in LAYERS),
    }
    everything = [id(p) for group in groups for p in group["params"]]
    assert sorted(everything) == sorted(names)
    rates = {group["name"]: (group["lr"], group["initial_lr"], group["weight_decay"]) for group in groups}
    assert rates == {name: (lr, lr, l2) for name, (lr, l2) in table.items()}


# Dropout


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("patch", "maps"), [(32, (15, 7)), (96, (47, 23))])
def test_dropout_is_where_the_method_has_it(
    patch: int, maps: tuple[int, int], training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def spy(network: ExemplarCNN, x: Tensor, rate: float) -> Tensor:
        calls.append((tuple(x.shape[1:]), rate, network.training, bool((x < 0).any())))
        return x

    monkeypatch.setattr(ExemplarCNN, "_dropped", spy)
    initialise(SMALL, classes=7, patch=patch, seed=3).train(training)(noise(2, patch))
    # After ReLU and pooling of the convolutions, whatever the patch, and after ReLU of the first dense layer.
    assert calls == [
        ((4, maps[0], maps[0]), 0.25, training, False),
        ((5, maps[1], maps[1]), 0.25, training, False),
        ((6, 7, 7), 0.25, training, False),
        ((9,), 0.5, training, False),
    ]


@pytest.mark.parametrize(("patch", "side"), [(32, 7), (64, 15), (96, 23)])
def test_dropout_behind_conv3_keeps_the_mean_that_dense1_sees(patch: int, side: int) -> None:
    """A maximum taken after dropout is larger than in evaluation: of 96×96 patches by a quarter."""
    network = initialise(SMALL, classes=7, patch=patch, seed=3)
    # The same in both modes, so that the dropouts before it make no difference.
    given_ = noise(64, side)[:, :1].expand(-1, SMALL.widths[1], -1, -1).relu()
    network.conv3.register_forward_pre_hook(lambda module, inputs: (given_,))
    means: list[float] = []
    network.dense1.register_forward_pre_hook(lambda module, inputs: means.append(float(inputs[0].mean())))
    torch.manual_seed(0)
    with torch.no_grad():
        for training in (True, False):
            network.train(training)(torch.zeros(64, 3, patch, patch))
    trained, evaluated = means
    assert trained == pytest.approx(evaluated, rel=0.03)


def plain_forward(network: ExemplarCNN, x: Tensor) -> Tensor:
    """The forward pass for a 32×32 patch, written out."""
    x = F.dropout(F.max_pool2d(F.relu(network.conv1(x)), 3, 2), 0.25, network.training)
    x = F.dropout(F.max_pool2d(F.relu(network.conv2(x)), 3, 2), 0.25, network.training)
    x = F.dropout(F.relu(network.conv3(x)), 0.25, network.training)
    x = F.dropout(F.relu(network.dense1(x.flatten(1))), 0.5, network.training)
    return F.linear(x, network.dense2.weight, network.dense2.bias)


@pytest.mark.parametrize("training", [True, False])
def test_forward_of_a_32_pixel_patch_bit_for_bit(small: ExemplarCNN, training: bool) -> None:
    x, outputs = noise(3, 32), []
    for forward in (small.train(training), lambda x: plain_forward(small, x)):
        torch.manual_seed(5)
        with torch.no_grad():
            outputs.append(forward(x))
    assert torch.equal(*outputs)


@pytest.mark.parametrize(("conv", "dense"), [(0.5, 0.0), (0.0, 0.5)])
def test_dropout_acts_in_train_mode_alone(conv: float, dense: float) -> None:
    def build(conv: float, dense: float) -> ExemplarCNN:
        return initialise(
            Network(widths=(4, 5, 6), dense=9, dropout_conv=conv, dropout_dense=dense, batch_norm=False), 7, 32, 3
        )

    x = noise(2, 32)
    with torch.no_grad():
        plain = build(0, 0).train()(x)
        network = build(conv, dense)
        torch.testing.assert_close(network.eval()(x), plain)
        first, second = network.train()(x), network(x)
    assert not torch.equal(first, plain)
    assert not torch.equal(first, second)


# Initial weights


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = initialise(SMALL, 7, 32, seed=5).state_dict()
    torch.manual_seed(2)
    torch.rand(10)
    second = initialise(SMALL, 7, 32, seed=5).state_dict()
    other = initialise(SMALL, 7, 32, seed=6).state_dict()
    for name in first:
        assert torch.equal(first[name], second[name]), name
        if name not in ("mean", "std"):
            assert not torch.equal(first[name], other[name]), name


def test_initialising_leaves_torchs_random_numbers_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    initialise(SMALL, 7, 32, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_weights_are_pytorchs_defaults(full: ExemplarCNN) -> None:
    for name, fan_in in (("conv1", 75), ("conv2", 2_300), ("conv3", 6_400), ("dense1", 25_088), ("dense2", 1_024)):
        layer, bound = getattr(full, name), fan_in**-0.5
        for parameter in (layer.weight, layer.bias):
            largest = float(parameter.detach().abs().max())
            assert 0.9 * bound < largest <= bound * (1 + 1e-6), name
        assert float(layer.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.03), name
