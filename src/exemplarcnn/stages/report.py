"""Stage ``report``: the table of results."""

import logging

from exemplarcnn import paths
from exemplarcnn.config import Config
from exemplarcnn.files import atomic_write, rounded, write_json
from exemplarcnn.launching.launcher import main
from exemplarcnn.reporting import figures, markdown, results
from exemplarcnn.tracking import runs

log = logging.getLogger(__name__)


def run(_: str, config: Config) -> None:
    """Write ``reports/results.json``, ``results.md``, ``results.png`` and ``accuracy.json``."""
    # Rounded once, so that text and picture say what the file says, here and in `exemplarcnn show`.
    found = rounded(results.gather(config, results.read_inputs(config)))
    write_json(paths.RESULTS_JSON, found)
    write_json(paths.ACCURACY_JSON, results.headline(found))
    with atomic_write(paths.RESULTS_MD) as partial:
        partial.write_text(markdown.render(found), encoding="utf-8")
    figures.results(paths.RESULTS_PNG, found)
    if not config.rows:
        log.warning("data/ has no labels: nothing was tested; features and clusters are what there is")
    # Whatever stages that DVC skipped, or a store that was down, left out.
    runs.send_if_possible(config)


if __name__ == "__main__":
    main(run)
