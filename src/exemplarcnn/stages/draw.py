"""Stage ``draw``: all pictures, of what the other stages have made; and the runs in the MLflow store get theirs."""

from exemplarcnn.config.params import Config
from exemplarcnn.launching.launcher import main
from exemplarcnn.reporting import pictures
from exemplarcnn.tracking import sending


def run(_: str, config: Config) -> None:
    """Write ``reports/pictures/``."""
    pictures.draw(config)
    # Also whatever stages that DVC skipped, or a store that was down, left out.
    sending.send_if_possible(config)


if __name__ == "__main__":
    main(run)
