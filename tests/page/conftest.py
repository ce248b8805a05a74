"""A browser to show reports in, and what it shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page.samples import HOSTILE, full_report, named, unmeasured_report

from infopt.report import Report
from infopt.views.html import html

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REQUIRED = "INFOPT_REQUIRE_CHROMIUM"
"""Set where the browser must be there, as in the project's own CI: tests fail then instead of being skipped."""

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
RECIPE = 'model = "model.onnx"\ntarget = "openvino"\n\n[[pass]]\nuse = "quantize"\n'


def absent(what: str) -> None:
    """Skip, or fail where the browser was promised."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{what}, and {REQUIRED} is set")
    pytest.skip(what)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium from the system's packages; nothing is downloaded."""
    path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        absent("Chromium is not installed")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright is not installed")
    with sync_playwright() as playwright:
        # Chromium's sandbox does not start for root, as in containers; the pages are our own files.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def drawn() -> Callable[[Report], str]:
    """Renders a report with its charts, which other tests go without."""

    def render(report: Report) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("INFOPT_CHARTS", raising=False)
            return html(report, RECIPE)

    return render


@pytest.fixture(scope="session")
def full(drawn: Callable[[Report], str]) -> str:
    """The page of a report that holds everything."""
    return drawn(full_report())


@pytest.fixture(scope="session")
def files(full: str, drawn: Callable[[Report], str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages on disk, by name."""
    texts = {"full": full, "unmeasured": drawn(unmeasured_report()), "hostile": drawn(named(HOSTILE))}
    folder = tmp_path_factory.mktemp("pages")
    paths = {name: folder / f"{name}.html" for name in texts}
    for name, text in texts.items():
        paths[name].write_text(text, encoding="utf-8")
    return paths


@pytest.fixture
def opened(browser: Browser, files: dict[str, Path]) -> Iterator[Callable[..., Page]]:
    """Opens one of the pages: ``opened("full", width=390, scheme="dark")``."""
    contexts = []

    def show(name: str, width: int = 1280, scheme: str = "light", script: bool = True) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        page = context.new_page()
        page.goto(files[name].as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
