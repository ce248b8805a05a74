"""Artifacts of infopt against those of the peers in the same runtime: who is faster at an equal loss.

For each model, runtime and batch size every peer's artifact counts in every runtime that reads it, with each setting
that its user would try, as long as it keeps half a point, or loses no more than infopt's. First all take turns to find
the fastest; then infopt's and the fastest peers' are measured again, and these numbers, which did not choose anybody,
are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from benchmarks.judging import drops, evaluation_samples
from benchmarks.subjects import unit

import infopt
from infopt import registry
from infopt.bench import Seconds, alternate, speedup
from infopt.data import Feed
from infopt.errors import RuntimeRefused
from infopt.opened import subject
from infopt.target import Artifact
from infopt_passes.quantize import Quantize

if TYPE_CHECKING:
    from benchmarks.zoo import PeerTools, ZooModel

PEERS = {
    "onnxruntime": ("ort-default", "ort-u8s8", "ort-dynamic", "nncf-onnx", "modelopt"),
    "openvino": ("nncf-ov", "ort-default", "ort-u8s8", "ort-dynamic", "nncf-onnx", "modelopt"),
}
SETTINGS: dict[str, dict[str, dict[str, str]]] = {
    "onnxruntime": {"": {}},
    "openvino": {
        "": {"PERFORMANCE_HINT": "LATENCY"},
        " f32": {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"},
    },
}
"""What a user of the runtime opens a peer's artifact with: its defaults, and OpenVINO's usual advice."""

SMALLER_DROP = 0.005
"""A peer whose drop is smaller by more than this is in another class."""

KEPT_DROP = 0.005
"""A peer that loses more than this, than one sample of the data set and than infopt, is not what anybody asked for."""

MIN_RATIO = 0.97
FINALISTS = 3
RACE = {"seconds": 0.6, "rounds": 4}
FINAL = {"seconds": 5.0, "rounds": 14}
"""Seconds of calls for each artifact, and turns that they are spread over."""

SAMPLES = 100
"""Calibration samples, as the peers have."""

METHOD = Quantize().method
"""What a user gets without asking."""


@dataclass(frozen=True)
class Entry:
    """An artifact with the setting that it is opened with, and what it loses against the original in float32."""

    name: str
    artifact: Artifact
    drop: float


def _peers(model: ZooModel, tools: PeerTools, runtime: str) -> list[Entry]:
    """Every peer's artifact in every setting that runs."""
    found = []
    with drops(model, tools.kept / model.name / "drops.json") as drop:
        for peer in PEERS[runtime]:
            path = tools.artifact(peer, model)
            if isinstance(path, str):
                print(f"    {peer}: made nothing: {path}")
                continue
            files = tuple(file for file in (path, path.with_suffix(".bin")) if file.exists())
            for suffix, settings in SETTINGS[runtime].items():
                artifact = Artifact(runtime, path, files, path, settings)
                try:
                    found.append(Entry(peer + suffix, artifact, drop(artifact)))
                except RuntimeRefused as refusal:
                    print(f"    {peer}{suffix}: does not run: {refusal}")
    return found


@contextmanager
def _runner(entry: Entry, feed: Feed) -> Iterator[Callable[[], object]]:
    with registry.target(entry.artifact.target).open(entry.artifact) as session:
        yield lambda: session.run(feed)


def _measured(entries: list[Entry], feed: Feed, plan: dict[str, float]) -> dict[str, Seconds]:
    openers = {entry.name: partial(_runner, entry, feed) for entry in entries}
    return alternate(openers, seconds=plan["seconds"] * len(entries), rounds=int(plan["rounds"]))


def _median(seconds: Seconds) -> float:
    return float(np.median(seconds)) * 1e3


def _row(entry: Entry, ours: Entry, most: float, seen: dict[str, Seconds]) -> str:
    ratio, interval = speedup(seen[entry.name], seen[ours.name])
    spread = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
    out = "" if entry.drop >= ours.drop - SMALLER_DROP else "  (loses less: another class)"
    out = out if entry.drop <= most else "  (loses too much)"
    return f"    {entry.name:18} drop {entry.drop:+.4f} {_median(seen[entry.name]):9.4f} ms  {ratio:.2f}x{spread}{out}"


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("runtime", PEERS)
def test_no_slower_than_the_fastest_peer_that_loses_no_less(
    model: ZooModel, peers: PeerTools, runtime: str, batch: int, tmp_path: Path
) -> None:
    print(f"\n{model.name} in {runtime}, batch {batch}")
    ours = _ours(model, runtime, batch, tmp_path / "out")
    feed = next(evaluation_samples(model).batches(batch)).feed
    most = max(KEPT_DROP, unit(model), ours.drop)
    finalists = _race(ours, _peers(model, peers, runtime), most, feed)
    if not finalists:
        pytest.skip(f"no peer's artifact loses {most:.2%} at most and yet no less than infopt's")
    seen = _measured([ours, *finalists], feed, FINAL)
    print(f"  final: infopt      drop {ours.drop:+.4f} {_median(seen[ours.name]):9.4f} ms")
    for entry in finalists:
        print(_row(entry, ours, most, seen))
    fastest = min(finalists, key=lambda entry: _median(seen[entry.name]))
    ratio, interval = speedup(seen[fastest.name], seen[ours.name])
    assert interval is not None
    print(f"  {fastest.name} over infopt {ratio:.3f} (bar {MIN_RATIO}, interval has to reach 1)")
    assert ratio >= MIN_RATIO
    assert interval[1] >= 1.0


def _ours(model: ZooModel, runtime: str, batch: int, out: Path) -> Entry:
    options = {**model.options, "method": METHOD, "samples": SAMPLES, "batch": batch}
    try:
        report = infopt.quantize(model.path, target=runtime, output=out, **options)
    except RuntimeRefused as refusal:
        pytest.skip(f"the runtime refuses the model: {refusal}")
    assert report.accuracy is not None
    artifact = subject(out).artifact
    print(f"    infopt: integer kernels {report.kernels.integer}/{report.kernels.total}, {dict(artifact.settings)}")
    return Entry("infopt", artifact, report.accuracy.drop)


def _race(ours: Entry, theirs: list[Entry], most: float, feed: Feed) -> list[Entry]:
    """The fastest peers' artifacts that lose so much at most, and do not lose less than infopt's."""
    seen = _measured([ours, *theirs], feed, RACE)
    for entry in theirs:
        print(_row(entry, ours, most, seen))
    equal = [entry for entry in theirs if ours.drop - SMALLER_DROP <= entry.drop <= most]
    return sorted(equal, key=lambda entry: _median(seen[entry.name]))[:FINALISTS]
