"""What the commands share: where text goes, how progress is shown, how a report is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infopt.errors import OptionError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from infopt.report import Report

OUTPUT = {
    "json": Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout, and nothing else.")],
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only, and the first line.")],
    "verbose": Annotated[bool, typer.Option("--verbose", "-v", help="Print what was used and done, and every table.")],
}
"""Options of every command that prints a report."""


SECONDS_BETWEEN_FRAMES = 0.1


class Terminal:
    """Shows a run's progress on stderr; a bar only where a person sees it.

    The bar is redrawn when there is news and never by a thread of its own, which would disturb measurements.
    """

    def __init__(self, progress: Progress | None, verbose: bool) -> None:
        self._bar, self._verbose = progress, verbose
        self._task: TaskID | None = None
        self._title, self._drawn = "", 0.0

    def stage(self, text: str) -> None:
        """Name the stage."""
        self._title = text
        if self._bar:
            self._replace(text, None)
        elif self._verbose:
            print(text, file=sys.stderr)

    def progress(self, what: str, done: int, total: int) -> None:
        """Move the bar."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=f"{self._title}: {what}", completed=done, total=total)
            if done == total or time.monotonic() - self._drawn > SECONDS_BETWEEN_FRAMES:
                self._redraw()

    def remark(self, text: str) -> None:
        """Print a detail where details are wanted."""
        if self._verbose:
            print(text, file=sys.stderr)

    def _replace(self, text: str, total: int | None) -> None:
        assert self._bar is not None
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(text, total=total)
        self._redraw()

    def _redraw(self) -> None:
        assert self._bar is not None
        self._drawn = time.monotonic()
        self._bar.refresh()


@contextmanager
def terminal(json: bool, quiet: bool, verbose: bool) -> Iterator[Terminal]:
    """A listener for a run; Ctrl-C and SIGTERM end the run cleanly, a runtime's refusal brings its log."""
    from infopt.output import terminable

    # With --json a metric of the user's that prints must not get in between.
    with terminable(), _with_log(verbose), redirect_stdout(sys.stderr) if json else nullcontext():
        if quiet or json or not sys.stderr.isatty():
            yield Terminal(None, verbose)
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
            yield Terminal(bar, verbose)


@contextmanager
def _with_log(verbose: bool) -> Iterator[None]:
    from infopt.errors import RuntimeRefused

    try:
        yield
    except RuntimeRefused as error:
        if verbose:
            print(error.log, file=sys.stderr)
        elif "\n" in error.log:
            error.remedy = "; ".join([*([error.remedy] if error.remedy else []), "-v shows all that it says"])
        raise


def show(report: Report, options: dict[str, Any]) -> None:
    """Print a report as the user wants it."""
    if options["json"]:
        typer.echo(report.text(), nl=False)
    elif options["quiet"]:
        from infopt.verdict import headline

        typer.echo(headline(report))
    else:
        from rich.console import Console

        from infopt.views.console import render

        render(report, Console(), details=options["verbose"])


def present(report: Any, view: str, options: dict[str, Any]) -> None:
    """Print a report other than that of a run as the user wants it.

    Args:
        report: It has a ``text()``, which is its JSON.
        view: The module of :mod:`infopt.views` that knows its ``headline`` and how to ``render`` it.
        options: Those of :data:`OUTPUT`.
    """
    views = import_module(f"infopt.views.{view}")
    if options["json"]:
        typer.echo(report.text(), nl=False)
    elif options["quiet"]:
        typer.echo(views.headline(report))
    else:
        from rich.console import Console

        views.render(report, Console(), details=options["verbose"])


def printed_alone(json: bool, markdown: Path | None) -> bool:
    """Whether Markdown takes the place of everything else on stdout."""
    from infopt.files import STDOUT

    alone = markdown is not None and str(markdown) == STDOUT
    if alone and json:
        raise OptionError("--json and --markdown - both want stdout", "give --markdown a file")
    return alone


def say(text: str, options: dict[str, Any]) -> None:
    """A message to a person on stderr, unless they want to be left alone."""
    if not (options["json"] or options["quiet"]):
        typer.echo(text, err=True)


def finish(report: Report, budget_given: bool) -> None:
    """End the command with the exit code of its verdict."""
    from infopt.verdict import exit_code

    raise typer.Exit(exit_code(report.verdict, budget_given))
