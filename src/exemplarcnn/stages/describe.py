"""Stage ``describe``: compute other features of a trained network, or of its initial weights."""

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import stl10
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks import saved
from exemplarcnn.networks.features import eval_features, write_features


def run(name: str, config: Config) -> None:
    """Write ``features/NAME/eval/``."""
    params = config.variants.describe[name]
    features = params.features or config.features
    weights = "weights.safetensors" if params.weights == "trained" else "initial.safetensors"
    network = saved.load(paths.model(params.of), weights)
    extract = eval_features(network, features, saved.pick_device(config.machine.device))
    for split in ("train", "test"):
        pool = stl10.open_pool(paths.DATA, split)
        write_features(paths.eval_features(name, split), pool, extract, features.batch_size)


if __name__ == "__main__":
    main(run)
