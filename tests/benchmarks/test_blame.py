"""Blame of MiniLM within a minute; the evidence of a run costs little more than plain evaluation."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import infopt
from infopt.blaming.opened import open_output
from infopt.blaming.options import BlameOptions
from infopt.blaming.sweep import layer_errors
from infopt.evaluate import evaluator
from infopt.targets.onnxruntime import open_onnx

if TYPE_CHECKING:
    from benchmarks.zoo import ZooModel

SECONDS = 60
RATIO = 1.5


def quantized(model: ZooModel, out: Path) -> Path:
    infopt.quantize(model.path, output=out, method="fast", no_bench=True, **model.options)
    return out


@pytest.mark.parametrize("model", ["minilm_sentiment"], indirect=True)
def test_blame_of_minilm_takes_a_minute_at_most(model: ZooModel, tmp_path: Path) -> None:
    out = quantized(model, tmp_path / "out")
    start = time.perf_counter()
    report = infopt.blame(out)
    took = time.perf_counter() - start
    restored = sum(layer.gain_db is not None for layer in report.layers)
    print(f"\n{took:.1f} s, {restored} of {len(report.layers)} layers restored, {len(report.remedies)} remedies")
    assert took <= SECONDS
    assert restored


@pytest.mark.parametrize("model", ["minilm_sentiment", "resnet20_fashion", "mobilenetv2_imagenet"], indirect=True)
def test_evidence_takes_little_more_than_evaluation(model: ZooModel, tmp_path: Path) -> None:
    out = quantized(model, tmp_path / "out")
    opened = open_output(out, BlameOptions())
    resolved, ratios = opened.resolved, []
    assert resolved.evaluation is not None
    for _ in range(3):
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            layer_errors(resolved.model.graph, opened.graph.graph, opened.samples, 500_000_000, Path(folder))
        compared = time.perf_counter()
        with evaluator(
            open_onnx(resolved.model.path, {}),
            resolved.evaluation,
            resolved.inputs,
            resolved.metric,
            names=resolved.model.output_names,
            seed=0,
            progress=lambda *_: None,
        ) as judge:
            judge.accuracy(judge.outputs(open_onnx(out / "model.onnx", {}), "candidate"), "deployed")
        ratios.append(1 + (compared - begun) / (time.perf_counter() - compared))
    print(f"\n{model.name}: evidence takes {statistics.median(ratios):.2f} times plain evaluation ({ratios})")
    assert statistics.median(ratios) <= RATIO
