"""Record the data folder in DVC."""

import logging
import subprocess
import sys
from pathlib import Path

import yaml

from exemplarcnn.data.types import DataError
from exemplarcnn.files import Dumper, UnreadableError, atomic_write, read_mapping

log = logging.getLogger(__name__)


def record_data(root: Path) -> None:
    """Record the data folder in ``data.dvc``, without the remote that is only for the embedded sample.

    The sample's ``data.dvc`` names a remote inside the git repository. This name is removed first, or the next
    ``dvc push`` would fill the repository with the new data.

    Parameters
    ----------
    root : Path
        The project's root, which holds ``data/``.

    Raises
    ------
    DataError
        If DVC fails; ``data.dvc`` is then unchanged.
    """
    pointer = root / "data.dvc"
    before = pointer.read_bytes() if pointer.is_file() else None
    try:
        if before is not None:
            _drop_remote(pointer)
        log.info("recording %s in DVC", root / "data")
        done = subprocess.run([sys.executable, "-m", "dvc", "add", "data"], cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise DataError(
                f"{root / 'data'}: cannot record the new files, `dvc add data` failed: "
                f"{done.stderr.strip()}. data/ is unchanged; fix this and run the command again."
            )
    except BaseException:
        if before is not None:
            _replace(pointer, before)
        raise


def _drop_remote(pointer: Path) -> None:
    content = read_mapping(pointer)
    outs = content.get("outs")
    if not isinstance(outs, list) or not all(isinstance(out, dict) for out in outs):
        raise UnreadableError(pointer, "it records no data")
    for out in outs:
        out.pop("remote", None)
    _replace(pointer, yaml.dump(content, Dumper=Dumper, sort_keys=False).encode())


def _replace(file: Path, content: bytes) -> None:
    with atomic_write(file) as partial:
        partial.write_bytes(content)
