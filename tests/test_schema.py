"""JSON Schemas of the formats, and reports that older versions wrote."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
from rich.console import Console

from infopt.budget import Budget
from infopt.errors import InputError, OptionError
from infopt.report import Report, read_report
from infopt.schema import RECORDS, generated, schema_of, schema_text
from infopt.verdict import judged
from infopt.views.console import render
from infopt.views.markdown import markdown

GOLDENS = Path(__file__).parent / "goldens"
REPORTS = ("report.json", "old/report.json", "old/minimal.json")


def errors(document: Any, name: str = "report") -> list[str]:
    validator = jsonschema.Draft202012Validator(json.loads(schema_text(name)))
    return [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(document)]


def load(name: str) -> Any:
    return json.loads((GOLDENS / name).read_text())


@pytest.mark.parametrize("name", RECORDS)
def test_the_published_schema_is_what_the_records_say(name: str) -> None:
    """After a change of a record: python -m infopt.schema."""
    assert schema_text(name) == generated(name)
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text(name)))
    assert files("infopt").joinpath(f"{name}.schema.json").is_file()


@pytest.mark.parametrize("name", REPORTS)
def test_reports_old_and_new_follow_the_schema(name: str) -> None:
    assert errors(load(name)) == []


def test_every_key_is_described() -> None:
    schema = json.loads(schema_text())
    records = {"Report": schema, **schema["$defs"]}
    silent = [
        f"{name}.{key}"
        for name, record in records.items()
        for key, value in record["properties"].items()
        if "description" not in value and name not in ("Times", "Memory", "Data")
    ]
    assert silent == []
    assert set(schema["properties"]) == {field.name for field in dataclasses.fields(Report)}
    assert "pass" in schema["$defs"]["Step"]["required"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda r: r.pop("verdict"), "'verdict' is a required property"),
        (lambda r: r.update(schema="infopt.report/2"), "'infopt.report/1' was expected"),
        (lambda r: r["verdict"].update(status="fine"), "['verdict', 'status']"),
        (lambda r: r["accuracy"].update(ci95=[1]), "['accuracy']"),
        (lambda r: r["steps"][0].update(nodes=1.5), "['steps', 0, 'nodes']"),
        (lambda r: r["environment"].update(cpu=4), "['environment', 'cpu']"),
        (lambda r: r["size"].update(candidate_bytes="4"), "['size', 'candidate_bytes']"),
    ],
)
def test_what_infopt_would_not_read_does_not_follow_the_schema(damage: Any, says: str, tmp_path: Path) -> None:
    document = copy.deepcopy(load("report.json"))
    damage(document)
    assert any(says in error for error in errors(document)), errors(document)
    (tmp_path / "report.json").write_text(json.dumps(document))
    with pytest.raises(InputError):
        read_report(tmp_path)


def test_keys_of_a_later_version_of_the_format_follow_it_too() -> None:
    assert errors({**load("report.json"), "carbon": {"grams": 5}}) == []


def test_there_is_no_schema_of_what_infopt_does_not_write() -> None:
    with pytest.raises(OptionError, match="did you mean 'report'"):
        schema_text("reprot")


@dataclass(frozen=True)
class Leaf:
    """A leaf.

    Attributes:
        inner: The next one, over
            two lines, or ``None``.
        kind: Its kind.
    """

    inner: Leaf | None = None
    kind: Literal["a", "b"] | None = "a"
    span: tuple[int, float] = (1, 2.0)
    anything: Any = None


def test_hints_become_schemas() -> None:
    schema = schema_of(Leaf, "infopt.leaf/7")
    assert (schema["$id"], schema["required"]) == ("urn:infopt:leaf:7", ["schema"])
    leaf = schema["$defs"]["Leaf"]["properties"]
    assert leaf["inner"]["description"] == "The next one, over two lines, or null."
    validator = jsonschema.Draft202012Validator(schema)
    good = {"schema": "infopt.leaf/7", "inner": {"inner": None, "kind": "b", "span": [1, None], "anything": [{}]}}
    assert validator.is_valid(good)
    for wrong in ({"kind": "c"}, {"span": [1]}, {"span": [1, 2, 3]}, {"span": [1.5, 2]}, {"inner": {"kind": 1}}):
        assert not validator.is_valid({**good, **wrong}), wrong


@pytest.mark.parametrize("name", REPORTS[1:])
def test_old_reports_are_read_judged_and_shown(name: str) -> None:
    report = read_report(GOLDENS / name)
    verdict = judged(report, Budget(max_drop=0.005, min_speedup=0.1, max_class_drop=0.1)).verdict
    speed = "unmeasured" if report.latency.speedup is None else "pass"
    assert [each.status for each in verdict.budgets] == ["pass", "unmeasured", speed]
    assert markdown(report).startswith("**PASS")
    render(report, Console(file=io.StringIO()), details=True)
    assert errors(report.to_json()) == []
