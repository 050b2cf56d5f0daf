"""Writing files whole: under a temporary name first, moved into place when complete."""

import csv
import hashlib
import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from exemplarcnn.errors import PipelineError

# libyaml's where PyYAML was built with it, as in its wheels: dvc.lock takes a tenth of the time.
Loader: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What to do about a file that cannot be read.
COMMITTED = "`git checkout HEAD -- {path}` brings the committed one back"
REMEDIES = {
    "params.yaml": "fix it, or let `exemplarcnn profile NAME` write it again",
    "dvc.yaml": COMMITTED,
    "data.dvc": COMMITTED,
    "dvc.lock": f"{COMMITTED}; without the file `dvc repro` runs everything again",
}
DATA = "fix it, or let `dvc checkout data.dvc` bring back what DVC keeps"
DIGITS = 6  # significant ones of figures in metrics/ and reports/; see `rounded`
RESULT = "remove it, and `dvc checkout` or `dvc repro` brings it back"
CONFLICT = "take one side, as with `git checkout --ours {path}` while git merges; or "


class UnreadableError(PipelineError, ValueError):
    """A file is not of its format; the message says where, and what to do."""

    def __init__(self, path: Path, why: str, text: str = ""):
        advice = REMEDIES.get(path.name, DATA if "data" in path.parts[:1] else RESULT)
        if found := re.search(r"^(<{7}|={7}|>{7})(?= |$)", text, re.MULTILINE):
            why = f"git left a conflict in it, at line {text.count(chr(10), 0, found.start()) + 1}"
            advice = CONFLICT + advice
        super().__init__(f"{path}: {why}; {advice.format(path=path)}")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; move it to ``path`` if the block ends well, delete it if not.

    An old file is replaced, never written through: it may be a hard link into DVC's cache.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.errno and not error.filename:  # a full disk names no file
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder beside ``path``; move it to ``path`` if the block ends well.

    An existing ``path`` is replaced. A folder left behind by a killed process is cleared.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def rounded(value: Any) -> Any:
    """Return figures as ``metrics/`` and ``reports/`` hold them: with `DIGITS` significant digits.

    Which digits follow is a matter of the kind of CPU, and would be a change in git. What is computed with is not
    rounded.

    Parameters
    ----------
    value
        A table, or what JSON can hold, to any depth. Whole numbers, texts and NaN stay what they are.
    """
    if isinstance(value, pd.DataFrame):
        return value.map(rounded)
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def write_json(path: Path, value: Any) -> None:
    """Write JSON with two blanks of indent and a closing newline. NaN is refused, since JSON has none."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_text(path: Path) -> str:
    """Read a text in UTF-8; `UnreadableError` if it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableError(path, f"byte {error.start + 1} is not UTF-8") from None


def read_json(path: Path) -> Any:
    """Read a JSON file; `UnreadableError` if it is none."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableError(path, f"not JSON: {error}", text) from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; `UnreadableError` if it does not."""
    text = read_text(path)
    try:
        values = yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UnreadableError(path, f"not valid YAML: {error.problem}, line {line}", text) from None
    except yaml.YAMLError as error:  # characters that no YAML may hold
        raise UnreadableError(path, f"not valid YAML: {' '.join(str(error).split())}", text) from None
    if re.search(r"^<{7} ", text, re.MULTILINE):  # inside of braces it is YAML
        raise UnreadableError(path, "", text)
    if not isinstance(values, dict):
        found = "it is empty" if values is None else f"found {type(values).__name__}"
        raise UnreadableError(path, f"expected a mapping, {found}", text)
    return values


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write one ``.npy`` file."""
    with atomic_write(path) as partial:
        np.save(partial, array, allow_pickle=False)


def write_rows(path: Path, first: int, rows: NDArray[Any]) -> None:
    """Write rows of an existing ``.npy`` file in place, in one piece, and wait until they are on disk."""
    if not len(rows):
        return
    # Not through the memory map: there a full disk ends the process without a word.
    offset = int(np.load(path, mmap_mode="r", allow_pickle=False).offset)
    with path.open("r+b", buffering=0) as file:
        file.seek(offset + first * rows[:1].nbytes)
        rest = np.ascontiguousarray(rows).data.cast("B")
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def read_array(path: Path) -> NDArray[Any]:
    """Open one ``.npy`` file as a read-only memory map."""
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write one CSV file, without the index."""
    text = table.to_csv(index=False, lineterminator="\n")
    if "\r" in text:  # Python 3.11 takes it for an ordinary character, and whoever reads the file for a line's end
        text = table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    with atomic_write(path) as partial:
        partial.write_bytes(text.encode())


def read_table(path: Path, integers: Collection[str] = (), floats: Collection[str] = ()) -> pd.DataFrame:
    """Read one CSV file; what is not said to be a number is text, and stays as it is written.

    Nothing is guessed: a class may be called ``NA``, ``01``, ``1e3`` or ``True``.

    Parameters
    ----------
    path
        The file.
    integers, floats
        Columns that become int64, and float64 with NaN where the field is empty. One that the file lacks does no harm.

    Raises
    ------
    UnreadableError
        If the file is no table, or a number is none; of integers an empty field, too.
    """
    numbers = dict.fromkeys(integers, np.int64) | dict.fromkeys(floats, np.float64)
    types = defaultdict[str, Any](lambda: str, numbers)
    try:
        return pd.read_csv(path, dtype=types, keep_default_na=False, na_values=dict.fromkeys(floats, ""))
    except ValueError as error:  # pandas raises it for whatever is no table
        raise UnreadableError(path, f"not such a table: {error}", path.read_text(errors="replace")) from None


def digest(*paths: Path) -> str:
    """SHA-256 over the contents of files, in the order given."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
