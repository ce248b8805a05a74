"""``profile.json``: what each sample of some data was like, in sketches that can be merged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from infopt.codec import decode
from infopt.data import InputSpec
from infopt.documents import Document
from infopt.drifting.describe import VALUES, Facts, Key
from infopt.drifting.sketch import K, Sketch, Tally
from infopt.errors import InputError
from infopt.model import Range

SCHEMA = "infopt.profile/1"
FILE_NAME = "profile.json"
AGAIN = "run infopt quantize again"
DOCUMENT = Document(SCHEMA, FILE_NAME, AGAIN)

TOGETHER = 256
"""Numbers that a sketch takes in at once: one by one takes longer than the model."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What some data were like.

    Attributes:
        model: Sha256 of the model that the user gave.
        graph: Sha256 of the graph that was made of it; the profile's outputs and tensors are this graph's.
        calib: What the ranges come from: ``samples`` and ``sha256``, if anything.
        ranges: Range by quantized tensor.
        inputs: The inputs, as samples were read.
        preprocess: What was done to pictures, as ``preprocess.toml`` holds it.
        samples: Samples that were looked at.
        units: How many of them are independent: samples of a group are not.
        sketches: Numbers by what they say.
        tallies: Counts by what is counted.
        notes: What is missing, and why.
    """

    model: str
    graph: str | None = None
    calib: Mapping[str, Any] | None = None
    ranges: Mapping[str, Range] | None = None
    inputs: tuple[InputSpec, ...] = ()
    preprocess: Mapping[str, Any] | None = None
    samples: int = 0
    units: int = 0
    sketches: Mapping[Key, Sketch] | None = None
    tallies: Mapping[Key, Tally] | None = None
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """The contents of ``profile.json``."""
        return json.dumps(_encoded(self), indent=1, allow_nan=False) + "\n"


class Recorder:
    """Gathers what samples are like, one after the other, in the memory of its sketches."""

    def __init__(self, size: int = K) -> None:
        self.samples = 0
        self._size = size
        self._sketches: dict[Key, Sketch] = {}
        self._waiting: dict[Key, list[float]] = {}
        self._tallies: dict[Key, Tally] = {}
        self._groups: set[str] = set()

    def add(self, of: str, name: str, facts: Facts) -> None:
        """Take in what is known of a tensor of a sample."""
        for (part, what), number in facts.numbers.items():
            self._add(Key(of, name, part, what), [number])
        for part, numbers in facts.values.items():
            self._add(Key(of, name, part, VALUES), numbers.tolist())
        for what, items in facts.items.items():
            self._tallies.setdefault(Key(of, name, "", what), Tally()).add(items)

    def count(self, group: object = None) -> None:
        """A sample is through; the ones of a group count as one."""
        self.samples += 1
        self._groups.add(repr(self.samples if group is None else group))

    def into(self, profile: Profile) -> Profile:
        """A profile with what was gathered."""
        for key in self._waiting:
            self._take(key)
        return replace(
            profile, samples=self.samples, units=len(self._groups), sketches=self._sketches, tallies=self._tallies
        )

    def _add(self, key: Key, numbers: list[float]) -> None:
        waiting = self._waiting.setdefault(key, [])
        waiting += numbers
        if len(waiting) >= TOGETHER:
            self._take(key)

    def _take(self, key: Key) -> None:
        self._sketches.setdefault(key, Sketch(size=self._size)).add(np.array(self._waiting[key]))
        self._waiting[key] = []


def merge(first: Profile, *others: Profile) -> Profile:
    """One profile of the data of several, as if one process had seen them all.

    Args:
        first: Gives what is not counted: the model, its ranges, its calibration data.
        others: Profiles of the same graph. A group that several of them saw counts in each.

    Raises:
        InputError: One is of another model.
    """
    merged = first
    for other in others:
        if (other.model, other.graph) != (first.model, first.graph):
            raise InputError("profiles of different models cannot be merged", "merge those of one model.onnx")
        merged = replace(
            merged,
            samples=merged.samples + other.samples,
            units=merged.units + other.units,
            sketches=_together(merged.sketches or {}, other.sketches or {}),
            tallies=_together(merged.tallies or {}, other.tallies or {}),
            notes=tuple(dict.fromkeys((*merged.notes, *other.notes))),
        )
    return merged


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Args:
        path: A ``profile.json``, or the output directory that holds one.

    Raises:
        InputError: There is none, it is damaged, older than sketches, newer than this infopt, or holds no samples.
    """
    file, held = DOCUMENT.read(path)
    if "sketches" not in held:
        raise InputError(f"{file} was made before infopt kept sketches in it", AGAIN)
    try:
        profile = _decoded(held)
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file} is not a whole profile ({error!r})", AGAIN) from error
    if profile.samples and not 0 < profile.units <= profile.samples:
        raise InputError(f"{file} is damaged: {profile.units} independent of {profile.samples} samples", AGAIN)
    ranges = profile.ranges or {}
    lacking = {key.name for key in profile.sketches or {} if key.of == "tensor" and not _ranged(key.name, ranges)}
    if lacking:
        raise InputError(f"{file} is damaged: it has no range of {', '.join(sorted(lacking)[:3])}", AGAIN)
    if profile.samples <= 0:
        why = "; ".join(profile.notes) or "nothing was calibrated"
        raise InputError(f"{file} holds no samples: {why}", "quantize with real calibration samples")
    return profile


def _ranged(name: str, ranges: Mapping[str, Range]) -> bool:
    """Whether a tensor's range is known; an output's got another name in the quantized graph."""
    return name in ranges or name.removesuffix(":float") in ranges


def _together(one: Mapping[Key, Any], two: Mapping[Key, Any]) -> dict[Key, Any]:
    """What both hold merged, and what either holds."""
    result = {**one, **two}
    return result | {key: one[key].merged(two[key]) for key in one.keys() & two.keys()}


def _encoded(profile: Profile) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "model": profile.model,
        "graph": profile.graph,
        "calib": profile.calib,
        "ranges": {name: asdict(known) for name, known in (profile.ranges or {}).items()},
        "inputs": [_encoded_input(spec) for spec in profile.inputs],
        "preprocess": profile.preprocess,
        "samples": profile.samples,
        "units": profile.units,
        "sketches": [{**key._asdict(), **each.to_json()} for key, each in (profile.sketches or {}).items()],
        "tallies": [{**key._asdict(), **each.to_json()} for key, each in (profile.tallies or {}).items()],
        "notes": list(profile.notes),
    }


def _encoded_input(spec: InputSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype.name, "shape": list(spec.shape), "batch_axis": spec.batch_axis}


def _decoded(held: dict[str, Any]) -> Profile:
    return Profile(
        decode(str, held["model"], "model"),
        decode(str | None, held["graph"], "graph"),
        decode(dict[str, Any] | None, held["calib"], "calib"),
        decode(dict[str, Range], held["ranges"], "ranges"),
        tuple(_decoded_input(each) for each in held["inputs"]),
        decode(dict[str, Any] | None, held["preprocess"], "preprocess"),
        decode(int, held["samples"], "samples"),
        decode(int, held["units"], "units"),
        {_key(each): Sketch.from_json(each) for each in held["sketches"]},
        {_key(each): Tally.from_json(each) for each in held["tallies"]},
        tuple(str(note) for note in held["notes"]),
    )


def _key(held: Mapping[str, Any]) -> Key:
    return Key(*(decode(str, held[name], name) for name in Key._fields))


def _decoded_input(held: Mapping[str, Any]) -> InputSpec:
    import ml_dtypes

    name = decode(str, held["dtype"], "dtype")
    dtype = np.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else np.dtype(name)
    shape = tuple(decode(int | str | None, size, "shape") for size in held["shape"])
    axis = decode(int | None, held["batch_axis"], "batch_axis")
    if axis is not None and not 0 <= axis < len(shape):
        raise ValueError(f"batch axis {axis} of a rank {len(shape)}")
    return InputSpec(decode(str, held["name"], "name"), dtype, shape, axis)
