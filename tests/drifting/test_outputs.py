"""What the command prints and writes: exit codes, tables, JSON, Markdown, metrics and the example's alerts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drifting.conftest import pictures
from rich.console import Console

import infopt
from infopt.cli import main
from infopt.drifting.report import DriftReport
from infopt.views.drift import drift_markdown, headline, render
from infopt.views.prometheus import metrics

RULES = Path(__file__).parents[2] / "examples" / "drift"
HOSTILE = 'a"b\\c\nd|`<x>'


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: it is in Debian's package prometheus")
    return found


@pytest.fixture(scope="module")
def report(made: Path, tmp_path_factory: pytest.TempPathFactory) -> DriftReport:
    """Of data that have drifted."""
    path = tmp_path_factory.mktemp("data") / "bright.npz"
    np.savez(path, x=pictures(300, 3, lambda x: 3 * x + 2))
    return infopt.drift(made / "out", path)


def hostile(report: DriftReport) -> DriftReport:
    """The same of a model whose tensors have names of bad intent."""
    return replace(
        report,
        statistics=tuple(replace(each, name=HOSTILE) for each in report.statistics),
        clipping=tuple(replace(each, name=f"{HOSTILE}{i}") for i, each in enumerate(report.clipping)),
    )


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["infopt", "drift", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return code or 0


def test_the_exit_code_is_the_answer(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, made / "out", made / "new.npz", "-q") == 0
    assert capsys.readouterr().out.startswith("NO DRIFT  ")
    np.savez(tmp_path / "few.npz", x=pictures(5, 3))
    assert run(monkeypatch, made / "out", tmp_path / "few.npz", "-q") == 0
    assert capsys.readouterr().out.startswith("UNDECIDED  ")
    np.savez(tmp_path / "bright.npz", x=pictures(100, 3, lambda x: x + 3))
    assert run(monkeypatch, made / "out", tmp_path / "bright.npz", "-q") == 3
    assert capsys.readouterr().out.startswith("DRIFT  ")
    assert run(monkeypatch, made / "out", tmp_path / "absent.npz") == 2
    assert capsys.readouterr().err.startswith("infopt: error: ")


def test_json_alone_is_on_stdout(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, made / "out", made / "new.npz", "--json") == 0
    held = json.loads(capsys.readouterr().out)
    assert held["schema"] == "infopt.drift/1"
    assert held["verdict"] == "no drift"
    assert held["tests"] == sum(each["q"] is not None for each in held["statistics"])
    assert {each["name"] for each in held["clipping"]} == {"x", "r", "c"}


def test_files_are_written_whole_or_not_at_all(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prom, page = tmp_path / "infopt.prom", tmp_path / "drift.md"
    prom.write_text("old")
    run(monkeypatch, made / "out", made / "new.npz", "-q", "--prometheus", prom, "--markdown", page)
    assert prom.read_text().startswith("# HELP infopt_drift_verdict ")
    assert page.read_text().startswith("**NO DRIFT")
    assert {path.name for path in tmp_path.iterdir()} == {"infopt.prom", "drift.md"}
    assert prom.stat().st_mode & 0o444 == 0o444  # the exporter is another user
    assert run(monkeypatch, made / "out", made / "new.npz", "--prometheus", tmp_path) == 2


def test_the_worst_is_shown_first(report: DriftReport) -> None:
    page = StringIO()
    render(report, Console(file=page, width=100), details=True)
    lines = page.getvalue().splitlines()
    count = sum(each.drifted for each in report.statistics)
    assert lines[0].endswith(f"300 samples against 300 of calibration, {count} of {report.tests} statistics drifted")
    assert lines[1].startswith("  ! ")
    for each in report.clipping:
        assert any(line.startswith(each.name) for line in lines)
    assert "Clipping of quantized tensors" in page.getvalue()
    assert headline(report).startswith("DRIFT  ")


def test_names_cannot_break_a_table(report: DriftReport) -> None:
    rows = [line for line in drift_markdown(hostile(report)).splitlines() if line.startswith("|")]
    assert len(rows) > 10
    for row in rows:
        assert row.count("|") in (6, 8)
        assert "<x>" not in row


def test_metrics_hold_escaped_names_and_the_verdict(report: DriftReport) -> None:
    lines = metrics(hostile(report), now=12.5).splitlines()
    assert sum(line.endswith(" 12.5") for line in lines) == 1
    assert any('verdict="drift"} 1.0' in line for line in lines)
    assert any(r'tensor="a\"b\\c\nd|`<x>0"}' in line for line in lines)
    names = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert len(set(names)) == len(names) == 12


def test_promtool_takes_the_metrics(promtool: str, report: DriftReport) -> None:
    for each in (report, hostile(report)):
        done = subprocess.run(
            [promtool, "check", "metrics"], input=metrics(each), capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")])
def test_promtool_takes_the_alerts(promtool: str, arguments: tuple[str, ...]) -> None:
    done = subprocess.run([promtool, *arguments], cwd=RULES, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_the_alerts_name_metrics_that_are_written(report: DriftReport) -> None:
    import re

    import yaml

    written = {line.split()[2] for line in metrics(report).splitlines() if line.startswith("# TYPE ")}
    groups: Any = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    named = {name for rule in groups[0]["rules"] for name in re.findall(r"infopt_\w+", rule["expr"])}
    assert named
    assert named <= written
