"""Commands that say what there is: targets, passes, schema."""

from __future__ import annotations

from typing import Annotated

import typer

from infopt.schema import RECORDS

WIDE = 160
"""Characters a line where no terminal sets their number, so that names stay in one piece."""


def targets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this target.")] = None,
    ops: Annotated[bool, typer.Option("--ops", help="Print what it runs in integers, operator by operator.")] = False,
    json: Annotated[bool, typer.Option("--json", help="With --ops: print it as JSON, and nothing else.")] = False,
) -> None:
    """List the targets, and whether each can be used on this machine; or what precisions and operators one runs."""
    from infopt import registry
    from infopt.errors import OptionError

    if json and not (ops and name):
        raise OptionError("--json goes with --ops and a target", "infopt targets NAME --ops --json")
    if ops:
        _print_rows(name, json)
        return
    for each in [name] if name else registry.names("targets"):
        target = registry.target(each)
        missing, idle = target.available(), target.runnable()
        state = f"not available: {missing}" if missing else f"{target.runtime} {target.version()}"
        if not missing and idle:
            state += f"; builds here, does not run here: {idle}"
        typer.echo(f"{each:14} {state}")
    if name:
        _print_precisions(name)


def _print_precisions(name: str) -> None:
    from infopt import registry
    from infopt.views.target_rows import precisions_in_words

    for precision in precisions_in_words(registry.target(name)):
        typer.echo(f"  {precision.name:18} {precision.told}")


def _print_rows(name: str | None, json: bool) -> None:
    from infopt import registry
    from infopt.views.target_rows import operator_matrix, target_in_json, target_table

    if json and name:
        from json import dumps

        typer.echo(dumps(target_in_json(registry.target(name)), indent=2))
        return
    from rich.console import Console

    from infopt.views.console import print_table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    if name:
        print_table(target_table(registry.target(name)), console)
    else:
        print_table(operator_matrix([registry.target(each) for each in registry.names("targets")]), console)


def passes() -> None:
    """List the passes with their options."""
    from infopt import registry
    from infopt.options import fields

    for name in registry.names("passes"):
        cls = registry.pass_class(name)
        typer.echo(f"{name}: {(cls.__doc__ or '').splitlines()[0]}")
        for field in fields(cls):
            typer.echo(f"    {field.name} = {field.default!r}  {field.opt.help}")


def schema(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help=f"The format: {', '.join(RECORDS)}.")] = "report",
) -> None:
    """Print the JSON Schema of a file that infopt writes."""
    from infopt.schema import schema_text

    typer.echo(schema_text(name), nl=False)


COMMANDS = (targets, passes, schema)
