"""The Typer application and its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from infopt.cli import blaming, checking, data, drifting, judging, listing, recipes

app = typer.Typer(
    name="infopt",
    help="Turn a trained model into the fastest artifact that meets its accuracy budget, with the evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        from infopt import __version__

        typer.echo(f"infopt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options before any command."""


for register in (
    *recipes.COMMANDS,
    *checking.COMMANDS,
    *blaming.COMMANDS,
    *data.COMMANDS,
    *drifting.COMMANDS,
    *judging.COMMANDS,
    *listing.COMMANDS,
):
    app.command(name=register.__name__.rstrip("_"))(register)
