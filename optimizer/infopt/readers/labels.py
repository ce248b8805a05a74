"""Labels of a folder of pictures: from ``labels.csv``, from class subfolders, or none."""

from __future__ import annotations

import csv
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from infopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_SHOWN = 10


def read_labels(folder: Path, files: list[Path]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels of the files of a folder.

    Args:
        folder: The folder; its ``labels.csv`` counts first, then its subfolders.
        files: All pictures in it.

    Returns:
        Labels as int64, shape (N,) or (N, K) padded with -1 where a picture has several accepted classes, or
        ``None``; and the names of the class subfolders in the order of their labels.

    Raises:
        DataError: Labels and files do not match, or ``labels.csv`` cannot be read.
    """
    if (folder / "labels.csv").is_file():
        return _from_csv(folder, files), ()
    tops = [file.relative_to(folder).parts[0] for file in files if file.parent != folder]
    if not tops:
        return None, ()
    if len(tops) < len(files):
        loose = some([file.name for file in files if file.parent == folder])
        raise DataError(
            f"{folder} has pictures both in class subfolders and beside them: {loose}",
            "move them, or write a labels.csv",
        )
    # Empty class folders count: leaving one out would shift the labels of all that follow.
    entries = (entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    classes = {name: label for label, name in enumerate(sorted(entry.name for entry in entries))}
    return np.array([classes[top] for top in tops], np.int64), tuple(classes)


def some(items: Collection[str]) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(islice(items, _SHOWN)) + more


def _from_csv(folder: Path, files: list[Path]) -> np.ndarray:
    path = folder / "labels.csv"
    names = [file.relative_to(folder).as_posix() for file in files]
    rows = _rows(path)
    missing, extra = rows.keys() - set(names), [name for name in names if name not in rows]
    if missing:
        raise DataError(f"{path} lists pictures that are not there: {some(sorted(missing))}")
    if extra:
        raise DataError(f"{path} does not list all pictures of the folder: {some(extra)}", "label or remove them")
    width = max(len(accepted) for accepted in rows.values())
    table = np.full((len(names), width), -1, np.int64)
    for row, name in enumerate(names):
        table[row, : len(rows[name])] = rows[name]
    return table[:, 0] if width == 1 else table


def _rows(path: Path) -> dict[str, list[int]]:
    """File name to accepted classes."""
    rows: dict[str, list[int]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            if not {"file", "label"} <= set(reader.fieldnames or ()):
                raise DataError(f"{path}: its first line must be file,label")
            for row in reader:
                name = row["file"] or ""
                if name in rows:
                    raise DataError(f"{path} line {reader.line_num}: {name} is listed twice")
                rows[name] = _accepted(row["label"] or "", f"{path} line {reader.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return rows


def _accepted(text: str, where: str) -> list[int]:
    classes = text.split()
    if not classes or not all(item.isascii() and item.isdigit() and len(item) < 19 for item in classes):
        raise DataError(f"{where}: label {text!r} is no class number", "count from 0; separate several by spaces")
    return [int(item) for item in classes]
