"""``infopt report``: the report of an earlier run as a page or as Markdown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import infopt

if TYPE_CHECKING:
    from conftest import Cli

GOLDENS = Path(__file__).parents[1] / "goldens"


@pytest.mark.parametrize("source", [GOLDENS, GOLDENS / "report.json"])
def test_a_report_becomes_a_page(cli: Cli, source: Path) -> None:
    result = cli("report", source, "-o", "page.html")
    assert (result.code, result.out) == (0, "page.html\n")
    page = (cli.folder / "page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "0.9176" in page


def test_a_report_becomes_markdown_as_the_run_wrote_it(cli: Cli) -> None:
    assert cli("report", GOLDENS, "-o", "out.md").code == 0
    assert (cli.folder / "out.md").read_text() == (GOLDENS / "report.md").read_text()


def test_a_run_leaves_the_page_with_the_recipe_that_made_it(cli: Cli) -> None:
    assert cli.quantize("-o", "out").code == 0
    page = (cli.folder / "out" / "report.html").read_text()
    assert "not asked for" in page
    assert "use = &#34;quantize&#34;" in page
    assert cli("report", "out", "-o", "again.html").code == 0
    seconds = re.compile(r'<td class="number">[\d.]+</td>')
    assert seconds.sub("", (cli.folder / "again.html").read_text()) == seconds.sub("", page)


def test_an_existing_file_is_replaced_only_by_force(cli: Cli) -> None:
    (cli.folder / "page.html").write_text("mine")
    cli.refuses("report", GOLDENS, "-o", "page.html", says=("page.html exists", "--force"))
    assert cli("report", GOLDENS, "-o", "page.html", "--force").code == 0
    assert "mine" not in (cli.folder / "page.html").read_text()


def test_a_report_is_not_written_over_itself(cli: Cli) -> None:
    (cli.folder / "report.md").write_text((GOLDENS / "report.json").read_text())
    cli.refuses("report", "report.md", "-o", "report.md", "--force", says=("is an input of this run",))


def test_other_formats_are_refused(cli: Cli) -> None:
    cli.refuses("report", GOLDENS, "-o", "page.pdf", says=("neither .html nor .md", "-o FILE.html"))


def test_what_is_no_report_is_refused(cli: Cli) -> None:
    cli.refuses("report", "nothing", "-o", "page.html", says=("there is no report at nothing",))
    (cli.folder / "report.json").write_text(json.dumps({"schema": "infopt.report/9"}))
    cli.refuses("report", "report.json", "-o", "page.html", says=("has format infopt.report/9", "update infopt"))
    (cli.folder / "report.json").write_text((GOLDENS / "report.json").read_text()[:500])
    cli.refuses("report", "report.json", "-o", "page.html", says=("truncated or not JSON",))


def test_python_has_it_too(tmp_path: Path) -> None:
    assert infopt.render(GOLDENS, tmp_path / "page.html") == tmp_path / "page.html"
    assert (tmp_path / "page.html").exists()
