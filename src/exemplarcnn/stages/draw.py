"""Stage ``draw``: draw all pictures from the other stages' outputs, and send them to their MLflow runs."""

from exemplarcnn.config.params import Config
from exemplarcnn.launching.launcher import main
from exemplarcnn.reporting import pictures
from exemplarcnn.tracking import sending


def run(_: str, config: Config) -> None:
    """Write ``reports/pictures/``."""
    pictures.draw(config)
    # This also sends what the store lacks because DVC skipped a stage or the store was down.
    sending.send_if_possible(config)


if __name__ == "__main__":
    main(run)
