"""SimCLR with a ResNet-18, set up as users of lightly do, as a rival of this project's networks.

The views, the loss and the head are lightly's with its defaults, the network is torchvision's, the optimiser and its
schedule are those of lightly's tutorial. What a user would choose for the images at hand is a parameter.
"""

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms.simclr_transform import SimCLRTransform
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18

from exemplarcnn import paths, threads
from exemplarcnn.config.params import load
from exemplarcnn.data import image_set, pools, stl10
from exemplarcnn.data.types import Pool
from exemplarcnn.evaluation.classifiers import FeatureSet
from exemplarcnn.evaluation.metrics import correct
from exemplarcnn.evaluation.protocols import evaluate
from exemplarcnn.files import atomic_write, digest, digest_of
from exemplarcnn.processor import multiplies_bfloat16
from exemplarcnn.progress import tqdm
from exemplarcnn.training.diagnosis import TrainingError

WORKERS = 2  # processes that make views, threads of torch, and threads that train SVMs
SHOWN_AT_ONCE = 64
SECONDS = 180.0  # between checkpoints
MEAN, STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # of ImageNet, as SimCLRTransform normalises


@dataclass(frozen=True)
class Settings:
    """What a user chooses.

    Attributes
    ----------
    steps, batch_size
        Length of the training, and images in a batch; each has two views.
    side
        Of the views, pixels. Images are described at this size, too.
    small_stem
        Whether the first layer is 3×3 at stride 1 without pooling, as usual for small images.
    lr, weight_decay
        Of SGD with momentum 0.9: the first rate, which falls along half a cosine.
    temperature
        Of the loss.
    strength
        Of the colour jitter.
    blur
        Probability that a view is blurred.
    """

    steps: int
    side: int = 96
    batch_size: int = 256
    small_stem: bool = False
    lr: float = 0.06
    weight_decay: float = 5e-4
    temperature: float = 0.5
    strength: float = 1.0
    blur: float = 0.5


class Views(Dataset[list[Tensor]]):
    """Two views of each image of a pool, an image a step of its own stream of random numbers."""

    def __init__(self, pool: Pool, order: NDArray[np.int64], settings: Settings, seed: int):
        self.pool, self.order, self.seed = pool, order, seed
        self.transform = SimCLRTransform(
            input_size=settings.side, cj_strength=settings.strength, gaussian_blur=settings.blur
        )

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> list[Tensor]:
        # The same views whatever process makes them.
        torch.manual_seed(self.seed * 1_000_003 + place)
        random.seed(self.seed * 1_000_003 + place)
        np.random.seed((self.seed * 1_000_003 + place) % 2**32)  # noqa: NPY002  # lightly's blur draws from it
        image = Image.fromarray(pools.centre_square(self.pool[int(self.order[place])]))
        return [torch.as_tensor(view) for view in self.transform(image)]


def backbone(settings: Settings) -> nn.Module:
    """Build the network without its last layer: (n, 3, side, side) float32 to (n, 512)."""
    network: nn.Module = resnet18()
    if settings.small_stem:
        network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return network


@dataclass(frozen=True)
class Checkpoint:
    """A file with the state of an unfinished training.

    Attributes
    ----------
    path
        The file.
    identity
        Of the training: what a file says of another one is ignored.
    """

    path: Path
    identity: str

    def save(self, networks: nn.Module, optimiser: SGD, step: int, seconds: float) -> None:
        """Write weights, momentum and rate, the number of steps done, and the seconds that they took."""
        tensors = {f"weights.{name}": tensor for name, tensor in networks.state_dict().items()}
        for number, parameter in enumerate(networks.parameters()):
            tensors[f"momentum.{number}"] = optimiser.state[parameter]["momentum_buffer"]
        about = {"identity": self.identity, "step": str(step), "seconds": repr(seconds)}
        about["lr"] = repr(optimiser.param_groups[0]["lr"])
        with atomic_write(self.path) as partial:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, about)

    def restore(self, networks: nn.Module, optimiser: SGD) -> tuple[int, float]:
        """Put the state back; return the number of steps done and their seconds, 0 without a usable file."""
        try:
            with safe_open(self.path, "pt") as file:
                about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        except (OSError, SafetensorError):  # there is none, or a power failure has left anything
            return 0, 0.0
        if about["identity"] != self.identity:
            return 0, 0.0
        networks.load_state_dict({name: tensors[f"weights.{name}"] for name in networks.state_dict()})
        for number, parameter in enumerate(networks.parameters()):
            optimiser.state[parameter]["momentum_buffer"] = tensors[f"momentum.{number}"]
        optimiser.param_groups[0]["lr"] = float(about["lr"])
        return int(about["step"]), float(about["seconds"])


def train(pool: Pool, settings: Settings, seed: int, checkpoint: Checkpoint) -> tuple[nn.Module, float]:
    """Train on the images of a pool, from a checkpoint on if there is one.

    Returns
    -------
    network, seconds
        The trained network, and the seconds that the steps before this call took.

    Raises
    ------
    TrainingError
        If the loss is not finite; the checkpoint is removed then.
    """
    begin = saved = time.monotonic()
    threads.keep_freed_memory()  # as the stages of the pipeline do
    torch.manual_seed(seed)
    torch.set_num_threads(WORKERS)
    network, head = backbone(settings), SimCLRProjectionHead(512, 512, 128)
    both = nn.ModuleList([network, head]).train()
    draw = np.random.default_rng(seed)
    wanted, images = settings.steps * settings.batch_size, len(pool)
    order = np.concatenate([draw.permutation(images) for _ in range(-(-wanted // images))])[:wanted]
    optimiser = SGD(both.parameters(), settings.lr, momentum=0.9, weight_decay=settings.weight_decay)
    schedule = CosineAnnealingLR(optimiser, settings.steps)
    loss_of = NTXentLoss(temperature=settings.temperature)
    done, before = checkpoint.restore(both, optimiser)
    schedule.last_epoch = done
    # In its order: each epoch of the pool is another permutation.
    left = range(done * settings.batch_size, wanted)
    loader = DataLoader(Views(pool, order, settings, seed), settings.batch_size, sampler=left, num_workers=WORKERS)
    bar = tqdm(loader, desc="SimCLR", unit="step", initial=done, total=settings.steps)
    for step, (one, other) in enumerate(bar, done + 1):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16(torch.device("cpu"))):
            outputs = head(network(torch.cat([one, other])))
        loss = loss_of(*outputs.float().chunk(2))
        if not torch.isfinite(loss):
            checkpoint.path.unlink(missing_ok=True)
            raise TrainingError(f"the loss of SimCLR is {loss.item()}; lower lr")
        loss.backward()
        optimiser.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
        if time.monotonic() - saved > SECONDS:
            saved = time.monotonic()
            checkpoint.save(both, optimiser, step, before + saved - begin)
    return network.eval(), before


def described(network: nn.Module, pool: Pool, side: int) -> NDArray[np.float32]:
    """Return the features of all images of a pool, (n, 512), each row of unit length."""
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, STD))
    rows = []
    with torch.inference_mode():
        for first in range(0, len(pool), SHOWN_AT_ONCE):
            batch = np.stack([pool[i] for i in range(first, min(first + SHOWN_AT_ONCE, len(pool)))])
            images = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255
            if images.shape[-1] != side:
                images = F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
            rows.append(F.normalize(network((images - mean) / std)).numpy())
    return np.concatenate(rows)


def file_of(folder: Path, parameters: str, values: dict[str, Any]) -> Path:
    """Return where `result` keeps what it finds."""
    libraries = [version(name) for name in ("torch", "torchvision", "lightly", "scikit-learn")]
    parts = [parameters, digest(Path(__file__)), libraries, asdict(Settings(**values))]
    return folder / "found" / f"simclr-{digest_of(parts)[:16]}.npz"


def result(
    folder: Path,
    parameters: str,
    values: dict[str, Any],
    trained: Callable[[Pool, Settings, int, Checkpoint], tuple[nn.Module, float]] = train,
) -> dict[str, Any]:
    """Train, describe and evaluate by the ten folds, unless that is done.

    Parameters
    ----------
    folder
        A workspace: its ``data`` are used, and ``seed`` and ``evaluate`` of its params.yaml; results are kept in
        ``found``.
    parameters
        Hash of these parameters, of the data, and of the code that evaluates.
    values
        `Settings`, as a mapping.
    trained
        Makes the network.

    Returns
    -------
    dict
        ``right``, (folds, test images) bool; ``C``, what was chosen for each fold; ``seconds``.
    """
    settings = Settings(**values)
    file = file_of(folder, parameters, values)
    checkpoint = Checkpoint(folder / "work" / "simclr.safetensors", file.stem)
    if not file.exists():
        begin = time.monotonic()
        data, config = folder / "data", load(folder / paths.PARAMS)
        sizes = image_set.check(data)
        network, before = trained(stl10.open_pool(data, "unlabeled"), settings, config.seed, checkpoint)
        features = [described(network, stl10.open_pool(data, split), settings.side) for split in ("train", "test")]
        labels = [stl10.read_labels(data / f"{split}_y.bin", sizes[split]) for split in ("train", "test")]
        names = stl10.read_class_names(data / "class_names.txt")
        folds = stl10.read_folds(data / "fold_indices.txt", sizes["train"])
        described_set = FeatureSet(features[0], labels[0], folds, features[1], len(names))
        found = evaluate(described_set, config.evaluate, config.seed, WORKERS)["folds"]
        right = correct(np.stack([each.predictions for each in found]), labels[1])
        chosen = [each.choice for each in found]
        with atomic_write(file) as partial:
            np.savez(partial, right=right, C=chosen, seconds=before + time.monotonic() - begin)
        checkpoint.path.unlink(missing_ok=True)
    with np.load(file, allow_pickle=False) as kept:
        return dict(kept)
