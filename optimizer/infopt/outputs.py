"""Joins the outputs of many batches over the samples, on disk when they are large.

`OutputStore` is fed one batch after another and hands back one array for each output. `row_blocks` and
`paired_blocks` walk over such arrays in pieces, so that what lies on disk is never loaded whole.
"""

from __future__ import annotations

import math
import tempfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from infopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

DEFAULT_LIMIT = 256 << 20
"""Bytes of joined outputs that stay in memory."""

_BLOCK_BYTES = 16 << 20


class OutputStore:
    """The outputs of a model over all samples.

    Which rows of an output belong to which sample is settled with the first batch, in this order:

    1. ``axes`` names the axis of the samples (``None``: the output has none).
    2. The first axis, when its size is a multiple ``k`` of the batch: ``k`` consecutive rows are one sample.
    3. The only axis whose size is the batch. It is moved to the front.
    4. Otherwise (a scalar, a fixed table) the output says nothing about single samples, and is kept with one
       entry for each batch. With batches of one sample that is one entry for each sample after all.

    Batches that differ in their other sizes, ``k`` among them, are padded at the end: floats with NaN, signed
    integers with -1, unsigned ones with their largest value, booleans with False, text with "". Element types
    that numpy does not have (bfloat16) become float32.

    Leaving the context closes the spool files. They have no name, so a killed process leaves none behind;
    their space is freed with the last array that `finish` returned.
    """

    def __init__(
        self,
        keep: tuple[int, ...] | None = None,
        *,
        axes: Mapping[int, int | None] | None = None,
        limit_bytes: int = DEFAULT_LIMIT,
        folder: Path | None = None,
    ) -> None:
        """Make an empty store.

        Args:
            keep: Indices of the outputs to keep; ``None`` keeps all.
            axes: Index of an output to the axis of its samples, where that is known.
            limit_bytes: Bytes to hold in memory; beyond it the largest outputs are spooled to disk.
            folder: Where to spool; the system's temporary folder by default.
        """
        self._keep, self._axes, self._limit = keep, dict(axes or {}), limit_bytes
        self._folder = folder
        self._columns: list[_Column | None] = []

    def __enter__(self) -> OutputStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for column in self._kept():
            column.close()

    def add(self, outputs: Sequence[np.ndarray], count: int, batch: int) -> None:
        """Append one batch. The arrays are held on to, so the caller must not write to them again.

        Args:
            outputs: All outputs of the model, in its order.
            count: Samples in the batch; what lies behind them is padding, and is dropped.
            batch: Samples that the model was fed, padding included.

        Raises:
            DataError: An output that is to be kept does not exist, changed its rank or type, or has rows that
                cannot be told apart by sample; the disk is full.
        """
        if not self._columns:
            self._columns = self._start(outputs, batch)
        for column, array in zip(self._columns, outputs, strict=True):
            if column is not None:
                column.add(_plain(array), count, batch)
        while sum(column.held for column in self._kept()) > self._limit:
            largest = max(self._kept(), key=lambda column: column.held)
            largest.spool(self._folder)

    def finish(self) -> list[np.ndarray]:
        """Join the batches.

        Returns:
            One array for each output of the model: ``[samples * k, ...]``, memory-mapped where it was spooled
            (writing to it changes no file), or an empty array where the output was not kept.

        Raises:
            DataError: Nothing was added; the disk is full.
        """
        if not self._columns:
            raise DataError("there are no outputs to join", "pass data with at least one sample")
        return [np.empty(0, np.float32) if column is None else column.joined() for column in self._columns]

    def _kept(self) -> list[_Column]:
        return [column for column in self._columns if column is not None]

    def _start(self, outputs: Sequence[np.ndarray], batch: int) -> list[_Column | None]:
        keep = range(len(outputs)) if self._keep is None else self._keep
        for index in (*keep, *self._axes):
            if not 0 <= index < len(outputs):
                what = f"output {index} is wanted, but the model has {len(outputs)}"
                raise DataError(what, "OUTPUTS of a metric counts from 0")
        columns: list[_Column | None] = [None] * len(outputs)
        for index in keep:
            array = _plain(outputs[index])
            axis = self._axes[index] if index in self._axes else _sample_axis(array.shape, batch)
            columns[index] = _Column(index, axis, array)
        return columns


class _Column:
    """One output: pieces ``[entries, k, ...]`` in memory, or behind each other in a file."""

    def __init__(self, index: int, axis: int | None, first: np.ndarray) -> None:
        if axis is not None and not -first.ndim <= axis < first.ndim:
            raise DataError(f"output {index} of shape {first.shape} has no axis {axis}")
        self._index, self._axis = index, axis
        self._rank, self._dtype = first.ndim, first.dtype
        self._pieces: list[np.ndarray] = []
        self._held = 0
        self._shapes: list[tuple[int, ...]] = []
        self._folder: Path | None = None
        self._file: IO[bytes] | None = None

    @property
    def held(self) -> int:
        """Bytes in memory that could go to disk."""
        return 0 if self._dtype.hasobject else self._held

    def add(self, array: np.ndarray, count: int, batch: int) -> None:
        """Append the first ``count`` samples of a batch."""
        if array.ndim != self._rank or array.dtype != self._dtype:
            was, now = f"{self._dtype} of rank {self._rank}", f"{array.dtype} of rank {array.ndim}"
            raise DataError(f"output {self._index} was {was} and is {now} in a later batch")
        piece = self._entries(array, count, batch)
        self._shapes.append(piece.shape)
        if self._file is None:
            self._pieces.append(piece)
            self._held += piece.nbytes
        else:
            _write(self._file, piece)

    def spool(self, folder: Path | None) -> None:
        """Move the pieces from memory to a file, and write the later ones there."""
        self._folder, self._file = folder, _spool_file(folder)
        for piece in self._pieces:
            _write(self._file, piece)
        self._pieces, self._held = [], 0

    def joined(self) -> np.ndarray:
        """All entries as ``[entries * k, ...]``; what memory held is freed on the way."""
        rests = [shape[1:] for shape in self._shapes]
        rest = tuple(max(sizes) for sizes in zip(*rests, strict=True))
        shape = (sum(shape[0] for shape in self._shapes), *rest)
        if self._file is None:
            whole = self._from_memory(shape)
            self._pieces, self._shapes = [whole], [shape]
        elif math.prod(shape) == 0:
            whole = np.empty(shape, self._dtype)
        else:
            self._even_out(shape)
            whole = np.memmap(self._file, self._dtype, "c", shape=shape)
        return whole.reshape(shape[0] * shape[1], *shape[2:])

    def close(self) -> None:
        """Close the file; arrays that are mapped to it stay valid."""
        if self._file is not None:
            self._file.close()

    def _entries(self, array: np.ndarray, count: int, batch: int) -> np.ndarray:
        if self._axis is None:
            return array[np.newaxis, np.newaxis]
        rows = np.moveaxis(array, self._axis, 0)
        if len(rows) % batch:
            raise DataError(
                f"output {self._index} has {len(rows)} rows for {batch} samples: whose they are is unknown",
                "evaluate with a batch of 1, or name the outputs that the metric needs in its OUTPUTS",
            )
        return rows.reshape(batch, len(rows) // batch, *rows.shape[1:])[:count]

    def _from_memory(self, shape: tuple[int, ...]) -> np.ndarray:
        if len(self._pieces) == 1:
            return self._pieces[0]
        whole = np.full(shape, _filler(self._dtype), self._dtype)
        self._pieces.reverse()
        start = 0
        while self._pieces:
            piece = self._pieces.pop()
            whole[(slice(start, start + len(piece)), *map(slice, piece.shape[1:]))] = piece
            start += len(piece)
        return whole

    def _even_out(self, shape: tuple[int, ...]) -> None:
        """Rewrite a file of ragged pieces with all of them padded to one shape."""
        if self._file is None or all(piece[1:] == shape[1:] for piece in self._shapes):
            return
        even, start = _spool_file(self._folder), 0
        for piece in self._shapes:
            stored = _read(self._file, self._dtype, start, piece)
            _write(even, padded(stored, (piece[0], *shape[1:])))
            start += stored.nbytes
        self._file.close()
        self._file, self._shapes = even, [shape]


def padded(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array enlarged at the end of its axes, filled as `OutputStore` does; itself if it has the shape."""
    if array.shape == shape:
        return array
    result = np.full(shape, _filler(array.dtype), array.dtype)
    result[tuple(map(slice, array.shape))] = array
    return result


def row_blocks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Walk over arrays of as many rows each, some 16 MiB of the widest at a time."""
    rows = len(arrays[0])
    width = max(array.nbytes for array in arrays) // max(rows, 1)
    step = max(1, _BLOCK_BYTES // max(width, 1))
    for start in range(0, rows, step):
        yield tuple(array[start : start + step] for array in arrays)


def paired_blocks(reference: np.ndarray, other: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Walk over two outputs side by side; where their ragged axes differ, the shorter is padded.

    Raises:
        DataError: They differ in rank or in rows.
    """
    if reference.ndim != other.ndim or reference.shape[:1] != other.shape[:1]:
        raise DataError(f"outputs of the shapes {reference.shape} and {other.shape} cannot be compared")
    rest = tuple(max(sizes) for sizes in zip(reference.shape[1:], other.shape[1:], strict=True))
    for left, right in row_blocks(reference, other):
        yield padded(left, (len(left), *rest)), padded(right, (len(right), *rest))


def _plain(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind in "SU":
        return array.astype(object)
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def _sample_axis(shape: tuple[int, ...], batch: int) -> int | None:
    if not shape or shape[0] % batch == 0:
        return 0 if shape else None
    fitting = [axis for axis, size in enumerate(shape) if size == batch]
    return fitting[0] if len(fitting) == 1 else None


def _filler(dtype: np.dtype[Any]) -> float | int | str:
    if dtype.kind == "u":
        return int(np.iinfo(dtype).max)
    fillers: dict[str, float | int | str] = {"b": False, "i": -1, "O": ""}
    return fillers.get(dtype.kind, math.nan)


def _spool_file(folder: Path | None) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise DataError(f"no temporary file can be made for outputs: {error}", "set TMPDIR") from error


def _write(file: IO[bytes], array: np.ndarray) -> None:
    """Append to a file. Not through a mapping: there a full disk would kill the process."""
    try:
        file.write(np.ascontiguousarray(array).tobytes())
        file.flush()
    except OSError as error:
        raise DataError(
            f"outputs cannot be spooled to disk: {error}", "free space there, or set TMPDIR to another disk"
        ) from error


def _read(file: IO[bytes], dtype: np.dtype[Any], start: int, shape: tuple[int, ...]) -> np.ndarray:
    file.seek(start)
    return np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
