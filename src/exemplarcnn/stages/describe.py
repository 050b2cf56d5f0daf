"""Stage ``describe``: other features of a network that is trained already."""

from exemplarcnn import images, models, paths, stages
from exemplarcnn.config import Config
from exemplarcnn.features import eval_features, write_features


def run(name: str, config: Config) -> None:
    """Write ``features/NAME/eval/``."""
    params = config.described[name]
    describe = eval_features(models.load(paths.model(params.of)), params, models.pick_device(config.machine.device))
    for split in ("train", "test"):
        pool = images.open_pool(paths.DATA, split)
        write_features(paths.eval_features(name, split), pool, describe, params.chunk)


if __name__ == "__main__":
    stages.main(run)
