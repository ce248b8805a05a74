"""Ranges of dynamic input shapes, for runtimes that compile for ranges (TensorRT's optimization profiles)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from infopt.errors import OptionError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from infopt.data import InputSpec

Sizes = tuple[int, int, int]
"""Smallest, usual and largest size of one dimension."""

BATCH: Sizes = (1, 8, 32)
SEQUENCE: Sizes = (1, 64, 512)
"""Tokens or time steps: dynamic dimensions of inputs with up to three axes."""
PICTURE: Sizes = (32, 640, 1280)
"""Height and width: dynamic dimensions of inputs with four axes; multiples of 32, the usual total stride."""
VOLUME: Sizes = (16, 64, 128)
"""Depth, height and width: dynamic dimensions of inputs with more axes."""


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """The shapes that an input may have.

    Attributes:
        name: Name of the input.
        low: Smallest size of each dimension.
        opt: The shape to be fastest at.
        high: Largest size of each dimension.
    """

    name: str
    low: tuple[int, ...]
    opt: tuple[int, ...]
    high: tuple[int, ...]

    @property
    def sizes(self) -> tuple[Sizes, ...]:
        """Smallest, usual and largest size by dimension."""
        return tuple(zip(self.low, self.opt, self.high, strict=True))


def parse_shape(text: str) -> ShapeRange:
    """Read ``NAME=MIN..OPT..MAX``, ``NAME=MIN..MAX`` (fastest at MAX) or ``NAME=SHAPE``.

    A shape is written ``1x3x224x224``.

    Raises:
        ValueError: What is wrong with the text.
    """
    name, equals, rest = text.rpartition("=")
    if not equals or not name:
        raise ValueError(f"{text!r} is not NAME=MIN..OPT..MAX")
    shapes = [_sizes(part) for part in rest.split("..")]
    if len(shapes) > 3:
        raise ValueError(f"{rest!r} has {len(shapes)} shapes; MIN..OPT..MAX are three")
    low, opt, high = shapes[0], shapes[len(shapes) // 2], shapes[-1]
    if len({len(low), len(opt), len(high)}) > 1:
        raise ValueError(f"the shapes of {rest!r} differ in their number of axes")
    for axis, (a, b, c) in enumerate(zip(low, opt, high, strict=True)):
        if not a <= b <= c:
            raise ValueError(f"axis {axis} is {a}..{b}..{c}, which does not ascend")
        if not b:
            raise ValueError(f"axis {axis} is never larger than 0 where it should be fastest")
    return ShapeRange(name, low, opt, high)


def show_shape(given: ShapeRange) -> str:
    """A range as :func:`parse_shape` reads it."""
    shapes = [given.low] if fixed(given) else [given.low, given.opt, given.high]
    return f"{given.name}={'..'.join(joined(shape) for shape in shapes)}"


def joined(shape: tuple[int, ...]) -> str:
    """``1x3x224x224``."""
    return "x".join(map(str, shape))


def fixed(given: ShapeRange) -> bool:
    """Whether a range holds a single shape."""
    return given.low == given.opt == given.high


def complete(inputs: Sequence[InputSpec], given: Sequence[ShapeRange]) -> tuple[ShapeRange, ...]:
    """A range for every input that has a dynamic dimension.

    What the user did not give follows from the axes: the batch axis (axis 0 where none is known) is
    :data:`BATCH`; others are :data:`SEQUENCE`, :data:`PICTURE` or :data:`VOLUME` by the input's number of
    axes. Dimensions of the same symbolic name get the same sizes, the user's first.

    Args:
        inputs: The model's inputs.
        given: The user's ranges.

    Returns:
        Ranges in the inputs' order.

    Raises:
        OptionError: A range names no input, comes twice, contradicts the model, or gives one symbolic name
            two sizes.
    """
    specs = {spec.name: spec for spec in inputs}
    chosen: dict[str, ShapeRange] = {}
    for one in given:
        if one.name not in specs:
            raise unknown("input", one.name, specs)
        if one.name in chosen:
            raise OptionError(f"input {one.name!r} has two shapes", "give --shape once per input")
        _check(specs[one.name], one)
        chosen[one.name] = one
    sizes = _named(specs, chosen)
    return tuple(
        chosen.get(spec.name) or _default(spec, sizes)
        for spec in inputs
        if not all(isinstance(dim, int) for dim in spec.shape)
    )


def of_samples(
    inputs: Sequence[InputSpec], given: Sequence[ShapeRange], seen: Iterable[Mapping[str, tuple[int, ...]]]
) -> tuple[ShapeRange, ...]:
    """A range for every input that has a dynamic dimension, as samples are: their smallest, median and largest size.

    Args:
        inputs: The model's inputs.
        given: The user's ranges, which hold.
        seen: The shapes of samples, by input; of no sample, nothing is known beyond :func:`complete`.
    """
    ranges = {one.name: one for one in complete(inputs, given)}
    fixed_names = {one.name for one in given}
    shapes = [dict(shape) for shape in seen]
    for spec in inputs if shapes else ():
        if spec.name not in ranges or spec.name in fixed_names:
            continue
        sizes = [
            usual if axis == spec.batch_axis else _spread([shape[spec.name][axis] for shape in shapes])
            for axis, usual in enumerate(ranges[spec.name].sizes)
        ]
        low, opt, high = (tuple(each[i] for each in sizes) for i in range(3))
        ranges[spec.name] = ShapeRange(spec.name, low, opt, high)
    return tuple(ranges.values())


def _spread(sizes: Sequence[int]) -> Sizes:
    ordered = sorted(sizes)
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]


def narrowed(inputs: Sequence[InputSpec], given: Sequence[ShapeRange]) -> tuple[InputSpec, ...]:
    """Inputs with those dimensions fixed for which the user's ranges hold a single size.

    Dimensions of the same symbolic name are fixed together.
    """
    ranges = {one.name: one for one in given}
    named = {
        dim: low
        for spec in inputs
        if spec.name in ranges
        for dim, (low, _, high) in zip(spec.shape, ranges[spec.name].sizes, strict=True)
        if isinstance(dim, str) and low == high
    }
    return tuple(replace(spec, shape=_fixed_sizes(spec, ranges.get(spec.name), named)) for spec in inputs)


def _fixed_sizes(spec: InputSpec, given: ShapeRange | None, named: dict[str, int]) -> tuple[int | str | None, ...]:
    own = [low if low == high else None for low, _, high in given.sizes] if given else [None] * len(spec.shape)
    by_name = [named.get(dim) if isinstance(dim, str) else None for dim in spec.shape]
    return tuple(
        next((size for size in known if size is not None), None) for known in zip(own, by_name, spec.shape, strict=True)
    )


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.lower().split("x")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"{text!r} is not a shape such as 1x3x224x224")
    return tuple(int(part) for part in parts)


def _check(spec: InputSpec, given: ShapeRange) -> None:
    def fits() -> bool:
        pairs = zip(spec.shape, given.sizes, strict=True)
        return all(not isinstance(dim, int) or sizes == (dim,) * 3 for dim, sizes in pairs)

    if len(spec.shape) != len(given.low) or not fits():
        raise OptionError(f"shape {show_shape(given)} contradicts the model", f"{spec.name!r} is {spec}")


def _named(specs: dict[str, InputSpec], chosen: dict[str, ShapeRange]) -> dict[str, Sizes]:
    """Sizes by symbolic name."""
    found: dict[str, Sizes] = {}
    for one in chosen.values():
        for dim, sizes in zip(specs[one.name].shape, one.sizes, strict=True):
            if isinstance(dim, str) and found.setdefault(dim, sizes) != sizes:
                first, second = ("..".join(map(str, each)) for each in (found[dim], sizes))
                raise OptionError(f"dimension {dim!r} is {first} in one --shape and {second} in another")
    for spec, axis in sorted(_axes(specs), key=_knowing):
        dim = spec.shape[axis]
        if isinstance(dim, str):
            found.setdefault(dim, _usual(spec, axis))
    return found


def _axes(specs: dict[str, InputSpec]) -> list[tuple[InputSpec, int]]:
    return [(spec, axis) for spec in specs.values() for axis in range(len(spec.shape))]


def _knowing(place: tuple[InputSpec, int]) -> tuple[bool, bool, int]:
    """Sort key: which of several axes of one name tells best what the name stands for.

    Inputs with a batch axis come before those that are given whole; of their axes, the batch axes come first;
    then it is up to the input with fewer axes.
    """
    spec, axis = place
    return spec.batch_axis is None, axis != _batch_axis(spec), len(spec.shape)


def _default(spec: InputSpec, named: dict[str, Sizes]) -> ShapeRange:
    sizes = [
        (dim,) * 3 if isinstance(dim, int) else named[dim] if dim is not None else _usual(spec, axis)
        for axis, dim in enumerate(spec.shape)
    ]
    low, opt, high = (tuple(each[i] for each in sizes) for i in range(3))
    return ShapeRange(spec.name, low, opt, high)


def _batch_axis(spec: InputSpec) -> int:
    return 0 if spec.batch_axis is None else spec.batch_axis


def _usual(spec: InputSpec, axis: int) -> Sizes:
    if axis == _batch_axis(spec):
        return BATCH
    rank = len(spec.shape)
    return SEQUENCE if rank < 4 else PICTURE if rank == 4 else VOLUME
