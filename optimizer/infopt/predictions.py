"""``predictions.npz``: outputs that were made elsewhere, and how they are matched to evaluation samples.

The file holds one array for each output, by the output's name, whose first axis counts samples (or rows, where each
sample has the same number of them). Two arrays are optional: ``ids``, the name of each sample (a picture's file
relative to its folder, an entry of the array ``ids`` of an ``.npz``, else the row number), and ``sha256``, the hash of
the samples' content in that order (:func:`content_sha256`). Nothing in it is ever unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infopt.errors import DataError
from infopt.readers.labels import some
from infopt.readers.npz import as_ids, read_arrays

if TYPE_CHECKING:
    from infopt.data import Samples

SUFFIX = ".npz"
SIDE = ("ids", "sha256")
"""Arrays of the file that are no outputs."""

MAKE = "make one with infopt predict, or save outputs under the names of the model's outputs"


@dataclass(frozen=True, slots=True)
class Predictions:
    """Outputs that were made elsewhere.

    Attributes:
        path: The file.
        outputs: Joined outputs by name, ``[N * k, ...]`` each.
        ids: Names of the N samples, if the file has them.
        sha256: Hash of the samples' content, if the file has it.
    """

    path: Path
    outputs: Mapping[str, np.ndarray] = field(repr=False)
    ids: tuple[str, ...] | None
    sha256: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs, in the file's order."""
        return tuple(self.outputs)

    @property
    def rows(self) -> int:
        """Rows of the first output; without ids as many samples are assumed."""
        return len(next(iter(self.outputs.values())))


@dataclass(frozen=True, slots=True)
class Matched:
    """Predictions in the order of the samples.

    Attributes:
        outputs: One for each name that was asked for; empty where the file has none.
        notes: What the user should know.
    """

    outputs: tuple[np.ndarray, ...]
    notes: tuple[str, ...]


def read_predictions(path: Path) -> Predictions:
    """Read a ``predictions.npz``.

    Raises:
        DataError: The file is missing or damaged, holds Python objects, no outputs or no samples, or numbers of a type
            that no output has.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist", MAKE)
    arrays = read_arrays(path)
    ids, digest = as_ids(arrays.pop("ids", None), path), _digest(arrays.pop("sha256", None), path)
    if not arrays:
        raise DataError(f"{path} holds no outputs", MAKE)
    outputs = {name: _output(name, array, path) for name, array in arrays.items()}
    if ids is not None:
        for name, array in outputs.items():
            if not ids or len(array) % len(ids):
                raise DataError(
                    f"{path}: {name} has {len(array)} rows for {len(ids)} ids", "the first axis counts samples"
                )
    return Predictions(path, outputs, ids, digest)


def match(predictions: Predictions, names: Sequence[str], wanted: Sequence[int] | None, samples: Samples) -> Matched:
    """Bring predictions into the order of the samples.

    They are matched by id. Without ids they are taken in the samples' order if the content hash proves it, or if the
    samples have no names but their row numbers.

    Args:
        predictions: What was read.
        names: Names of the model's outputs.
        wanted: Indices of the outputs that the metric looks at; ``None`` for the first. The others may be missing.
        samples: The evaluation samples.

    Raises:
        DataError: An output that is wanted is missing, a sample has no prediction, or the order cannot be known.
    """
    found = [_named(predictions, name, index in (wanted or (0,)), names) for index, name in enumerate(names)]
    order, notes = _order(predictions, samples)
    missing = [name for name, array in zip(names, found, strict=True) if array is None]
    if missing:
        notes.append(f"{predictions.path} has no output {some(missing)}: it is not compared")
    extra = [name for name in predictions.names if name not in names]
    if extra:
        notes.append(f"{predictions.path}: {some(extra)} is no output of the model, and was left out")
    total = len(samples) if predictions.ids is None else len(predictions.ids)
    outputs = tuple(
        np.empty(0, np.float32) if array is None else _taken(array, order, total, name, predictions)
        for name, array in zip(names, found, strict=True)
    )
    return Matched(outputs, tuple(notes))


def check_same_inputs(predictions: Sequence[Predictions]) -> None:
    """See to it that predictions that list the same samples in the same order were made on the same content.

    Those without a hash, or in another order, cannot be told apart this way.

    Raises:
        DataError: Their hashes contradict each other.
    """
    hashed = [each for each in predictions if each.sha256 is not None]
    for number, one in enumerate(hashed):
        for other in hashed[number + 1 :]:
            if one.ids == other.ids and one.rows == other.rows and one.sha256 != other.sha256:
                raise DataError(
                    f"{one.path} and {other.path} were made on different inputs, or in another order: "
                    "their sha256 differ",
                    "run infopt predict on the same data for both",
                )


def content_sha256(digests: Sequence[str]) -> str:
    """Hash of the content of samples in their order, from :meth:`infopt.data.Samples.digests`."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _output(name: str, array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind not in "biufSU":
        raise DataError(f"{path}: {name} is {array.dtype}, which no output is", "save numbers, bfloat16 as float32")
    if array.ndim == 0 or len(array) == 0:
        raise DataError(
            f"{path}: {name} has the shape {list(array.shape)}: no samples", "the first axis counts samples"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).any():
        raise DataError(f"{path}: {name} holds no finite number, NaN and Inf alone", "look at the run that made it")
    return array.astype(object) if array.dtype.kind in "SU" else array


def _digest(array: np.ndarray | None, path: Path) -> str | None:
    if array is None:
        return None
    if array.dtype.kind not in "SU" or array.size != 1:
        raise DataError(f"{path}: sha256 is {array.dtype} {list(array.shape)}", "one text is wanted")
    value = array.reshape(-1)[0]
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _named(predictions: Predictions, name: str, wanted: bool, names: Sequence[str]) -> np.ndarray | None:
    array = predictions.outputs.get(name)
    if array is None and wanted:
        others = [other for other in predictions.names if other not in names]
        near = get_close_matches(name, others, n=1, cutoff=0.5) or others[: len(others) == 1]
        remedy = f"is it {near[0]!r}? Rename that" if near else MAKE
        raise DataError(f"{predictions.path} has no output {name!r}, it has {some(predictions.names)}", remedy)
    return array


def _order(predictions: Predictions, samples: Samples) -> tuple[np.ndarray | None, list[str]]:
    """Where each sample lies in the predictions, ``None`` for the same order; and what the user should know."""
    path, total = predictions.path, len(samples)
    if predictions.ids is None:
        if predictions.rows % total:
            raise DataError(f"{path} has {predictions.rows} rows for {total} samples", "add ids, to match by name")
        same = predictions.sha256 is not None and _same_content(predictions, None, samples)
        if samples.ids is not None and not same:
            remedy = f"add an array ids with the samples' names, such as {samples.ids[0]!r}"
            raise DataError(f"{path} has no ids: in which order its {predictions.rows} rows are is unknown", remedy)
        return None, []
    places = {name: place for place, name in enumerate(predictions.ids)}
    names = samples.ids if samples.ids is not None else tuple(str(number) for number in range(total))
    lacking = [name for name in names if name not in places]
    if lacking:
        what = f"{path} has no prediction for {len(lacking)} of {total} samples: {some(lacking)}"
        raise DataError(what, f"its ids are such as {some(predictions.ids)}")
    order = np.array([places[name] for name in names], np.int64)
    left = len(predictions.ids) - total
    notes = [f"{path}: {left} predictions are of no evaluation sample, and were left out"] if left else []
    if not left and predictions.sha256 is not None:
        _same_content(predictions, order, samples)
    return order, notes


def _same_content(predictions: Predictions, order: np.ndarray | None, samples: Samples) -> bool:
    """Whether predictions were made on these samples; ``False`` where the samples' content cannot be told.

    Raises:
        DataError: They were made on others.
    """
    digests = samples.digests()
    if not digests:
        return False
    if order is not None:
        back = np.argsort(order)
        digests = [digests[place] for place in back]
    if content_sha256(digests) != predictions.sha256:
        raise DataError(
            f"{predictions.path} was made on other inputs than {samples.path}, or in another order",
            "run infopt predict on this data again",
        )
    return True


def _taken(array: np.ndarray, order: np.ndarray | None, total: int, name: str, predictions: Predictions) -> np.ndarray:
    if len(array) % total:
        raise DataError(f"{predictions.path}: {name} has {len(array)} rows for {total} samples", "add ids")
    if order is None or np.array_equal(order, np.arange(total)):
        return array
    rows: np.ndarray = array.reshape(total, len(array) // total, *array.shape[1:])[order]
    return rows.reshape(len(order) * (len(array) // total), *array.shape[1:])
