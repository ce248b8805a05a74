"""Reports to show, and a browser to show them in."""

from __future__ import annotations

import base64
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from infopt.bench import CandidateLatency, FloatLatency, Latency, Seconds, times
from infopt.budget import Budget
from infopt.report import ClassChange, FloatLayer, KernelCount, Layer, Report, SampleChange, read_report
from infopt.verdict import judged

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REQUIRED = "INFOPT_REQUIRE_CHROMIUM"
"""Set where the browser must be there, as in the project's own CI: tests fail then instead of being skipped."""

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
EXAMPLE = read_report(Path(__file__).parents[1] / "goldens")


def thumbnail(seed: int, size: int = 28) -> str:
    """A small picture as a data URI."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def calls(milliseconds: float, seed: int) -> Seconds:
    """Latencies with a tail."""
    rng = np.random.default_rng(seed)
    return milliseconds * 1e-3 * (0.9 + rng.lognormal(-2.2, 0.8, 500))


def full_report() -> Report:
    """A report that holds everything, and misses its budget."""
    rng = np.random.default_rng(0)
    latency = Latency(
        *(1, 2, FloatLatency("bf16", 0.9175, times(calls(2.1, 1))), CandidateLatency("int8", times(calls(1.3, 2)))),
        *(1.62, (1.58, 1.67), 412),
    )
    layers = tuple(
        Layer(f"/layer{i // 8}/block{i % 8}/conv", "Conv", float(30 + 8 * rng.standard_normal()), 20.0 + i / 10)
        for i in range(60)
    )
    cured = replace(layers[7], sqnr_db=6.1, why="a few channels are far larger", remedy="keep it in float", gain_db=3.2)
    names = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    classes = tuple(
        ClassChange(
            name,
            1000,
            0.95 - 0.02 * i,
            0.95 - 0.025 * i + 0.01,
            0.005 * i - 0.01,
            (0.002 - 0.005 * i, 0.016 - 0.005 * i),
        )
        for i, name in reversed(list(enumerate(names)))
    )
    samples = tuple(
        SampleChange(
            i * 37,
            f"picture_{i}.png",
            1.0 / (i + 1),
            f"Shirt {0.5 + i / 100:.2f}",
            "Coat 0.61",
            "Shirt",
            i < 6,
            thumbnail(i),
        )
        for i in range(20)
    )
    floats = tuple(
        FloatLayer(f"/head/Gemm_{i}", "Gemm", "quantizing it costs more than it brings", 0.02) for i in range(3)
    )
    return judged(
        replace(
            EXAMPLE,
            latency=latency,
            layers=(*layers[:7], cured, *layers[8:]),
            classes=classes,
            samples=samples,
            kernels=KernelCount(41, 44, floats),
            accuracy=replace(EXAMPLE.accuracy, interval="tango", mcnemar_p=0.625) if EXAMPLE.accuracy else None,
        ),
        Budget(max_drop=0.001, min_speedup=1.7, max_bytes=2_000_000, min_integer_share=0.9),
    )


def executable() -> str | None:
    """Where Chromium is, if it is anywhere."""
    return next((found for name in CHROMIUM if (found := shutil.which(name))), None)


def absent(what: str) -> Any:
    """Skip, or fail where the browser was promised."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{what}, and {REQUIRED} is set")
    pytest.skip(what)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium from the system's packages."""
    path = executable()
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
