"""The command blame."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infopt.blaming.options import BlameOptions
from infopt.cli.common import OUTPUT, present, say, terminal
from infopt.cli.signature import command
from infopt.flags import option_flags

DIRECTORY = {
    "directory": Annotated[Path, typer.Argument(help="An output directory of infopt quantize.", metavar="DIR")]
}


@command(DIRECTORY, option_flags(BlameOptions), OUTPUT)
def blame(**values: Any) -> None:
    """Say which layers of a quantized model make its error, why, and what helps; --apply does it."""
    output = {name: values.pop(name) for name in OUTPUT}
    import infopt

    given = {name: value for name, value in values.items() if value is not None}
    with terminal(**output) as listener:
        report = infopt.blame(given.pop("directory"), listener=listener, **given)
    present(report, "blame", output)
    if report.applied:
        say(f"\nwritten to {report.applied.path}", output)


COMMANDS = (blame,)
