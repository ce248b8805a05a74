"""``infopt blame`` from the command line: what is printed, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from infopt.blaming.report import BlamedLayer, BlameReport, Cause, Remedy
from infopt.views.blame import headline, markdown, tables

if TYPE_CHECKING:
    from conftest import Cli

HOSTILE = "a|b\n\x1b[31m@someone <script>`"


def report(name: str = "conv1", **changes: object) -> BlameReport:
    cause = Cause("clipping", name, f"clipping: 3 % of {name}", {"clipped": 0.03})
    layers = (
        BlamedLayer(name, "Conv", 12.25, 30.0, 20.0, 7.5, 0.25, (cause,), "--ranges minmax (+7.1 dB)"),
        *(BlamedLayer(f"layer{i}", "MatMul", None) for i in range(20)),
    )
    remedies = (Remedy("--ranges minmax", {"ranges": "minmax"}, 7.1, 0.0, True),)
    fields = {"infopt": "0", "path": "out", "target": "openvino", "model": "m.onnx", "samples": 16, "judged": 8}
    rest = {"output_sqnr_db": 12.5, "layers": layers, "remedies": remedies, "seconds": 1.0, "notes": ("a note",)}
    return BlameReport(**{**fields, **rest, **changes})  # type: ignore[arg-type]


def test_the_command_prints_tables_json_and_markdown(cli: Cli) -> None:
    assert cli.quantize("-o", "out", "--no-eval").code == 0
    before = cli.listing("out")
    result = cli("blame", "out", "--no-bench", "--markdown", "blame.md")
    assert result.code == 0
    assert result.out.startswith("BLAME  out: ")
    assert "Layers" in result.out
    assert Path("blame.md").read_text().startswith("**BLAME")
    told = json.loads(cli("blame", "out", "--no-bench", "--json").out)
    assert told["schema"] == "infopt.blame/1"
    assert {"name", "op", "sqnr_db", "gain_db", "price_ms", "causes", "remedy"} <= set(told["layers"][0])
    assert len(cli("blame", "out", "--no-bench", "-q").out.splitlines()) == 1
    assert cli.listing("out") == before


def test_apply_writes_what_it_found(cli: Cli) -> None:
    assert cli.quantize("-o", "out", "--ranges", "percentile", "--percentile", "80").code == 0
    result = cli("blame", "out", "--no-bench", "--apply", "-o", "better")
    assert result.code == 0
    assert result.err.endswith("written to better\n")
    assert json.loads(Path("better/report.json").read_text())["layers"]
    assert "better has" in result.out


def test_what_cannot_be_blamed_is_refused_in_one_line(cli: Cli) -> None:
    cli.refuses("blame", "nowhere", says=("nowhere", "does not exist"))
    cli.refuses("blame", "model.onnx", says=("not a directory",))
    cli.refuses("blame", ".", says=("not an output directory",))
    cli.refuses("blame", ".", "--apply", says=("-o PATH",))
    cli.refuses("blame", ".", "--samples", "0", says=("samples",))


def test_the_worst_layers_come_first_and_the_rest_on_request() -> None:
    layers, why, remedies = tables(report())
    assert layers.rows[0] == ("conv1", "Conv", "12.2", "+7.5", "+0.25", "-")
    assert (len(layers.rows), layers.more) == (10, 11)
    assert len(tables(report(), details=True)[0].rows) == 21
    assert why.rows == (("conv1", "clipping: 3 % of conv1", "--ranges minmax (+7.1 dB)"),)
    assert remedies.rows == (("--ranges minmax", "+7.1", "0", "--apply"),)
    assert (
        headline(report())
        == "BLAME  out: outputs at 12.5 dB SQNR; conv1 costs most; --ranges minmax would bring +7.1 dB"
    )
    assert headline(report(output_sqnr_db=None, layers=(), remedies=())) == "BLAME  out: no error"


def test_names_stay_names_in_markdown() -> None:
    text = markdown(report(HOSTILE))
    assert "\x1b" not in text
    assert "<script>" not in text
    assert "@someone" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows[:3]}) == 1
