"""The verb ``diff``: reads two output directories and puts their differences together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infopt import __version__
from infopt import recipe as recipes
from infopt.diffing.graphs import compare_graphs
from infopt.diffing.measured import compare_kernels, compare_measured
from infopt.diffing.records import Diff, ValueChange
from infopt.diffing.scales import compare_scales
from infopt.errors import InputError, OptionError
from infopt.manifest import NAME, Manifest, read_manifest
from infopt.model import Model, load
from infopt.options import read_toml
from infopt.output import recover
from infopt.report import read_report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infopt.report import Report

PLACES = {
    "output": None,
    "model": "model",
    "calibration.data": "calib",
    "evaluation.data": "eval",
    "inputs.preprocess": "preprocess",
    "evaluation.metric": "metric",
}
"""Keys of a recipe that say where something lies, with the input whose contents the manifest knows."""


@dataclass(frozen=True, slots=True)
class Side:
    """An output directory, read."""

    path: Path
    manifest: Manifest
    report: Report
    graph: Model
    options: dict[str, Any]


def diff_directories(a: Path, b: Path) -> Diff:
    """What two output directories of infopt differ in.

    Weights are not loaded: those in files of their own are read in pieces where names, types and shapes agree.

    Args:
        a: The first directory.
        b: The second one.

    Returns:
        The differences.

    Raises:
        InputError: One is no output directory of infopt, or it is damaged.
    """
    first, second = _side(a), _side(b)
    inputs = tuple(_changes(first.manifest.inputs, second.manifest.inputs))
    options = tuple(_options(first, second))
    versions = tuple(_changes(_versions(first), _versions(second)))
    graph, scales = compare_graphs(first.graph, second.graph), compare_scales(first.graph, second.graph)
    return Diff(
        infopt=__version__,
        a=os.fspath(a),
        b=os.fspath(b),
        same=graph.same and not (inputs or options or versions or scales.changes),
        inputs=inputs,
        options=options,
        versions=versions,
        environment=tuple(_changes(_environment(first), _environment(second))),
        graph=graph,
        scales=scales,
        kernels=compare_kernels(first.report, second.report),
        measured=tuple(compare_measured(first.report, second.report)),
    )


def _side(path: Path) -> Side:
    if not path.is_dir():
        raise InputError(f"{path} is not a directory", "give two output directories of infopt")
    recover(path)
    if not (path / NAME).exists():
        raise InputError(f"{path} is not an output directory of infopt", f"there is no {NAME} in it")
    manifest = read_manifest(path)
    report, graph = read_report(path), load(path / manifest.graph)
    return Side(path, manifest, report, graph, _recipe(path / "recipe.toml"))


def _recipe(path: Path) -> dict[str, Any]:
    """The keys of a recipe file with their values; one of another version is taken as it stands.

    Raises:
        OptionError: It cannot be read or is not TOML.
    """
    try:
        table = recipes.to_table(recipes.load(path))
    except OptionError:
        table = read_toml(path, "recipe")
    return dict(_flat(table))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif key == "pass" and isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
            yield from _passes(value)
        else:
            yield prefix + key, value


def _passes(listed: list[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Options of passes by the pass's name; the order is a key of its own."""
    names = [str(each.get("use")) for each in listed]
    yield "pass", names
    for index, (name, each) in enumerate(zip(names, listed, strict=True)):
        again = names[:index].count(name)
        place = f"{name} #{again + 1}" if again else name
        yield from ((f"pass {place}.{key}", value) for key, value in each.items() if key != "use")


def _options(a: Side, b: Side) -> Iterator[ValueChange]:
    """Options that differ; a file that lies elsewhere is the same file if its contents are."""
    inputs = [side.manifest.inputs for side in (a, b)]
    for change in _changes(a.options, b.options):
        known = PLACES.get(change.key, "")
        if known is None or (known and known in inputs[0] and inputs[0].get(known) == inputs[1].get(known)):
            continue
        yield change


def _versions(side: Side) -> dict[str, str]:
    target = side.report.target
    facts = {"target": side.manifest.target, "infopt": side.manifest.infopt}
    return {**facts, **({"runtime": f"{target.runtime} {target.version}"} if target else {}), **side.manifest.versions}


def _environment(side: Side) -> dict[str, Any]:
    record = side.manifest.record
    known = {key: value for key, value in record.environment.items() if key not in side.manifest.versions}
    device = {"device": side.report.target.device} if side.report.target else {}
    return {**known, **device, **{f"setting {key}": value for key, value in record.settings.items()}}


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[ValueChange]:
    for key in dict.fromkeys((*a, *b)):
        if a.get(key) != b.get(key):
            yield ValueChange(key, a.get(key), b.get(key))
