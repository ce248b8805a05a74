"""The page as people meet it: in a real Chromium, wide and narrow, light and dark, by keyboard, on paper, offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    Opened = Callable[..., Page]

WIDTHS, SCHEMES, NAMES = (1280, 390), ("light", "dark"), ("full", "unmeasured", "hostile")
SECONDS = 1.0
"""Within which the page is rendered."""

BLOCKS = """
() => [...document.querySelectorAll("body, header, main, section, section > div, dl, .figure dd")].flatMap((parent) => {
  const box = (element) => element.getBoundingClientRect();
  const apart = ".skip, script, .narrow, .wide";
  const shown = [...parent.children].filter((child) => box(child).height && !child.matches(apart));
  const pairs = shown.flatMap((one, index) => shown.slice(index + 1).map((other) => [one, other]));
  return pairs.filter(([one, other]) => {
    const [a, b] = [box(one), box(other)];
    return a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  }).map((pair) => pair.map((each) => each.outerHTML.slice(0, 80)).join(" overlaps "));
})
"""
"""Pairs of neighbours that cover each other."""

BEYOND = """
() => [...document.querySelectorAll("body *:not(.skip)")].filter((element) => {
  if (element.closest(".scroll") && !element.matches(".scroll")) return false; // scrolls by itself
  const box = element.getBoundingClientRect();
  return box.width && box.height && (box.right > innerWidth + 1 || box.left < -1);
}).map((element) => element.outerHTML.slice(0, 120))
"""
"""Elements that reach out of the window."""

WORDS = """
() => [...document.querySelectorAll("figure svg")].filter((each) => each.getClientRects().length).flatMap((svg) => {
  const texts = [...svg.querySelectorAll("text")].filter((text) => text.textContent);
  const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
  return boxes.flatMap(([one, a], index) => boxes.slice(index + 1).filter(([, b]) =>
    a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3
  ).map(([other]) => `${one} / ${other}`));
})
"""
"""Words in charts that cover each other."""


def each_look(names: tuple[str, ...] = NAMES) -> Any:
    return pytest.mark.parametrize(("name", "width"), [(name, width) for name in names for width in WIDTHS])


LOOKS = [("full", width, scheme) for width in WIDTHS for scheme in SCHEMES]
LOOKS += [(name, width, scheme) for name in NAMES[1:] for width, scheme in zip(WIDTHS, SCHEMES, strict=True)]


@pytest.mark.parametrize(("name", "width", "scheme"), LOOKS)
def test_axe_finds_nothing(opened: Opened, name: str, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(opened(name, width, scheme)).response
    assert len(found["passes"]) > 20
    assert [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found["violations"]] == []


@each_look()
def test_nothing_reaches_beyond_the_window(opened: Opened, name: str, width: int) -> None:
    page = opened(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(BEYOND) == []


@each_look()
def test_nothing_overlaps(opened: Opened, name: str, width: int) -> None:
    page = opened(name, width)
    assert page.evaluate(BLOCKS) == []
    assert page.evaluate(WORDS) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_window_gets_the_drawing_that_fits(opened: Opened, width: int) -> None:
    page = opened("full", width)
    shown = page.evaluate(
        "[...document.querySelectorAll('figure svg')].filter((s) => s.getBoundingClientRect().height).length"
    )
    assert shown == page.locator("figure").count() == 6
    assert page.locator("figure .narrow").first.is_visible() == (width == 390)


def test_colors_follow_the_scheme(opened: Opened) -> None:
    look = (
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg text')).fill]"
    )
    (light, ink), (dark, chalk) = (opened("full", scheme=scheme).evaluate(look) for scheme in SCHEMES)
    assert light == "rgb(255, 255, 255)" != dark
    assert ink != chalk


def test_nothing_is_asked_of_a_network_and_no_error_is_logged(browser: Browser, files: dict[str, Path]) -> None:
    asked, told = [], []
    for name in NAMES:
        context = browser.new_context()
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.goto(files[name].as_uri())
        page.wait_for_timeout(200)
        assert page.evaluate("window.owned") is None
        context.close()
    assert {url for url in asked if not url.startswith("data:")} == {path.as_uri() for path in files.values()}
    assert told == []


def test_the_policy_stops_a_script_that_got_in(browser: Browser, files: dict[str, Path], tmp_path: Path) -> None:
    smuggled = files["full"].read_text().replace("</main>", "<script>window.owned = 1</script></main>")
    (tmp_path / "page.html").write_text(smuggled)
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.evaluate("window.owned") is None
    assert page.locator("th button").count() > 0  # ours did run
    page.close()


def column(page: Page, index: int) -> list[float]:
    cells = page.locator(f"#layers tbody tr td:nth-child({index})").all_inner_texts()
    return [float(text) for text in cells]


def test_tables_are_sorted_by_keyboard(opened: Opened) -> None:
    page = opened("full")
    head = page.locator("#layers th:nth-child(4)")
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, 4) == sorted(column(page, 4))
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, 4) == sorted(column(page, 4), reverse=True)
    assert page.locator("#layers th[aria-sort]").count() == 1


def test_without_scripts_the_worst_layers_come_first(opened: Opened) -> None:
    page = opened("full", script=False)
    assert page.locator("#layers th button").count() == 0
    assert column(page, 3) == sorted(column(page, 3))


def test_what_scrolls_can_be_reached_by_keyboard(opened: Opened) -> None:
    page = opened("full", 390)
    seen = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    regions = page.evaluate(
        "[...document.querySelectorAll('main > section > .scroll')].map((r) => r.getAttribute('aria-label'))"
    )
    assert len(regions) >= 8
    assert set(regions) <= seen


def test_nothing_moves_while_it_loads(opened: Opened) -> None:
    page = opened("full")
    shift = """() => new Promise((done) => {
      let sum = 0;
      new PerformanceObserver((list) => list.getEntries().forEach((entry) => (sum += entry.value)))
        .observe({ type: "layout-shift", buffered: true });
      setTimeout(() => done(sum), 300);
    })"""
    assert page.evaluate(shift) == 0


def test_it_is_rendered_within_a_second(opened: Opened) -> None:
    # The best of a few: whoever else uses the machine is not the page's fault.
    ended = "performance.getEntriesByType('navigation')[0].loadEventEnd"
    assert 0 < min(opened("full").evaluate(ended) for _ in range(5)) < 1000 * SECONDS


def test_paper_has_everything_and_no_controls(opened: Opened) -> None:
    page = opened("full", scheme="dark")
    recipe = "document.querySelector('#recipe pre').checkVisibility()"
    assert not page.evaluate(recipe)  # folded
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(recipe)
    table = page.evaluate(
        "[...document.querySelectorAll('.scroll')].every((r) => r.scrollHeight <= r.clientHeight + 1)"
    )
    assert table
    assert page.pdf().startswith(b"%PDF")
