"""Reads the JSON files that infopt wrote: reports, profiles, manifests. Each names its format: ``infopt.report/1``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infopt.errors import InputError


@dataclass(frozen=True, slots=True)
class Document:
    """A kind of file.

    Attributes:
        schema: Its format, ``"infopt.report/1"``.
        name: The file's name in an output directory.
        again: How a damaged one is had again.
    """

    schema: str
    name: str
    again: str

    @property
    def kind(self) -> str:
        """What it is called, ``"report"``."""
        return self.schema.partition("/")[0].removeprefix("infopt.")

    def read(self, path: Path) -> tuple[Path, dict[str, Any]]:
        """The file, and what it holds.

        Args:
            path: The file, or the output directory that holds one.

        Raises:
            InputError: There is none, it is damaged, of another kind, or of a newer format than this infopt's.
        """
        file = path / self.name if path.is_dir() else path
        try:
            content = json.loads(file.read_text(encoding="utf-8"), parse_constant=lambda _: None)
        except FileNotFoundError as error:
            told = f"there is no {self.kind} at {file}"
            raise InputError(told, f"give a {self.name} or an infopt output directory") from error
        except OSError as error:
            raise InputError(f"cannot read {self.kind} {file}: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file} is truncated or not JSON ({error})", self.again) from error
        self._check(content, file)
        return file, content

    def _check(self, content: Any, file: Path) -> None:
        schema = content.get("schema") if isinstance(content, dict) else None
        if schema == self.schema:
            return
        family, _, version = str(schema).partition("/")
        own, _, known = self.schema.partition("/")
        if family == own and version.isdecimal() and int(version) > int(known):
            raise InputError(f"{file} has format {schema}, this infopt reads {self.schema}", "update infopt")
        told = f"{file} is not an infopt {self.kind} (schema {schema!r})"
        raise InputError(told, f"give a {self.name} that infopt wrote: it says {self.schema!r}")
