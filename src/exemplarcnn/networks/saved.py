"""A trained network on disk: ``weights.safetensors`` and ``network.json`` (sizes, classes, patch, side, mean, std)."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from exemplarcnn import files
from exemplarcnn.config.sections import Network
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import atomic_write, read_json, write_json
from exemplarcnn.networks.exemplar_cnn import Classifier, ExemplarCNN


class ModelError(PipelineError):
    """A network cannot be loaded, or its device is missing."""


def save_weights(path: Path, network: Classifier) -> None:
    """Write a network's parameters and statistics as safetensors."""
    with atomic_write(path) as partial:
        save_file(network.tensors(), partial)


def describe(path: Path, params: Network, summary: dict[str, Any]) -> None:
    """Write ``network.json``: all that is needed to build the network again.

    Parameters
    ----------
    path
        The file to write.
    params, summary
        The network's sizes, and the content of its surrogate set's ``set.json``.
    """
    wanted = {key: summary[key] for key in ("classes", "patch", "mean", "std")}
    if "side" in summary:  # the side of the data set's images, if it is not STL-10's
        wanted["side"] = summary["side"]
    write_json(path, {"network": params.model_dump(mode="json"), **wanted})


def load(folder: Path, weights: str = "weights.safetensors") -> ExemplarCNN:
    """Build the network of a model folder, in eval mode on the CPU.

    Parameters
    ----------
    folder
        The model folder.
    weights
        The file of weights in it: trained ones, or ``initial.safetensors``.

    Raises
    ------
    ModelError
        If the tensors of ``weights`` do not fit ``network.json``.
    """
    about = read_json(folder / "network.json")
    params = Network(**({"batch_norm": False} | about["network"]))  # older files do not name it
    network = ExemplarCNN(params, about["classes"], about["patch"], about["mean"], about["std"])
    tensors: dict[str, Tensor] = load_file(folder / weights)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(
            f"cannot load {folder / weights}: it does not fit {folder / 'network.json'}; restore both, "
            f"for example with dvc checkout. {error}"
        ) from None
    return network.eval()


def start_from(network: ExemplarCNN, weights: Path) -> None:
    """Put the weights of a trained network into a new one, all but its last layer, which depends on the classes.

    Parameters
    ----------
    network
        Changed in place. Its ``dense2``, and its mean and deviation of colours, stay.
    weights
        The file of the trained network's.

    Raises
    ------
    ModelError
        If a tensor has another shape, or is missing in one of them.
    """
    own = ("dense2.weight", "dense2.bias", "mean", "std")
    here, there = network.state_dict(), load_file(weights)
    for name in sorted({*here, *there}.difference(own)):
        shapes = [tuple(tensors[name].shape) if name in tensors else "none" for tensors in (there, here)]
        if shapes[0] != shapes[1]:
            raise ModelError(
                f"cannot start from {weights}: {name} has the shape {shapes[0]}, expected "
                f"{shapes[1]}; set the same section `network` for both, and train both again"
            )
    with torch.no_grad():
        for name in here.keys() - own:
            here[name].copy_(there[name])


def digest(folder: Path, weights: str = "weights.safetensors") -> str:
    """Return a hash of what `load` reads."""
    return files.digest(folder / "network.json", folder / weights)


def pick_device(name: str) -> torch.device:
    """Return the device that ``machine.device`` names; ``auto`` is the GPU if there is one, else the CPU.

    Raises
    ------
    ModelError
        If the name is ``cuda`` and torch finds no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("cannot use the device cuda: torch finds no GPU; set machine.device to auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
