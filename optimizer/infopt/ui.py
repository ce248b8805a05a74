"""What a run tells while it works; silent unless somebody listens."""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """Hears of a run's progress."""

    def stage(self, text: str) -> None:
        """A new stage begins."""
        ...

    def progress(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` units of the stage are through."""
        ...

    def remark(self, text: str) -> None:
        """A detail, for those who want to see what was done."""
        ...


class Silent:
    """Listens to nothing; for Python callers."""

    def stage(self, text: str) -> None:
        """Ignore."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Ignore."""

    def remark(self, text: str) -> None:
        """Ignore."""
