"""Text files that a user asked for by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infopt.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

STDOUT = "-"
"""Stands for standard output where a path may be given."""


def write_text(path: Path, text: str, flag: str = "") -> None:
    """Write a file.

    Args:
        path: Where.
        text: What.
        flag: The option that named it, for the message: ``"--junit"``.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        remedy = f"give another path to {flag}" if flag else ""
        raise OutputError(f"cannot write {path}: {error.strerror or error}", remedy) from error
