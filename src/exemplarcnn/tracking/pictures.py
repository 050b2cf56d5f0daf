"""Find the pictures of a run: those drawn from exactly the result that the run records."""

from pathlib import Path

from exemplarcnn import paths
from exemplarcnn.files import read_json
from exemplarcnn.tracking import lineage
from exemplarcnn.tracking.lineage import Record

# By kind of run.
PICTURES = {
    "train": (paths.patches_picture, paths.filters_picture),
    "evaluate": (paths.confusion_picture, paths.mistakes_picture),
    "resnet": (paths.confusion_picture, paths.mistakes_picture),
}
Sources = dict[str, list[str]]  # by picture: the hashes of what it was drawn from


def sources() -> Sources:
    """Read what each picture in ``reports/pictures/`` was drawn from; empty if there are none."""
    found: Sources = read_json(paths.PICTURE_SOURCES) if paths.PICTURE_SOURCES.exists() else {}
    return found


def of(record: Record, records: dict[str, Record], drawn: Sources) -> list[Path]:
    """Return the pictures of a result.

    Parameters
    ----------
    record, records
        The record of the stage that made the result, and those of all stages.
    drawn
        As :func:`sources` returns it. A picture is left out, as one of another result, if any of its sources is
        neither read nor made by this stage or a stage before it.
    """
    kind, _, variant = record.stage.partition("@")
    known = {md5 for each in lineage.chain(record, records) for md5 in (each.deps | each.outs).values()}
    return [picture for place in PICTURES[kind] if shows(picture := place(variant), drawn, known)]


def in_folders(stage: str, folders: set[str]) -> list[Path]:
    """Return the paths, among a run's artifacts, of the pictures of a stage that are in these folders there."""
    kind, _, variant = stage.partition("@")
    places = [place(variant).relative_to(paths.PICTURES) for place in PICTURES[kind]]
    return [place for place in places if place.parent.as_posix() in folders]


def shows(picture: Path, drawn: Sources, known: set[str]) -> bool:
    """Say whether a picture exists, and the hashes of all that it was drawn from are known."""
    found = drawn.get(picture.relative_to(paths.PICTURES).as_posix(), [])
    return bool(found) and known.issuperset(found) and picture.exists()
