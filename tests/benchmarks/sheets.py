"""Tables in words, for the terminal and for README."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

Cells = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table in words."""

    title: str
    head: Cells
    rows: tuple[Cells, ...]

    def rich(self) -> Table:
        """The table for the terminal."""
        table = Table(*self.head, title=self.title, title_justify="left")
        for row in self.rows:
            table.add_row(*row)
        return table


def points(value: float | None, sign: str = "+") -> str:
    """A drop in points."""
    return "-" if value is None else f"{value * 100 + 0.0:{sign}.2f}"


def brief(reason: str) -> str:
    """As much of a reason as a cell holds; the file has all of it."""
    return textwrap.shorten(reason, 100, placeholder=" ...")


def short(error: Exception | str) -> str:
    """The first line of an error, without the folders of this machine."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"/(?:[\w.+-]+/)+", "", line)[:200]


def in_markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def marked(name: str) -> re.Pattern[str]:
    """What stands between the markers of a block of README."""
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)


def put(readme: Path, name: str, block: str) -> None:
    """Put a block between README's markers.

    Raises:
        ValueError: There are none.
    """
    text = readme.read_text(encoding="utf-8")
    if not marked(name).search(text):
        raise ValueError(f"{readme} has no <!-- {name} --> and <!-- /{name} -->")
    readme.write_text(marked(name).sub(lambda _: block + "\n", text), encoding="utf-8")
