"""Finds the data of a run: what the user named, else a ``calibration_data/`` folder beside the model or here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = "calibration_data"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A default data folder.

    Attributes:
        path: The folder.
        calib: Calibration samples in it, if any.
        eval: Evaluation samples in it, if any.
    """

    path: Path
    calib: Path | None
    eval: Path | None


def data_folder(model: Path) -> DataFolder | None:
    """The first default data folder that holds samples.

    Looked at in this order: ``calibration_data/<model stem>`` and ``calibration_data`` beside the model, then both in
    the current directory.
    """
    for path in _candidates(model):
        found = DataFolder(path, _samples(path, "calib"), _samples(path, "eval"))
        if found.calib or found.eval:
            return found
    return None


def preprocess_beside(*data: Path | None) -> str | None:
    """The ``preprocess.toml`` beside the first folder of pictures that has one; arrays are taken as they are."""
    places = (path.resolve().parent / "preprocess.toml" for path in data if path is not None and path.is_dir())
    return next((place.as_posix() for place in places if place.is_file()), None)


def _candidates(model: Path) -> Iterator[Path]:
    for root in (model.parent, Path()):
        yield root / FOLDER / model.stem
        yield root / FOLDER


def _samples(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.npz") if path.exists()), None)
