"""What it costs in latency that single layers are in float, measured in the target's own runtime."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from infopt.bench import Seconds, alternate
from infopt.errors import RuntimeRefused
from infopt.model import save
from infopt.target import CompileOptions, Target

if TYPE_CHECKING:
    from infopt.data import Feed
    from infopt.shapes import ShapeRange

SECONDS = 0.6
"""Time for the calls of each graph."""

ROUNDS = 6

Opener = Callable[[], AbstractContextManager[Callable[[], object]]]


def prices(
    target: Target,
    whole: ir.Model,
    spared: Mapping[str, ir.Model],
    feed: Feed,
    options: tuple[Mapping[str, str], tuple[ShapeRange, ...], Path],
) -> dict[str, float]:
    """Milliseconds that a call takes longer, by name; measured in turns. Graphs that the runtime refuses are left out.

    Args:
        target: Compiles and runs; it can be run here.
        whole: The quantized model.
        spared: The model with a layer in float, by name.
        feed: What one call takes.
        options: Settings of the artifact, ranges of its shapes, folder for files that only live during the run.
    """
    folder = Path(tempfile.mkdtemp(prefix="price-", dir=options[2]))
    openers: dict[str, Opener] = {}
    try:
        for i, (name, graph) in enumerate({"": whole, **spared}.items()):
            try:
                openers[name] = _opener(target, graph, folder / str(i), feed, options)
            except RuntimeRefused:
                if not name:
                    return {}
        seconds = alternate(openers, seconds=SECONDS * len(openers), rounds=ROUNDS)
    except RuntimeRefused:
        return {}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {name: _longer(each, seconds[""]) for name, each in seconds.items() if name}


def _longer(spared: Seconds, whole: Seconds) -> float:
    """By how many ms the median of a turn is longer; 0 where the turns do not agree on that."""
    turns = (np.median(spared, axis=1) - np.median(whole, axis=1)) * 1e3
    middle = float(np.median(turns))
    doubt = 2 * 1.4826 * float(np.median(np.abs(turns - middle))) / np.sqrt(len(turns))
    return middle if abs(middle) > doubt else 0.0


def _opener(
    target: Target,
    graph: ir.Model,
    folder: Path,
    feed: Feed,
    options: tuple[Mapping[str, str], tuple[ShapeRange, ...], Path],
) -> Opener:
    folder.mkdir()
    save(graph, folder / "model.onnx")
    settings = options[0] or next(iter(target.settings("int8").values()))
    artifact = target.compile(folder / "model.onnx", folder, CompileOptions(settings, options[1]))

    @contextmanager
    def opened() -> Iterator[Callable[[], object]]:
        with target.open(artifact) as session:
            yield lambda: session.run(feed)

    return opened
