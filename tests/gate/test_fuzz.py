"""Whatever a report file holds: an answer or a clear error, and no limit passes that was not measured."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infopt.budget import Budget
from infopt.errors import InputError
from infopt.gating.options import GateOptions
from infopt.gating.run import decided, gate_file
from infopt.gating.sound import sound
from infopt.report import Report, read_report
from infopt.views.gate import gate_markdown, workflow_commands
from infopt.views.junit import junit

GOLDENS = Path(__file__).parents[1] / "goldens"
WHOLE = json.loads((GOLDENS / "report.json").read_text())
WHOLE["classes"] = [
    {"label": label, "n": 1000, "baseline": 0.9, "candidate": 0.9, "drop": 0.0, "ci95": [-0.01, 0.01]} for label in "ab"
]
BUDGET = Budget(
    max_drop=0.5, max_class_drop=0.5, min_speedup=0.1, max_p99_ms=1e6, max_bytes=10**9, max_peak_bytes=10**9,
    min_integer_share=0.1,
)  # fmt: skip
"""A budget that everything keeps which was measured."""

BEHIND = {
    "max_drop": (("accuracy", "drop"), ("accuracy", "n")),
    "max_class_drop": (("classes", 0, "drop"), ("classes", 0, "n")),
    "min_speedup": (("latency", "speedup"),),
    "max_p99_ms": (("latency", "candidate", "ms", "p99"),),
    "max_bytes": (("size", "candidate_bytes"),),
    "max_peak_bytes": (("memory", "peak_bytes"),),
    "min_integer_share": (("kernels", "integer"), ("kernels", "total")),
}
"""The numbers without which a limit cannot pass."""

nasty = st.one_of(
    st.none(), st.booleans(), st.text(max_size=3), st.just([]), st.just({}), st.just("NaN"), st.just(math.nan),
    st.sampled_from([-1, 0, 1, 10**30, -1e308, 1e308, 0.5, -0.5, math.inf, [0.1, -0.1], [None, None], [1]]),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


PLACES = [place for place in places(WHOLE) if place]
MEASURED = [place for place in PLACES if place[0] in ("accuracy", "latency", "size", "memory", "kernels", "classes")]


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A report with a few values replaced or left out."""
    document = copy.deepcopy(WHOLE)
    for place in draw(st.lists(st.sampled_from(PLACES) | st.sampled_from(MEASURED), min_size=1, max_size=4)):
        holder = document
        for key in place[:-1]:
            holder = at(holder, key)
        if not isinstance(holder, (dict, list)) or at(holder, place[-1]) is None:
            continue
        if draw(st.booleans()):
            holder[place[-1]] = draw(nasty)
        elif isinstance(holder, dict):
            del holder[place[-1]]
    return document


def at(holder: Any, key: Any) -> Any:
    try:
        return holder[key]
    except (LookupError, TypeError):
        return None


def number(document: Any, place: tuple[Any, ...]) -> float | None:
    for key in place:
        document = at(document, key)
    usable = isinstance(document, (int, float)) and not isinstance(document, bool)
    return document if usable and math.isfinite(document) else None


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "report.json"


def gated(file: Path, text: str, old: Report | None = None) -> Report | None:
    """The answer to a file of some text, or ``None`` where it is refused."""
    file.write_text(text, encoding="utf-8")
    try:
        return decided(sound(read_report(file)), BUDGET, old, 0.05)
    except InputError:
        return None


def changed(place: tuple[Any, ...], value: Any) -> Any:
    """The whole report with another value in one place."""
    document = copy.deepcopy(WHOLE)
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return document


def statuses(file: Path, document: Any) -> dict[str, str]:
    answer = gated(file, json.dumps(document))
    assert answer is not None
    return {each.name: each.status for each in answer.verdict.budgets}


def test_everything_passes_undamaged(file: Path) -> None:
    answer = gated(file, json.dumps(WHOLE))
    assert answer is not None
    assert [each.name for each in answer.verdict.budgets if each.status == "pass"] == list(BEHIND)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=damaged())
def test_a_damaged_report_passes_no_limit_that_was_not_measured(file: Path, document: Any) -> None:
    answer = gated(file, json.dumps(document))
    if answer is None:
        return
    assert [each.name for each in answer.verdict.budgets] == list(BEHIND)
    for each in answer.verdict.budgets:
        behind = [number(document, place) for place in BEHIND[each.name]]
        assert each.status != "pass" or None not in behind, each
        assert each.status != "pass" or each.name.endswith("drop") or min(behind) > 0, each
        assert each.status == "unmeasured" or math.isfinite(each.value), each
    for view in (gate_markdown, junit, workflow_commands):
        assert view(answer, "warn")
    json.loads(answer.text())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=damaged())
def test_a_damaged_report_is_an_answer_or_an_error_on_both_sides_of_a_baseline(file: Path, document: Any) -> None:
    whole = read_report(GOLDENS / "report.json")
    gated(file, json.dumps(document), whole)
    file.write_text(json.dumps(document))
    try:
        old = sound(read_report(file))
    except InputError:
        return
    answer = gated(file, json.dumps(WHOLE), old)
    if answer is not None:
        for each in answer.verdict.budgets:
            assert each.status == "unmeasured" or (each.value is not None and math.isfinite(each.value)), each


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, len(json.dumps(WHOLE)) - 1))
def test_a_truncated_report_is_refused(file: Path, cut: int) -> None:
    assert gated(file, json.dumps(WHOLE)[:cut]) is None


@pytest.mark.parametrize("schema", ["infopt.report/2", "infopt.report/10", "infopt.check/1", "", None, 1, ["x"]])
def test_reports_of_another_format_are_refused(file: Path, schema: Any) -> None:
    assert gated(file, json.dumps({**WHOLE, "schema": schema})) is None


@pytest.mark.parametrize(
    ("changes", "limit", "says"),
    [
        ({"drop": math.nan}, "max_drop", "not every number"),
        ({"baseline": math.nan}, "max_drop", "not every number"),
        ({"ci95": (math.nan, 0.1)}, "max_drop", "not every number"),
        ({"n": 0}, "max_drop", "no sample"),
        ({"drop": 0.0, "delta": -0.3}, "max_drop", "delta is not"),
        ({"drop": -0.5}, "max_drop", "drop is not"),
        ({"ci95": (0.1, -0.1)}, "max_drop", "ends before"),
    ],
)
def test_accuracy_that_contradicts_itself_is_unmeasured(changes: dict[str, Any], limit: str, says: str) -> None:
    report = read_report(GOLDENS / "report.json")
    assert report.accuracy is not None
    answer = decided(sound(replace(report, accuracy=replace(report.accuracy, **changes))), BUDGET, None, 0.05)
    status = {each.name: each.status for each in answer.verdict.budgets}
    assert status[limit] == "unmeasured"
    assert any(says in reason for reason in answer.verdict.reasons)


@pytest.mark.parametrize(
    ("place", "value", "limit"),
    [
        (("kernels", "integer"), 99, "min_integer_share"),
        (("kernels", "integer"), -1, "min_integer_share"),
        (("size", "candidate_bytes"), 0, "max_bytes"),
        (("memory", "peak_bytes"), -5, "max_peak_bytes"),
        (("latency", "speedup"), -2.0, "min_speedup"),
        (("latency", "speedup_ci95"), [None, 2.0], "min_speedup"),
        (("latency", "speedup_ci95"), [2.0, 1.0], "min_speedup"),
        (("latency", "candidate", "ms", "p99"), 0.001, "max_p99_ms"),
        (("latency", "candidate", "ms", "p99"), None, "max_p99_ms"),
        (("accuracy", "flips", "lost"), 10_000, "max_drop"),
        (("classes", 0, "n"), 0, "max_class_drop"),
        (("classes", 0, "drop"), 0.3, "max_class_drop"),
    ],
)
def test_impossible_numbers_are_unmeasured(file: Path, place: tuple[Any, ...], value: Any, limit: str) -> None:
    document = copy.deepcopy(WHOLE)
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    answer = gated(file, json.dumps(document))
    assert answer is not None
    assert {each.name for each in answer.verdict.budgets if each.status == "unmeasured"} == {limit}


def test_a_damaged_baseline_is_refused_and_no_check_forgotten(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "report.json").write_text(json.dumps(WHOLE))
    gate_file(tmp_path / "new", GateOptions(baseline=tmp_path / "new"))
    for place, value in (
        (("accuracy", "candidate"), 0.99),
        (("classes", 0, "drop"), 0.3),
        (("kernels", "integer"), 99),
    ):
        (tmp_path / "old.json").write_text(json.dumps(changed(place, value)))
        with pytest.raises(InputError, match=f"old.json contradicts itself in {place[0]}"):
            gate_file(tmp_path / "new", GateOptions(baseline=tmp_path / "old.json"))


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"ci95": [0.2, 0.21]}, "max_drop"),
        ({"n": 10**200}, "max_drop"),
        ({"flips": None, "interval": "bca", "limits": [{"confidence": 0.95, "low": 0.2, "high": 0.21}]}, "max_drop"),
        *(
            ({"flips": None, "limits": [{"confidence": bad, "low": -0.01, "high": 0.01}]}, "max_drop")
            for bad in (0.5, 1.0, 1.5, -1.0)
        ),
    ],
)
def test_an_accuracy_whose_interval_is_none_is_unmeasured(file: Path, changes: dict[str, Any], limit: str) -> None:
    document = changed(("accuracy",), {**WHOLE["accuracy"], **changes})
    assert statuses(file, document)[limit] == "unmeasured"


def test_a_speedup_or_class_beyond_its_interval_is_unmeasured(file: Path) -> None:
    document = copy.deepcopy(WHOLE)
    document["latency"].update(speedup=1.0, speedup_ci95=[2.0, 3.0])
    document["classes"][0].update(candidate=0.4, drop=0.5)
    found = statuses(file, document)
    assert (found["min_speedup"], found["max_class_drop"]) == ("unmeasured", "unmeasured")


@pytest.mark.parametrize("place", [("accuracy", "n"), ("size", "candidate_bytes"), ("memory", "peak_bytes")])
def test_a_count_that_no_float_holds_is_refused(place: tuple[Any, ...], tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(changed(place, 10**400)))
    with pytest.raises(InputError, match=f"{place[-1]}' is a number of 1329 bits"):
        read_report(tmp_path)
