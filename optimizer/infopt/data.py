"""Calibration and evaluation data: what a model's inputs want, and samples that are read when needed.

The arrays that a model is fed with are a :data:`Feed`. :func:`open_samples` opens any supported kind of data
as :class:`Samples`, which hand out checked, converted and, for a model with a fixed batch, padded batches.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from infopt.errors import DataError, OptionError, unknown
from infopt.readers import READERS, data_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from infopt.preprocess import Preprocess

Feed = dict[str, np.ndarray]
"""Input name to array, one batch."""

_CONVERTIBLE = {("int", "int"), ("int", "float"), ("float", "float"), ("text", "text")}


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a model's input wants.

    Attributes:
        name: Name of the input.
        dtype: Element type; ``object`` for strings.
        shape: An integer for a fixed dimension, a string for a symbolic one, ``None`` for an unknown one.
        batch_axis: The axis that counts samples; ``None`` for an input that is given whole.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]
    batch_axis: int | None = None

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join('?' if dim is None else str(dim) for dim in self.shape)}]"

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the input accepts, or ``None`` when it accepts any (or has no batch)."""
        size = None if self.batch_axis is None else self.shape[self.batch_axis]
        return size if isinstance(size, int) else None


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples to run at once.

    Attributes:
        feed: The arrays. For a model with a fixed batch a short tail repeats its last sample.
        count: How many of the samples are real; the rest must not reach a score.
    """

    feed: Feed
    count: int


class Samples(Protocol):
    """Samples that are read as they are needed, as often as they are needed."""

    @property
    def path(self) -> Path:
        """Where they come from."""
        ...

    @property
    def labels(self) -> np.ndarray | None:
        """First axis = samples; (N, K) padded with -1 where a sample has several accepted classes."""
        ...

    @property
    def groups(self) -> np.ndarray | None:
        """What each sample belongs to (a patient, a video): samples of a group are never split apart."""
        ...

    @property
    def ids(self) -> tuple[str, ...] | None:
        """Names of the samples: a picture's file, an entry of the array ``ids``; ``None`` when they have none."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their labels, as far as they have any."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings for the user, such as pictures that were skipped."""
        ...

    def __len__(self) -> int: ...

    def batches(self, size: int, indices: np.ndarray | None = None) -> Iterator[Batch]:
        """Read batches.

        Args:
            size: Samples in a batch; a model with a fixed batch is fed in that instead.
            indices: Which samples, in this order; all by default.

        Raises:
            DataError: While iterating: data that is damaged, is not finite or does not fit its input.
        """
        ...

    def digests(self) -> list[str]:
        """A hash of each sample's content (blake2b, 16 bytes, hex); reads all data."""
        ...

    def sha256(self) -> str:
        """A hash of everything that was read, labels included; reads all data."""
        ...

    def describe(self) -> str:
        """One line that says what is done to the data."""
        ...


def parse_batch_axis(text: str) -> tuple[str, int | None]:
    """Read ``NAME=AXIS`` or ``NAME=none``.

    Raises:
        ValueError: Neither of them.
    """
    name, equals, axis = text.rpartition("=")
    if not equals or not name:
        raise ValueError(f"{text!r} is not NAME=AXIS")
    if axis.lower() == "none":
        return name, None
    if not (axis.isascii() and axis.isdigit()):
        raise ValueError(f"axis {axis!r} is neither a number from 0 on nor 'none'")
    return name, int(axis)


def infer_batch_axes(inputs: Sequence[InputSpec], overrides: Mapping[str, int | None]) -> tuple[InputSpec, ...]:
    """Find the axis of every input that counts samples.

    The main input is the first one whose axis 0 is not a fixed number, else the first that is not a scalar;
    its batch axis is 0. For the others the first rule that applies decides:

    1. The user's override.
    2. A scalar has no batch.
    3. The main input's batch has a symbolic name: the axis of that name (1 for ``state`` [2, N, 128]).
    4. The main input's batch is a number: axis 0 if it has that size, else the only axis that has it, else
       none.
    5. Axis 0, unless it is a fixed number or is named as another axis of the main input.

    Args:
        inputs: The inputs; their ``batch_axis`` is ignored.
        overrides: Input name to axis, or to ``None`` for an input without a batch.

    Raises:
        OptionError: An override names no input, or an axis that the input lacks.
    """
    specs = {spec.name: spec for spec in inputs}
    for name, axis in overrides.items():
        if name not in specs:
            raise unknown("input", name, specs)
        if axis is not None and not 0 <= axis < len(specs[name].shape):
            raise OptionError(f"input {name!r} has no axis {axis}", f"it is {specs[name]}")
    main = _main(inputs, overrides)
    chosen = {spec.name: _axis(spec, main) if main else None for spec in inputs} | dict(overrides)
    return tuple(replace(spec, batch_axis=chosen[spec.name]) for spec in inputs)


def open_samples(path: Path, inputs: tuple[InputSpec, ...], preprocess: Preprocess | None) -> Samples:
    """Open data of any supported kind; nothing but headers, labels and pictures' health is read yet.

    Args:
        path: A file, or a folder whose content tells its kind.
        inputs: What the model wants.
        preprocess: What is done to pictures; arrays are taken as they are.

    Raises:
        DataError: The path is missing, is of no supported kind, is damaged, or does not fit the model.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist", "give a file or folder that does")
    module, _, function = _place(path).partition(":")
    reader = cast("Callable[..., Samples]", getattr(import_module(module), function))
    return reader(path, inputs, preprocess)


def subset(samples: Samples, count: int, seed: int) -> np.ndarray:
    """Choose at most ``count`` samples: the same ones for the same seed, in ascending order.

    Returns:
        int64 indices.
    """
    total = len(samples)
    if count >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def overlap(a: Samples, b: Samples) -> int:
    """Number of samples of ``b`` whose content is in ``a`` as well."""
    seen = set(a.digests())
    return sum(digest in seen for digest in b.digests())


def check_feed(feed: Mapping[str, np.ndarray], inputs: Sequence[InputSpec], where: str = "the feed") -> Feed:
    """Check a feed against the inputs and convert what can be converted without loss of meaning.

    Args:
        feed: Input name to array.
        inputs: What the model wants. A fixed batch is not checked: batches are padded to it later.
        where: How to name the feed's origin in an error.

    Returns:
        The arrays in the inputs' dtypes.

    Raises:
        DataError: An array is missing or superfluous, has another rank, shape or kind of dtype, holds NaN or
            Inf, or holds a value that the input's dtype cannot.
    """
    check_names(feed, inputs, where)
    for spec in inputs:
        check_array(spec, feed[spec.name].dtype, feed[spec.name].shape, where)
    return {spec.name: convert(spec, feed[spec.name], where) for spec in inputs}


def check_names(names: Iterable[str], inputs: Sequence[InputSpec], where: str) -> None:
    """Check that there is one array for each input and no other.

    Raises:
        DataError: One is missing (with the nearest name that is there) or is no input.
    """
    wanted = [spec.name for spec in inputs]
    extra = sorted(set(names).difference(wanted))
    for name in wanted:
        if name not in names:
            near = get_close_matches(name, extra, n=1, cutoff=0.5) or extra[: len(extra) == 1]
            remedy = f"is it {near[0]!r}? Rename that" if near else f"the inputs are {', '.join(wanted)}"
            raise DataError(f"{where} has no array for input {name!r}", remedy)
    if extra:
        raise DataError(
            f"{where} has arrays that are no inputs: {', '.join(extra)}", f"inputs: {', '.join(wanted) or 'none'}"
        )


def check_array(spec: InputSpec, dtype: np.dtype[Any], shape: tuple[int, ...], where: str, remedy: str = "") -> None:
    """Check rank, fixed dimensions other than the batch, and kind of dtype.

    Raises:
        DataError: What the model wants and what came.
    """
    pairs = enumerate(zip(spec.shape, shape, strict=False))
    fits = len(shape) == len(spec.shape) and all(
        not isinstance(dim, int) or dim == size or axis == spec.batch_axis for axis, (dim, size) in pairs
    )
    if fits and (_kind(dtype), _kind(spec.dtype)) in _CONVERTIBLE:
        return
    came = f"{dtype} [{', '.join(map(str, shape))}]"
    if not remedy and len(shape) == len(spec.shape) and not fits:
        remedy = "if samples are not counted by that axis, use --batch-axis NAME=AXIS|none"
    raise DataError(f"input {spec.name!r} wants {spec}, {where} has {came}", remedy)


def convert(spec: InputSpec, array: np.ndarray, where: str, samples: np.ndarray | None = None) -> np.ndarray:
    """Give an array its input's dtype, and check its values.

    Args:
        spec: The input.
        array: What :func:`check_array` accepts.
        where: How to name its origin.
        samples: Number of each sample along the batch axis, for the message.

    Returns:
        The array itself where nothing had to change.

    Raises:
        DataError: NaN or Inf (with the first sample that has one), or a value out of the dtype's range.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(spec.dtype, copy=False)
    kind = _kind(spec.dtype)
    if kind == "int" and array.dtype != result.dtype:
        # Wrapping round shows when casting back, except between signed and unsigned of one size.
        wrong = (result.astype(array.dtype) != array) | ((result < 0) != (array < 0))
        problem = f"a value outside {spec.dtype}"
    elif kind == "float":
        wrong = ~np.isfinite(result)
        problem = "NaN" if np.isnan(result).any() else "Inf"
    else:
        return result
    if wrong.any():
        raise DataError(f"{where}: input {spec.name!r} holds {problem}{_first(spec, wrong, samples)}")
    return result


def _main(inputs: Sequence[InputSpec], overrides: Mapping[str, int | None]) -> InputSpec | None:
    batched = [replace(s, batch_axis=overrides.get(s.name, 0)) for s in inputs if s.shape]
    batched = [spec for spec in batched if spec.batch_axis is not None]
    return next((spec for spec in batched if spec.fixed_batch is None), batched[0] if batched else None)


def _axis(spec: InputSpec, main: InputSpec) -> int | None:
    if not spec.shape or spec.name == main.name:
        return main.batch_axis if spec.shape else None
    first, batch = spec.shape[0], main.shape[cast("int", main.batch_axis)]
    same = [axis for axis, dim in enumerate(spec.shape) if dim == batch]
    if isinstance(batch, int):
        return 0 if first == batch else (same[0] if len(same) == 1 else None)
    if isinstance(batch, str) and same:
        return same[0]
    return None if isinstance(first, int) or (first is not None and first in main.shape) else 0


def _place(path: Path) -> str:
    """The entry of :data:`READERS` for a file, or for a folder by what it holds."""
    if path.is_file():
        keys, what = [path.suffix.lower()], f"a {path.suffix or 'suffixless'} file"
    else:
        found = Counter(f"*{file.suffix.lower()}" for file in data_files(path))
        keys = [key for key, _ in found.most_common()]
        what = f"a folder of {', '.join(keys)}" if keys else "an empty folder"
    places = {READERS[key] for key in keys if key in READERS}
    # With arrays beside pictures a guess could calibrate on a preview picture.
    unread = {"*.npy", "*.npz"}.intersection(keys) - READERS.keys()
    if len(places) == 1 and not unread:
        return places.pop()
    known = ", ".join(f"folder of {key}" if key.startswith("*") else key for key in READERS)
    raise DataError(f"{path} is {what}, which cannot be read as data", f"known kinds: {known}")


def _kind(dtype: np.dtype[Any]) -> str:
    # By name, because ml_dtypes' bfloat16, float8 and int4 all have kind "V".
    kinds = {"bool": "int", "uint": "int", "int": "int", "bfloat": "float", "float": "float"}
    kinds |= {"object": "text", "str": "text"}
    return next((kind for start, kind in kinds.items() if dtype.name.startswith(start)), dtype.name)


def _first(spec: InputSpec, wrong: np.ndarray, samples: np.ndarray | None) -> str:
    if spec.batch_axis is None:
        return ""
    bad = int(np.moveaxis(wrong, spec.batch_axis, 0).reshape(wrong.shape[spec.batch_axis], -1).any(axis=1).argmax())
    return f", first in sample {bad if samples is None else samples[bad]}"
