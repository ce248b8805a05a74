"""The command line. Commands are thin layers over :mod:`infopt.verbs`; nothing heavy is imported before one runs."""

from __future__ import annotations

import logging
import sys
from typing import Any


def main() -> None:
    """Run the command line and exit with its code: see README, exit codes."""
    try:
        code = _run()
    except KeyboardInterrupt:  # outside of a command, such as while modules are imported
        code = 130
    sys.exit(code)


def _run() -> int:
    import typer

    from infopt.cli.app import app
    from infopt.errors import InfoptError

    logging.getLogger().addHandler(logging.NullHandler())  # what libraries warn of is not for the user
    misuse: Any = typer.BadParameter.__base__  # UsageError, of Click or of the Click that is in newer Typers
    try:
        return app(prog_name="infopt", standalone_mode=False) or 0
    except InfoptError as error:
        return _refuse(str(error), error.exit_code)
    except MemoryError:
        return _refuse("not enough memory", 1)
    except misuse as error:
        return _misused(error)


def _misused(error: Any) -> int:
    if not sys.argv[1:]:
        error.show()  # this is the help
    else:
        command = error.ctx.command_path if error.ctx else "infopt"
        _refuse(f"{error.format_message().rstrip('.')}; see {command} --help", error.exit_code)
    return int(error.exit_code)


def _refuse(message: str, code: int) -> int:
    """Say in one line what is wrong: what others raised may have more."""
    print("infopt: error:", " ".join(line.strip() for line in message.splitlines()), file=sys.stderr)
    return code
