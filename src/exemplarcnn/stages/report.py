"""Stage ``report``: write the table of results."""

import logging

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.files import atomic_write, rounded, write_json
from exemplarcnn.launching.launcher import main
from exemplarcnn.reporting import markdown, results

log = logging.getLogger(__name__)


def run(_: str, config: Config) -> None:
    """Write ``reports/results.json``, ``results.md`` and ``accuracy.json``."""
    # Rounded once, so that text and pictures agree with the file, here and in `exemplarcnn show`.
    found = rounded(results.gather(config, results.read_inputs(config)))
    write_json(paths.RESULTS_JSON, found)
    write_json(paths.ACCURACY_JSON, results.headline(found))
    with atomic_write(paths.RESULTS_MD) as partial:
        partial.write_text(markdown.render(found), encoding="utf-8")
    if not config.rows:
        log.warning("data/ has no labels, so nothing was tested: the results are features and clusters")


if __name__ == "__main__":
    main(run)
