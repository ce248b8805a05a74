from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infopt.accuracy import Accuracy, Flips
from infopt.bench import Latency, Times
from infopt.codec import decode, encode
from infopt.errors import InputError, OutputError
from infopt.model import Step
from infopt.report import Criterion, KernelCount, Report, Verdict, read_report

EXAMPLE = Path(__file__).parent / "goldens" / "report.json"

PUBLIC_KEYS = {
    "": "schema infopt command candidate verdict model result pruned target data accuracy accuracy_reason fidelity "
    "latency size memory kernels layers classes samples steps environment warnings",
    "verdict": "status reasons budgets",
    "model": "path sha256 nodes parameters bytes flops",
    "target": "name runtime version device isa",
    "data.calib": "path samples sha256 synthetic",
    "data.eval": "path samples search sha256 labelled",
    "accuracy": "metric higher_is_better baseline candidate delta drop ci95 ci95_reason n flips where others reference "
    "interval limits groups mcnemar_p",
    "accuracy.flips": "gained lost",
    "fidelity.0": "output top1_agreement cosine_mean sqnr_db max_abs rank_correlation",
    "latency": "batch threads baseline_float candidate speedup speedup_ci95 runs reason",
    "latency.baseline_float": "setting accuracy ms",
    "latency.candidate": "setting ms",
    "latency.candidate.ms": "p50 p90 p99 distribution",
    "size": "baseline_bytes candidate_bytes reason candidate_compressed_bytes baseline_compressed_bytes",
    "memory": "peak_bytes reason",
    "kernels": "integer total float_nodes reason compressed",
    "kernels.float_nodes.0": "name op why cost",
    "layers.0": "name op sqnr_db output_sqnr_db why remedy gain_db price_ms",
    "classes.0": "label n baseline candidate drop ci95",
    "samples.0": "index id change before after label lost thumbnail text gained",
    "steps.0": "pass options seconds nodes bytes choices asked",
}


@pytest.mark.parametrize("place", PUBLIC_KEYS)
def test_public_keys_are_as_documented(place: str) -> None:
    value = read_report(EXAMPLE).to_json()
    for key in filter(None, place.split(".")):
        value = value[int(key)] if key.isdecimal() else value[key]
    assert set(value) == set(PUBLIC_KEYS[place].split())


def test_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    report = read_report(EXAMPLE)
    report.write_json(tmp_path / "report.json")
    assert read_report(tmp_path) == read_report(tmp_path / "report.json") == report
    assert (tmp_path / "report.json").read_text() == EXAMPLE.read_text()


any_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
steps = st.builds(Step, options=st.dictionaries(st.text(max_size=5), any_json, max_size=2))
accuracies = st.builds(Accuracy, others=st.just(()))
reports = st.builds(
    Report,
    schema=st.just("infopt.report/1"),
    steps=st.lists(steps, max_size=2).map(tuple),
    accuracy=st.none() | accuracies,
    fidelity=st.just(()),
    layers=st.just(()),
    classes=st.just(()),
    samples=st.just(()),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(reports)
def test_any_report_survives_json(report: Report) -> None:
    written = report.to_json()
    again = decode(Report, json.loads(json.dumps(written, allow_nan=False)), "")
    assert again.to_json() == written


@given(st.builds(Times, *[st.floats(allow_nan=False, allow_infinity=False)] * 3))
def test_finite_numbers_survive_exactly(times: Times) -> None:
    assert decode(Times, json.loads(json.dumps(encode(times))), "") == times


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_numbers_that_are_not_finite_become_null(value: float) -> None:
    report = replace(read_report(EXAMPLE), latency=Latency(speedup=value, speedup_ci95=(1.0, value)))
    latency = json.loads(report.text())["latency"]
    assert latency["speedup"] is None
    assert latency["speedup_ci95"] == [1.0, None]


def test_numpy_numbers_are_written_as_numbers() -> None:
    kernels = KernelCount(np.int64(3), np.int32(4))  # type: ignore[arg-type]
    assert encode(kernels)["integer"] == 3
    assert json.loads(json.dumps(encode({"x": np.float64(0.5), "y": np.bool_(True)}))) == {
        "x": 0.5,
        "y": True,
    }


def test_step_is_called_pass_in_json() -> None:
    step = Step("quantize", {"method": "auto"}, 1.5, 3, 40, ("it: helped",))
    assert encode(step) == {
        "pass": "quantize",
        "options": {"method": "auto"},
        "seconds": 1.5,
        "nodes": 3,
        "bytes": 40,
        "choices": ["it: helped"],
        "asked": None,
    }
    assert decode(Step, encode(step), "") == step


def test_unmeasured_parts_are_null_with_a_reason(tmp_path: Path) -> None:
    report = replace(
        read_report(EXAMPLE),
        accuracy=None,
        accuracy_reason="no evaluation data",
        latency=Latency(reason="no GPU"),
        kernels=KernelCount(None, None, reason="no GPU"),
    )
    report.write_json(tmp_path / "report.json")
    assert read_report(tmp_path) == report
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["accuracy"] is None
    assert content["accuracy_reason"] == "no evaluation data"
    unknown = {"integer": None, "total": None, "float_nodes": [], "reason": "no GPU", "compressed": 0}
    assert content["kernels"] == unknown
    assert content["latency"]["speedup"] is None


def test_names_of_any_bytes_survive(tmp_path: Path) -> None:
    report = read_report(EXAMPLE)
    hostile = replace(report, warnings=("a\udcff\n\x1b[31m|`<b>", "模型"), environment={"k\n": "\udc80"})
    hostile.write_json(tmp_path / "report.json")
    assert read_report(tmp_path) == hostile


def damaged(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "report.json"
    path.write_text(text)
    return path


def edited(tmp_path: Path, edit: object) -> Path:
    content = json.loads(EXAMPLE.read_text())
    edit(content)  # type: ignore[operator]
    return damaged(tmp_path, json.dumps(content))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, EXAMPLE.read_text()[:700], "\x00"])
def test_truncated_report_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="truncated or not JSON"):
        read_report(damaged(tmp_path, text))


def test_report_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(InputError, match="truncated or not JSON"):
        read_report(tmp_path)


def test_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="update infopt"):
        read_report(edited(tmp_path, lambda content: content.update(schema="infopt.report/2")))


@pytest.mark.parametrize(
    "schema", [None, "infopt.manifest/1", "infopt.report/x", "infopt.report/0", 7, "infopt.report"]
)
def test_other_formats_are_refused(tmp_path: Path, schema: object) -> None:
    with pytest.raises(InputError, match="not an infopt report"):
        read_report(edited(tmp_path, lambda content: content.update(schema=schema)))


@pytest.mark.parametrize("text", ["[]", "7", '"x"', "null"])
def test_json_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="not an infopt report"):
        read_report(damaged(tmp_path, text))


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (lambda c: c.pop("accuracy"), "'accuracy' is missing"),
        (lambda c: c["latency"]["candidate"]["ms"].pop("p99"), r"'latency.candidate.ms.p99' is missing"),
        (lambda c: c["steps"][1].pop("pass"), r"'steps\[1\].pass' is missing"),
        (lambda c: c["accuracy"].update(n="many"), r"'accuracy.n' is 'many', int is wanted"),
        (lambda c: c["accuracy"].update(n=True), r"'accuracy.n' is True, int is wanted"),
        (lambda c: c["accuracy"].update(baseline="x"), "'accuracy.baseline' is 'x', float is wanted"),
        (lambda c: c["accuracy"].update(ci95=[1]), "'accuracy.ci95' has 1 entries, 2 are wanted"),
        (lambda c: c["verdict"].update(status="great"), "one of pass, fail, undecided, unmeasured"),
        (lambda c: c.update(environment=[]), r"'environment' is \[\], dict is wanted"),
        (lambda c: c.update(warnings="none"), "'warnings' is 'none', list is wanted"),
        (lambda c: c.update(model=None), "'model' is None, dict is wanted"),
    ],
)
def test_damage_is_located(tmp_path: Path, edit: object, place: str) -> None:
    with pytest.raises(InputError, match=place):
        read_report(edited(tmp_path, edit))


def test_keys_of_newer_writers_are_ignored(tmp_path: Path) -> None:
    def add(content: dict[str, dict[str, object]]) -> None:
        content["cost"] = {"usd": 1}
        content["latency"]["throughput"] = 5

    assert read_report(edited(tmp_path, add)) == read_report(EXAMPLE)


def test_keys_added_later_may_be_absent_in_older_files(tmp_path: Path) -> None:
    report = read_report(edited(tmp_path, lambda content: content["data"]["calib"].pop("synthetic")))
    assert report.data.calib is not None
    assert not report.data.calib.synthetic


def test_integers_are_read_where_numbers_are_wanted(tmp_path: Path) -> None:
    report = read_report(edited(tmp_path, lambda content: content["latency"].update(speedup=2)))
    assert isinstance(report.latency.speedup, float)


def test_huge_integers_do_not_overflow(tmp_path: Path) -> None:
    report = read_report(edited(tmp_path, lambda content: content["latency"].update(speedup=10**400)))
    assert report.to_json()["latency"]["speedup"] is None


def test_missing_report_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"give a report\.json or an infopt output directory"):
        read_report(tmp_path)
    with pytest.raises(InputError, match="there is no report"):
        read_report(tmp_path / "absent.json")


def test_unwritable_path_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        read_report(EXAMPLE).write_json(tmp_path / "absent" / "report.json")


def test_nested_records_and_tuples_come_back_as_such() -> None:
    verdict = Verdict("fail", ("why",), (Criterion("max_drop", 0.005, None, (0.0, 0.1), "unmeasured"),))
    assert decode(Verdict, encode(verdict), "") == verdict
    assert decode(Flips | None, None, "") is None
