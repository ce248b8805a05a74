"""Samples from an ``.npz`` file, read row by row from inside the archive.

``numpy.load`` reads an array of an ``.npz`` whole. Here only the rows of a batch are read, where the array
allows it (batch on axis 0, C order) and the samples are asked for in ascending order; else that array is read
whole. The format is NumPy's NEP 1: a header of text, then the elements. Nothing is ever unpickled.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections import Counter
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from infopt.data import Batch, Feed, InputSpec, check_array, check_names, convert
from infopt.errors import DataError
from infopt.manifest import sha256_source
from infopt.readers.batching import batch_size, chunks, padded, row_digests

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from infopt.preprocess import Preprocess

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_SIDE = ("labels", "group", "ids")
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class Member:
    """An array in the archive.

    Attributes:
        file: Name of its file in the archive.
        start: Bytes of its header.
        dtype: Element type as stored.
        shape: Its shape.
        fortran: Whether the first index varies fastest.
    """

    file: str
    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool


@dataclass(frozen=True, slots=True)
class NpzSamples:
    """Samples of an ``.npz`` file (see :class:`infopt.data.Samples`).

    Attributes:
        path: The file.
        inputs: What the model wants.
        members: The array of each input.
        total: Number of samples.
        labels: Array ``labels``, if there is one that is no input.
        groups: Array ``group``, likewise: what each sample belongs to.
        ids: Array ``ids``, likewise, as text.
        notes: Warnings.
    """

    path: Path
    inputs: tuple[InputSpec, ...]
    members: dict[str, Member]
    total: int
    labels: np.ndarray | None
    groups: np.ndarray | None
    notes: tuple[str, ...]
    ids: tuple[str, ...] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels of arrays are numbers; the classes have no names."""
        return ()

    def __len__(self) -> int:
        return self.total

    def batches(self, size: int, indices: np.ndarray | None = None) -> Iterator[Batch]:
        """Read batches; see :meth:`infopt.data.Samples.batches`."""
        for rows, feed in self._feeds(chunks(indices, self.total, batch_size(self.inputs, size))):
            yield padded(feed, self.inputs, len(rows))

    def digests(self) -> list[str]:
        """Hash of each sample as the model gets it."""
        feeds = self._feeds(chunks(None, self.total, 16))
        return [digest for rows, feed in feeds for digest in row_digests(feed, self.inputs, len(rows))]

    def sha256(self) -> str:
        """Hash of the file."""
        return sha256_source(self.path)

    def describe(self) -> str:
        """One line that says what is done to the data."""
        return f"{self.total} samples of {self.path}, arrays as they are"

    def _feeds(self, parts: list[np.ndarray]) -> Iterator[tuple[np.ndarray, Feed]]:
        where = str(self.path)
        with _damage(self.path), zipfile.ZipFile(self.path) as archive, ExitStack() as stack:
            columns = [
                stack.enter_context(closing(_column(archive, self.members[s.name], s.batch_axis, parts)))
                for s in self.inputs
            ]
            for rows, *arrays in zip(parts, *columns, strict=True):
                found = zip(self.inputs, arrays, strict=True)
                yield rows, {spec.name: convert(spec, array, where, rows) for spec, array in found}


def open_npz(path: Path, inputs: tuple[InputSpec, ...], preprocess: Preprocess | None) -> NpzSamples:
    """Open an ``.npz`` with an array for each input, optional ``labels`` and optional ``group``.

    Raises:
        DataError: The file is damaged, holds pickled objects, or does not fit the model.
    """
    with _damage(path), zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): _member(archive, name) for name in archive.namelist()}
        wanted = {spec.name for spec in inputs}
        extra = members.keys() - wanted
        side: dict[str, Member] = {name: members.pop(name) for name in _SIDE if name in extra}
        check_names(members, inputs, str(path))
        for spec in inputs:
            check_array(spec, members[spec.name].dtype, members[spec.name].shape, str(path))
        total = _count(path, inputs, members, side)
        labels, groups, ids = (_read(archive, side[name]) if name in side else None for name in _SIDE)
    if groups is not None and (groups.ndim != 1 or groups.dtype.kind not in "iuUSb"):
        raise DataError(
            f"{path}: group is {groups.dtype} {list(groups.shape)}", "give one whole number or name to each sample"
        )
    note = f"{path}: arrays are taken as they are, the preprocessing is for pictures"
    return NpzSamples(path, inputs, members, total, labels, groups, (note,) if preprocess else (), as_ids(ids, path))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of an ``.npz``, by name; nothing is unpickled.

    Raises:
        DataError: The file is missing, damaged, or holds Python objects.
    """
    with _damage(path), zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy"): _read(archive, _member(archive, name)) for name in archive.namelist()}


def read_side(path: Path) -> tuple[dict[str, np.ndarray], int]:
    """The arrays of an ``.npz`` that are no inputs, and the number of samples.

    Raises:
        DataError: The file is missing, damaged, or holds Python objects; arrays have different numbers of samples.
    """
    with _damage(path), zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): _member(archive, name) for name in archive.namelist()}
        side = {name: members.pop(name) for name in _SIDE if name in members}
        counts = [member.shape[0] for member in (*side.values(), *members.values()) if member.shape]
        if not counts or counts[0] == 0:
            raise DataError(f"{path} holds no samples")
        _check_side(path, side, counts[0])
        return {name: _read(archive, member) for name, member in side.items()}, counts[0]


def as_ids(array: np.ndarray | None, path: Path) -> tuple[str, ...] | None:
    """Names of samples as text.

    Args:
        array: Text or whole numbers [N], or ``None``.
        path: Where it comes from.

    Raises:
        DataError: Something else, or a name that is there twice.
    """
    if array is None:
        return None
    if array.ndim != 1 or array.dtype.kind not in "SUiu":
        raise DataError(
            f"{path}: ids is {array.dtype} {list(array.shape)}", "one text or whole number a sample is wanted"
        )
    text = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    ids = tuple(str(item) for item in text)
    twice = [item for item, times in Counter(ids).items() if times > 1]
    if twice:
        raise DataError(
            f"{path}: the id {twice[0]!r} is there {Counter(ids)[twice[0]]} times", "give each sample its own"
        )
    return ids


def _count(path: Path, inputs: Sequence[InputSpec], members: dict[str, Member], side: dict[str, Member]) -> int:
    counts = {s.name: members[s.name].shape[s.batch_axis] for s in inputs if s.batch_axis is not None}
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    if len(set(counts.values())) > 1:
        remedy = "say which axis counts samples with --batch-axis NAME=AXIS|none"
        raise DataError(f"{path}: the arrays have different numbers of samples: {listed}", remedy)
    total = next(iter(counts.values()), 1)
    if total == 0:
        raise DataError(f"{path} holds no samples: {listed}")
    _check_side(path, side, total)
    return total


def _check_side(path: Path, side: dict[str, Member], total: int) -> None:
    for name, member in side.items():
        if member.shape[:1] != (total,):
            raise DataError(
                f"{path}: {name} has shape {list(member.shape)}, there are {total} samples",
                f"the first axis of {name} counts samples",
            )


def _member(archive: zipfile.ZipFile, file: str) -> Member:
    if not file.endswith(".npy"):
        raise ValueError(f"{file} is no array")
    with archive.open(file) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"{file} has version {version} of the format")
        shape, fortran, dtype = _HEADERS[version](stream)
        start = stream.tell()
    if dtype.hasobject or dtype.fields:
        raise DataError(
            f"{archive.filename}: {file} holds Python objects or records, which are never loaded",
            "save a plain array of numbers or fixed-length strings",
        )
    if min(shape, default=0) < 0 or start + math.prod(shape) * dtype.itemsize != archive.getinfo(file).file_size:
        raise ValueError(f"{file} has another length than its header says")
    return Member(file, start, dtype, shape, fortran)


def _column(
    archive: zipfile.ZipFile, member: Member, axis: int | None, parts: list[np.ndarray]
) -> Generator[np.ndarray, None, None]:
    """The array's part for each batch of sample numbers."""
    ascending = bool(parts) and bool((np.diff(np.concatenate(parts)) > 0).all())
    if axis == 0 and not member.fortran and ascending:
        yield from _stream(archive, member, parts)
        return
    array = _read(archive, member)
    for rows in parts:
        yield array if axis is None else array.take(rows, axis=axis)


def _stream(archive: zipfile.ZipFile, member: Member, parts: list[np.ndarray]) -> Iterator[np.ndarray]:
    row = member.shape[1:]
    length = math.prod(row) * member.dtype.itemsize
    with archive.open(member.file) as stream:
        stream.seek(member.start)
        position = 0
        for rows in parts:
            batch = np.empty((len(rows), *row), member.dtype)
            done = 0
            for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
                stream.seek((int(run[0]) - position) * length, 1)
                data = _exactly(stream, len(run) * length)
                batch[done : done + len(run)] = np.ndarray((len(run), *row), member.dtype, data)
                done, position = done + len(run), int(run[-1]) + 1
            yield batch


def _read(archive: zipfile.ZipFile, member: Member) -> np.ndarray:
    with archive.open(member.file) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        return array


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError("it ends early")
    return data


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise DataError(f"{path} is damaged or no .npz file: {error}", "write it again with numpy.savez") from error
