"""What a stage was made from: DVC records parameters and code as they are when the stage ends, not as it read them."""

from pathlib import Path
from typing import Any

from exemplarcnn import paths
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import md5_of, read_mapping
from exemplarcnn.tracking import lineage


class ChangedError(PipelineError):
    """Something that a stage depends on has changed while it worked."""


def tracked(stage: str) -> dict[str, Any]:
    """Return what ``dvc.yaml`` says that a stage depends on, as it is now: parameters, code, and which data.

    Parameters
    ----------
    stage
        Its name in DVC, such as ``train@baseline``.

    Returns
    -------
    dict
        The value of each parameter by dotted key, and the hash of each module, and of ``data.dvc``, by path. Empty
        where there is no such stage.
    """
    kind, _, variant = stage.partition("@")
    stages = read_mapping(lineage.PIPELINE)["stages"] if lineage.PIPELINE.exists() else {}
    if kind not in stages:
        return {}
    entry = stages[kind].get("do", stages[kind])
    params = read_mapping(paths.PARAMS)
    keys = [key.replace("${key}", variant).replace("${item}", variant) for key in entry.get("params", [])]
    found = {key: lineage.lookup(params, key) for key in keys}
    files = [Path(path) for path in entry.get("deps", []) if path.startswith(lineage.CODE)]
    if str(paths.DATA) in entry.get("deps", []):
        files.append(lineage.POINTER)
    return found | {str(path): md5_of(path) if path.exists() else None for path in files}


def check_unchanged(stage: str, before: dict[str, Any]) -> None:
    """Refuse the result of a stage whose parameters, code or data are not those any more that it began with.

    Parameters
    ----------
    stage
        Its name in DVC.
    before
        What `tracked` returned when it began.

    Raises
    ------
    ChangedError
        If something has changed. DVC then records nothing; it would record the result as made from what is there now.
    """
    now = tracked(stage)
    for key in before:
        if now.get(key) != before[key]:
            name = key
            if key not in (str(lineage.POINTER),) and not key.startswith(lineage.CODE):
                name, here, there = lineage.first_difference(key, now.get(key), before[key])
                name = f"{paths.PARAMS} ({name}: {here}, and {there} when the stage began)"
            raise ChangedError(
                f"{name} has changed while {stage} worked, so its result does not belong to what is there now, and DVC "
                f"does not record it; put that back, then `dvc commit --force {stage}` records the result; or "
                "`dvc repro` makes another"
            )
