"""Renders a report again: as a page or as Markdown, from the ``report.json`` of any earlier run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from infopt.errors import OptionError
from infopt.output import staged_file
from infopt.report import FILE_NAME, Report, read_report
from infopt.views.html import html
from infopt.views.markdown import markdown


def render_file(source: Path, output: Path, force: bool = False) -> Path:
    """Write a report as ``.html`` or ``.md``.

    Args:
        source: A ``report.json`` or the output directory that holds it; a ``recipe.toml`` beside it is shown too.
        output: The file to write; its suffix says what.
        force: Replace an existing file.

    Returns:
        The file that was written.

    Raises:
        InputError: The report cannot be read, or the file not written.
    """
    views: dict[str, Callable[[Report], str]] = {
        ".html": lambda report: html(report, _recipe(source)),
        ".md": markdown,
    }
    view = views.get(output.suffix)
    if view is None:
        raise OptionError(f"{output} is neither .html nor .md", "give -o FILE.html or -o FILE.md")
    report = read_report(source)
    file = source / FILE_NAME if source.is_dir() else source
    with staged_file(output, overwrite=force, protect=(file,)) as staged:
        (staged / output.name).write_text(view(report), encoding="utf-8")
    return output


def _recipe(source: Path) -> str | None:
    """The recipe beside a report, as far as it is text."""
    file = (source if source.is_dir() else source.parent) / "recipe.toml"
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
