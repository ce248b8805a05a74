"""What the command lines of benchmarks that keep raw numbers have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from .raw import Raw, read
from .sheets import Sheet

F = TypeVar("F", bound=Raw)


def parser(package: str, doc: str | None, parts: Sequence[str], kept: Path) -> argparse.ArgumentParser:
    """The arguments that all have.

    Args:
        package: Name of the benchmark's package.
        doc: What it is for.
        parts: What can be measured alone.
        kept: File of the raw numbers that are in the repository.
    """
    result = argparse.ArgumentParser(prog=f"python -m tests.benchmarks.{package}", description=doc)
    result.add_argument("parts", nargs="*", choices=[[], *parts], help=f"what to measure: {', '.join(parts)}; all")
    result.add_argument(
        "--json", type=Path, default=kept, help="file of raw numbers; what is in it is not measured again"
    )
    result.add_argument("--from", type=Path, dest="source", help="measure nothing: print the tables of a file")
    result.add_argument("--readme", action="store_true", help="put the tables into README.md")
    result.add_argument("--fresh", action="store_true", help="measure what is known, too")
    return result


def printed(
    kind: type[F],
    given: argparse.Namespace,
    measure: Callable[[argparse.Namespace, Console], F],
    sheets: Callable[[F], Iterable[Sheet]],
) -> F:
    """Measure, or read what was measured, and print the tables."""
    console = Console(width=None if Console().is_terminal else 220)
    measured = read(kind, given.source) if given.source else measure(given, console)
    for sheet in sheets(measured):
        console.print(sheet.rich())
    console.print(f"raw numbers: {given.source or given.json}")
    return measured
