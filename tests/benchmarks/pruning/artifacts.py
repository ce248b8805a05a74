"""Artifacts that are kept between runs, in the setting that runs fastest here."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from infopt.bench import interleave
from infopt.data import Feed
from infopt.errors import InfoptError
from infopt.flops import flops
from infopt.manifest import sha256_files
from infopt.model import load
from infopt.opened import Subject, subject
from infopt.sparsity import compressed_bytes

RACE_SECONDS = 1.5
"""Time to choose among the settings of a runtime."""

FLOAT = "float"
"""Folder of the model as it came."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Where the artifacts of a model for a target are.

    Attributes:
        folder: One folder below it for each variant.
        target: Name of the target.
    """

    folder: Path
    target: str

    def path(self, variant: str) -> Path:
        """The output directory of a variant."""
        return self.folder / self.target / re.sub(r"[^\w.:=]+", "-", variant)

    def there(self, variant: str) -> bool:
        """Whether a variant was made."""
        return (self.path(variant) / "manifest.json").exists()


@dataclass(frozen=True, slots=True)
class Facts:
    """What is counted in an artifact.

    Attributes:
        flops: Operations of a run.
        parameters: Parameters.
        compressed: Bytes of its files, deflated.
    """

    flops: int | None
    parameters: int
    compressed: int

    @staticmethod
    def of(artifact: Subject, feed: Feed) -> Facts:
        """Count what an artifact has."""
        model = load(artifact.artifact.graph)
        operations = flops(model.graph, {name: array.shape for name, array in feed.items()})
        return Facts(operations, model.parameters, compressed_bytes(artifact.artifact.files))


def settled(path: Path, feed: Feed, name: str | None = None) -> tuple[Subject, str]:
    """An artifact in one of its runtime's settings, and the name of that.

    Args:
        path: The output directory.
        feed: What to run it on.
        name: The setting; without it the fastest is found out.
    """
    found = subject(path)
    kind = "int8" if load(found.artifact.graph).quantized_nodes() else "float"
    settings = found.target.settings(kind)
    chosen = {name: settings[name]} if name in settings else settings
    sides = {each: replace(found, artifact=replace(found.artifact, settings=s)) for each, s in chosen.items()}
    best = next(iter(sides)) if len(sides) == 1 else _fastest(sides, feed)
    return sides[best], best


def _fastest(sides: dict[str, Subject], feed: Feed) -> str:
    with ExitStack() as stack:
        runs = {}
        for name, side in sides.items():
            try:
                session = stack.enter_context(side.open())
                session.run(feed)
            except InfoptError:
                continue
            runs[name] = partial(session.run, feed)
        seen = interleave(runs, seconds=RACE_SECONDS)
    return min(seen, key=lambda name: float(np.median(seen[name])))


def sha256(artifact: Subject) -> str:
    """A hash of an artifact with its settings."""
    return f"{sha256_files(artifact.artifact.files)[:16]} {dict(artifact.artifact.settings)}"
