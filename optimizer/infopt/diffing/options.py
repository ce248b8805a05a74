"""What ``infopt diff`` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from infopt.options import Opt


@dataclass(frozen=True, slots=True)
class DiffOptions:
    """What a difference does, and where it is written."""

    exit_code: Annotated[bool, Opt("End with exit code 3 when the two differ.")] = False
    markdown: Annotated[
        Path | None, Opt("Write the differences as Markdown that fits a comment; - prints it.", metavar="FILE|-")
    ] = None
