from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from infopt.bench import Latency
from infopt.budget import Budget
from infopt.model import Step
from infopt.report import CalibData, Data, FloatLayer, KernelCount, Memory, Report, Size, read_report
from infopt.verdict import headline, judged
from infopt.views.console import render
from infopt.views.markdown import MAX_CHARACTERS, code, markdown, text
from infopt.views.tables import MAX_ROWS
from infopt.wording import digits, megabytes, metric, signed, visible

GOLDENS = Path(__file__).parent / "goldens"
EXAMPLE = read_report(GOLDENS)
HOSTILE = (
    "a|b", "a\\|b", "a\\", "`", "``x`", "<script>alert(1)</script>", "</details>", "<!--",
    "x\n\n# y", "x\r| y |", "**b**", "[link](http://evil)", "![i](http://evil)", "@everyone", "#12",
    "org/repo#7",    "http://evil.example", "www.evil.example",
    "- item", "1. item", "> quote", "~~~", "$x$", "&lt;", "_a_", "[bold red]x[/]", "[/]",
    ":smile:", "\x1b[31mred", "\u202egnp", "\udcff", "", " ", "\u2028", "名前",
)  # fmt: skip


def float_nodes(*names: str) -> Report:
    nodes = tuple(FloatLayer(name, name, name, None) for name in names)
    return replace(EXAMPLE, kernels=KernelCount(0, len(nodes), nodes))


def printed(report: Report, width: int = 80, terminal: bool = True) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=terminal, color_system=None, legacy_windows=False)
    render(report, console, details=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_markdown_is_as_it_was() -> None:
    assert markdown(EXAMPLE) == (GOLDENS / "report.md").read_text()


def test_markdown_begins_with_the_headline_and_fits_a_comment() -> None:
    body = markdown(judged(EXAMPLE, Budget(max_drop=0.001)))
    assert body.startswith("**UNDECIDED INT8 for openvino: top1 0.9176 -> 0.9171")
    assert "| top1 | 0.9176 | 0.9171 | -0.0005 | -0.0021..0.0011 | undecided: drop at most 0.0010 |" in body
    assert "| `max_drop` | 0.0010 | 0.0005 | -0.0008..0.0018 | undecided |" in body
    assert len(body) < 10_000


def test_markdown_shows_one_table_and_folds_the_others() -> None:
    shown = re.sub(r"<details>.*?</details>", "", markdown(judged(EXAMPLE, Budget(max_drop=0.001))), flags=re.DOTALL)
    rows = [line.split(" | ")[0] for line in shown.splitlines() if line.startswith("|")]
    assert rows == ["| ", "| ---", "| top1", "| latency, median", "| size", "| integer layers"]
    assert len(shown) < 1500


def test_markdown_folds_all_but_a_few_warnings() -> None:
    body = markdown(replace(EXAMPLE, warnings=tuple(f"warning {i}" for i in range(40))))
    shown, folded = body.split("<details>", 1)
    assert shown.count("\n- ") == 5
    assert "<summary>36 more warnings</summary>" in folded
    assert "- and 21 more" in folded


def test_float_nodes_are_cut_at_fifteen() -> None:
    body = markdown(float_nodes(*(f"conv_{i}" for i in range(40))))
    assert body.count("`conv_") == 2 * MAX_ROWS
    assert "and 25 more" in body
    assert "and 25 more" in "\n".join(printed(float_nodes(*(f"conv_{i}" for i in range(40)))))
    assert "more" not in markdown(float_nodes(*(f"conv_{i}" for i in range(15))))


def test_what_a_step_found_stands_with_what_was_asked_for() -> None:
    found = {"method": "fast", "ranges": "mse", "block": 32, "flops": 0.5}
    step = Step("it", found, 1.0, 1, 1, asked={"method": "auto", "ranges": "auto", "block": 32, "latency": 0.8})
    body = markdown(replace(EXAMPLE, steps=(step, replace(step, name="other", asked=None))))
    assert (
        "method=fast (asked: auto), ranges=mse (asked: auto), block=32, latency=0.8 (asked), flops=0.5 (asked: none)"
        in body
    )
    assert "method=fast, ranges=mse, block=32, flops=0.5" in body


def test_huge_reports_are_shortened_and_say_so() -> None:
    nasty = "|`<" * 200
    report = replace(
        float_nodes(*[nasty] * 40),
        steps=(Step(nasty, {nasty: nasty}, 1.0, 1, 1),) * 50,
        warnings=tuple(f"{i}{nasty}" for i in range(50)),
        environment={f"{i}{nasty}": nasty for i in range(50)},
    )
    body = markdown(report)
    assert len(body) <= MAX_CHARACTERS + 100
    assert body.startswith("**PASS")
    assert body.endswith("Shortened; the whole report is in `report.json`.\n")


def shape(body: str) -> list[str]:
    """The structure of a Markdown text: block and inline elements in order, without texts."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table").enable("strikethrough")
    tokens = parser.parse(body)
    inline = [child for token in tokens for child in token.children or ()]
    kept = [token.type if token.type != "html_block" else token.content for token in tokens]
    return kept + [child.type for child in inline if child.type not in ("text", "code_inline", "html_inline")]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12)), min_size=3, max_size=3))
def test_names_cannot_change_the_structure_of_markdown(names: list[str]) -> None:
    def with_names(a: str, b: str, c: str) -> Report:
        return replace(float_nodes(a, b), warnings=(f"w{c}",), environment={a: c})

    assert shape(markdown(with_names(*names))) == shape(markdown(with_names("a", "b", "c")))


@pytest.mark.parametrize("warning", ["- x", "+ x", "1. x", "1) x", "# x", "> x", "= x", "---", "***", "```", "~~~"])
def test_warnings_open_no_block(warning: str) -> None:
    shown = shape(markdown(replace(EXAMPLE, warnings=(warning,))))
    assert shown == shape(markdown(replace(EXAMPLE, warnings=("x",))))


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_shown_as_they_are(name: str) -> None:
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    for shown in (code(name), text(f"x{name}")):
        tokens = parser.parseInline(shown)[0].children
        assert {token.type for token in tokens} <= {"text", "code_inline", "html_inline", "text_special"}
        assert all(t.content in ("<code>", "</code>") for t in tokens if t.type == "html_inline")
        plain = "".join(t.content for t in tokens if t.type != "html_inline").replace("\u200b", "")
        assert plain in (visible(name) or "(unnamed)", visible(f"x{name}"))


@pytest.mark.parametrize("raw", ["@everyone", "see #12", "http://evil", "www.evil.example", "GH-12", "org/repo#7"])
def test_sentences_mention_and_link_nobody(raw: str) -> None:
    assert "&#8203;" in text(raw)


def test_ordinary_names_stay_readable_in_the_raw_text() -> None:
    assert code("/layer1/conv_2.weight:0") == "`/layer1/conv_2.weight:0`"
    assert text("max_drop keeps -> 0.5 (95 %)") == "max_drop keeps -> 0.5 (95 %)"


def test_synthetic_and_unmeasured_is_said_by_every_view() -> None:
    report = judged(
        replace(
            EXAMPLE,
            accuracy=None,
            accuracy_reason="synthetic data has no labels",
            data=Data(CalibData(None, 8, None, synthetic=True), None),
            latency=Latency(reason="there is no GPU here"),
            size=Size(10, None, "TensorRT is not installed"),
            memory=Memory(None, "there is no GPU here"),
            kernels=KernelCount(None, None, (), "TensorRT is not installed"),
            fidelity=(),
            target=None,
        )
    )
    for view in (headline(report), markdown(report), " ".join(" ".join(printed(report)).split())):
        assert "accuracy was NOT measured (synthetic data has no labels)" in view
        assert "speed was not measured (there is no GPU here)" in view
        assert "no artifact was built (TensorRT is not installed)" in view
        assert "synthetic" in view


def test_console_begins_with_the_headline() -> None:
    lines = printed(EXAMPLE, width=300)
    assert lines[0] == headline(EXAMPLE)
    assert printed(EXAMPLE, terminal=False)[0] == headline(EXAMPLE)


@pytest.mark.parametrize("width", [80, 120])
def test_console_keeps_to_its_width_and_shows_numbers_whole(width: int) -> None:
    report = replace(float_nodes("block/" * 30 + "conv", "short"), accuracy=EXAMPLE.accuracy)
    lines = printed(judged(report, Budget(max_drop=0.001)), width=width)
    assert max(map(len, lines)) <= width
    cells = ["max_drop", "0.0010", "0.0005", "-0.0008..0.0018", "undecided"]
    assert any("0.9176" in line and "-0.0021..0.0011" in line and "10000" in line for line in lines)
    assert any(line.split() == cells for line in lines)


@pytest.mark.parametrize("name", HOSTILE)
def test_console_shows_markup_and_swallows_control_sequences(name: str) -> None:
    lines = printed(replace(float_nodes(name), warnings=(name,)), width=200)
    assert all(line.isprintable() for line in lines)
    assert any(visible(name) in line for line in lines)


def test_console_colours_bad_news() -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="standard")
    render(judged(EXAMPLE, Budget(min_speedup=3)), console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().startswith("\x1b[1;31mFAIL")


def test_details_are_only_printed_when_asked_for() -> None:
    console = Console(width=80, file=io.StringIO())
    render(EXAMPLE, console)
    assert isinstance(console.file, io.StringIO)
    assert "Environment" not in console.file.getvalue()
    assert "Environment" in printed(EXAMPLE)


@given(st.text(max_size=300))
def test_visible_text_is_one_printable_line(raw: str) -> None:
    shown = visible(raw)
    assert len(shown) <= 160
    assert len(shown.splitlines()) <= 1
    assert shown.isprintable()
    assert visible(shown) == shown


def test_long_names_keep_both_ends() -> None:
    assert visible("begin" + "x" * 500 + "end").startswith("begin")
    assert visible("begin" + "x" * 500 + "end").endswith("end")


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (metric(0.91764), "0.9176"), (metric(0.0), "0.0000"), (metric(1.2e-6), "1.2e-06"),
        (metric(4.769e-5), "0.000048"), (metric(-0.0002), "-0.0002"),
        (metric(None), "-"), (metric(float("nan")), "-"), (metric(23.456), "23.46"),
        (signed(-0.0005), "-0.0005"),
        (signed(0.5), "+0.5000"),
        (digits(1234.5), "1234"), (digits(12.345), "12.3"), (digits(0.051234), "0.0512"), (digits(0.0), "0"),
        (digits(-2.5), "-2.50"), (digits(float("inf")), "-"), (megabytes(0), "0 B"),
        (megabytes(999), "999 B"),
        (megabytes(1000), "1.00 kB"), (megabytes(20_000_000), "20.0 MB"), (megabytes(None), "-"),
        (megabytes(10**9), "1.00 GB"), (megabytes(999_999), "1000 kB"), (digits(9.999), "10.0"),
    ],
)  # fmt: skip
def test_numbers_read_well(shown: str, wanted: str) -> None:
    assert shown == wanted
