"""Stages ``raw_pixels`` and ``random_network``: features that nothing was learned for."""

from exemplarcnn import images, models, paths, stages
from exemplarcnn.config import Config
from exemplarcnn.features import Describe, eval_features, pixel_features, write_features


def run(control: str, config: Config) -> None:
    """Write ``features/CONTROL/eval/``."""
    describe = _describe(control, config)
    for split in ("train", "test"):
        pool = images.open_pool(paths.DATA, split)
        write_features(paths.eval_features(control, split), pool, describe, config.features.chunk)


def _describe(control: str, config: Config) -> Describe:
    if control == "raw_pixels":
        return pixel_features(config.controls.raw_pixels.side)
    network = models.load(paths.model(config.controls.random_network.of), "initial.safetensors")
    return eval_features(network, config.features, models.pick_device(config.machine.device))


if __name__ == "__main__":
    stages.main(run)
