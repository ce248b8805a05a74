"""Labels of a folder of pictures: from ``labels.csv``, from class subfolders, or none."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from infopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_SHOWN = 10


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What is known of the files of a folder.

    Attributes:
        labels: int64 (N,), or (N, K) padded with -1 where a picture has several accepted classes, or ``None``.
        classes: Names of the class subfolders, in the order of their labels.
        groups: What each picture belongs to, (N,) of text, or ``None``.
    """

    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    groups: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    accepted: list[int]
    group: str


def read_labels(folder: Path, files: list[Path]) -> Labels:
    """Labels of the files of a folder, and their groups where ``labels.csv`` has a column ``group``.

    Args:
        folder: The folder; its ``labels.csv`` counts first, then its subfolders.
        files: All pictures in it.

    Raises:
        DataError: Labels and files do not match, or ``labels.csv`` cannot be read.
    """
    if (folder / "labels.csv").is_file():
        return _from_csv(folder, files)
    tops = [file.relative_to(folder).parts[0] for file in files if file.parent != folder]
    if not tops:
        return Labels()
    if len(tops) < len(files):
        loose = some([file.name for file in files if file.parent == folder])
        raise DataError(
            f"{folder} has pictures both in class subfolders and beside them: {loose}",
            "move them, or write a labels.csv",
        )
    # Empty class folders count: leaving one out would shift the labels of all that follow.
    entries = (entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    classes = {name: label for label, name in enumerate(sorted(entry.name for entry in entries))}
    return Labels(np.array([classes[top] for top in tops], np.int64), tuple(classes))


def some(items: Collection[str]) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(islice(items, _SHOWN)) + more


def _from_csv(folder: Path, files: list[Path]) -> Labels:
    path = folder / "labels.csv"
    names = [file.relative_to(folder).as_posix() for file in files]
    rows = _rows(path)
    missing, extra = rows.keys() - set(names), [name for name in names if name not in rows]
    if missing:
        raise DataError(f"{path} lists pictures that are not there: {some(sorted(missing))}")
    if extra:
        raise DataError(f"{path} does not list all pictures of the folder: {some(extra)}", "label or remove them")
    width = max(len(row.accepted) for row in rows.values())
    table = np.full((len(names), width), -1, np.int64)
    for number, name in enumerate(names):
        accepted = rows[name].accepted
        table[number, : len(accepted)] = accepted
    groups = [rows[name].group for name in names]
    return Labels(table[:, 0] if width == 1 else table, groups=np.array(groups) if any(groups) else None)


def _rows(path: Path) -> dict[str, _Row]:
    """File name to accepted classes and group; all groups are empty where there is no such column."""
    rows: dict[str, _Row] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            fields = set(reader.fieldnames or ())
            if not {"file", "label"} <= fields:
                raise DataError(f"{path}: its first line must be file,label or file,label,group")
            for row in reader:
                name = row["file"] or ""
                if name in rows:
                    raise DataError(f"{path} line {reader.line_num}: {name} is listed twice")
                where, group = f"{path} line {reader.line_num}", (row.get("group") or "").strip()
                if "group" in fields and not group:
                    raise DataError(f"{where}: {name} has no group", "name one; its own if it stands alone")
                rows[name] = _Row(_accepted(row["label"] or "", where), group)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return rows


def _accepted(text: str, where: str) -> list[int]:
    classes = text.split()
    if not classes or not all(item.isascii() and item.isdigit() and len(item) < 19 for item in classes):
        raise DataError(f"{where}: label {text!r} is no class number", "count from 0; separate several by spaces")
    return [int(item) for item in classes]
