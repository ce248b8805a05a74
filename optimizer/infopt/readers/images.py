"""Samples from a folder of pictures, with labels from ``labels.csv``, from class subfolders, or none."""

from __future__ import annotations

import hashlib
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from infopt.data import Batch, InputSpec, check_array, convert
from infopt.errors import DataError
from infopt.preprocess import Preprocess, apply, result_size, steps, upright
from infopt.readers import PICTURES, data_files
from infopt.readers.batching import batch_size, chunks, padded
from infopt.readers.labels import read_labels, some

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAX_UNREADABLE = 0.01
"""Share of pictures that may be unreadable; with more, the data is not what the user thinks it is."""

# Only these decoders are tried: others run programs (EPS) or open network paths, whatever the suffix says.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")
_ORIENTATION = 0x0112  # the EXIF tag


@dataclass(frozen=True, slots=True)
class ImageSamples:
    """Samples of a folder of pictures (see :class:`infopt.data.Samples`).

    Attributes:
        path: The folder.
        spec: The model's input.
        preprocess: What is done to each picture.
        files: The readable pictures, by name.
        labels: (N,) or (N, K) int64, or ``None``.
        classes: Names of the class subfolders, in the order of their labels; empty without them.
        notes: Warnings.
        groups: What each picture belongs to, (N,), or ``None``.
    """

    path: Path
    spec: InputSpec
    preprocess: Preprocess
    files: tuple[Path, ...]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    groups: np.ndarray | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the pictures, relative to the folder."""
        return tuple(_name(self.path, file) for file in self.files)

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, size: int, indices: np.ndarray | None = None) -> Iterator[Batch]:
        """Decode batches; see :meth:`infopt.data.Samples.batches`."""
        inputs = (self.spec,)
        for rows in chunks(indices, len(self), batch_size(inputs, size)):
            pictures = [self._load(self.files[row]) for row in rows]
            if len({picture.shape for picture in pictures}) > 1:
                raise DataError(
                    f"{self.path}: pictures of different sizes cannot share a batch",
                    "set crop in the preprocessing, or use --batch 1",
                )
            array = convert(self.spec, np.stack(pictures), str(self.path), rows)
            yield padded({self.spec.name: array}, inputs, len(rows))

    def digests(self) -> list[str]:
        """Hash of each picture's file."""
        return [file_digest(file) for file in self.files]

    def sha256(self) -> str:
        """Hash of the names and files of the pictures that are used, of their labels and their groups."""
        return pictures_sha256(self.path, self.files, self.labels, self.groups)

    def describe(self) -> str:
        """One line that says what is done to the data."""
        return f"{len(self)} pictures of {self.path}: {', '.join(steps(self.preprocess))}"

    def _load(self, file: Path) -> np.ndarray:
        try:
            with _quiet(), Image.open(file, formats=_FORMATS) as image:
                return apply(image, self.preprocess)
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{file} can no longer be read: {error}") from error


def pictures_sha256(
    path: Path, files: Sequence[Path], labels: np.ndarray | None, groups: np.ndarray | None = None
) -> str:
    """Hash of the names and files of pictures below a folder, of their labels and their groups."""
    state = hashlib.sha256()
    for file in files:
        state.update(f"{file.relative_to(path).as_posix()}\0{file_digest(file)}\n".encode())
    state.update(b"" if labels is None else labels.astype("<i8").tobytes())
    state.update(b"" if groups is None else repr(groups.tolist()).encode())
    return state.hexdigest()


def open_images(path: Path, inputs: tuple[InputSpec, ...], preprocess: Preprocess | None) -> ImageSamples:
    """Open a folder of pictures; each is decoded once, coarsely where possible, to find damage.

    Raises:
        DataError: No preprocessing; a model that does not take exactly pictures; labels that do not match;
            more than 1 % of unreadable pictures; a picture that has not the size that the model wants.
    """
    if preprocess is None:
        raise DataError(f"{path}: pictures need a preprocess.toml or --preprocess", "--preprocess imagenet is built in")
    spec = _picture_input(path, inputs, preprocess)
    found = data_files(path)
    listed = [file for file in found if file.suffix.lower() in PICTURES]
    known = read_labels(path, listed)
    kept, notes = _readable(path, listed, preprocess, spec)
    others = [_name(path, file) for file in found if file.suffix.lower() not in PICTURES]
    if others:
        notes.append(f"{path}: files that are no pictures were left out: {some(others)}")
    empty = sorted(set(known.classes).difference(file.relative_to(path).parts[0] for file in listed))
    if empty:
        notes.append(f"{path}: class folders without pictures: {some(empty)}")
    files = tuple(listed[row] for row in kept)
    labels, groups = (None if array is None else array[kept] for array in (known.labels, known.groups))
    return ImageSamples(path, spec, preprocess, files, labels, known.classes, tuple(notes), groups)


def _picture_input(path: Path, inputs: tuple[InputSpec, ...], preprocess: Preprocess) -> InputSpec:
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].batch_axis != 0:
        listed = ", ".join(f"{spec.name} {spec}" for spec in inputs)
        raise DataError(
            f"{path}: pictures need a model with one input of rank 4, batch on axis 0; it has {listed}",
            "give its inputs as arrays in an .npz",
        )
    spec = inputs[0]
    rows, columns = (dim if isinstance(dim, int) else 1 for dim in _sides(spec, preprocess))
    channels = preprocess.channels
    shape = (1, channels, rows, columns) if preprocess.layout == "NCHW" else (1, rows, columns, channels)
    remedy = "set color, layout and dtype to what the model wants"
    check_array(spec, np.dtype(preprocess.dtype), shape, "the preprocessing's result", remedy)
    return spec


def _sides(spec: InputSpec, preprocess: Preprocess) -> tuple[int | str | None, ...]:
    return spec.shape[2:] if preprocess.layout == "NCHW" else spec.shape[1:3]


def _readable(path: Path, listed: list[Path], preprocess: Preprocess, spec: InputSpec) -> tuple[list[int], list[str]]:
    """Positions of the pictures that can be decoded, and a note on the others."""
    probed = {row: _probe(file, preprocess, spec) for row, file in enumerate(listed)}
    faults = {row: fault for row, fault in probed.items() if fault is not None}
    if not faults:
        return list(probed), []
    shown = some([f"{_name(path, listed[row])} ({fault})" for row, fault in faults.items()])
    if len(faults) > MAX_UNREADABLE * len(listed):
        raise DataError(
            f"{path}: {len(faults)} of {len(listed)} pictures are unreadable: {shown}",
            "remove or replace them; up to 1 % are skipped",
        )
    note = f"{path}: skipped {len(faults)} of {len(listed)} pictures as unreadable: {shown}"
    return [row for row in probed if row not in faults], [note]


def _probe(file: Path, preprocess: Preprocess, spec: InputSpec) -> str | None:
    """Why a picture cannot be decoded, or ``None``.

    Raises:
        DataError: It can, but its result has another size than the model wants.
    """
    try:
        with _quiet(), Image.open(file, formats=_FORMATS) as image:
            width, height = image.size
            image.draft(None, (1, 1))  # JPEG: decodes all data, but to an eighth of the size
            upright(image, preprocess.color)
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception as error:  # damaged data makes decoders raise nearly anything
        return str(error).replace(str(file), file.name) or type(error).__name__
    sides = (width, height) if turned else (height, width)
    result = result_size(sides, preprocess, str(file))
    wanted = _sides(spec, preprocess)
    if any(isinstance(want, int) and want != got for want, got in zip(wanted, result, strict=True)):
        becomes = "" if result == sides else f" and becomes {result[1]}x{result[0]}"
        raise DataError(
            f"{file} is {sides[1]}x{sides[0]}{becomes}, input {spec.name!r} wants {wanted[1]}x{wanted[0]}",
            "set resize and crop in the preprocessing",
        )
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep decoders' warnings from the user; the one about decompression bombs becomes an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _name(path: Path, file: Path) -> str:
    return file.relative_to(path).as_posix()


def load_picture(file: Path) -> Image.Image:
    """A picture as it is in its file.

    Raises:
        DataError: It can no longer be read.
    """
    try:
        with _quiet(), Image.open(file, formats=_FORMATS) as image:
            return image.copy()
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{file} can no longer be read: {error}") from error


def file_digest(file: Path) -> str:
    """Hash of a picture's file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
