"""Keep in ``work/`` what each stage took when it last ran: times and memory differ, so no out may hold them."""

from datetime import UTC, datetime

import pandas as pd
from filelock import FileLock

from exemplarcnn import paths
from exemplarcnn.files import UnreadableError, read_json, write_json

PLACE = paths.WORK / "timings.json"


def note(stage: str, seconds: float, memory: int) -> None:
    """Note that a stage has run, for how many seconds, and how many bytes of memory it took at most."""
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(PLACE.with_suffix(".lock")):
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(PLACE, _all() | {stage: {"seconds": round(seconds, 1), "memory": memory, "ended": ended}})


def read() -> pd.DataFrame:
    """Return what each stage that has run here took, sorted by end.

    Returns
    -------
    DataFrame
        ``stage``; ``seconds``; ``memory``, the most bytes at once, without mapped files; ``ended``, ISO 8601, UTC.
    """
    rows = [{"stage": stage, **entry} for stage, entry in _all().items()]
    table = pd.DataFrame(rows, columns=["stage", "seconds", "memory", "ended"])
    return table.sort_values("ended", kind="stable", ignore_index=True)


def _all() -> dict[str, dict[str, float | str]]:
    try:
        found: dict[str, dict[str, float | str]] = read_json(PLACE)
    except (FileNotFoundError, UnreadableError):
        return {}
    return found
