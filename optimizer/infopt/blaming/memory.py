"""What was found of a model before is remembered from run to run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infopt.cache import cache_folder


@dataclass(slots=True)
class Memo:
    """Noise by what was done to a model, kept from run to run; a cache that fails is as good as none.

    Attributes:
        path: The file; ``None`` keeps nothing.
        known: What it holds.
    """

    path: Path | None
    known: dict[str, float] = field(default_factory=dict)

    def get(self, what: str, measure: Callable[[], float]) -> float:
        """What is known, or measured now."""
        if what not in self.known:
            self.known[what] = measure()
            self._write()
        return self.known[what]

    def _write(self) -> None:
        if self.path is None:
            return
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".", suffix=".tmp")
            with os.fdopen(handle, "w") as file:
                json.dump(self.known, file)
            Path(name).replace(self.path)


def memo(parts: Sequence[object]) -> Memo:
    """The memory of everything that has these parts in common.

    Args:
        parts: What results depend on: hashes of models and of data, versions.
    """
    folder = cache_folder("blame")
    if folder is None:
        return Memo(None)
    key = hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:40]
    path = folder / f"{key}.json"
    try:
        content = json.loads(path.read_text())
        known = {str(name): float(value) for name, value in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        known = {}
    return Memo(path, known)
