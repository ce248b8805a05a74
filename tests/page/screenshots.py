"""Takes the pictures of a report that README shows: ``python tests/page/screenshots.py DIR examples/fashion``.

DIR is an output directory of infopt. Each picture shows the top of the page as a person first meets it.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

SHOTS = {"report-1280.png": (1280, 1500, "light"), "report-390.png": (390, 1500, "dark")}
"""File to width, height and color scheme."""

COLORS = 128
"""A page has few colors; a palette makes the picture a third as large."""


def main() -> None:
    """Write the pictures."""
    page_file, folder = Path(sys.argv[1], "report.html").resolve(), Path(sys.argv[2])
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (width, height, scheme) in SHOTS.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(page_file.as_uri())
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.quantize(COLORS).save(folder / name, optimize=True)
            print(f"{folder / name}: {(folder / name).stat().st_size / 1000:.0f} kB")
        browser.close()


if __name__ == "__main__":
    main()
