"""Several candidates against one base: ``infopt.comparison/1``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from infopt import __version__
from infopt.codec import encode
from infopt.report import Report
from infopt.verdict import exit_code

SCHEMA = "infopt.comparison/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Reports of several candidates against one base; the attributes are the keys in JSON.

    Attributes:
        schema: Version of the format.
        infopt: Version of infopt.
        base: What came before: its path.
        reports: One for each candidate, in the order in which they were given; ``candidate`` says which it is.
    """

    schema: str = SCHEMA
    infopt: str = __version__
    base: str
    reports: tuple[Report, ...]

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON holds it; numbers that are not finite become null."""
        result: dict[str, Any] = encode(self)
        return result

    def text(self) -> str:
        """The comparison as JSON text."""
        return json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"

    @property
    def exit_code(self) -> int:
        """Exit code of the worst verdict."""
        return max(exit_code(report.verdict, bool(report.verdict.budgets)) for report in self.reports)
