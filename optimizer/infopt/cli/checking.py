"""The command check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infopt.checks.options import CheckOptions
from infopt.cli.common import OUTPUT, present, terminal
from infopt.cli.signature import command
from infopt.flags import option_flags


def _list_rules(wanted: bool) -> None:
    if wanted:
        from rich.console import Console

        from infopt.checks.rules import RULES
        from infopt.views.check import render_rules

        render_rules(RULES, Console())
        raise typer.Exit


MODEL = {"model": Annotated[Path, typer.Argument(help="The ONNX model, float or quantized.", metavar="MODEL")]}
RULES = Annotated[bool, typer.Option("--rules", help="List the rules, and end.", callback=_list_rules, is_eager=True)]


@command(MODEL, option_flags(CheckOptions), {**OUTPUT, "rules": RULES})
def check(**values: Any) -> None:
    """Say whether a model will parse, build, fuse and be right on its targets; exit code 3 when it will not."""
    output = {name: values.pop(name) for name in OUTPUT}
    values.pop("rules")
    import infopt

    given = {name: value for name, value in values.items() if value is not None}
    with terminal(**output) as listener:
        report = infopt.check(listener=listener, **given)
    present(report, "check", output)
    raise typer.Exit(3 if report.errors else 0)


COMMANDS = (check,)
