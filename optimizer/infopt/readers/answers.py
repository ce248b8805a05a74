"""Labels and names of samples alone, for comparing predictions without a model: the inputs are not read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infopt.data import Batch
from infopt.errors import DataError
from infopt.manifest import sha256_source
from infopt.readers import PICTURES, data_files
from infopt.readers.images import file_digest, pictures_sha256
from infopt.readers.labels import read_labels
from infopt.readers.npz import as_ids, read_side


@dataclass(frozen=True, slots=True)
class Answers:
    """Samples without their inputs (see :class:`infopt.data.Samples`).

    Attributes:
        path: Where they come from.
        total: Number of samples.
        labels: As for any samples.
        groups: Likewise.
        ids: Likewise.
        classes: Likewise.
        files: The pictures, where they are some.
    """

    path: Path
    total: int
    labels: np.ndarray | None
    groups: np.ndarray | None
    ids: tuple[str, ...] | None
    classes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    notes = ()

    def __len__(self) -> int:
        return self.total

    def batches(self, size: int, indices: np.ndarray | None = None) -> Iterator[Batch]:
        """There are none.

        Raises:
            DataError: Always.
        """
        raise DataError(f"inputs of {self.path} were not read: no model says what it wants")

    def digests(self) -> list[str]:
        """Hash of each picture's file; empty for arrays, whose hash depends on what a model wants."""
        return [file_digest(file) for file in self.files]

    def sha256(self) -> str:
        """As the reader of the whole data has it."""
        if self.files:
            return pictures_sha256(self.path, self.files, self.labels, self.groups)
        return sha256_source(self.path)

    def describe(self) -> str:
        """One line that says what the samples are."""
        return f"labels of {self.total} samples of {self.path}"


def open_answers(path: Path) -> Answers:
    """Open labels and names of a folder of pictures or an ``.npz``.

    Raises:
        DataError: The path is missing, damaged, or holds no samples.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist", "give a file or folder that does")
    if path.is_dir():
        files = [file for file in data_files(path) if file.suffix.lower() in PICTURES]
        if not files:
            raise DataError(f"{path} holds no pictures", "give a folder of pictures or an .npz")
        known = read_labels(path, files)
        ids = tuple(file.relative_to(path).as_posix() for file in files)
        return Answers(path, len(files), known.labels, known.groups, ids, known.classes, tuple(files))
    side, total = read_side(path)
    return Answers(path, total, side.get("labels"), side.get("group"), as_ids(side.get("ids"), path))
