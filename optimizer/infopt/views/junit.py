"""The gate's answer as JUnit XML, which CI systems show as tests: a test case a limit.

There is no standard; this is the part that Jenkins, GitLab, GitHub actions and Azure read alike: ``testsuites`` >
``testsuite`` > ``testcase`` with at most one of ``failure``, ``error`` and ``skipped``. No time stands in it, so that
equal reports give equal files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from infopt.gating.answer import effect, why
from infopt.verdict import headline
from infopt.wording import visible

if TYPE_CHECKING:
    from infopt.gating.options import Undecided
    from infopt.report import Criterion, Report

SUITE = "infopt.gate"


def junit(report: Report, undecided: Undecided) -> str:
    """The answer as the text of an XML file.

    Args:
        report: The report with the gate's verdict.
        undecided: What limits do that the interval leaves open: ``fail`` makes a failure of one, ``warn`` a skipped
            test that says why, ``pass`` a passed one.

    Returns:
        UTF-8 XML with its declaration. What was not measured is an ``error``.
    """
    cases = [_case(report, criterion, undecided) for criterion in report.verdict.budgets]
    counts = {kind: str(sum(case.find(kind) is not None for case in cases)) for kind in ("failure", "error", "skipped")}
    numbers = {"tests": str(len(cases)), "failures": counts["failure"], "errors": counts["error"]}
    root = ET.Element("testsuites", {"name": SUITE, **numbers})
    suite = ET.SubElement(root, "testsuite", {"name": SUITE, **numbers, "skipped": counts["skipped"], "time": "0"})
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(report).items():
        ET.SubElement(properties, "property", {"name": name, "value": visible(value)})
    suite.extend(cases)
    ET.SubElement(suite, "system-out").text = visible(headline(report), 800)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(report: Report, criterion: Criterion, undecided: Undecided) -> ET.Element:
    case = ET.Element("testcase", {"classname": SUITE, "name": criterion.name, "time": "0"})
    told = visible(why(report.verdict, criterion), 600) or f"{criterion.name}: {criterion.status}"
    kind = _kind(criterion, undecided)
    if kind == "skipped":
        ET.SubElement(case, kind, {"message": told})
    elif kind:
        ET.SubElement(case, kind, {"message": told, "type": criterion.status}).text = _numbers(criterion)
    ET.SubElement(case, "system-out").text = f"{told}\n{_numbers(criterion)}"
    return case


def _kind(criterion: Criterion, undecided: Undecided) -> str | None:
    if criterion.status == "unmeasured":
        return "error"
    return {"fail": "failure", "warn": "skipped"}.get(effect(criterion.status, undecided))


def _numbers(criterion: Criterion) -> str:
    interval = "none" if criterion.interval is None else f"{criterion.interval[0]!r} to {criterion.interval[1]!r}"
    return f"limit {criterion.limit!r}, measured {criterion.value!r}, interval {interval}, {criterion.status}"


def _properties(report: Report) -> dict[str, str]:
    named = {"infopt": report.infopt, "command": report.command, "model": report.model.path}
    target = {"target": report.target.name, "runtime": report.target.version} if report.target else {}
    return {**named, "model.sha256": report.model.sha256, **target}
