"""Stage ``control``: compute features that no network learned (docs/method.md, section 4.2)."""

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import stl10
from exemplarcnn.evaluation.controls import CONTROLS
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks.features import write_features


def run(name: str, config: Config) -> None:
    """Write ``features/NAME/eval/``."""
    params = config.variants.control[name]
    extract = CONTROLS[params.method](params, paths.DATA, config.seed)
    for split in ("train", "test"):
        pool = stl10.open_pool(paths.DATA, split)
        write_features(paths.eval_features(name, split), pool, extract, config.features.batch_size)


if __name__ == "__main__":
    main(run)
