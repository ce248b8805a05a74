"""Raw numbers in a JSON file: rows are measured once, written down at once, and replaced when their key changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from infopt.codec import decode, encode
from infopt.manifest import sha256_source

from .zoo import ROOT


class Row(Protocol):
    """A row of a table; ``key`` changes with whatever may change its numbers."""

    @property
    def model(self) -> str: ...

    @property
    def target(self) -> str: ...

    @property
    def variant(self) -> str: ...

    @property
    def key(self) -> str: ...


R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class Raw:
    """A whole file; a subclass adds what was measured on, and a tuple of rows for each of its tables."""

    TABLES: ClassVar[Mapping[type, str]] = {}
    """The field of each kind of row."""

    def with_rows(self, rows: list[Any]) -> Self:
        """The same with rows added; one replaces that of the same model, target and variant."""
        measured = self
        for row in rows:
            name = self.TABLES[type(row)]
            known = {identity(old): old for old in getattr(measured, name)} | {identity(row): row}
            changed: dict[str, Any] = {name: tuple(known.values())}
            measured = replace(measured, **changed)
        return measured

    def find(self, row: R) -> R | None:
        """The row of the same model, target and variant."""
        rows = getattr(self, self.TABLES[type(row)])
        return next((old for old in rows if identity(old) == identity(row)), None)


F = TypeVar("F", bound=Raw)


def identity(row: Row) -> tuple[str, str, str]:
    """What a table has one number of."""
    return row.model, row.target, row.variant


def read(kind: type[F], path: Path) -> F:
    """Read a file of raw numbers."""
    measured: F = decode(kind, json.loads(path.read_text(encoding="utf-8")), "")
    return measured


@dataclass
class Store(Generic[F]):
    """The file while it is being filled.

    Attributes:
        path: The file; ``None`` keeps nothing.
        measured: What is known.
        fresh: Measure what is known too.
    """

    path: Path | None
    measured: F
    fresh: bool = False

    def add(self, row: R, measure: Callable[[R], R], again: bool = False) -> R:
        """The row with its numbers: those that are known for its key, else measured and written down.

        Args:
            row: The row without its numbers.
            measure: Adds them.
            again: Measure even if they are known.
        """
        known = self.measured.find(row)
        if known is not None and known.key == row.key and not (self.fresh or again):
            return known
        done = measure(row)
        self.measured = self.measured.with_rows([done])
        if self.path is not None:
            self.path.write_text(json.dumps(encode(asdict(self.measured)), indent=1) + "\n", encoding="utf-8")
        return done


def sources_sha256() -> str:
    """A hash of infopt's sources: numbers of other sources are not its own."""
    import hashlib

    files = sorted(file for folder in ("optimizer", "passes") for file in (ROOT / folder).rglob("*.py"))
    return hashlib.sha256("".join(map(sha256_source, files)).encode()).hexdigest()[:16]


def today() -> str:
    """The date, in UTC."""
    return datetime.now(UTC).date().isoformat()
