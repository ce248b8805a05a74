"""What users can get out of a graph beyond what infopt does itself."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Advising(Protocol):
    """What a target has besides, if it knows of such things."""

    def advice(self, graph: Path) -> str | None:
        """What a user can do about an ONNX file that was compiled; ``None`` where there is nothing to say."""
        ...
