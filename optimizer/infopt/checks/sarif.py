"""The findings as SARIF 2.1.0 (OASIS), which code hosts show beside the file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from infopt.checks.rules import RULES
from infopt.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from infopt.checks.report import CheckReport, Finding
    from infopt.checks.rule import LintRule

VERSION = "2.1.0"


def sarif(report: CheckReport) -> str:
    """A report as the text of a SARIF file."""
    index = {rule.id: position for position, rule in enumerate(RULES)}
    path = report.fixed.path if report.fixed else report.model.path
    driver = {"name": "infopt", "semanticVersion": report.infopt, "rules": [_rule(rule) for rule in RULES]}
    run = {
        "tool": {"driver": driver},
        "artifacts": [{"location": {"uri": _uri(path)}}],
        "invocations": [{"executionSuccessful": True}],
        "results": [_result(each, index[each.rule], path) for each in report.findings],
    }
    return json.dumps({"version": VERSION, "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def write_sarif(report: CheckReport, path: Path) -> None:
    """Write a report as a SARIF file.

    Raises:
        OutputError: The file cannot be written.
    """
    write_text(path, sarif(report), "--sarif")


def _rule(rule: LintRule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": "".join(part.capitalize() for part in rule.id.split("-")),
        "shortDescription": {"text": rule.what},
        "help": {"text": rule.remedy},
        "defaultConfiguration": {"level": rule.severity},
    }


def _result(finding: Finding, index: int, path: str) -> dict[str, Any]:
    where: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": _uri(path), "index": 0}}}
    if finding.node is not None:
        kind = "element" if finding.op else "member"
        where["logicalLocations"] = [{"name": finding.node, "fullyQualifiedName": finding.node, "kind": kind}]
    at = f" at {finding.node!r}" if finding.node is not None else ""
    message = f"{', '.join(finding.targets)}{at}: {finding.reason}. Remedy: {finding.remedy}."
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {"text": message},
        "locations": [where],
        "partialFingerprints": {"ruleAndNode/v1": f"{finding.rule}:{finding.node or ''}:{','.join(finding.targets)}"},
        "properties": {
            "targets": list(finding.targets),
            "fixable": finding.fixable,
            "confirmed": list(finding.confirmed),
        },
    }


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path)
