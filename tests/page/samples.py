"""Reports to show."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from infopt.bench import CandidateLatency, FloatLatency, Latency, Seconds, times
from infopt.budget import Budget
from infopt.report import (
    CalibData,
    ClassChange,
    Data,
    FloatLayer,
    KernelCount,
    Layer,
    Memory,
    Report,
    SampleChange,
    Size,
    read_report,
)
from infopt.verdict import judged

HOSTILE = "<script>window.owned=1</script>\"'><img src=x onerror=owned=1>\u202egnp.\x1b[31m" + "W" * 300
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


def unmeasured_report() -> Report:
    """A report in which nothing could be measured."""
    return judged(
        replace(
            EXAMPLE,
            accuracy=None,
            accuracy_reason="synthetic data has no labels",
            data=Data(CalibData(None, 8, None, synthetic=True), None),
            latency=Latency(reason="there is no GPU here"),
            size=Size(4_970_000, None, "TensorRT is not installed"),
            memory=Memory(None, "there is no GPU here"),
            kernels=KernelCount(None, None, (), "TensorRT is not installed"),
            fidelity=(),
            layers=(),
            classes=(),
            samples=(),
            target=None,
        )
    )


def named(name: str) -> Report:
    """The full report with everything that files and users name called this."""
    full = full_report()
    assert full.accuracy is not None
    assert full.target is not None
    return replace(
        full,
        model=replace(full.model, path=name),
        target=replace(full.target, name=name, device=name),
        accuracy=replace(full.accuracy, metric=name),
        verdict=replace(full.verdict, reasons=(f"reason {name}",)),
        warnings=(f"reason {name}", f"warning {name}"),
        layers=tuple(replace(each, name=name, op=name, why=name, remedy=name) for each in full.layers[:4]),
        classes=tuple(replace(each, label=name) for each in full.classes[:3]),
        samples=tuple(
            replace(each, id=name, before=name, after=name, label=name, text=name) for each in full.samples[:3]
        ),
        kernels=replace(full.kernels, float_nodes=(FloatLayer(name, name, name, None),)),
        environment={name: name},
        steps=tuple(replace(each, name=name, choices=(f"{name}: {name}",)) for each in full.steps),
    )
