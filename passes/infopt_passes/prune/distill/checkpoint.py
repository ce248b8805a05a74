"""How far a distillation is, on disk: an interrupted one goes on from there.

The file lies in infopt's cache folder under a key of all that the result depends on, so that nothing else can be taken
for it; it is replaced atomically and removed at the end. One that is damaged or cannot be written is as good as none.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

SECONDS_BETWEEN = 15.0

_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError)


@dataclass(slots=True)
class Checkpoint:
    """The file of one distillation.

    Attributes:
        folder: Where it lies; ``None`` keeps nothing.
        key: What tells this distillation from others.
        written: When it was last written.
    """

    folder: Path | None
    key: str
    written: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        """The file."""
        return (self.folder or Path()) / f"{self.key}.pt"

    def load(self) -> dict[str, Any] | None:
        """What was saved last; ``None`` where nothing usable is there."""
        if self.folder is None or not self.path.is_file():
            return None
        with suppress(*_DAMAGE):
            found = torch.load(self.path, weights_only=True)
            return found if isinstance(found, dict) else None
        return None

    def save(self, state: dict[str, Any], force: bool = False) -> None:
        """Write the state, where it is time for that."""
        if self.folder is None or (not force and time.monotonic() - self.written < SECONDS_BETWEEN):
            return
        self.written = time.monotonic()
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    torch.save(state, file)
                Path(name).replace(self.path)
            finally:
                Path(name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the file."""
        if self.folder is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
