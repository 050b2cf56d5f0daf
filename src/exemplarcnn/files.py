"""Reading files, and writing them atomically: under a temporary name, moved into place when complete."""

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
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from exemplarcnn.errors import PipelineError
from exemplarcnn.progress import tqdm

# libyaml's loader, if PyYAML was built with it, as its wheels are: dvc.lock loads in a tenth of the time.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What to do about a file that cannot be read.
COMMITTED = "`git checkout HEAD -- {path}` brings the committed one back"
REMEDIES = {
    "params.yaml": "fix it, or let `exemplarcnn profile NAME` write it again",
    "dvc.yaml": COMMITTED,
    "data.dvc": COMMITTED,
    "dvc.lock": f"`cp work/dvc.lock {{path}}` brings back that of before the last stage, if one ran here; {COMMITTED}; "
    "without the file `dvc repro` runs everything again",
}
DATA = "fix it, or restore DVC's copy with `dvc checkout data.dvc`"
DIGITS = 6  # significant digits in metrics/ and reports/; see `rounded`
PROFILE = f"fix it; of a file in git, {COMMITTED}"
RESULT = "remove it, and `dvc checkout` or `dvc repro` brings it back"
MD5_BLOCK, PROGRESS_FROM = 1 << 22, 1 << 28  # bytes
SCALARS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float"))
CONFLICT = "take one side (`git checkout --ours {path}` during a merge), or "


class UnreadableError(PipelineError, ValueError):
    """A file does not have the expected format; the message says where, and what to do."""

    def __init__(self, path: Path, why: str, text: str = ""):
        other = DATA if "data" in path.parts[:1] else PROFILE if "conf" in path.parts else RESULT
        advice = REMEDIES.get(path.name, other)
        if found := re.search(r"^(<{7}|={7}|>{7})(?= |$)", text, re.MULTILINE):
            why = f"git left a conflict in it, at line {text.count(chr(10), 0, found.start()) + 1}"
            advice = CONFLICT + advice
        super().__init__(f"{path}: {why}; {advice.format(path=path)}")


class Loader(_Loader):  # type: ignore[misc]  # which of the two it is, only the installation tells
    """Reads scalars as DVC does, by YAML 1.2: ``1e-05`` is a number, ``no``, ``off`` and ``12:30`` are text."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, Any]]]] = {
        first: [(tag, pattern) for tag, pattern in known if tag not in SCALARS]
        for first, known in _Loader.yaml_implicit_resolvers.items()
    }


def _whole_number(loader: Any, node: Any) -> int:
    digits = loader.construct_scalar(node).replace("_", "")
    # Without a prefix, digits are decimal even after a 0.
    return int(digits, 0 if re.match(r"[-+]?0[box]", digits) else 10)


for _tag, _pattern, _first in (
    (SCALARS[0], r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (SCALARS[1], r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)", "-+0123456789"),
    (
        SCALARS[2],
        r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list(_first))
Loader.add_constructor(SCALARS[1], _whole_number)


class Dumper(yaml.SafeDumper):
    """Quotes what either dialect of YAML takes for something else than text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML declares it as an instance's
        first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *known]
        for first, known in Loader.yaml_implicit_resolvers.items()
    }


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it to ``path`` if the block succeeds, else delete it.

    An old file is replaced, never overwritten in place: it may be a hard link into DVC's cache.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial{path.suffix}")
    try:
        with named(path):
            yield partial
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Let errors of the system that name no file, as that of a full disk, name this one."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(path)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; move it to ``path`` if the block succeeds, else delete it.

    An existing ``path`` is replaced. A temporary folder that a killed process left behind is deleted first.
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
    """Round figures to `DIGITS` significant digits, as ``metrics/`` and ``reports/`` hold them.

    Further digits depend on the kind of CPU, and would show as changes in git. Round only what is written there, never
    what is computed with.

    Parameters
    ----------
    value
        A table, or a JSON value of any depth. Integers, texts and NaN stay as they are.
    """
    if isinstance(value, pd.DataFrame):
        return value.map(rounded)
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented by two blanks, with a final newline; ValueError for NaN, which JSON lacks."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_text(path: Path) -> str:
    """Read a UTF-8 text; `UnreadableError` if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableError(path, f"byte {error.start + 1} is not UTF-8") from None


def read_json(path: Path) -> Any:
    """Read a JSON file; `UnreadableError` if it is not JSON."""
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
    except (yaml.YAMLError, ValueError) as error:  # a character that YAML does not allow, a date that there is not
        raise UnreadableError(path, f"not valid YAML: {' '.join(str(error).split())}", text) from None
    if re.search(r"^<{7} ", text, re.MULTILINE):  # between braces a conflict marker is valid YAML
        raise UnreadableError(path, "", text)
    if not isinstance(values, dict):
        found = "found nothing" if values is None else f"found {type(values).__name__}"
        raise UnreadableError(path, f"{found}, expected a mapping", text)
    return values


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as a ``.npy`` file."""
    with atomic_write(path) as partial:
        np.save(partial, array, allow_pickle=False)


def write_rows(path: Path, first: int, rows: NDArray[Any]) -> None:
    """Overwrite successive rows of an existing ``.npy`` file, and wait until they are on disk.

    Parameters
    ----------
    path
        The file.
    first
        Number of the first row to overwrite.
    rows
        (n, …), of the file's dtype and shape of a row.
    """
    if not len(rows):
        return
    # Not through a memory map: there, a full disk kills the process without a message.
    offset = int(np.load(path, mmap_mode="r", allow_pickle=False).offset)
    with path.open("r+b", buffering=0) as file:
        file.seek(offset + first * rows[:1].nbytes)
        rest = np.ascontiguousarray(rows).data.cast("B")
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def read_array(path: Path) -> NDArray[Any]:
    """Open a ``.npy`` file as a read-only memory map."""
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, without its index."""
    text = table.to_csv(index=False, lineterminator="\n")
    if "\r" in text:  # Python 3.11 does not quote it, but readers take it for the end of a line
        text = table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    with atomic_write(path) as partial:
        partial.write_bytes(text.encode())


def read_table(path: Path, integers: Collection[str] = (), floats: Collection[str] = ()) -> pd.DataFrame:
    """Read a CSV file; columns that are not listed as numbers are text, exactly as written.

    No type is guessed: a class may be called ``NA``, ``01``, ``1e3`` or ``True``.

    Parameters
    ----------
    path
        The file.
    integers, floats
        Columns to read as int64, and as float64 with NaN for empty fields. The file may lack some of them.

    Raises
    ------
    UnreadableError
        If the file is not a table, or a field of these columns is not a number; an empty field is not an integer.
    """
    numbers = dict.fromkeys(integers, np.int64) | dict.fromkeys(floats, np.float64)
    types = defaultdict[str, Any](lambda: str, numbers)
    try:
        return pd.read_csv(path, dtype=types, keep_default_na=False, na_values=dict.fromkeys(floats, ""))
    except ValueError as error:  # pandas raises it for anything that is not such a table
        raise UnreadableError(path, f"not such a table: {error}", path.read_text(errors="replace")) from None


def digest(*paths: Path) -> str:
    """Return the SHA-256 of the contents of files, in the given order, in hexadecimal."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, in hexadecimal; the order of its keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def md5_of(path: Path) -> str:
    """Return a file's md5, as DVC records it, in hexadecimal; files of 256 MiB and more show a progress bar."""
    total = hashlib.md5(usedforsecurity=False)
    size = path.stat().st_size
    with (
        path.open("rb") as file,
        tqdm(total=size, desc=f"md5 {path.name}", unit="B", unit_scale=True, disable=size < PROGRESS_FROM) as bar,
    ):
        while block := file.read(MD5_BLOCK):
            total.update(block)
            bar.update(len(block))
    return total.hexdigest()
