"""Fashion-MNIST: read the IDX files, choose what is held out, write the pictures that infopt reads.

Needs numpy and Pillow only, so the pictures can be written where PyTorch is not installed.
"""

from __future__ import annotations

import csv
import gzip
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = 10
CALIBRATION_PICTURES = 300
EVALUATION_PICTURES = 2000
SCALE = 1 / 255
MEAN = 0.2860
STD = 0.3530

IDX_UINT8 = 0x08

PREPROCESS = f"""\
# How a picture becomes the model's input: (pixel * scale - mean) / std.
# The pictures have the model's 28x28 already, so nothing is resized or cropped.
color = "L"
scale = {SCALE!r}
mean = [{MEAN:.4f}]
std = [{STD:.4f}]
layout = "NCHW"
dtype = "float32"
"""


@dataclass(frozen=True, slots=True)
class Split:
    """Pictures and what they show.

    Attributes:
        images: uint8, shape (N, 28, 28), 0 is the background.
        labels: uint8, shape (N,), values 0 to 9.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray | slice) -> Split:
        """Return the split made of these rows, in this order."""
        return Split(self.images[rows], self.labels[rows])


def read_idx(path: Path) -> np.ndarray:
    """Read one gzipped IDX file of bytes.

    The header is two zero bytes, the type code, the rank, then one big-endian uint32 a dimension.

    Args:
        path: the `.gz` file.

    Returns:
        A uint8 array in the shape that the header states.

    Raises:
        ValueError: the file is not IDX, holds another type than uint8, or is cut short.
    """
    content = gzip.decompress(path.read_bytes())
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != IDX_UINT8:
        raise ValueError(f"{path} is not an IDX file of bytes: it begins with {content[:4].hex()}")
    start = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], dtype=">u4"))
    if len(content) - start != math.prod(shape):
        raise ValueError(f"{path} announces {shape} bytes but holds {len(content) - start}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def load(folder: Path) -> tuple[Split, Split]:
    """Read the training set (60,000 pictures) and the test set (10,000).

    Args:
        folder: where the four `*-ubyte.gz` files are, named as the data set's authors name them.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged.
    """
    return load_part(folder, "train"), load_part(folder, "t10k")


def load_part(folder: Path, part: str) -> Split:
    """Read one part, `train` or `t10k`, as `load` does."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    return Split(images, read_idx(folder / f"{part}-labels-idx1-ubyte.gz"))


def hold_out(train: Split, seed: int) -> tuple[Split, Split]:
    """Set calibration pictures aside, the same number from every class.

    Calibration should see what the model will meet, not what it has learnt by heart: on pictures that
    it was trained on, activations are a little more confident than in use.

    Args:
        train: the training set.
        seed: decides which pictures.

    Returns:
        The calibration pictures in random order of class, and all the others in their old order.
    """
    generator = np.random.default_rng(seed)
    share = CALIBRATION_PICTURES // CLASSES
    classes = (np.flatnonzero(train.labels == label) for label in range(CLASSES))
    chosen = np.concatenate([generator.choice(rows, share, replace=False) for rows in classes])
    chosen = generator.permutation(chosen)
    return train.take(chosen), train.take(np.setdiff1d(np.arange(len(train)), chosen))


def write_pictures(images: np.ndarray, folder: Path) -> list[str]:
    """Write 8-bit grey PNG files named by their number and return the names.

    Args:
        images: uint8, shape (N, 28, 28).
        folder: made if it is missing; files of the same name are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digits = len(str(len(images) - 1))
    names = [f"{number:0{digits}d}.png" for number in range(len(images))]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name, optimize=True)
    return names


def write_data(calibration: Split, test: Split, folder: Path) -> None:
    """Write `calib/`, `eval/` with its `labels.csv`, and `preprocess.toml`.

    Args:
        calibration: pictures to calibrate with; their labels are not written, calibration needs none.
        test: the test set, of which the first 2,000 are written.
        folder: the data folder, one per model.
    """
    write_pictures(calibration.images, folder / "calib")
    shown = test.take(slice(EVALUATION_PICTURES))
    names = write_pictures(shown.images, folder / "eval")
    with (folder / "eval" / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("file", "label"))
        rows.writerows(zip(names, shown.labels.tolist(), strict=True))
    (folder / "preprocess.toml").write_text(PREPROCESS, encoding="utf-8")


def normalise(images: np.ndarray) -> np.ndarray:
    """Do what `preprocess.toml` says: uint8 (N, 28, 28) to float32 (N, 1, 28, 28)."""
    pixels = images[:, None].astype(np.float32)
    return (pixels * np.float32(SCALE) - np.float32(MEAN)) / np.float32(STD)
