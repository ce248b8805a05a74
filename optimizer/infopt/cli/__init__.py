"""The command line. Commands are thin layers over :mod:`infopt.verbs`; nothing heavy is imported before one runs."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code: see README, exit codes."""
    from infopt.cli.app import app
    from infopt.errors import InfoptError

    try:
        app()
    except InfoptError as error:
        print(f"infopt: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except MemoryError:
        print("infopt: error: not enough memory", file=sys.stderr)
        sys.exit(1)
