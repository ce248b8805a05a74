"""The gate's answer for people and for CI systems."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.gating.answer import gate_exit_code
from infopt.gating.options import Undecided
from infopt.report import Criterion, Report, Verdict, read_report
from infopt.views.gate import gate_markdown, workflow_commands
from infopt.views.junit import junit

EXAMPLE = read_report(Path(__file__).parents[1] / "goldens" / "report.json")
CRITERIA = (
    Criterion("max_drop", 0.005, 0.004, (0.001, 0.007), "undecided"),
    Criterion("max_bytes", 1000, 900, None, "pass"),
    Criterion("min_speedup", 1.2, 1.0, (0.9, 1.1), "fail"),
    Criterion("max_p99_ms", 5.0, None, None, "unmeasured"),
)
REASONS = (
    "max_drop: the drop is 0.004, but the limit lies within",
    "min_speedup: the speedup is 1.00x",
    "max_p99_ms was not measured: no bench",
)
UNDECIDED = get_args(Undecided)


def answer(*criteria: Criterion, reasons: tuple[str, ...] = REASONS) -> Report:
    status = "fail" if any(each.status == "fail" for each in criteria) else criteria[0].status
    return replace(EXAMPLE, verdict=Verdict(status, reasons, criteria))


WHOLE = answer(*CRITERIA)
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase", "system-out", "system-err"},
    "properties": {"property"},
    "testcase": {"failure", "error", "skipped", "system-out", "system-err", "properties"},
}
REQUIRED = {
    "testsuites": {"name", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testcase": {"name", "classname", "time"},
    "property": {"name", "value"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message"},
}


def check_junit(text: str) -> ET.Element:
    """See that a file has the structure that CI systems read; returns its only suite."""
    root = ET.fromstring(text)
    assert root.tag == "testsuites"
    for element in root.iter():
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set()), element.tag
        assert set(element.attrib) >= REQUIRED.get(element.tag, set()), element.tag
    (suite,) = root
    cases = suite.findall("testcase")
    for case in cases:
        assert sum(case.find(kind) is not None for kind in ("failure", "error", "skipped")) <= 1
    for holder in (root, suite):
        assert int(holder.attrib["tests"]) == len(cases)
        assert int(holder.attrib["failures"]) == len(suite.findall("testcase/failure"))
        assert int(holder.attrib["errors"]) == len(suite.findall("testcase/error"))
    assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped"))
    assert len({case.attrib["name"] for case in cases}) == len(cases)
    return suite


@pytest.mark.parametrize(("undecided", "outcome"), [("warn", "skipped"), ("pass", None), ("fail", "failure")])
def test_junit_has_a_test_case_a_limit(undecided: Undecided, outcome: str | None) -> None:
    suite = check_junit(junit(WHOLE, undecided))
    found = {}
    for case in suite.iter("testcase"):
        kinds = [kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None]
        found[case.attrib["name"]] = kinds[0] if kinds else None
    assert found == {"max_drop": outcome, "max_bytes": None, "min_speedup": "failure", "max_p99_ms": "error"}
    assert "not measured: no bench" in suite.find("testcase[@name='max_p99_ms']/error").attrib["message"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("criterion", "codes"),
    [(CRITERIA[0], {"warn": 0, "pass": 0, "fail": 3}), (CRITERIA[1], dict.fromkeys(UNDECIDED, 0)),
     (CRITERIA[2], dict.fromkeys(UNDECIDED, 3)), (CRITERIA[3], dict.fromkeys(UNDECIDED, 3))],
)  # fmt: skip
def test_only_undecided_can_be_settled(criterion: Criterion, codes: dict[Undecided, int]) -> None:
    for undecided, code in codes.items():
        report = answer(criterion)
        assert gate_exit_code(report.verdict, undecided) == code
        commands = workflow_commands(report, undecided)
        assert commands.startswith("::error ") == (code == 3)
        suite = check_junit(junit(report, undecided))
        assert (int(suite.attrib["failures"]) + int(suite.attrib["errors"]) > 0) == (code == 3)
        assert ("Gate: FAIL" in gate_markdown(report, undecided)) == (code == 3)


def test_annotations_come_worst_first_one_a_limit() -> None:
    lines = workflow_commands(WHOLE, "warn").splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::error", "::warning", "::notice"]
    assert lines[0] == "::error title=infopt min_speedup%3A fail::min_speedup: the speedup is 1.00x"
    assert lines[3].endswith("::max_bytes: 900 keeps the limit 1000")


HOSTILE = ("100% of\r\nit", "::error::x", "a,b:c", "<b>&\"'", "\x00\x1b[31m", "]]>", "\udcff", "@all #1 `x` | y\\")
hostile = st.sampled_from(HOSTILE) | st.text(max_size=20)


@settings(max_examples=80, deadline=None)
@given(name=hostile, path=hostile)
def test_hostile_names_stay_text(name: str, path: str) -> None:
    report = answer(CRITERIA[2], reasons=(f"min_speedup: {name}", name))
    report = replace(report, model=replace(report.model, path=path), infopt=name)
    commands = workflow_commands(report, "warn")
    assert commands.count("\n") == 1
    assert len(commands.splitlines()) == 1
    found = re.fullmatch(r"::error title=([^,:]*)::(.*)\n", commands)
    assert found
    assert re.sub("%(25|0D|0A|3A|2C)", "", found[1] + found[2]).count("%") == 0
    check_junit(junit(report, "warn"))
    plain = gate_markdown(answer(CRITERIA[2], reasons=("min_speedup: x", "x")), "warn")
    assert gate_markdown(report, "warn").count("\n") == plain.count("\n")


def test_percent_signs_and_commas_survive_escaping() -> None:
    criterion = Criterion("max,drop:%", 1, 2, None, "fail")
    commands = workflow_commands(answer(criterion, reasons=("max,drop:%: 5 % is too much",)), "warn")
    assert commands == "::error title=infopt max%2Cdrop%3A%25%3A fail::max,drop:%25: 5 %25 is too much\n"


def test_markdown_begins_with_the_answer_and_shows_every_limit() -> None:
    body = gate_markdown(WHOLE, "warn")
    assert body.startswith("**Gate: FAIL** (exit code 3)\n")
    for row in ("| `max_drop` | 0.0050 | 0.0040 | 0.0010..0.0070 | undecided |", "| `max_bytes` | 1,000 | 900 | - |"):
        assert row in body
    assert "let through with a warning" in body
    assert "- max_p99_ms was not measured: no bench" in body
    assert len(gate_markdown(answer(*CRITERIA, reasons=("x" * 5000,) * 100), "warn")) < 60_000


def test_equal_inputs_give_equal_bytes() -> None:
    again = read_report(Path(__file__).parents[1] / "goldens" / "report.json")
    other = replace(again, verdict=WHOLE.verdict)
    for view in (gate_markdown, junit, workflow_commands):
        assert view(WHOLE, "warn") == view(other, "warn")
