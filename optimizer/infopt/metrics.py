"""Task metrics: what a model is judged by.

A metric is a function ``score(outputs, labels) -> float`` over the outputs joined by
:class:`infopt.outputs.OutputStore`, with what the comparison of two models must know about it. ``labels`` are
the user's, or, for a reference metric, the baseline's own output 0. A metric must not write to either.
"""

from __future__ import annotations

import math
import reprlib
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from infopt.errors import DataError, InfoptError, OptionError, unknown
from infopt.options import split_function
from infopt.outputs import paired_blocks, row_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

Score = Callable[[list[np.ndarray], np.ndarray], float]
"""Outputs and labels to one number."""

PerSample = Callable[[list[np.ndarray], np.ndarray], np.ndarray]
"""Outputs and labels to one number for each sample: float [N], the mean of which is the score."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A task metric.

    Attributes:
        name: What reports call it.
        score: Outputs and labels to one number.
        higher_is_better: Whether a larger score is the better one.
        per_sample: Outputs and labels to one number for each sample, for paired statistics, or ``None``.
        right_wrong: Whether ``per_sample`` holds 0 and 1 only; ``None`` leaves it to the values.
        outputs: Indices of the outputs that the metric looks at; ``None`` for all.
        reference: The labels are the baseline's own output 0; no labels of the user's are needed.
        fraction: The score lies between 0 and 1, so that budgets are fractions.
    """

    name: str
    score: Score
    higher_is_better: bool = True
    per_sample: PerSample | None = None
    right_wrong: bool | None = None
    outputs: tuple[int, ...] | None = None
    reference: bool = False
    fraction: bool = False


def measure(metric: Metric, outputs: list[np.ndarray], labels: np.ndarray) -> float:
    """The score of a model.

    Args:
        metric: The metric.
        outputs: Joined outputs, ``[N * k, ...]`` each.
        labels: ``[N, ...]``; for a reference metric the baseline's output 0.

    Raises:
        DataError: The metric failed, or did not return one finite number.
    """
    value = _call(metric, metric.score, outputs, labels)
    try:
        usable = not isinstance(value, (str, bytes, bool, np.bool_)) and np.ndim(value) == 0
        number = float(value) if usable else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        what = f"it returned {reprlib.repr(value)}, not one finite number"
        raise DataError(f"metric {metric.name} failed: {what}")
    return number


def measure_samples(metric: Metric, outputs: list[np.ndarray], labels: np.ndarray, count: int) -> np.ndarray:
    """The score of each sample; for metrics that have ``per_sample``.

    Args:
        metric: The metric.
        outputs: Joined outputs, ``[N * k, ...]`` each.
        labels: As for `measure`.
        count: Number of samples N. Where the metric gives a multiple of it, consecutive values are averaged.

    Returns:
        float64 [N].

    Raises:
        DataError: ``per_sample`` failed, or did not return finite numbers for all samples.
    """
    if metric.per_sample is None:
        raise DataError(f"metric {metric.name} has no per_sample function")
    found = _call(metric, metric.per_sample, outputs, labels)
    try:
        values = np.asarray(found, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"metric {metric.name} failed: per_sample returned no numbers: {error}") from error
    wanted = f"one finite number for each of the {count} samples is wanted"
    if values.ndim != 1 or values.size == 0 or values.size % count:
        raise DataError(f"metric {metric.name} failed: per_sample returned the shape {values.shape}", wanted)
    if not np.isfinite(values).all():
        bad = values[~np.isfinite(values)][0]
        raise DataError(f"metric {metric.name} failed: per_sample returned {bad}", wanted)
    means: np.ndarray = values.reshape(count, -1).mean(axis=1)
    return means


def default_metric(labels: np.ndarray | None, output_shape: Sequence[int | None]) -> str:
    """The metric to use when the user names none.

    Args:
        labels: The labels, or ``None``.
        output_shape: Shape of output 0; sizes that are not known are ``None``.

    Returns:
        ``"top1"`` for integer labels [N] or [N, K] and class scores [N, C]; ``"agreement"`` for class scores
        without such labels; ``"r2"`` for one number per sample, of which a cosine would only tell the sign; else
        ``"cosine"``.
    """
    if all(size == 1 for size in output_shape[1:]):
        return "r2"
    if len(output_shape) != 2:
        return "cosine"
    integers = labels is not None and labels.dtype.kind in "iu" and labels.ndim in (1, 2)
    return "top1" if integers else "agreement"


def _call(metric: Metric, function: Callable[..., Any], outputs: list[np.ndarray], labels: np.ndarray) -> Any:
    try:
        return function(outputs, labels)
    except InfoptError:
        raise
    except Exception as error:
        raise DataError(f"metric {metric.name} failed: {type(error).__name__}: {error}") from error


def top_k_right(logits: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Whether an accepted class is among the k highest.

    Of equal scores the class with the lower index is the higher, as in ``argmax``; so an INT8 model, whose
    scores are often equal, gains nothing by ties. A NaN score is below all others and never right.

    Args:
        logits: Class scores [N, C].
        labels: Integer [N], or [N, K] with -1 as padding.
        k: How many classes count; all of them when there are fewer.

    Returns:
        float64 [N] of 0 and 1.

    Raises:
        DataError: Shapes or classes that do not fit.
    """
    accepted = _accepted(logits, labels, f"top{k}")
    blocks = row_blocks(logits, accepted)
    return np.concatenate([_among_highest(scores, classes, k) for scores, classes in blocks])


def agreement(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How often the highest of the last axis is the same class.

    Args:
        reference: Class scores [N, ..., C]; places that are all NaN in both (padding) are left out.
        other: As ``reference``; of another size only in ragged axes.

    Returns:
        float64 [N], each the mean over the axes between the first and the last.

    Raises:
        DataError: There is no axis of classes, or the shapes do not fit.
    """
    if reference.ndim < 2 or reference.shape[-1] < 2:
        raise DataError(
            f"agreement needs class scores on the last axis, output 0 is {reference.shape}",
            "use the metric cosine",
        )
    return np.concatenate([_agreeing(*pair) for pair in paired_blocks(reference, other)])


def cosine(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosine similarity of each sample's flattened values; values that are not finite count as 0.

    Args:
        reference: [N, ...].
        other: As ``reference``; of another size only in ragged axes.

    Returns:
        float64 [N] from -1 to 1: 1 where both are zero, 0 where one of them is.

    Raises:
        DataError: The shapes do not fit.
    """
    return np.concatenate([_cosines(*pair) for pair in paired_blocks(reference, other)])


def finite(array: np.ndarray) -> np.ndarray:
    """The values as float64 with 0 in place of NaN (padding) and infinities."""
    return np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _accepted(logits: np.ndarray, labels: np.ndarray, name: str) -> np.ndarray:
    """The labels as int64 [N, K], checked against the scores."""
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise DataError(f"{name} needs class scores of shape [N, C], output 0 is {logits.shape}")
    count, size = logits.shape
    columns = labels[:, np.newaxis] if labels.ndim == 1 else labels
    if columns.ndim != 2 or len(columns) != count:
        raise DataError(f"{name} needs labels [{count}] or [{count}, K] for its scores, not {labels.shape}")
    with np.errstate(invalid="ignore"):
        classes = columns.astype(np.int64)
    remedy = "store the indices of the right classes, or name another metric"
    if not np.array_equal(classes, columns):
        raise DataError(f"{name} needs whole numbers for labels", remedy)
    if classes.shape[1] == size and np.isin(classes, (0, 1)).all():
        raise DataError(f"{name} found a column of zeros and ones for each class in the labels", remedy)
    strange = classes[(classes < -1) | (classes >= size)]
    if strange.size:
        raise DataError(f"label {strange[0]} is not a class of the model, which has 0 to {size - 1}", remedy)
    empty = (classes < 0).all(axis=1)
    if empty.any():
        raise DataError(f"sample {empty.argmax()} has no label", f"leave it out, or use another metric than {name}")
    return classes


def _among_highest(logits: np.ndarray, accepted: np.ndarray, k: int) -> np.ndarray:
    unknown_score = np.isnan(logits)
    scores = np.where(unknown_score, -np.inf, logits)
    positions = np.arange(logits.shape[1])
    right = np.zeros(len(logits), bool)
    for column in accepted.T:
        index = np.maximum(column, 0)[:, np.newaxis]
        own = np.take_along_axis(scores, index, axis=1)
        ahead = (scores > own).sum(axis=1) + ((scores == own) & (positions < index)).sum(axis=1)
        has_score = ~np.take_along_axis(unknown_score, index, axis=1)[:, 0]
        right |= (column >= 0) & has_score & (ahead < k)
    return right.astype(np.float64)


def _agreeing(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    best, others_best = _best(reference), _best(other)
    counted = ((best >= 0) | (others_best >= 0)).reshape(len(best), -1)
    same = (best == others_best).reshape(counted.shape) & counted
    total = counted.sum(axis=1)
    return np.where(total == 0, 1.0, same.sum(axis=1) / np.maximum(total, 1))


def _best(scores: np.ndarray) -> np.ndarray:
    """The highest class, -1 where all are NaN."""
    missing = np.isnan(scores)
    return np.where(missing.all(axis=-1), -1, np.where(missing, -np.inf, scores).argmax(axis=-1))


def _cosines(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    left, right = (finite(block).reshape(len(block), -1) for block in (reference, other))
    dot = np.einsum("ij,ij->i", left, right)
    left_sum, right_sum = (np.einsum("ij,ij->i", rows, rows) for rows in (left, right))
    # One root of the product, so that equal vectors give 1 exactly.
    norm = np.sqrt(left_sum * right_sum)
    both_zero = (left_sum == 0) & (right_sum == 0)
    return np.clip(np.where(both_zero, 1.0, dot / np.where(norm == 0, 1.0, norm)), -1.0, 1.0)


def _built_in(name: str, per_sample: PerSample, *, right_wrong: bool | None = None, reference: bool = False) -> Metric:
    return Metric(
        name,
        score=lambda outputs, labels: float(per_sample(outputs, labels).mean()),
        per_sample=per_sample,
        right_wrong=right_wrong,
        reference=reference,
        fraction=True,
    )


def r2(reference: np.ndarray, other: np.ndarray) -> float:
    """Coefficient of determination of one array by another: 1 when equal, 0 when no better than the mean.

    Args:
        reference: The values to meet.
        other: What stands for them, of the same shape.
    """
    wanted, found = finite(reference).astype(np.float64), finite(other).astype(np.float64)
    error, spread = float(((wanted - found) ** 2).sum()), float(((wanted - wanted.mean()) ** 2).sum())
    return 1.0 if error == 0 else 1 - error / max(spread, np.finfo(np.float64).tiny)


BUILT_IN: dict[str, Metric] = {
    "r2": Metric("r2", score=lambda outputs, labels: r2(labels, outputs[0]), reference=True),
    "top1": _built_in("top1", lambda outputs, labels: top_k_right(outputs[0], labels, 1), right_wrong=True),
    "top5": _built_in("top5", lambda outputs, labels: top_k_right(outputs[0], labels, 5), right_wrong=True),
    "agreement": _built_in("agreement", lambda outputs, labels: agreement(labels, outputs[0]), reference=True),
    "cosine": _built_in(
        "cosine", lambda outputs, labels: cosine(labels, outputs[0]), right_wrong=False, reference=True
    ),
}
"""Metrics known by name."""


def load_metric(spec: str) -> Metric:
    """Find a metric by its built-in name, or take it from a Python file, which is executed.

    Args:
        spec: A name, or ``FILE.py:function``; without the function, ``score`` is meant. The file may set
            ``NAME``, ``HIGHER_IS_BETTER`` (true by default) and ``OUTPUTS`` (indices of the outputs to keep),
            and may have a function ``per_sample(outputs, labels)``.

    Raises:
        OptionError: No such name, file or function; a file that fails when it is executed; a constant that
            does not fit.
    """
    if spec in BUILT_IN:
        return BUILT_IN[spec]
    file, function = split_function(spec)
    function = function or "score"
    if not file.endswith(".py"):
        raise unknown("metric", spec, BUILT_IN)
    module = _execute(Path(file))
    functions = {key: value for key, value in vars(module).items() if callable(value) and key[0] != "_"}
    if function not in functions:
        raise unknown(f"function in {file}:", function, functions)
    outputs = _constant(module, "OUTPUTS", list, None)
    if any(type(index) is not int or index < 0 for index in outputs or ()):
        raise OptionError(f"{file}: OUTPUTS = {outputs!r} does not fit", "indices such as [0] are wanted")
    return Metric(
        name=_constant(module, "NAME", str, None) or function,
        score=functions[function],
        higher_is_better=_constant(module, "HIGHER_IS_BETTER", bool, True),
        per_sample=functions.get("per_sample"),
        outputs=None if outputs is None else tuple(outputs),
    )


def _execute(path: Path) -> ModuleType:
    """Run a file as a module that nobody else can import; it is not cached beside the file either."""
    if not path.is_file():
        raise OptionError(f"metric file {path} does not exist")
    module = ModuleType(f"_infopt_metric_{zlib.crc32(str(path.resolve()).encode()):08x}")
    module.__file__ = str(path)
    # Dataclasses look their module up while they are made.
    sys.modules[module.__name__] = module
    try:
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        raise OptionError(f"metric file {path} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.modules.pop(module.__name__, None)
    return module


def _constant(module: ModuleType, name: str, kind: type, default: Any) -> Any:
    value = getattr(module, name, default)
    if value is not default and not isinstance(value, kind):
        raise OptionError(f"{module.__file__}: {name} = {value!r} does not fit", f"{kind.__name__} is wanted")
    return value
