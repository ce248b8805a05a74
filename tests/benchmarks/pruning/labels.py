"""Labels of the calibration pictures, which the zoo does not have: those of the same pictures in the data set."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..zoo import ZooModel

VARIABLE = "INFOPT_FASHION_MNIST"
MEAN, STD = 0.2860, 0.3530
"""How the zoo's pictures were made of bytes; see their ``INFO.md``."""

HEADER = {"images": 16, "labels": 8}
"""Bytes in front of the data of an IDX file."""


def calibration_labels(model: ZooModel) -> np.ndarray | str:
    """Labels of all calibration samples, shape ``(N,)`` int64; or the reason why there are none."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return f"{VARIABLE} is not set: it names the folder of the training pictures with their labels"
    if not model.name.endswith("_fashion"):
        return "its calibration samples have no labels"
    seen = np.load(model.folder / "calib.npz")["input"]
    wanted = np.rint((seen * STD + MEAN) * 255).astype(np.uint8).reshape(len(seen), -1)
    images = _idx(Path(folder), "images").reshape(-1, wanted.shape[1])
    known = dict(zip((image.tobytes() for image in images), _idx(Path(folder), "labels"), strict=True))
    found = [known.get(image.tobytes()) for image in wanted]
    missing = sum(label is None for label in found)
    return f"{missing} calibration pictures are not in {VARIABLE}" if missing else np.array(found, dtype=np.int64)


def _idx(folder: Path, what: str) -> np.ndarray:
    files = {"images": "train-images-idx3-ubyte.gz", "labels": "train-labels-idx1-ubyte.gz"}
    return np.frombuffer(gzip.decompress((folder / files[what]).read_bytes()), np.uint8, offset=HEADER[what])
