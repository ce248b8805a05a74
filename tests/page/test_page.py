"""The page as text: what it says, what it loads, and what names cannot do to it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page.samples import EXAMPLE, HOSTILE, full_report, named, thumbnail, unmeasured_report

from infopt.errors import Unmeasured
from infopt.report import FloatLayer, KernelCount, Report, read_report
from infopt.verdict import headline, judged
from infopt.views.html import html
from infopt.views.html.charts.every import charts
from infopt.views.html.draw import draw, inline
from infopt.wording import visible


class Outline(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.said = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.links += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "xlink:href")
        ]

    def handle_data(self, data: str) -> None:
        self.said += f" {data}"


def said(text: str) -> str:
    """What the page says, white space joined."""
    return " ".join(Outline(text).said.split())


def test_the_answer_comes_first() -> None:
    text = said(html(full_report()).partition("<body>")[2])
    assert text.index("Do not ship") < text.index("It misses what was demanded") < text.index("Accuracy")


def test_everything_that_was_measured_is_there(full: str) -> None:
    text = said(full)
    for each in (
        "0.9176 → 0.9171",
        "-0.0021..0.0011",
        "1.62x faster",
        "3.60x smaller",
        "41 of 44",
        "Tango's score interval",
        "p = 0.62",
    ):
        assert each in text, each
    for each in ("/layer0/block7/conv", "keep it in float", "Ankle boot", "picture_0.png", "infopt run recipe.toml"):
        assert each in text, each
    assert headline(full_report()).partition("  ")[2] in text


def test_the_page_loads_nothing(full: str) -> None:
    outline = Outline(full)
    assert len(outline.links) > 20
    assert [each for each in outline.links if not each.startswith(("#", "data:"))] == []
    assert "url(" not in full
    assert "@import" not in full


def test_the_policy_allows_our_script_alone(full: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', full)
    script = re.search(r"<script>(.*?)</script>", full, re.DOTALL)
    assert policy is not None
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy[1].startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}'" in policy[1]
    assert full.count("<script") == 1


def test_what_was_not_measured_says_why() -> None:
    text = said(html(unmeasured_report()))
    for why in ("synthetic data has no labels", "there is no GPU here", "TensorRT is not installed"):
        assert why in text
    assert "infopt blame" in text
    assert text.count("synthetic data has no labels") > 2  # for classes and samples, too


@pytest.mark.parametrize("reason", ["accuracy", "latency", "size", "integer layers"])
def test_each_figure_that_is_missing_is_called_not_measured(reason: str) -> None:
    assert re.search(rf"{reason}(, median)? not measured", said(html(unmeasured_report())))


def test_names_cannot_change_the_page() -> None:
    assert Outline(html(named(HOSTILE), HOSTILE)).elements == Outline(html(named("plain"), "plain")).elements


@settings(max_examples=15, deadline=None)
@given(st.text(st.characters(exclude_categories=[]), min_size=1, max_size=20))
def test_no_name_can_change_the_page(name: str) -> None:
    shown = visible(f"x{name}x", 100)
    page = html(named(f"x{name}x"), f"x{name}x")
    assert Outline(page).elements == Outline(html(named("xyx"), "xyx")).elements
    assert shown in said(page)


def test_names_in_charts_are_text(drawn: Callable[[Report], str]) -> None:
    hostile, plain = Outline(drawn(named(HOSTILE))), Outline(drawn(named("a plain name")))
    assert hostile.elements == plain.elements
    assert sum(tag == "svg" for tag, _ in hostile.elements) == 2 * len(charts(full_report()))


def test_hidden_characters_are_seen() -> None:
    page = html(named("a\u202eb\x1b[31m"), "# \u202e\u2066\x1b[0m")
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", page)
    assert "a\ufffdb" in page


@pytest.mark.parametrize(
    "picture",
    [
        "javascript:alert(1)",
        "https://evil.example/x.png",
        "data:text/html;base64,AAAA",
        "data:image/svg+xml;base64,AAAA",
        'data:image/png;base64,AAAA" onerror="x',
    ],
)
def test_a_thumbnail_that_is_no_picture_is_left_out(picture: str) -> None:
    samples = (replace(full_report().samples[0], thumbnail=picture),)
    page = html(replace(full_report(), samples=samples))
    assert "<img" not in page
    assert "picture left out" in page


def test_a_huge_report_stays_below_two_megabytes(drawn: Callable[[Report], str]) -> None:
    full, long = full_report(), "n" * 500
    report = replace(
        full,
        layers=tuple(replace(full.layers[7], name=f"{i}{long}", why=long, remedy=long) for i in range(3000)),
        classes=tuple(replace(full.classes[0], label=f"{i}{long}") for i in range(1000)),
        samples=tuple(replace(full.samples[0], thumbnail=thumbnail(i, 224), text=long) for i in range(100)),
        kernels=KernelCount(0, 3000, tuple(FloatLayer(f"{i}{long}", "Conv", long, None) for i in range(3000))),
        warnings=tuple(f"{i}{long}" for i in range(2000)),
        environment={f"{i}{long}": long for i in range(500)},
    )
    page = drawn(report)
    assert len(page.encode()) < 2_000_000
    assert "and 2800 more, all in report.json" in said(page)


def test_an_old_report_is_shown(tmp_path: Path) -> None:
    content = json.loads(EXAMPLE.text())
    for key in ("classes", "samples"):
        del content[key]
    for key in ("interval", "mcnemar_p", "groups"):
        del content["accuracy"][key]
    for side in ("baseline_float", "candidate"):
        del content["latency"][side]["ms"]["distribution"]
    (tmp_path / "report.json").write_text(json.dumps(content))
    report = read_report(tmp_path)
    assert "0.9176 → 0.9171" in html(report)
    assert {chart.name for chart in charts(report)} >= {"accuracy", "latency", "size", "kernels"}


def test_charts_say_in_words_what_they_show() -> None:
    says = {chart.name: chart.says for chart in charts(full_report())}
    assert (
        says["accuracy"]
        == "top1 changed by -0.0005, 95 % interval -0.0021..0.0011. The budget allows a drop of 0.0010."
    )
    assert says["kernels"] == "Compute layers: 41 integer, 3 float, of 44."
    assert says["layers"].startswith("60 layers; the lowest are /layer0/block7/conv 6.10 dB; ")
    assert "the worst is Ankle boot, a drop of 0.0350" in says["classes"]


def test_rows_of_one_name_stay_apart() -> None:
    classes = next(chart for chart in charts(named("same")) if chart.name == "classes")
    assert [row["name"] for row in classes.layers[0]["data"]["values"]] == ["same", "same (2)", "same (3)"]


def test_a_large_model_has_a_bar_for_the_lowest_of_its_neighbours() -> None:
    few = full_report().layers[:2]
    many = tuple(replace(few[0], sqnr_db=float(i % 7 + 10)) for i in range(1200))
    chart = next(each for each in charts(replace(full_report(), layers=many)) if each.name == "layers")
    bars = chart.layers[0]["data"]["values"]
    assert len(bars) == 300
    assert bars[0] == {"low": 0.6, "high": 4.4, "y": 10.0, "zero": 0, "color": "var(--bad)"}
    assert bars[1]["y"] == min(i % 7 + 10 for i in range(4, 8))


def test_a_destroyed_layer_is_drawn_at_the_floor_in_its_place() -> None:
    layers = tuple(
        replace(full_report().layers[0], name=name, sqnr_db=db)
        for name, db in (("good", 40.0), ("dead", -100.0), ("fair", 30.0), ("gone", -math.inf))
    )
    chart = next(each for each in charts(replace(full_report(), layers=layers)) if each.name == "layers")
    assert [bar["y"] for bar in chart.layers[0]["data"]["values"]] == [40.0, -20.0, 30.0, -20.0]
    assert "dead -100 dB" in chart.says


def test_numbers_that_are_not_finite_are_not_drawn() -> None:
    full, nan = full_report(), float("nan")
    assert full.accuracy is not None
    report = replace(
        full,
        accuracy=replace(full.accuracy, delta=nan, others=()),
        classes=(replace(full.classes[0], baseline=nan, candidate=nan, drop=nan, ci95=None), full.classes[1]),
        layers=tuple(replace(each, sqnr_db=None) for each in full.layers),
    )
    found = {chart.name: chart for chart in charts(report)}
    assert set(found) == {"latency", "size", "kernels", "classes"}
    assert "all 1;" in found["classes"].says
    assert "NaN" not in json.dumps([chart.layers for chart in found.values()])
    assert "accuracy not measured the metric is not a number" in said(html(judged(report)))


def test_without_drawing_the_tables_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFOPT_CHARTS", "off")
    page = html(full_report())
    assert "<svg" not in page
    assert "charts were not drawn: INFOPT_CHARTS=off; the tables hold the same numbers" in page
    assert "/layer0/block7/conv" in page


def test_a_drawing_process_that_dies_takes_nothing_with_it() -> None:
    code = (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "from infopt.errors import Unmeasured\nfrom infopt.views.html.draw import draw\n"
        "try:\n    draw([{'mark': 'point', 'data': {'values': [{}]}}])\nexcept Unmeasured as error:\n    print(error)"
    )
    env = {"INFOPT_CHARTS": ""} | {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.startswith("charts were not drawn: Fatal process out of memory")


def test_a_specification_that_is_none_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INFOPT_CHARTS")
    with pytest.raises(Unmeasured, match="charts were not drawn: "):
        draw([{"mark": {"type": "nonsense"}}])


def test_only_shapes_and_text_of_a_drawing_reach_the_page() -> None:
    hostile = (
        '<svg xmlns="http://www.w3.org/2000/svg" onload="x()" width="5"><script>x()</script>'
        '<a href="http://evil"><text>linked</text></a><image href="http://evil"/><style>*{}</style>'
        '<g id="same" class="c" style="fill:red"><text fill="url(#x)" x="1">a &lt;b&gt;</text></g>'
        '<path d="M0,0h1" fill="var(--ink)" display="none"/><path d="M0,0h2" fill="var(--ink)"/></svg>'
    )
    assert inline(hostile) == (
        '<svg width="5"><g><text x="1">a &lt;b&gt;</text></g><path d="M0,0h2" fill="var(--ink)"></path></svg>'
    )


def test_a_damaged_drawing_is_reported() -> None:
    with pytest.raises(Unmeasured, match="the drawing is damaged"):
        inline("<svg><g></svg>")


def test_flips_are_said_to_come_first_and_marked_either_way() -> None:
    full = full_report()
    lost, gained = full.samples[0], replace(full.samples[1], lost=False, gained=True)
    page = html(replace(full, samples=(lost, gained, full.samples[10])))
    cards = page[page.index('<ul class="samples">') :]
    assert (cards.count(">lost</b>"), cards.count(">gained</b>")) == (1, 1)
    assert "Samples whose answer flipped come first" in page
