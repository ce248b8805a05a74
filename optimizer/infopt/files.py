"""Text files that a user asked for by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infopt.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

STDOUT = "-"
"""Stands for standard output where a path may be given."""


def write_text(path: Path, text: str, flag: str = "", protect: Iterable[Path | None] = ()) -> None:
    """Write a file.

    Args:
        path: Where.
        text: What.
        flag: The option that named it, for the message: ``"--junit"``.
        protect: What was read, see :func:`check_not_read`.

    Raises:
        OutputError: It cannot be written, or it is one of the files that were read.
    """
    check_not_read(path, flag, protect)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}", _remedy(flag)) from error


def check_not_read(path: Path, flag: str, protect: Iterable[Path | None]) -> None:
    """See to it that an answer does not replace what it is about.

    Args:
        path: Where the answer would go.
        flag: The option that named it.
        protect: Files and directories that were read. Of an output directory of infopt the files are protected that
            infopt wrote, of any other one every file.

    Raises:
        OutputError: It would replace one of these files, by whatever name.
    """
    if not path.exists():
        return
    for source in protect:
        if source is not None and source.exists() and _holds(source, path):
            raise OutputError(f"{path} was read and would be overwritten", _remedy(flag))


def _holds(source: Path, path: Path) -> bool:
    """Whether a path is a file that was read, or lies in a directory that was."""
    if path.samefile(source):
        return path.is_file()
    if not source.is_dir() or path.is_dir():
        return False
    from infopt.manifest import NAME, read_manifest

    try:
        found = read_manifest(source)
    except InputError:
        return path.resolve().is_relative_to(source.resolve())
    names = (NAME, *found.outputs, *found.record.files)
    return any((source / name).exists() and path.samefile(source / name) for name in names)


def _remedy(flag: str) -> str:
    return f"give another path to {flag}" if flag else ""
