"""Statistics that are kept, reused and picked up again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from infopt.data import infer_batch_axes, open_samples
from infopt.errors import DataError
from infopt.model import Model, input_specs, load, save
from infopt.passes import CalibrationSet, Context
from infopt_passes.calibrate import calibration, store
from infopt_passes.calibrate.calibration import calibrate
from infopt_passes.calibrate.identity import identity
from infopt_passes.calibrate.observers import MAKERS, Extremes, Spans, observer
from infopt_passes.calibrate.store import Progress, Store, cache_folder

NET = """(float[N,8] x) => (float[N,8] y) { a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, v) }"""
WEIGHTS = {"w": (8, 8), "v": (8, 8)}
NAMES = ["x", "a", "b", "y"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, for one test."""
    monkeypatch.setenv("INFOPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "calibration"


@pytest.fixture
def context(build: Any, tmp_path: Path) -> Context:
    """A context with samples of a file."""
    return from_file(build(NET, **WEIGHTS), tmp_path)


def from_file(model: Model, folder: Path, seed: int = 0, count: int = 12, samples: int | None = None) -> Context:
    data = folder / "data" / "calib.npz"
    data.parent.mkdir(exist_ok=True)
    np.savez(data, x=np.random.default_rng(seed).standard_normal((count, 8), np.float32))
    inputs = infer_batch_axes(input_specs(model.graph), {})
    work = folder / "work"
    work.mkdir(exist_ok=True)
    chosen = CalibrationSet(open_samples(data, inputs, None), tuple(range(samples or count)), inputs)
    return Context(work, calibration=chosen)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is opened to calibrate, from here on."""
    calls, original = [], calibration.opened

    def spying(graph: Any, workdir: Any, settings: Any) -> Any:
        calls.append(graph.graph.outputs[0].name)
        return original(graph, workdir, settings)

    monkeypatch.setattr(calibration, "opened", spying)
    return calls


def same(one: dict[str, Spans], other: dict[str, Spans]) -> bool:
    rows = ("lows", "highs", "smallest", "largest")
    return one.keys() == other.keys() and all(
        np.array_equal(getattr(one[name], row), getattr(other[name], row)) for name in one for row in rows
    )


@pytest.mark.parametrize("kind", list(MAKERS))
def test_a_second_calibration_runs_nothing(
    build: Any, context: Context, folder: Path, opened: list[str], kind: str
) -> None:
    model = build(NET, **WEIGHTS)
    first = calibrate(model, NAMES, observer(kind), context)
    assert opened.pop()
    assert [path.suffixes for path in folder.iterdir()] == [[".npz"]]
    assert same(calibrate(model, NAMES, observer(kind), context), first)
    assert opened == []


def test_observers_of_one_kind_share_what_they_saw(
    build: Any, context: Context, folder: Path, opened: list[str]
) -> None:
    model = build(NET, **WEIGHTS)
    calibrate(model, NAMES, observer("percentile", 99.0), context)
    opened.clear()
    kept = calibrate(model, NAMES, observer("entropy"), context)
    assert opened == []
    for path in folder.iterdir():
        path.unlink()
    assert same(calibrate(model, NAMES, observer("entropy"), context), kept)


def test_tensors_that_were_not_seen_yet_are_added(
    build: Any, context: Context, folder: Path, opened: list[str]
) -> None:
    model = build(NET, **WEIGHTS)
    calibrate(model, ["x", "b"], observer("minmax"), context)
    calibrate(model, NAMES, observer("minmax"), context)
    assert opened == ["ReduceMin:x:value", "ReduceMin:a:value"]
    calibrate(model, NAMES, observer("minmax"), context)
    assert len(opened) == 2


def test_what_statistics_depend_on_changes_their_key(build: Any, tmp_path: Path) -> None:
    model, chosen = build(NET, **WEIGHTS), observer("minmax")
    context = from_file(model, tmp_path)
    other_weight = build(NET, w=np.eye(8, dtype=np.float32), v=(8, 8))
    other_graph = build(NET.replace("Relu", "Sigmoid"), **WEIGHTS)
    keys = [
        identity(model, chosen, context.calibration, {}),  # type: ignore[arg-type]
        identity(other_weight, chosen, context.calibration, {}),  # type: ignore[arg-type]
        identity(other_graph, chosen, context.calibration, {}),  # type: ignore[arg-type]
        identity(model, observer("mse"), context.calibration, {}),  # type: ignore[arg-type]
        identity(model, chosen, context.calibration, {"a": 1}),  # type: ignore[arg-type]
        identity(model, chosen, from_file(model, tmp_path, samples=11).calibration, {}),  # type: ignore[arg-type]
        identity(model, chosen, from_file(model, tmp_path, seed=1).calibration, {}),  # type: ignore[arg-type]
    ]
    assert len(set(keys)) == len(keys)


def test_the_key_does_not_depend_on_where_things_lie(build: Any, tmp_path: Path) -> None:
    keys = set()
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        model = build(NET, **WEIGHTS)
        ir.save(model.graph, tmp_path / place / "m.onnx", external_data="m.data", size_threshold_bytes=0)
        context = from_file(model, tmp_path / place)
        assert context.calibration is not None
        keys.add(identity(load(tmp_path / place / "m.onnx"), observer("minmax"), context.calibration, {}))
    assert len(keys) == 1


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", "half", "flipped"])
def test_a_damaged_file_is_ignored(
    build: Any, context: Context, folder: Path, opened: list[str], damage: bytes | str
) -> None:
    model = build(NET, **WEIGHTS)
    first = calibrate(model, NAMES, observer("percentile"), context)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    flipped = whole[:200] + bytes(255 - byte for byte in whole[200:400]) + whole[400:]
    path.write_bytes({"half": whole[: len(whole) // 2], "flipped": flipped}.get(str(damage), damage))  # type: ignore[arg-type]
    opened.clear()
    assert same(calibrate(model, NAMES, observer("percentile"), context), first)
    assert opened
    assert same(calibrate(model, NAMES, observer("percentile"), context), first)


def test_a_folder_that_cannot_be_written_is_no_error(
    build: Any, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("INFOPT_CACHE", str(tmp_path / "file"))
    assert calibrate(build(NET, **WEIGHTS), NAMES, observer("minmax"), context)


def test_the_oldest_files_go_when_the_folder_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = np.zeros(1)
    state = Extremes(1, row, row, row, row)
    for number in range(5):
        Store(tmp_path, f"key{number}").finish(Progress({"t": state}))
        os.utime(tmp_path / f"key{number}.npz", (number, number))
    size = (tmp_path / "key0.npz").stat().st_size
    monkeypatch.setattr(store, "LARGEST", 3 * size)
    assert Store(tmp_path, "key0").load().done  # used just now
    Store(tmp_path, "new").finish(Progress({"t": state}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key0.npz", "key4.npz", "new.npz"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"INFOPT_CACHE": "off"}, None),
        ({"INFOPT_CACHE": "/somewhere"}, "/somewhere/calibration"),
        ({"INFOPT_CACHE": "", "XDG_CACHE_HOME": "/cache"}, "/cache/infopt/calibration"),
        ({"INFOPT_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/home/me"}, "/home/me/.cache/infopt/calibration"),
    ],
)
def test_where_statistics_are_kept(
    variables: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == (Path(expected) if expected else None)


def test_nothing_is_written_when_it_is_off(build: Any, context: Context, tmp_path: Path) -> None:
    calibrate(build(NET, **WEIGHTS), NAMES, observer("minmax"), context)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "data" / "calib.npz"]


def test_a_fault_is_not_kept(build: Any, tmp_path: Path, folder: Path) -> None:
    model = build(NET.replace("Relu", "Log"), **WEIGHTS)
    context = from_file(model, tmp_path)
    for _ in range(2):
        with pytest.raises(DataError, match="first at node 'b'"):
            calibrate(model, NAMES, observer("minmax"), context)


class StoppedError(Exception):
    """What ends a calibration in a test."""


def interrupted(context: Context, after: int) -> Context:
    """A context whose calibration ends after so many runs, with a checkpoint after each."""

    def progress(what: str, done: int, total: int) -> None:
        if done > after:
            raise StoppedError

    return replace(context, progress=progress)


@pytest.mark.parametrize("memory", [10**9, 4 * 256, 4_000])
@pytest.mark.parametrize("kind", ["minmax", "mean-minmax", "entropy"])
def test_an_interrupted_calibration_goes_on_where_it_was(
    build: Any, context: Context, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, memory: int
) -> None:
    model, chosen = build(NET, **WEIGHTS), observer(kind)
    context = replace(context, memory=memory)
    whole = calibrate(model, NAMES, chosen, context)
    (kept,) = folder.iterdir()
    kept.unlink()
    monkeypatch.setattr(store, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    for after in (5, 9):
        with pytest.raises(StoppedError):
            calibrate(model, NAMES, chosen, interrupted(context, after))
    assert [path.name for path in folder.iterdir()] == [kept.name.replace(".npz", ".part.npz")]
    steps: list[int] = []
    resumed = calibrate(model, NAMES, chosen, replace(context, progress=lambda what, done, total: steps.append(done)))
    assert same(resumed, whole)
    assert [path.name for path in folder.iterdir()] == [kept.name]
    if memory == 10**9:
        assert steps[0] > 9


KILLED = """
import sys, time
from pathlib import Path
from tests.passes.test_calibration_store import from_file
from infopt.model import load
from dataclasses import replace
from infopt_passes.calibrate import store
from infopt_passes.calibrate.calibration import calibrate
from infopt_passes.calibrate.observers import observer
store.SECONDS_BETWEEN_CHECKPOINTS = 0.0
model = load(Path(sys.argv[1]) / "model.onnx")
context = from_file(model, Path(sys.argv[1]), count=200)
def slowly(what, done, total):
    print(done, flush=True)
    time.sleep(0.01)
calibrate(model, ["x", "a", "b", "y"], observer(sys.argv[2]), replace(context, progress=slowly))
"""


@pytest.mark.parametrize("kind", ["mean-minmax", "percentile"])
def test_a_killed_process_leaves_what_the_next_one_goes_on_from(
    build: Any, folder: Path, tmp_path: Path, kind: str
) -> None:
    save(build(NET, **WEIGHTS).graph, tmp_path / "model.onnx")
    model = load(tmp_path / "model.onnx")
    command = [sys.executable, "-c", KILLED, str(tmp_path), kind]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 60:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert [path for path in folder.iterdir() if path.name.endswith(".part.npz")]
    steps: list[int] = []
    context = from_file(model, tmp_path, count=200)
    start = time.perf_counter()
    resumed = calibrate(
        model, NAMES, observer(kind), replace(context, progress=lambda what, done, total: steps.append(done))
    )
    assert time.perf_counter() - start < 30
    assert 50 <= steps[0] < 200
    assert steps[-1] == 200
    for path in folder.glob("*.npz"):
        path.unlink()
    assert same(resumed, calibrate(model, NAMES, observer(kind), context))
