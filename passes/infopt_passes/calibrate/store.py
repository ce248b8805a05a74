"""Statistics on disk: reused when the same model has seen the same data, and picked up again after a run was killed.

The folder is ``$INFOPT_CACHE``, else ``infopt`` below ``$XDG_CACHE_HOME`` or ``~/.cache``; ``INFOPT_CACHE=off`` keeps
nothing. A file that is damaged or cannot be written is as good as none: nothing here ever fails a run.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from infopt.cache import cache_folder as folder_of
from infopt_passes.calibrate.histogram import Histogram
from infopt_passes.calibrate.observers import Extremes

LARGEST = 256 << 20
"""Bytes that the folder may hold; the files that were not used for longest go first."""

SECONDS_BETWEEN_CHECKPOINTS = 15.0

State = Extremes | Histogram
States = dict[str, State]

_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a calibration is.

    Attributes:
        done: State by tensor, of those that have seen all samples.
        partial: State by tensor, of those that are being observed.
        runs: Runs of the model that ``partial`` has seen.
    """

    done: States = field(default_factory=dict)
    partial: States = field(default_factory=dict)
    runs: int = 0


@dataclass(slots=True)
class Store:
    """The files of one calibration.

    Attributes:
        folder: Where they lie; ``None`` keeps nothing.
        key: What tells this calibration from others.
        written: When a checkpoint was last written.
    """

    folder: Path | None
    key: str
    written: float = field(default_factory=time.monotonic)

    def load(self) -> Progress:
        """What is known already: everything, a checkpoint, or nothing."""
        if self.folder is None:
            return Progress()
        for path in (self._path("npz"), self._path("part.npz")):
            found = _read(path)
            if found is not None:
                with suppress(OSError):
                    os.utime(path)
                return found
        return Progress()

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self.folder is not None and time.monotonic() - self.written >= SECONDS_BETWEEN_CHECKPOINTS

    def checkpoint(self, progress: Progress) -> None:
        """Write how far the calibration is."""
        self._write(self._path("part.npz"), progress)
        self.written = time.monotonic()

    def finish(self, progress: Progress) -> None:
        """Write the statistics, and remove the checkpoint."""
        self._write(self._path("npz"), progress)
        if self.folder is not None:
            with suppress(OSError):
                self._path("part.npz").unlink(missing_ok=True)
                _prune(self.folder)

    def _path(self, suffix: str) -> Path:
        return (self.folder or Path()) / f"{self.key}.{suffix}"

    def _write(self, path: Path, progress: Progress) -> None:
        if self.folder is None:
            return
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    np.savez_compressed(file, **_packed(progress))
                Path(name).replace(path)
            finally:
                Path(name).unlink(missing_ok=True)


def cache_folder() -> Path | None:
    """Where statistics are kept, or ``None``."""
    return folder_of("calibration")


def key_of(parts: Mapping[str, Any]) -> str:
    """A hash of what statistics depend on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:40]


def _packed(progress: Progress) -> dict[str, Any]:
    states = [*progress.done.items(), *progress.partial.items()]
    kind = "histogram" if any(isinstance(state, Histogram) for _, state in states) else "extremes"
    head = {"kind": kind, "runs": progress.runs, "done": list(progress.done), "partial": list(progress.partial)}
    arrays: dict[str, Any] = {"head": np.array(json.dumps(head))}
    for i, (_, state) in enumerate(states):
        if isinstance(state, Histogram):
            arrays[f"counts{i}"] = state.counts
            arrays[f"rest{i}"] = np.array([state.exponent, state.low, state.high])
        else:
            rows = [state.lows, state.highs, state.low_sums, state.high_sums]
            arrays[f"rows{i}"] = np.stack(rows)
            arrays[f"rest{i}"] = np.array([state.samples])
    return arrays


def _read(path: Path) -> Progress | None:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            head = json.loads(str(file["head"]))
            names = [*head["done"], *head["partial"]]
            states = [_unpacked(file, i, head["kind"]) for i in range(len(names))]
    except _DAMAGE:
        return None
    found = dict(zip(names, states, strict=True))
    done = {name: found[name] for name in head["done"]}
    return Progress(done, {name: found[name] for name in head["partial"]}, int(head["runs"]))


def _unpacked(file: Any, i: int, kind: str) -> State:
    rest = file[f"rest{i}"]
    if kind == "histogram":
        return Histogram(int(rest[0]), file[f"counts{i}"], float(rest[1]), float(rest[2]))
    return Extremes(int(rest[0]), *file[f"rows{i}"])


def _prune(folder: Path) -> None:
    files = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)
    size = sum(path.stat().st_size for path in files)
    while files and size > LARGEST:
        oldest = files.pop(0)
        size -= oldest.stat().st_size
        oldest.unlink(missing_ok=True)
